//! The settings of ProcBridge that the contenders change: nothing but how many connections and calls a server takes.

use std::time::Duration;

use contender::{Endpoint, Payload, Result};
use procbridge::{ClientConfig, ServerConfig, SessionMode};
use serde_json::value::RawValue;

/// Which client it is.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    sessions: SessionMode,
    form: Form,
    spin: bool,
}

/// The form that a payload goes out in, and comes back in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A small one as a tree of values, a large one as text.
    BySize,
    Values,
    Text,
}

/// How long a side that spins looks before it waits.
pub(crate) const SPIN: Duration = Duration::from_micros(50);

impl Kind {
    pub(crate) const SESSION: Self = Self { sessions: SessionMode::Auto, form: Form::BySize, spin: false };
    pub(crate) const CLASSIC: Self = Self { sessions: SessionMode::Off, form: Form::BySize, spin: false };

    /// Makes every payload a tree of values, large ones too.
    pub(crate) fn with_values(self) -> Self {
        Self { form: Form::Values, ..self }
    }

    /// Makes every payload JSON text, small ones too.
    pub(crate) fn with_text(self) -> Self {
        Self { form: Form::Text, ..self }
    }

    /// Makes the client look before it waits.
    pub(crate) fn with_spin(self) -> Self {
        Self { spin: true, ..self }
    }

    /// Returns the payload as text, if it goes out as such.
    pub(crate) fn raw(self, payload: Payload) -> Result<Option<Box<RawValue>>> {
        let is_text = match self.form {
            Form::BySize => payload.is_bulk(),
            Form::Values => false,
            Form::Text => true,
        };
        Ok(if is_text { Some(RawValue::from_string(payload.text())?) } else { None })
    }

    /// Whether every caller has a client of its own.
    pub(crate) fn is_classic(self) -> bool {
        self.sessions == SessionMode::Off
    }

    pub(crate) fn client(self) -> ClientConfig {
        let config = ClientConfig::new().with_sessions(self.sessions);
        if self.spin { config.with_spin(SPIN) } else { config }
    }
}

/// Returns a configuration with room for the sessions that are only counted, and for 256 calls in flight. The defaults
/// are 1024 connections and 128 calls on a session.
pub(crate) fn server() -> ServerConfig {
    ServerConfig::new().with_max_connections(20_000).with_max_session_calls(512)
}

pub(crate) fn endpoint(endpoint: &Endpoint) -> Result<procbridge::Endpoint> {
    Ok(match endpoint {
        Endpoint::Unix(path) => procbridge::Endpoint::unix(path),
        Endpoint::Tcp(address) => procbridge::Endpoint::tcp(address.ip().to_string(), address.port()),
    })
}
