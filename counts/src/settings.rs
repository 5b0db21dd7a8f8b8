//! The method that is called, the way of calling, and the number of calls.

use procbridge::{ClientConfig, Endpoint, ServerConfig, SessionMode};
use serde_json::value::RawValue;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The calls of a client.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) config: ClientConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) count: usize,
    pub(crate) in_flight: usize,
    pub(crate) payload: Box<RawValue>,
}

impl Calls {
    pub(crate) fn new(style: &str, endpoint: &str, count: &str, in_flight: &str) -> Result<Self> {
        let sessions = match style {
            "session" => SessionMode::Required,
            "classic" => SessionMode::Off,
            _ => return Err(format!("no style {style:?}").into()),
        };
        Ok(Self {
            config: ClientConfig::new().with_sessions(sessions),
            endpoint: endpoint.parse()?,
            count: count.parse()?,
            in_flight: in_flight.parse()?,
            payload: RawValue::from_string(PAYLOAD.to_string())?,
        })
    }
}

/// Returns the defaults, with places for many connections.
pub(crate) fn server() -> ServerConfig {
    ServerConfig::new().with_max_connections(4_096).with_drain_timeout(std::time::Duration::from_millis(100))
}

/// The payload of every call and of every answer. Text in and out: what is counted is not the work of a serde tree.
pub(crate) const PAYLOAD: &str = r#"{"a":1,"b":[1,2,3],"s":"hello"}"#;

/// Calls before those that are counted.
pub(crate) const WARM: usize = 100;
