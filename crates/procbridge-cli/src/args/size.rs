//! Sizes of bodies.

use crate::args::duration::split;

/// Parses `65536`, `64KiB`, `16MiB`, `1GiB`: a number of bytes that fits a packet's header.
pub(crate) fn parse_size(text: &str) -> Result<u32, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "k" | "kb" => return Err(format!("did you mean {number}KiB?")),
        "m" | "mb" => return Err(format!("did you mean {number}MiB?")),
        "g" | "gb" => return Err(format!("did you mean {number}GiB?")),
        _ => return Err("expected bytes, or a number with the unit KiB, MiB or GiB".to_string()),
    };
    let number: u64 = number.parse().map_err(|_| format!("{number:?} is not a whole number"))?;
    let bytes = number.checked_mul(factor).and_then(|bytes| u32::try_from(bytes).ok());
    match bytes {
        Some(0) => Err("a body has at least 2 bytes".to_string()),
        Some(bytes) => Ok(bytes),
        None => Err("too large, a body holds at most 4294967295 bytes".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        assert_eq!(parse_size("65536"), Ok(65_536));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("16mib"), Ok(16_777_216));
        assert_eq!(parse_size("4294967295"), Ok(u32::MAX));
        assert_eq!(parse_size("16MB").unwrap_err(), "did you mean 16MiB?");
        for wrong in ["", "0", "-1", "4GiB", "1.5MiB", "x", "99999999999999999999"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
