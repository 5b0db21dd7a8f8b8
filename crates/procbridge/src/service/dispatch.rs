//! The steps around every handler: checks the token, catches panics, turns the reply into one whole packet.

use std::panic::{AssertUnwindSafe, catch_unwind};

use procbridge_proto::{Packet, code};

use crate::config::server::ServerConfig;
use crate::reply_error::{self, ReplyError};
use crate::service::call::Call;
use crate::service::reply::Reply;

/// Refuses `call` without the server's token, if the server requires one (PB-CNV-6).
pub(crate) fn authorized(call: &Call, config: &ServerConfig) -> Result<(), ReplyError> {
    match &config.token {
        Some(token) if !call.has_token(token) => {
            Err(ReplyError::new("missing or wrong token (set ClientConfig::with_token)")
                .with_code(code::DENIED))
        }
        _ => Ok(()),
    }
}

/// Returns the good response to `call`, for its handler to write.
pub(crate) fn good_reply(call: &Call, config: &ServerConfig) -> Reply {
    let packet = Packet::good(call.version());
    Reply::of(if config.explicit_null { packet.explicit_null() } else { packet })
}

/// Turns the reply into one whole packet, before its first byte is sent.
pub(crate) fn finish(config: &ServerConfig, reply: Reply) -> Result<Packet, ReplyError> {
    reply.packet.finish(&config.limits).map_err(reply_error::unsendable)
}

/// Returns the result of `work`, or the refusal for its panic. The handler is not polled again after a panic; the state
/// it captured is its own concern.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, ReplyError>) -> Result<T, ReplyError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        // The panic's payload may panic again when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
        Err(reply_error::panicked())
    })
}
