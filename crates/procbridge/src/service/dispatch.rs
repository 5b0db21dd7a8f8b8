//! What is done around every handler: the token is checked, a panic is caught, the reply becomes one whole packet.

use std::panic::{AssertUnwindSafe, catch_unwind};

use procbridge_proto::{Packet, code};

use crate::config::server::ServerConfig;
use crate::reply_error::{self, Refusal};
use crate::service::call::Call;
use crate::service::reply::Reply;

/// Whether `call` brings the secret that the server asks for, if it asks for one (PB-CNV-6).
pub(crate) fn authorized(call: &Call, config: &ServerConfig) -> Result<(), Refusal> {
    match &config.token {
        Some(token) if !call.has_token(token) => {
            Err(Refusal::new("the call does not bring the server's token").with_code(code::DENIED))
        }
        _ => Ok(()),
    }
}

/// The good response to `call`, to be written by its handler.
pub(crate) fn good_reply(call: &Call, config: &ServerConfig) -> Reply {
    let packet = Packet::good(call.version());
    Reply::of(if config.explicit_null { packet.explicit_null() } else { packet })
}

/// What a handler wrote becomes one whole packet, before the first byte of it is sent.
pub(crate) fn finish(config: &ServerConfig, reply: Reply) -> Result<Packet, Refusal> {
    reply.packet.finish(&config.limits).map_err(reply_error::unsendable)
}

/// What `work` returns, or the answer to its panic. A handler is not looked at again after a panic; its captured state
/// is its own affair.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        // What was thrown may throw again when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
        Err(reply_error::panicked())
    })
}
