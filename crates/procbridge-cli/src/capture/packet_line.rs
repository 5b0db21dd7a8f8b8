//! Formats a packet as a line of `--verbose`.

use std::collections::HashSet;

use procbridge_proto::{Status, flag};

use crate::capture::packet_splitter::Packet;
use crate::capture::redact::redact_token;
use crate::dissect::names;
use crate::text::unprintable::escape_message;

/// Whether `packet` continues a request of an earlier packet. `unfinished` holds the calls that continue.
pub(crate) fn is_continuation(packet: &Packet, unfinished: &mut HashSet<u32>) -> bool {
    let Some(id) = packet.id.filter(|_| packet.header.status == Status::REQUEST) else { return false };
    match packet.header.flags & flag::MORE != 0 {
        true => !unfinished.insert(id),
        false => unfinished.remove(&id),
    }
}

/// Formats a packet as `GOOD id=3 flags=lz4 512 B {"payload":..`.
///
/// The body of a continuation is not shown, as it may begin within the token.
pub(crate) fn format_packet(packet: &Packet, is_continuation: bool) -> String {
    let Packet { header, id, body, length } = packet;
    let id = id.map_or_else(|| "-".to_string(), |id| id.to_string());
    let flags = names::flag_names(header).join(",");
    let flags = if flags.is_empty() { "-" } else { &flags };
    let codecs = if names::opens_session(header) { names::codec_names(header.options) } else { Vec::new() };
    let reads = if codecs.is_empty() { String::new() } else { format!(" reads={}", codecs.join(",")) };
    let shown = match is_continuation {
        true => "..".to_string(),
        false if header.status == Status::REQUEST => excerpt(&redact_token(body), *length),
        false => excerpt(body, *length),
    };
    format!("{} id={id} flags={flags}{reads} {length} B {shown}", header.status)
}

/// Returns the escaped start of a body that has `length` bytes.
pub(crate) fn excerpt(bytes: &[u8], length: usize) -> String {
    let start = bytes.get(..MAX_EXCERPT).unwrap_or(bytes);
    let text = match str::from_utf8(start) {
        Ok(text) => escape_message(text),
        // The start ends within a character.
        Err(error) if error.error_len().is_none() => {
            let whole = start.get(..error.valid_up_to()).unwrap_or_default();
            escape_message(&String::from_utf8_lossy(whole))
        }
        Err(_) => start.escape_ascii().to_string(),
    };
    if length > MAX_EXCERPT { text + ".." } else { text }
}

/// The number of bytes that are shown of a body.
const MAX_EXCERPT: usize = 160;
