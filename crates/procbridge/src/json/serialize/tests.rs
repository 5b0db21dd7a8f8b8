use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

#[derive(Serialize)]
enum Shape {
    Unit,
    Newtype(f64),
    Tuple(u8, f64),
    Struct { x: f32 },
}

#[derive(Serialize)]
struct Wrapper(f64);

fn text<T: Serialize>(value: T) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    write(&mut out, &value).map(|()| String::from_utf8(out).unwrap())
}

#[test]
fn everything_is_written_as_serde_json_writes_it() {
    let raw = RawValue::from_string("[1.0,  18446744073709551617 ]".to_string()).unwrap();
    let map = BTreeMap::from([(1, Shape::Unit), (2, Shape::Newtype(1.5)), (3, Shape::Tuple(1, 2.0))]);
    let value = json!({"a": [1, -2, 3.5, null, true], "b": {"c": "\u{1}😄"}});
    assert_eq!(text(&raw).unwrap(), raw.get());
    assert_eq!(text(&map).unwrap(), serde_json::to_string(&map).unwrap());
    assert_eq!(text(&value).unwrap(), value.to_string());
    let shape = (Shape::Struct { x: 0.5 }, Some(Wrapper(1.0)), 'c', 1_u128, ());
    assert_eq!(text(&shape).unwrap(), serde_json::to_string(&shape).unwrap());
}

#[test]
fn floats_that_are_not_finite_are_refused_at_any_depth() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    assert!(text(nan).is_err());
    assert!(text(f32::NEG_INFINITY).is_err());
    assert!(text([1.0, inf]).is_err());
    assert!(text((1, nan)).is_err());
    assert!(text(BTreeMap::from([("a", nan)])).is_err());
    assert!(text(Some(Wrapper(nan))).is_err());
    assert!(text(Shape::Newtype(nan)).is_err());
    assert!(text(Shape::Tuple(1, nan)).is_err());
    let error = text(Shape::Struct { x: f32::NAN }).unwrap_err();
    assert_eq!(error.to_string(), "JSON has no NaN");
}

#[test]
fn a_mismatch_does_not_reveal_the_value() {
    fn message<T: serde::de::DeserializeOwned>(text: &str) -> String {
        mismatch(&serde_json::from_str::<T>(text).map(drop).unwrap_err())
    }
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Named {
        name: u8,
    }
    let secret = r#""secret, expected nothing""#;
    assert_eq!(message::<Vec<u8>>(secret), "found string, expected a sequence at line 1 column 26");
    assert_eq!(message::<u8>("777"), "integer out of range of u8 (0 to 255) at line 1 column 3");
    assert_eq!(message::<u8>("1.5"), "found floating point, expected u8 at line 1 column 3");
    assert_eq!(message::<String>("null"), "found null, expected a string at line 1 column 4");
    assert_eq!(message::<Named>(r#"{"secret":1}"#), "unknown field, expected `name` at line 1 column 9");
    assert_eq!(message::<Named>("{}"), "missing field `name` at line 1 column 2");
    assert_eq!(message::<(u8, u8)>("[1]"), "invalid length 1, expected a tuple of size 2 at line 1 column 3");
}

#[test]
fn a_whole_number_beyond_its_type_is_called_out_of_range() {
    fn message<T: serde::de::DeserializeOwned>(text: &str) -> String {
        let message = mismatch(&serde_json::from_str::<T>(text).map(drop).unwrap_err());
        message.split(" at line ").next().unwrap().to_string()
    }
    let signed = "integer out of range of i64 (-9223372036854775808 to 9223372036854775807)";
    let unsigned = "integer out of range of u64 (0 to 18446744073709551615)";
    for text in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e300"] {
        assert_eq!(message::<i64>(text), signed, "{text}");
    }
    for text in ["-1", "18446744073709551616", "-99999999999999999999"] {
        assert_eq!(message::<u64>(text), unsigned, "{text}");
    }
    assert_eq!(message::<i8>("128"), "integer out of range of i8 (-128 to 127)");
    assert_eq!(message::<i16>("-32769"), "integer out of range of i16 (-32768 to 32767)");
    assert_eq!(message::<i32>("2147483648"), "integer out of range of i32 (-2147483648 to 2147483647)");
    assert_eq!(message::<u16>("65536"), "integer out of range of u16 (0 to 65535)");
    assert_eq!(message::<u32>("-1"), "integer out of range of u32 (0 to 4294967295)");
    assert_eq!(message::<usize>("-1"), unsigned.replace("u64", "usize"));
    assert_eq!(message::<isize>("18446744073709551615"), signed.replace("i64", "isize"));
    assert_eq!(message::<Vec<u8>>("[1,256]"), "integer out of range of u8 (0 to 255)");
    for text in ["1e400", "-1e400"] {
        assert_eq!(message::<f64>(text), "number out of range");
    }
    assert_eq!(message::<f32>("1e39"), "number out of range");
    assert_eq!(message::<u128>("340282366920938463463374607431768211456"), "number out of range");
    assert_eq!(message::<i128>("-170141183460469231731687303715884105729"), "number out of range");
    // A whole number written as a float is in range, but of the wrong type.
    assert_eq!(message::<u8>("1.0"), "found floating point, expected u8");
    assert_eq!(message::<u64>("1e2"), "found floating point, expected u64");
    assert_eq!(message::<std::num::NonZeroU8>("0"), "found integer, expected a nonzero u8");
    assert_eq!(message::<bool>("1"), "found integer, expected a boolean");
}

#[test]
fn only_the_outermost_result_is_unwrapped() {
    let read = |value: Result<Value, String>| {
        let mut out = Vec::new();
        let written = write_result(&mut out, &value).unwrap();
        (written, String::from_utf8(out).unwrap())
    };
    assert_eq!(read(Ok(json!([1]))), (Written::Value, "[1]".to_string()));
    assert_eq!(read(Err("no".to_string())), (Written::Error, "\"no\"".to_string()));
    let mut out = Vec::new();
    let nested: Vec<Result<u8, u8>> = vec![Ok(1), Err(2)];
    assert_eq!(write_result(&mut out, &nested).unwrap(), Written::Value);
    assert_eq!(out, br#"[{"Ok":1},{"Err":2}]"#);
}
