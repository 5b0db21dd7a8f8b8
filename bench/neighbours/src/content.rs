//! The work on the payload in systems that carry bytes, so that all do the same.

use std::hint::black_box;

use bytes::Bytes;
use contender::{Payload, Result};
use serde_json::Value;

/// The form that a program makes of the bytes that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// A tree of values (`serde_json::Value`) at both ends: written, sent, parsed, written again, sent, parsed.
    Tree,
    /// Nothing: they go out and back as they are, and neither side looks whether they are JSON.
    Text,
}

impl Carry {
    /// Returns the answer of the server to a request, or nothing if the request is to be sent back as it is.
    pub fn answer(self, request: &[u8]) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Tree => {
                let value: Value = serde_json::from_slice(request)?;
                Ok(Some(written(&value, request.len())?))
            }
            Self::Text => Ok(None),
        }
    }
}

/// The payload of a client.
#[derive(Clone, Debug)]
pub enum Content {
    /// Written for each call, into so many bytes, and parsed from each answer.
    Tree(Value, usize),
    /// Sent as it is.
    Text(Bytes),
}

impl Content {
    pub fn new(carry: Carry, payload: Payload) -> Self {
        match carry {
            Carry::Tree => Self::Tree(payload.value(), payload.text().len()),
            Carry::Text => Self::Text(payload.text().into()),
        }
    }

    /// Returns the bytes of a request.
    pub fn request(&self) -> Result<Bytes> {
        match self {
            Self::Tree(value, length) => Ok(written(value, *length)?.into()),
            Self::Text(text) => Ok(text.clone()),
        }
    }

    /// Takes an answer.
    pub fn take(&self, answer: &[u8]) -> Result<()> {
        match self {
            Self::Tree(..) => {
                black_box(serde_json::from_slice::<Value>(answer)?);
            }
            Self::Text(text) if text.len() == answer.len() => {
                black_box(answer);
            }
            Self::Text(text) => {
                return Err(format!("{} bytes came back, and not {}", answer.len(), text.len()).into());
            }
        }
        Ok(())
    }

    /// Takes an answer and compares it to the request.
    pub fn check(&self, answer: &[u8]) -> Result<()> {
        let same = match self {
            Self::Tree(value, _) => *value == serde_json::from_slice::<Value>(answer)?,
            Self::Text(text) => text == answer,
        };
        if same { Ok(()) } else { Err("the answer is not what was sent".into()) }
    }
}

/// Returns a value as JSON text of a known length, in a buffer that need not grow.
pub fn written(value: &Value, length: usize) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(length);
    serde_json::to_writer(&mut text, value)?;
    Ok(text)
}
