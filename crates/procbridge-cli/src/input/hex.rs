//! Hexadecimal text in its usual forms.

use crate::text::byte_order_mark::strip_byte_order_mark;

/// Parses digits separated by spaces, colons, commas, `0x` or `\x`, and the dumps of hexdump -C and xxd.
///
/// # Errors
///
/// Fails for text that is not hexadecimal, and tells where.
pub(crate) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    // Only hexdump -C prints bars. Its lines begin with an offset, and the last line has nothing else.
    let is_hexdump = text.contains('|');
    for (number, line) in strip_byte_order_mark(text).lines().enumerate() {
        let digits = digits(line, is_hexdump);
        let mut tokens = digits.split(|c: char| c.is_whitespace() || c == ':' || c == ',');
        tokens
            .try_for_each(|token| push(&mut bytes, token))
            .map_err(|reason| if number == 0 { reason } else { format!("line {}: {reason}", number + 1) })?;
    }
    Ok(bytes)
}

/// Returns the data of a line, without offset and text.
fn digits(line: &str, is_hexdump: bool) -> &str {
    let line = line.trim();
    if is_hexdump {
        let line = line.split('|').next().unwrap_or_default();
        return line.split_once(' ').map_or(if line == "*" { line } else { "" }, |(_offset, data)| data);
    }
    // xxd prints "00000000: 7062 0101  pb..": offset, colon, space, data, two spaces, text.
    match line.split_once(": ") {
        Some((offset, data)) if !offset.contains([' ', ':']) => {
            let data = data.trim_start();
            data.split_once("  ").map_or(data, |(data, _text)| data)
        }
        _ => line,
    }
}

fn push(bytes: &mut Vec<u8>, token: &str) -> Result<(), String> {
    if token == "*" {
        return Err("\"*\" stands for omitted lines; hexdump -Cv prints all lines".to_string());
    }
    let token = token.strip_prefix("0x").or(token.strip_prefix("0X")).unwrap_or(token);
    for part in token.split("\\x") {
        if let Some(wrong) = part.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(format!("{wrong:?} is not a hexadecimal digit"));
        }
        if part.len() % 2 == 1 {
            return Err(format!("{part:?} has an odd number of digits"));
        }
        let pairs = part.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
        bytes.extend(pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 13] = [0x70, 0x62, 1, 1, 0, 0, 0, 2, 0, 0, 0, 0x7b, 0x7d];

    #[test]
    fn every_form_is_read() {
        for text in [
            "7062010100000002000000 7b7d",
            "70 62 01 01 00 00 00 02 00 00 00 7B 7D",
            "70:62:01:01:00:00:00:02:00:00:00:7b:7d",
            "0x70, 0x62, 0x01,0x01,0,0"
                .strip_suffix(",0,0")
                .map(|start| [start, ", 0x00 0x00 0x00 02000000 7b\n7d\n"].concat())
                .unwrap()
                .as_str(),
            "\\x70\\x62\\x01\\x01\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\x7b\\x7d",
            "00000000: 7062 0101 0000 0002 0000 007b            pb.........{\n0000000c: 7d   }\n",
            "00000000  70 62 01 01 00 00 00 02  00 00 00 7b              |pb.........{|\n\
             0000000c  7d                                               |}|\n0000000d\n",
        ] {
            assert_eq!(parse_hex(text).as_deref(), Ok(&BYTES[..]), "{text}");
        }
        assert_eq!(parse_hex(" \n"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_hexadecimal_is_named() {
        assert_eq!(parse_hex("70 6g").unwrap_err(), "'g' is not a hexadecimal digit");
        assert_eq!(parse_hex("70\n6").unwrap_err(), "line 2: \"6\" has an odd number of digits");
        assert!(parse_hex("00000000  70 62  |pb|\n*\n00000020  70 |p|").unwrap_err().contains("hexdump -Cv"));
    }
}
