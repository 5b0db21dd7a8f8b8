//! An event as a subscriber receives it; the same for both faces (PB-EVT-*).

use std::collections::HashMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Outcome};
use crate::json::parse;

/// An event that a server published under a topic.
#[derive(Clone, Debug)]
pub struct Event {
    topic: String,
    payload: Option<Box<RawValue>>,
    pub(crate) missed: Missed,
}

/// How many events a subscriber has missed, between the one before and this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// No event was missed.
    #[default]
    Nothing,
    /// This many events were dropped, because the subscriber was too slow.
    Events(u64),
    /// All events published while there was no connection.
    Unknown,
}

impl Event {
    /// Returns the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Reads the payload as a `T`.
    ///
    /// # Errors
    ///
    /// - `InvalidResult`: the payload is not a `T`.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Error> {
        parse::result(self.payload_text().unwrap_or("null"))
    }

    /// Returns the payload as JSON text, exactly as it was sent; `None` if there is none or `null`.
    pub fn payload_text(&self) -> Option<&str> {
        self.payload.as_deref().map(RawValue::get).filter(|&text| text != "null")
    }

    /// Returns whether events were missed just before this one, and how many.
    pub fn missed(&self) -> Missed {
        self.missed
    }
}

/// Reads the payload of an item of `$/subscribe`.
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

/// Checks the patterns of a subscription (PB-EVT-3). The specification allows more than the text of a mistake.
pub(crate) fn check_patterns(patterns: &[String]) -> Result<(), Error> {
    if patterns.is_empty() {
        return Err(Error::unsent(ErrorKind::InvalidInput, "a subscription needs at least one topic"));
    }
    patterns.iter().try_for_each(|pattern| {
        check_segments(pattern, |segment| {
            let is_mixed = segment.contains('*') && segment != "*";
            is_mixed.then_some("a \"*\" stands for a whole segment between dots, as in \"build.*\"")
        })
    })
}

/// Checks the topic of an event.
pub(crate) fn check_topic(topic: &str) -> Result<(), Error> {
    check_segments(topic, |segment| segment.contains('*').then_some("an event has one topic, without \"*\""))
}

fn check_segments(topic: &str, wrong: impl Fn(&str) -> Option<&'static str>) -> Result<(), Error> {
    let empty = "a segment between dots is empty";
    let too_long = (topic.len() > MAX_TOPIC).then(|| format!("it exceeds {MAX_TOPIC} B"));
    let wrong = |segment: &str| if segment.is_empty() { Some(empty) } else { wrong(segment) };
    match too_long.or_else(|| topic.split('.').find_map(wrong).map(str::to_string)) {
        Some(reason) => {
            Err(Error::unsent(ErrorKind::InvalidInput, format!("the topic {topic:?} cannot work: {reason}")))
        }
        None => Ok(()),
    }
}

/// Bytes of a topic or pattern.
pub(crate) const MAX_TOPIC: usize = 256;

/// Returns the error for a good answer that came without any item before it. Such a server treats `$/subscribe` as any
/// other method, and would give the same answer again.
pub(crate) fn none_there() -> Error {
    let message = "the server has no events: it answered \"$/subscribe\" without an item";
    Error::new(ErrorKind::Protocol, Outcome::Replied, message)
}
