//! Reads a handler's arguments from the payload of its call. The same for both faces.

use procbridge_proto::code;
use serde::de::DeserializeOwned;

use crate::json::raw_value::raw_value;
use crate::json::serialize;
use crate::reply_error::ReplyError;
use crate::service::call::Call;

/// Reads the payload as the handler's argument type; an absent one as `null`.
pub(crate) fn payload<T: DeserializeOwned>(call: &Call) -> Result<T, ReplyError> {
    let text = call.payload().unwrap_or("null");
    match raw_value(|| text.to_string()) {
        Some(payload) => Ok(payload),
        None => serde_json::from_str(text).map_err(|error| invalid_payload(call, &error)),
    }
}

fn invalid_payload(call: &Call, error: &serde_json::Error) -> ReplyError {
    let method = call.method().unwrap_or_default();
    ReplyError::new(format!("invalid payload for {method:?}: {}", serialize::mismatch(error)))
        .with_code(code::INVALID_PAYLOAD)
}
