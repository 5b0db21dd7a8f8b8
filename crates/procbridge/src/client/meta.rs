//! The `meta` of a call that is being put together: each entry as it was written (PB-CNV-*).

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind};
use crate::json::object_writer::ObjectWriter;
use crate::json::serialize;

/// Entries in the order in which their keys were first given.
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

    /// Writes `value` under `key`. A value that stands there already is replaced.
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

    /// Returns the entries but those of `left_out`, with `added` behind them, as the text of an object.
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
        // Keys, values and what stands between them are text.
        String::from_utf8(text).unwrap_or_default()
    }
}
