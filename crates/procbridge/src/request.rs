//! What a caller gives becomes a packet, what a server says becomes a result; the same for both faces.

use std::time::Duration;

use procbridge_proto::{Packet, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Outcome};
use crate::json;

/// Whether a client can connect there at all.
pub(crate) fn check_endpoint(endpoint: &Endpoint) -> Result<(), Error> {
    if endpoint.port() != Some(0) {
        return Ok(());
    }
    let message = format!("cannot connect to {endpoint}: port 0 is for servers, which are given a free port");
    Err(Error::new(ErrorKind::InvalidEndpoint, message))
}

/// The packet of a call.
pub(crate) fn packet<P: Serialize + ?Sized>(
    config: &ClientConfig,
    method: Option<&str>,
    payload: Option<&P>,
    timeout: Option<Duration>,
) -> Result<Packet, Error> {
    let timeout_ms = timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1));
    let mut packet = Packet::request(config.version, method, timeout_ms);
    if let Some(payload) = payload {
        packet = packet.write(|out| json::write(out, payload)).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("the payload cannot be sent: {error}"))
                .with_source(error)
        })?;
    }
    packet.finish(&config.limits).map_err(Error::misuse)
}

/// What a response means to the caller.
pub(crate) fn result<R: DeserializeOwned>(response: &Response) -> Result<R, Error> {
    let payload = match response {
        Response::Good(good) => good.payload().unwrap_or("null"),
        Response::Bad(bad) => return Err(Error::refused(bad)),
    };
    serde_json::from_str(payload).map_err(|error| {
        let message = format!("the answer is not of the expected type: {}", json::mismatch(&error));
        Error::new(ErrorKind::InvalidResult, message).with_outcome(Outcome::Replied).with_source(error)
    })
}
