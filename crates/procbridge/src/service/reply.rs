//! The good response to a call, while it is being written.

use std::fmt;

use procbridge_proto::PacketBuilder;
use serde::Serialize;

use crate::json::serialize::{self, Written};
use crate::reply_error::Refusal;

/// A good response that is being written.
pub struct Reply {
    pub(crate) packet: PacketBuilder,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl Reply {
    pub(crate) fn of(packet: PacketBuilder) -> Self {
        Self { packet }
    }

    /// Writes the value that a handler returned.
    ///
    /// # Errors
    ///
    /// The refusal to answer with instead: the `Err` of a result, or that the value cannot be sent.
    pub fn write<R: Serialize>(self, result: &R) -> Result<Self, Refusal> {
        let write = |out: &mut Vec<u8>| {
            let start = out.len();
            let written = serialize::write_result(out, result);
            let text = out.get(start..).unwrap_or_default();
            match written {
                Ok(Written::Value) => Ok(()),
                Ok(Written::Error) => Err(Refusal::from_json(text)),
                Ok(Written::Refusal) => Err(Refusal::read_back(text)),
                Err(error) => Err(Refusal::internal(format!("the result cannot be sent: {error}"))),
            }
        };
        self.packet.write(write).map(Self::of)
    }

    /// Lets `write` append a result that is JSON text already.
    pub(crate) fn write_text(self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Self, Refusal> {
        let write = |out: &mut Vec<u8>| {
            write(out);
            Ok(())
        };
        self.packet.write(write).map(Self::of)
    }
}
