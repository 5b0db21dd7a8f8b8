//! Parsing: JSON text that arrived becomes the type that the program asked for.

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Outcome};
use crate::json::serialize;

/// Parses the JSON text of an answer into the type that the caller asked for.
pub(crate) fn result<R: DeserializeOwned>(text: &str) -> Result<R, Error> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("the answer is not of the expected type: {}", serialize::mismatch(&error));
        Error::new(ErrorKind::InvalidResult, Outcome::Replied, message)
    })
}
