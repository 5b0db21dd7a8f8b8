//! Hexadecimal in the forms in which people have it becomes bytes.

use crate::text::byte_order_mark::strip_byte_order_mark;

/// Reads bare digits with spaces, colons, commas, `0x` or `\x` between them, and the dumps of hexdump -C and xxd.
///
/// # Errors
///
/// What is not hexadecimal, and where.
pub(crate) fn read(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    // Only hexdump -C has bars, and then its lines begin with an offset, the last one having nothing else.
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

/// The part of a line that is data.
fn digits(line: &str, is_hexdump: bool) -> &str {
    let line = line.trim();
    if is_hexdump {
        let line = line.split('|').next().unwrap_or_default();
        return line.split_once(' ').map_or(if line == "*" { line } else { "" }, |(_offset, data)| data);
    }
    // "00000000: 7062 0101  pb..": an offset with a colon and a space, the data, two spaces, the text.
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
        return Err("\"*\" stands for lines that were left out; hexdump -Cv writes all of them".to_string());
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
            assert_eq!(read(text).as_deref(), Ok(&BYTES[..]), "{text}");
        }
        assert_eq!(read(" \n"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_hexadecimal_is_named() {
        assert_eq!(read("70 6g").unwrap_err(), "'g' is not a hexadecimal digit");
        assert_eq!(read("70\n6").unwrap_err(), "line 2: \"6\" has an odd number of digits");
        assert!(read("00000000  70 62  |pb|\n*\n00000020  70 |p|").unwrap_err().contains("hexdump -Cv"));
    }
}
