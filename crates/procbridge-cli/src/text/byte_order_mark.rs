//! Takes byte order marks off.

/// Returns `text` without the byte order mark that some programs write before it.
pub(crate) fn strip_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
