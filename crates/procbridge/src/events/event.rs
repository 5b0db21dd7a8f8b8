//! An event as a subscriber gets it; the same for both faces (PB-EVT-*).

use std::collections::HashMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Outcome};
use crate::json::parse;

/// Something that a server published under a topic.
#[derive(Clone, Debug)]
pub struct Event {
    topic: String,
    payload: Option<Box<RawValue>>,
    pub(crate) missed: Missed,
}

/// What a subscriber has not got, between the event before and this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// Nothing.
    #[default]
    Nothing,
    /// As many events, because they were not taken fast enough.
    Events(u64),
    /// Whatever was published while there was no connection.
    Unknown,
}

impl Event {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The payload, read as a `T`.
    ///
    /// # Errors
    ///
    /// - `InvalidResult`: it is not a `T`.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Error> {
        parse::result(self.payload_text().unwrap_or("null"))
    }

    /// The payload as JSON text, exactly as it was sent; absent if there is none or `null`.
    pub fn payload_text(&self) -> Option<&str> {
        self.payload.as_deref().map(RawValue::get).filter(|&text| text != "null")
    }

    /// Whether events were lost just before this one.
    pub fn missed(&self) -> Missed {
        self.missed
    }
}

/// The payload of an item of `$/subscribe`.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = HashMap::<String, Box<RawValue>>::deserialize(deserializer)?;
        let topic = members.remove("topic").and_then(|topic| serde_json::from_str(topic.get()).ok());
        let dropped = members.remove("dropped").and_then(|dropped| serde_json::from_str(dropped.get()).ok());
        Ok(Self {
            topic: topic.ok_or_else(|| D::Error::missing_field("topic"))?,
            payload: members.remove("payload"),
            missed: dropped.filter(|&dropped| dropped > 0).map_or(Missed::Nothing, Missed::Events),
        })
    }
}

/// A good answer came, and no item before it, not even the empty one: `$/subscribe` is a method like any other there. To
/// ask again would be to get the same answer.
pub(crate) fn none_there() -> Error {
    let message = "the server has no events: it answered \"$/subscribe\" without an item";
    Error::new(ErrorKind::Protocol, Outcome::Replied, message)
}
