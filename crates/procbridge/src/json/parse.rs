//! JSON text that came becomes what the program asked for.

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Outcome};
use crate::json::serialize;

/// JSON text that came, as what the caller asked for.
pub(crate) fn result<R: DeserializeOwned>(text: &str) -> Result<R, Error> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("the answer is not of the expected type: {}", serialize::mismatch(&error));
        Error::new(ErrorKind::InvalidResult, Outcome::Replied, message)
    })
}
