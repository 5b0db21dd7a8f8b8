//! Formats a packet: a line for each field, or one line of JSON.

use procbridge_proto::{HEADER_LENGTH, Header, ProtocolError, Status};

use crate::dissect::names;
use crate::dissect::packet::{DissectedPacket, ID_LENGTH};
use crate::json::layout::{Layout, lay_out};
use crate::json::object::Object;

/// Returns a line for each field. The body of a packet that is not valid is not shown.
pub(crate) fn listing(packet: &DissectedPacket<'_>, is_valid: bool) -> String {
    let mut lines = String::new();
    let mut field = |at: usize, length: usize, name: &str, meaning: &str| {
        if let Some(bytes) = packet.bytes().get(at..at + length) {
            lines.push_str(&format!(
                "{:>8}  {:<14}  {name:<8}  {meaning}\n",
                packet.offset() + at,
                hex_excerpt(bytes)
            ));
        }
    };
    if !matches!(packet.header(), Err(ProtocolError::NotProcBridge { .. })) {
        field(0, 2, "flag", "\"pb\"");
    }
    match packet.header() {
        Ok(Some(header)) => {
            field(2, 2, "version", &header.version.to_string());
            field(4, 1, "status", &format!("{}, {}", header.status.0, names::packet_kind(header.status)));
            field(5, 1, "flags", &format_flags(packet, header));
            field(6, 1, "options", &format_options(header));
            field(7, 4, "length", &header.length.to_string());
            if let Some(id) = packet.id() {
                field(HEADER_LENGTH, ID_LENGTH as usize, "id", &id.to_string());
            }
        }
        // A wrong version would be the error.
        Ok(None) => {
            if let Some(&[major, minor]) = packet.bytes().get(2..4) {
                field(2, 2, "version", &format!("{major}.{minor}"));
            }
            field(4, 1, "status", "");
            field(5, 1, "flags", "");
            field(6, 1, "options", "");
        }
        Err(_) => {}
    }
    let body = packet.body();
    if !body.is_empty() {
        let meaning = match str::from_utf8(body) {
            Ok(text) if is_valid && packet.is_json() => {
                lay_out(text, Layout::Pretty).replace('\n', BODY_LINE)
            }
            _ if is_valid => format_unread_body(packet),
            _ => format!("{} bytes arrived", body.len()),
        };
        lines.push_str(&format!(
            "{:>8}  {:<14}  {:<8}  {meaning}\n",
            packet.offset() + HEADER_LENGTH + packet.id_length(),
            hex_excerpt(body),
            "body"
        ));
    }
    lines
}

/// Returns a valid packet as one line of JSON.
pub(crate) fn json_line(packet: &DissectedPacket<'_>) -> String {
    let Ok(Some(header)) = packet.header() else { return String::new() };
    let text = str::from_utf8(packet.body()).ok().filter(|text| packet.is_json() && !text.is_empty());
    let mut object = Object::new()
        .member("ok", "true")
        .member("offset", packet.offset())
        .string("version", header.version.to_string().as_str())
        .member("status", header.status.0)
        .string("name", names::packet_kind(header.status))
        .member("flags", header.flags)
        .member("options", header.options)
        .member("length", header.length);
    if let Some(id) = packet.id() {
        let names: Vec<_> = names::flag_names(header).iter().map(|name| format!("\"{name}\"")).collect();
        object = object.member("id", id).member("flag_names", format!("[{}]", names.join(",")));
    }
    let body = text.map_or_else(|| "null".to_string(), |text| lay_out(text, Layout::Compact));
    object.member("body", &body).finish()
}

/// Formats the flags with their names.
fn format_flags(packet: &DissectedPacket<'_>, header: &Header) -> String {
    if header.flags == 0 {
        return "0".to_string();
    }
    let names = names::flag_names(header);
    match packet.has_id() || names::opens_session(header) {
        true if names.is_empty() => format!("{:#04x}, unknown and ignored", header.flags),
        true => format!("{:#04x}, {}", header.flags, names.join(", ")),
        false => reserved(header.flags),
    }
}

/// Describes a body that is not JSON text.
fn format_unread_body(packet: &DissectedPacket<'_>) -> String {
    let length = packet.body().len();
    match packet.header() {
        Ok(Some(header)) if names::is_compressed(header) => format!("{length} bytes, compressed"),
        Ok(Some(header)) if header.status.0 > Status::GOODBYE.0 => format!("{length} bytes"),
        _ => format!("{length} bytes of a body in pieces"),
    }
}

/// Formats the options byte, with the names of the compressions if it means those.
fn format_options(header: &Header) -> String {
    let codecs = names::codec_names(header.options);
    match names::opens_session(header) && !codecs.is_empty() {
        true => format!("{:#04x}, reads {}", header.options, codecs.join(" and ")),
        false => reserved(header.options),
    }
}

fn reserved(byte: u8) -> String {
    if byte == 0 { "0".to_string() } else { format!("{byte:#04x}, reserved and ignored") }
}

/// Returns the first bytes of a field.
fn hex_excerpt(bytes: &[u8]) -> String {
    let shown: Vec<_> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > shown.len() { " .." } else { "" };
    format!("{}{more}", shown.join(" "))
}

/// Begins a further line of a body, in the column of the first.
const BODY_LINE: &str = "\n                                    ";
