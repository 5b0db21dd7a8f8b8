//! A payload that the program wants as its unparsed text: `Box<RawValue>`.
//!
//! serde_json would scan the text to check that it is JSON. The core has done that, so here the text is passed on as it
//! is. How a raw value asks for its text is private to serde_json; if that changes, raw values are parsed like all
//! others.

use std::fmt;

use serde::Deserializer;
use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Returns the text as an `R`, if `R` is a raw value. The text must be one JSON value.
pub(crate) fn raw_value<R: DeserializeOwned>(text: impl FnOnce() -> String) -> Option<R> {
    let mut taken = false;
    let read = R::deserialize(RawValueDeserializer { text, taken: &mut taken });
    // A type that reads nothing at all is no raw value.
    read.ok().filter(|_| taken)
}

/// A deserializer that gives its text to a raw value, and fails for every other type.
struct RawValueDeserializer<'a, F> {
    text: F,
    taken: &'a mut bool,
}

/// The map with one entry that a raw value reads.
struct Entry<F>(Option<F>);

/// The error for every other type.
#[derive(Debug)]
struct Other;

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the text itself")
    }
}

impl std::error::Error for Other {}

impl de::Error for Other {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de, F: FnOnce() -> String> Deserializer<'de> for RawValueDeserializer<'_, F> {
    type Error = Other;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Other> {
        Err(Other)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Other> {
        if name != RAW_VALUE_TOKEN {
            return Err(Other);
        }
        *self.taken = true;
        visitor.visit_map(Entry(Some(self.text)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, F: FnOnce() -> String> MapAccess<'de> for Entry<F> {
    type Error = Other;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Other> {
        match self.0 {
            Some(_) => seed.deserialize(StrDeserializer::new(RAW_VALUE_TOKEN)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Other> {
        let text = self.0.take().ok_or(Other)?;
        seed.deserialize(StringDeserializer::new(text()))
    }
}

/// The name by which a raw value asks for its text.
const RAW_VALUE_TOKEN: &str = "$serde_json::private::RawValue";

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Wrapper(Box<RawValue>);

    #[derive(Debug)]
    struct ReadsNothing;

    impl<'de> Deserialize<'de> for ReadsNothing {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }

    fn is_text<R: DeserializeOwned>() -> bool {
        raw_value::<R>(|| "[1, 2]".to_string()).is_some()
    }

    #[test]
    fn a_raw_value_gets_the_text_as_it_is() {
        let raw: Box<RawValue> = raw_value(|| "[1, 2]".to_string()).unwrap();
        assert_eq!(raw.get(), "[1, 2]");
    }

    #[test]
    fn all_other_types_are_left_to_a_parser() {
        assert!(!is_text::<Value>());
        assert!(!is_text::<Vec<Box<RawValue>>>());
        assert!(!is_text::<Option<Box<RawValue>>>());
        assert!(!is_text::<Wrapper>());
        assert!(!is_text::<String>());
        assert!(!is_text::<()>());
        assert!(!is_text::<ReadsNothing>());
    }
}
