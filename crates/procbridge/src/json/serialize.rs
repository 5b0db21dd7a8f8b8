//! Serializes values to JSON text, directly into the packet that carries them.
//!
//! serde_json writes a float that is not finite as `null`. Here it is an error, because the reader would get another
//! value than the one sent (PB-BODY-*).

use std::cell::Cell;
use std::fmt::Display;
use std::io;

use serde::ser::{self, Error as _, Serialize, Serializer};

/// Appends `value` to `out` as JSON text.
pub(crate) fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), serde_json::Error> {
    value.serialize(Strict { inner: &mut serde_json::Serializer::new(Text(out)), written: None })
}

/// Appends what a handler returned to `out`, and returns which kind it was. `Ok` and `Err` of a `Result` are appended
/// without their wrapping.
pub(crate) fn write_result<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<Written, serde_json::Error> {
    let written = Cell::new(Written::Value);
    value
        .serialize(Strict { inner: &mut serde_json::Serializer::new(Text(out)), written: Some(&written) })?;
    Ok(written.get())
}

/// The buffer that is written to. Capacity for a large text is reserved once, with some for the packet's end: doubling
/// would move the text and take twice the memory.
struct Text<'a>(&'a mut Vec<u8>);

impl io::Write for Text<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= LARGE.max(self.0.len()) {
            self.0.reserve_exact(bytes.len() + END);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns why a value is not of the expected type: serde's message without the value itself, which may be
/// confidential.
pub(crate) fn mismatch(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // "invalid type: string \"secret\", expected a sequence at line 1 column 8"
    let Some((found, expected)) = text.rsplit_once(", expected ") else { return text };
    let Some((what, value)) = found.split_once(": ") else {
        // "unknown field `secret`" and "unknown variant `secret`"
        let what = found.split(" `").next().unwrap_or_default();
        return format!("{what}, expected {expected}");
    };
    if let Some(range) = beyond(value, expected) {
        return range;
    }
    let kind: Vec<_> =
        value.split(' ').take_while(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic())).collect();
    match (what, kind.is_empty()) {
        ("invalid type" | "invalid value", false) => format!("found {}, expected {expected}", kind.join(" ")),
        _ => format!("{what}, expected {expected}"),
    }
}

/// Returns that a whole number is out of range of the type that was `expected`, with that range. `value` is serde's
/// text for what it found: serde_json reads a number beyond 64 bits as a float.
fn beyond(value: &str, expected: &str) -> Option<String> {
    let (kind, number) = value.strip_suffix('`')?.split_once(" `")?;
    let is_whole = match kind {
        "integer" => true,
        "floating point" => number.parse::<f64>().is_ok_and(|number| number.abs() >= TWO_TO_63),
        _ => false,
    };
    let (name, position) = expected.split_once(' ').unwrap_or((expected, ""));
    let (least, most) =
        RANGES.iter().find(|(range, ..)| *range == name).map(|(_, least, most)| (least, most))?;
    is_whole.then(|| {
        format!("integer out of range of {name} ({least} to {most}) {position}").trim_end().to_string()
    })
}

macro_rules! ranges {
    ($($type:ident)*) => {
        &[$((stringify!($type), $type::MIN as i128, $type::MAX as i128)),*]
    };
}

/// The range of each whole-number type. For wider types serde has no out-of-range message.
const RANGES: &[(&str, i128, i128)] = ranges!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);
/// 2^63: a smaller whole number is never read as a float.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// The kind of what a handler returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// A result.
    Value,
    /// An `Err` of one of the program's own types.
    Error,
}

/// Size in bytes from which on a text is large.
const LARGE: usize = 4 * 1024;
/// Capacity for the end of a packet.
const END: usize = 64;

/// A serializer that refuses floats which are not finite, and passes on everything else.
struct Strict<'a, S> {
    inner: S,
    /// Set for the outermost value of a handler's result only.
    written: Option<&'a Cell<Written>>,
}

/// A part of a value, to be written as strictly as the whole.
struct Part<'a, T: ?Sized>(&'a T);

/// An array or object that is being written.
struct Parts<S>(S);

impl<T: Serialize + ?Sized> Serialize for Part<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Strict { inner: serializer, written: None })
    }
}

fn finite<S: Serializer>(value: f64) -> Result<(), S::Error> {
    if value.is_finite() {
        return Ok(());
    }
    // Without the value: code that formats any float is large.
    Err(S::Error::custom(match (value.is_nan(), value > 0.0) {
        (true, _) => "JSON has no NaN",
        (_, true) => "JSON has no inf",
        _ => "JSON has no -inf",
    }))
}

macro_rules! pass_on {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

impl<S: Serializer> Serializer for Strict<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<S::SerializeSeq>;
    type SerializeTuple = Parts<S::SerializeTuple>;
    type SerializeTupleStruct = Parts<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<S::SerializeTupleVariant>;
    type SerializeMap = Parts<S::SerializeMap>;
    type SerializeStruct = Parts<S::SerializeStruct>;
    type SerializeStructVariant = Parts<S::SerializeStructVariant>;

    pass_on! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_unit_struct(&'static str);
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        finite::<S>(value.into())?;
        self.inner.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        finite::<S>(value)?;
        self.inner.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Part(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Part(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        if let (Some(written), "Result", "Ok" | "Err") = (self.written, name, variant) {
            if variant == "Ok" {
                return Part(value).serialize(self.inner);
            }
            written.set(Written::Error);
            return value.serialize(self);
        }
        self.inner.serialize_newtype_variant(name, index, variant, &Part(value))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.inner.serialize_seq(length).map(Parts)
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.inner.serialize_tuple(length).map(Parts)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.inner.serialize_tuple_struct(name, length).map(Parts)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.inner.serialize_tuple_variant(name, index, variant, length).map(Parts)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.inner.serialize_map(length).map(Parts)
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.inner.serialize_struct(name, length).map(Parts)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.inner.serialize_struct_variant(name, index, variant, length).map(Parts)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }
}

macro_rules! elements {
    ($($trait:ident, $method:ident;)*) => {
        $(impl<S: ser::$trait> ser::$trait for Parts<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.0.$method(&Part(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

elements! {
    SerializeSeq, serialize_element;
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

macro_rules! fields {
    ($($trait:ident;)*) => {
        $(impl<S: ser::$trait> ser::$trait for Parts<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                self.0.serialize_field(key, &Part(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<S: ser::SerializeMap> ser::SerializeMap for Parts<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    // serde_json itself refuses a float as a key.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.0.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_value(&Part(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests;
