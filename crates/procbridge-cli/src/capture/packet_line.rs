//! Formats a packet as a line.

use std::collections::HashSet;

use procbridge_proto::{Status, flag};

use crate::capture::packet_splitter::Packet;
use crate::capture::redact;
use crate::dissect::names;
use crate::text::unprintable::escape_message;

/// Whether `packet` is a piece of a request, and not the first.
pub(crate) fn is_rest(packet: &Packet, begun: &mut HashSet<u32>) -> bool {
    let Some(id) = packet.id.filter(|_| packet.header.status == Status::REQUEST) else { return false };
    match packet.header.flags & flag::MORE != 0 {
        true => !begun.insert(id),
        false => begun.remove(&id),
    }
}

/// `GOOD id=3 flags=lz4 512 B {"payload":..`. Of a request that comes in pieces only the first has its body shown: a later
/// one may begin within the token.
pub(crate) fn line(packet: &Packet, is_rest: bool) -> String {
    let Packet { header, id, body, length } = packet;
    let id = id.map_or_else(|| "-".to_string(), |id| id.to_string());
    let flags = names::flag_names(header).join(",");
    let flags = if flags.is_empty() { "-" } else { &flags };
    let codecs = if names::opens_session(header) { names::codec_names(header.options) } else { Vec::new() };
    let reads = if codecs.is_empty() { String::new() } else { format!(" reads={}", codecs.join(",")) };
    let shown = match is_rest {
        true => "..".to_string(),
        false if header.status == Status::REQUEST => excerpt(&redact::hidden(body), *length),
        false => excerpt(body, *length),
    };
    format!("{} id={id} flags={flags}{reads} {length} B {shown}", header.status)
}

/// The start of `bytes`, of which there are `length`, without anything that commands a terminal.
pub(crate) fn excerpt(bytes: &[u8], length: usize) -> String {
    let start = bytes.get(..MAX_EXCERPT).unwrap_or(bytes);
    let text = match str::from_utf8(start) {
        Ok(text) => escape_message(text),
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            let whole = start.get(..error.valid_up_to()).unwrap_or_default();
            escape_message(&String::from_utf8_lossy(whole))
        }
        Err(_) => start.escape_ascii().to_string(),
    };
    if length > MAX_EXCERPT { text + ".." } else { text }
}

/// Bytes of a body that are shown.
const MAX_EXCERPT: usize = 160;
