//! Reads a handler's arguments from the payload of its call. The same for both faces.

use std::marker::PhantomData;

use procbridge_proto::code;
use serde::de::DeserializeOwned;

use crate::json::raw_value::raw_value;
use crate::json::serialize;
use crate::reply_error::Refusal;
use crate::service::call::Call;

/// `fn() -> R`
#[derive(Debug)]
pub struct Nothing<R>(PhantomData<fn() -> R>);
/// `fn(&Call) -> R`
#[derive(Debug)]
pub struct Context<R>(PhantomData<fn() -> R>);
/// `fn(T) -> R`
#[derive(Debug)]
pub struct Payload<T, R>(PhantomData<fn(T) -> R>);
/// `fn(&Call, T) -> R`
#[derive(Debug)]
pub struct ContextAndPayload<T, R>(PhantomData<fn(T) -> R>);

/// Reads the payload as the handler's argument type; an absent one as `null`.
pub(crate) fn payload<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    let text = call.payload().unwrap_or("null");
    match raw_value(|| text.to_string()) {
        Some(payload) => Ok(payload),
        None => serde_json::from_str(text).map_err(|error| invalid_payload(call, &error)),
    }
}

fn invalid_payload(call: &Call, error: &serde_json::Error) -> Refusal {
    let method = call.method().unwrap_or_default();
    Refusal::new(format!("invalid payload for {method:?}: {}", serialize::mismatch(error)))
        .with_code(code::INVALID_PAYLOAD)
}
