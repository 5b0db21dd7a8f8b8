//! The payload that is sent: a small object, or a string whose JSON text has a given length.

use std::str::FromStr;

use serde_json::{Value, json};

use crate::Error;

/// The payload of every call of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `{"a":1,"b":[1,2,3],"s":"hello"}`, 31 bytes.
    Small,
    /// A JSON string of so many bytes, quotes included.
    Bytes(usize),
}

/// The length of a session packet that carries the small payload to a method with four letters: header, id, envelope.
pub const SMALL_REQUEST: usize = 11 + 4 + 27 + 31 + 1;
/// The length of the packet that answers it.
pub const SMALL_ANSWER: usize = 11 + 4 + 11 + 31 + 1;

impl Payload {
    /// Returns the payload as a value. The string is words of plain ASCII, with nothing in it that needs an escape.
    pub fn value(self) -> Value {
        match self {
            Self::Small => json!({"a": 1, "b": [1, 2, 3], "s": "hello"}),
            Self::Bytes(bytes) => Value::String(words(bytes.saturating_sub(2)).collect()),
        }
    }

    /// Returns the payload as JSON text, in memory of exactly its length.
    pub fn text(self) -> String {
        match self {
            Self::Small => self.value().to_string(),
            Self::Bytes(bytes) => {
                let mut text = String::with_capacity(bytes);
                text.push('"');
                text.extend(words(bytes.saturating_sub(2)));
                text.push('"');
                text
            }
        }
    }

    /// Returns the bytes of a whole request and of a whole answer, as ProcBridge has them on the wire in a session.
    pub fn on_the_wire(self) -> (usize, usize) {
        match self {
            Self::Small => (SMALL_REQUEST, SMALL_ANSWER),
            Self::Bytes(bytes) => (SMALL_REQUEST - 31 + bytes, SMALL_ANSWER - 31 + bytes),
        }
    }

    /// Whether the payload is so large that no program turns it into a tree of values without need.
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::Bytes(65_536..))
    }
}

fn words(bytes: usize) -> impl Iterator<Item = char> {
    "the quick brown fox jumps over the lazy dog ".chars().cycle().take(bytes)
}

impl FromStr for Payload {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "small" {
            return Ok(Self::Small);
        }
        let (digits, unit) = match text.strip_suffix('m') {
            Some(digits) => (digits, 1 << 20),
            None => (text, 1),
        };
        match digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)) {
            // The largest body that ProcBridge takes by default is 16 MiB, envelope included.
            Some(0x100_0000) => Ok(Self::Bytes(0x100_0000 - 64)),
            Some(bytes @ 2..) => Ok(Self::Bytes(bytes)),
            _ => Err(format!(
                "{text:?} is no payload: small, 1m, 16m (with its envelope) or a number of bytes"
            )
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_the_length_that_was_asked_for() {
        assert_eq!(Payload::Small.text().len(), 31);
        for bytes in [2, 64, 1 << 20] {
            assert_eq!(Payload::Bytes(bytes).text().len(), bytes);
            assert_eq!(Payload::Bytes(bytes).text(), Payload::Bytes(bytes).value().to_string());
        }
    }

    #[test]
    fn sizes_are_read_and_nonsense_is_refused() {
        assert_eq!("small".parse::<Payload>().unwrap(), Payload::Small);
        assert_eq!("16m".parse::<Payload>().unwrap(), Payload::Bytes((16 << 20) - 64));
        assert_eq!("64".parse::<Payload>().unwrap(), Payload::Bytes(64));
        for wrong in ["", "m", "1", "big", "-4"] {
            assert!(wrong.parse::<Payload>().is_err(), "{wrong}");
        }
    }
}
