//! Formats fields.

use procbridge_proto::Header;

use crate::dissect::names;

/// The compressions that its sender reads, where the byte means that.
pub(crate) fn options(header: &Header) -> String {
    let codecs = names::codec_names(header.options);
    match names::opens_session(header) && !codecs.is_empty() {
        true => format!("{:#04x}, reads {}", header.options, codecs.join(" and ")),
        false => reserved(header.options),
    }
}

pub(crate) fn reserved(byte: u8) -> String {
    if byte == 0 { "0".to_string() } else { format!("{byte:#04x}, reserved and ignored") }
}

/// The first bytes of a field.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let shown: Vec<_> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > shown.len() { " .." } else { "" };
    format!("{}{more}", shown.join(" "))
}

/// A further line of a body, in the column of the first.
pub(crate) const BODY_LINE: &str = "\n                                    ";
