//! The `meta` of a call that is being built: each entry as it was written (PB-CNV-*).

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind};
use crate::json::object_writer::ObjectWriter;
use crate::json::serialize;
use crate::telemetry::trace_context::{TRACEPARENT, TRACESTATE, current};

/// The entries, in the order in which their keys were first given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    entries: Vec<(String, Box<RawValue>)>,
}

impl Meta {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name == key)
    }

    /// Writes `value` under `key`. Replaces an earlier value of that key.
    pub(crate) fn insert<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), Error> {
        let mut text = Vec::new();
        let written = serialize::write(&mut text, value).and_then(|()| {
            // Only a type that writes raw text of its own could have written anything but JSON.
            RawValue::from_string(String::from_utf8(text).unwrap_or_default())
        });
        let value = written.map_err(|error| {
            let message = format!("the entry {key:?} of meta cannot be sent: {error}");
            Error::unsent(ErrorKind::InvalidInput, message).with_source(error)
        })?;
        match self.entries.iter_mut().find(|(name, _)| *name == key) {
            Some((_, before)) => *before = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }

    /// Returns the entries except those in `left_out`, followed by `added`, as the text of an object.
    pub(crate) fn text(&self, left_out: &[&str], added: &[(&str, &str)]) -> String {
        let mut text = Vec::new();
        let mut object = ObjectWriter::begin(&mut text);
        for (key, value) in self.entries.iter().filter(|(key, _)| !left_out.contains(&key.as_str())) {
            object.member(key).extend_from_slice(value.get().as_bytes());
        }
        for (key, value) in added {
            object.text(key, value);
        }
        object.end();
        // Keys, values and separators are text.
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Returns the text of the `meta` of an outgoing call: its `own` members, and the current trace unless they name one.
/// Returns `None` if both are empty.
pub(crate) fn outgoing_meta(own: &Meta) -> Option<String> {
    match current() {
        None if own.is_empty() => None,
        None => Some(own.text(&[], &[])),
        Some(_) if own.has(TRACEPARENT) => Some(own.text(&[], &[])),
        Some(context) => {
            let state = context.state().map(|state| (TRACESTATE, state));
            let added: Vec<_> = [(TRACEPARENT, context.parent())].into_iter().chain(state).collect();
            // A state without its parent means nothing.
            Some(own.text(&[TRACESTATE], &added))
        }
    }
}
