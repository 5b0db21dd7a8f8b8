//! The last line of standard error, which becomes an error message.

/// Keeps the last line that is not blank of a stream of any length.
#[derive(Debug, Default)]
pub(crate) struct LastLine {
    line: Vec<u8>,
    last: Vec<u8>,
}

impl LastLine {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let space = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..part.len().min(space)).unwrap_or_default());
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    pub(crate) fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.trim_ascii().is_empty() {
            self.last = line;
        }
    }

    pub(crate) fn text(mut self) -> String {
        self.end_line();
        let text = String::from_utf8_lossy(&self.last);
        // A character cut at the bound is left out.
        text.trim().trim_end_matches(char::REPLACEMENT_CHARACTER).to_string()
    }
}

/// The number of bytes that are kept of a line.
const MAX_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_is_not_blank_is_kept_within_its_bound() {
        let heard = |parts: &[&[u8]]| {
            let mut last_line = LastLine::default();
            parts.iter().for_each(|part| last_line.push(part));
            last_line.text()
        };
        assert_eq!(heard(&[]), "");
        assert_eq!(heard(&[b"one\ntw", b"o\n \r\n\n"]), "two");
        assert_eq!(heard(&[b"one\n", b"two"]), "two");
        assert_eq!(heard(&["é".repeat(1000).as_bytes()]).len(), 1024);
        assert_eq!(heard(&[b"x", "é".repeat(1000).as_bytes()]).len(), 1023);
    }
}
