//! Byte order marks, which some programs write before a text.

/// Returns `text` without a leading byte order mark.
pub(crate) fn strip_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
