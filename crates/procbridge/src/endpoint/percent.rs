//! Percent encoding of bytes in the text of an endpoint.

use std::fmt::{self, Write};

/// Returns the bytes that `text` stands for: `%` and two hexadecimal digits are one byte, everything else is itself.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.split_at_checked(2).filter(|_| first == b'%');
        let byte = digits.and_then(|(digits, behind)| Some((hexadecimal(digits)?, behind)));
        let (byte, behind) = byte.unwrap_or((first, behind));
        bytes.push(byte);
        rest = behind;
    }
    bytes
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let text = str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u8::from_str_radix(text, 16).ok()
}

/// The percent-encoded text of `bytes`, which [`decoded`] reverses.
pub(super) struct Encoded<'a>(pub(super) &'a [u8]);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
        };
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || matches!(c, '%' | '?' | '&') {
                    escape(f, c.encode_utf8(&mut [0; 4]).as_bytes())?;
                } else {
                    f.write_char(c)?;
                }
            }
            escape(f, chunk.invalid())?;
        }
        Ok(())
    }
}
