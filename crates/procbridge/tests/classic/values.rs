//! Values arrive as they were sent: numbers to the last bit, `meta` as it was written, and what JSON cannot say is refused.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use procbridge::{
    Call, Client, Endpoint, ErrorKind, Hub, ItemSink, Outcome, ReplyError, Router, RunningServer, Server,
    code,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::wire::{packet, raw};
use crate::support::{WATCHDOG, watched};

/// Both ends of one server.
struct Pair {
    client: Client,
    hub: Hub,
    server: RunningServer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f32,
    rest: Vec<Option<f64>>,
}

/// Sends a request that is written by hand, and waits for its answer.
fn ask(endpoint: &Endpoint, body: &str) {
    let mut stream = raw(endpoint);
    stream.write_all(&packet(body)).unwrap();
    stream.answer().unwrap();
}

fn router(hub: &Hub) -> Router {
    Router::new()
        .method("value", |value: Value| value)
        .method("f64", |x: f64| x)
        .method("f32", |x: f32| x)
        .method("list", |xs: Vec<f64>| xs)
        .method("singles", |xs: Vec<f32>| xs)
        .method("point", |point: Point| point)
        .method("meta", |call: &Call| call.meta_value::<Vec<f64>>("xs"))
        .method("meta.single", |call: &Call| call.meta_value::<f32>("x"))
        .method("meta.raw", |call: &Call| {
            call.meta().map(|meta| RawValue::from_string(meta.to_string()).unwrap())
        })
        .stream("items", |xs: Vec<f64>, items: &mut ItemSink| xs.iter().try_for_each(|x| items.send(x)))
        .stream("data", |xs: Vec<f64>, _: &mut ItemSink| Err::<(), _>(ReplyError::new("no").with_data(&xs)))
        .events(hub)
}

fn pair() -> Pair {
    let hub = Hub::new();
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(router(&hub)).unwrap();
    let client = Client::new(server.endpoint()).unwrap();
    Pair { client, hub, server }
}

/// A source of bits that is the same in each run.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Numbers of any size, numbers of [0, 1), and the ones that are known to be hard.
    fn doubles(&mut self, count: usize) -> Vec<f64> {
        let hard = [
            9_007_199_254_740_991.0,
            1.577_777_777_777_000_1,
            117.633_311_394_000_17,
            5e-324,
            2.225_073_858_507_201e-308,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::MIN,
            -0.0,
            0.1 + 0.2,
            1e23,
            8.41e21,
        ];
        let any = (0..count).map(|at| match at % 2 {
            0 => f64::from_bits(self.next()),
            _ => (self.next() >> 11) as f64 / (1_u64 << 53) as f64,
        });
        any.filter(|x| x.is_finite()).chain(hard).collect()
    }

    fn singles(&mut self, count: usize) -> Vec<f32> {
        let any = (0..count).map(|at| match at % 2 {
            0 => f32::from_bits(self.next() as u32),
            _ => (self.next() >> 40) as f32 / (1_u32 << 24) as f32,
        });
        any.filter(|x| x.is_finite())
            .chain([f32::MAX, f32::MIN_POSITIVE, 1e-45, -0.0, 16_777_216.0])
            .collect()
    }
}

fn bits(xs: &[f64]) -> Vec<u64> {
    xs.iter().map(|x| x.to_bits()).collect()
}

#[track_caller]
fn same(sent: &[f64], came: &[f64]) {
    let differs = sent.iter().zip(came).find(|(sent, came)| sent.to_bits() != came.to_bits());
    assert!(differs.is_none() && sent.len() == came.len(), "{differs:?}");
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn floats_come_back_to_the_last_bit_on_every_path() {
    watched(|| {
        let Pair { client, hub, server } = pair();
        let mut source = Bits(1);
        let sent = source.doubles(20_000);
        same(&sent, &client.request::<Vec<f64>>("list", &sent).unwrap());
        same(&sent, &floats(&client.request::<Value>("value", &sent).unwrap()));
        let items = client.stream::<f64>("items", &sent).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        same(&sent, &items);
        same(&sent, &client.request::<Vec<f64>>("items", &sent).unwrap());
        let meta = client.call("meta").meta("xs", &sent).send::<Vec<f64>>().unwrap();
        same(&sent, &meta);
        let refused = client.request::<()>("data", &sent).unwrap_err();
        same(
            &sent,
            &serde_json::from_str::<Vec<f64>>(refused.remote().unwrap().data().unwrap().get()).unwrap(),
        );
        let mut events = client.subscribe(["x"]).unwrap();
        hub.publish("x", &sent).unwrap();
        same(&sent, &events.next().unwrap().unwrap().payload::<Vec<f64>>().unwrap());
        // One by one: a number alone is read by another way than one in a list.
        for &x in source.doubles(500).iter() {
            assert_eq!(client.request::<f64>("f64", &x).unwrap().to_bits(), x.to_bits(), "{x:?}");
        }
        let singles = source.singles(20_000);
        let came = client.request::<Vec<f32>>("singles", &singles).unwrap();
        let differs = singles.iter().zip(&came).find(|(sent, came)| sent.to_bits() != came.to_bits());
        assert!(differs.is_none() && singles.len() == came.len(), "{differs:?}");
        for x in source.singles(500) {
            assert_eq!(client.request::<f32>("f32", &x).unwrap().to_bits(), x.to_bits(), "{x:?}");
            let meta = client.call("meta.single").meta("x", x).send::<Option<f32>>().unwrap();
            assert_eq!(meta.unwrap().to_bits(), x.to_bits(), "{x:?}");
        }
        for xs in source.doubles(1000).chunks(4) {
            let point = Point { x: xs[0], y: 0.1, rest: xs.iter().copied().map(Some).collect() };
            let came = client.request::<Point>("point", &point).unwrap();
            assert_eq!(bits(&[came.x]), bits(&[point.x]));
            assert_eq!(came, point);
        }
        server.shutdown().unwrap();
    });
}

#[cfg(feature = "tokio")]
#[test]
fn floats_come_back_to_the_last_bit_on_every_path_of_tokio() {
    use procbridge::tokio as face;

    let runtime = tokio::runtime::Runtime::new().unwrap();
    watched(move || {
        runtime.block_on(async {
            let hub = Hub::new();
            let router = face::Router::new()
                .method("list", async |xs: Vec<f64>| xs)
                .method("value", async |value: Value| value)
                .method("point", async |point: Point| point)
                .method("meta", async |call: face::Call| call.meta_value::<Vec<f64>>("xs"))
                .stream("items", async |xs: Vec<f64>, mut items: face::ItemSink| {
                    for x in &xs {
                        items.send(x).await?;
                    }
                    Ok::<_, ReplyError>(())
                })
                .events(&hub);
            let server = face::Server::bind("127.0.0.1:0").unwrap().spawn(router);
            let client = face::Client::new(server.endpoint()).unwrap();
            let sent = Bits(2).doubles(20_000);
            same(&sent, &client.request::<Vec<f64>>("list", &sent).await.unwrap());
            same(&sent, &floats(&client.request::<Value>("value", &sent).await.unwrap()));
            let mut items = client.stream::<f64>("items", &sent).await.unwrap();
            let mut came = Vec::new();
            while let Some(item) = items.next().await {
                came.push(item.unwrap());
            }
            same(&sent, &came);
            same(&sent, &client.call("meta").meta("xs", &sent).send::<Vec<f64>>().await.unwrap());
            let mut events = client.subscribe(["x"]).await.unwrap();
            hub.publish("x", &sent).unwrap();
            same(&sent, &events.next().await.unwrap().unwrap().payload::<Vec<f64>>().unwrap());
            let point = Point { x: 1.577_777_777_777_000_1, y: 0.1, rest: vec![None, Some(1e23)] };
            assert_eq!(client.request::<Point>("point", &point).await.unwrap(), point);
            server.shutdown().await.unwrap();
        });
    });
}

/// The client's side of the same: a server of the program's calls it.
#[test]
fn floats_come_back_to_the_last_bit_in_calls_of_the_server() {
    watched(|| {
        let sent = Bits(3).doubles(20_000);
        let router =
            Router::new().method("back", |call: &Call, xs: Vec<f64>| -> Result<Vec<f64>, ReplyError> {
                Ok(call.session()?.request("list", &xs)?)
            });
        let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
        let client = Client::new(server.endpoint()).unwrap();
        client.serve(Router::new().method("list", |xs: Vec<f64>| xs)).unwrap();
        same(&sent, &client.request::<Vec<f64>>("back", &sent).unwrap());
        drop(client);
        server.shutdown().unwrap();
    });
}

#[test]
fn a_number_beyond_its_type_is_refused_and_never_another_number() {
    watched(|| {
        let Pair { client, server, .. } = pair();
        for (method, text) in [("f32", "1e39"), ("f32", "-3.5e38"), ("f64", "1e400"), ("value", "1e400")] {
            let payload = RawValue::from_string(text.to_string()).unwrap();
            let error = client.request::<Value>(method, &payload).unwrap_err();
            assert_eq!(error.remote().unwrap().code(), Some(code::INVALID_PAYLOAD), "{method} {text}");
            assert!(error.to_string().contains("out of range"), "{error}");
        }
        server.shutdown().unwrap();
    });
}

#[test]
fn meta_goes_as_it_was_written() {
    let text = |text: &str| RawValue::from_string(text.to_string()).unwrap();
    watched(move || {
        let Pair { client, server, .. } = pair();
        let sent = client
            .call("meta.raw")
            .meta("z", text("123456789012345678901"))
            .meta("y", text("1.5777777777770001"))
            .meta("x", text(r#"{"b":1,"a":2,"a":3, "c" : 1e400}"#))
            .meta("w\n", "\u{1}é")
            .send::<Box<RawValue>>()
            .unwrap();
        assert_eq!(
            sent.get(),
            r#"{"z":123456789012345678901,"y":1.5777777777770001,"x":{"b":1,"a":2,"a":3, "c" : 1e400},"w\n":"\u0001é"}"#
        );
        // Of a key that is given twice the last value goes, in the place of the first.
        let sent = client.call("meta.raw").meta("a", 1).meta("b", 2).meta("a", 3).send::<Box<RawValue>>();
        assert_eq!(sent.unwrap().get(), r#"{"a":3,"b":2}"#);
        let error = client.call("meta.raw").meta("x", f64::NAN).send::<Value>().unwrap_err();
        assert_eq!(error.to_string(), "the entry \"x\" of meta cannot be sent: JSON has no NaN");
        server.shutdown().unwrap();
    });
}

#[cfg(feature = "tokio")]
#[test]
fn meta_goes_as_it_was_written_in_tokio() {
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(router(&Hub::new())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    watched(move || {
        runtime.block_on(async {
            let client = procbridge::tokio::Client::new(server.endpoint()).unwrap();
            let value = RawValue::from_string(r#"{"b":1,"a":2,"a":1e400}"#.to_string()).unwrap();
            let call = client.call("meta.raw").meta("z", &value).meta("a", 1);
            assert_eq!(
                call.send::<Box<RawValue>>().await.unwrap().get(),
                r#"{"z":{"b":1,"a":2,"a":1e400},"a":1}"#
            );
            let error = client.call("meta.raw").meta("x", f64::NAN).send::<Value>().await.unwrap_err();
            assert_eq!(error.to_string(), "the entry \"x\" of meta cannot be sent: JSON has no NaN");
        });
        server.shutdown().unwrap();
    });
}

/// An entry that a handler decides by must not be hidden by one that another program adds.
#[test]
fn an_odd_entry_of_meta_hides_no_other() {
    let (told, tells) = mpsc::channel();
    let told = Mutex::new(told);
    let router = Router::new().method("who", move |call: &Call| {
        let odd = call.meta_value::<Value>("odd").is_some();
        told.lock().unwrap().send((call.meta_value::<String>("user"), odd)).unwrap();
    });
    watched(move || {
        let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
        let around = |odd: &str| [format!(r#"{{"user":"ada",{odd}}}"#), format!(r#"{{{odd},"user":"ada"}}"#)];
        for odd in [r#""odd":1e400"#, r#""odd":"\ud800""#, r#""\ud800":1"#, r#""odd":[1e999,{"a":"\udc00"}]"#]
        {
            for meta in around(odd) {
                let body = format!(r#"{{"method":"who","meta":{meta}}}"#);
                ask(&server.endpoint(), &body);
                assert_eq!(tells.recv_timeout(WATCHDOG).unwrap(), (Some("ada".to_string()), false), "{meta}");
            }
        }
        // The last of a name, as in a payload.
        ask(&server.endpoint(), r#"{"method":"who","meta":{"user":"eve","us\u0065r":"ada"}}"#);
        assert_eq!(tells.recv_timeout(WATCHDOG).unwrap().0.as_deref(), Some("ada"));
        server.shutdown().unwrap();
    });
}

/// The outcome of a kind of value: the text that is answered, or the words that refuse it.
#[test]
fn every_kind_of_value_is_sent_as_what_it_is_or_refused_with_words() {
    use std::collections::{BTreeMap, HashMap};

    #[derive(Serialize)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(u8, u8),
        Struct { x: u8 },
    }
    #[derive(Serialize)]
    struct Twice {
        #[serde(rename = "a")]
        first: u8,
        #[serde(rename = "a")]
        second: u8,
    }
    fn nested(levels: usize) -> Value {
        (1..levels).fold(Value::Array(Vec::new()), |inner, _| Value::Array(vec![inner]))
    }
    #[track_caller]
    fn goes<T: Serialize>(client: &Client, value: T, text: &str) {
        let came = client.request::<Box<RawValue>>("text", &value).unwrap();
        assert_eq!(came.get(), text);
    }
    #[track_caller]
    fn refused<T: Serialize>(client: &Client, value: T, words: &str) {
        let error = client.request::<Box<RawValue>>("text", &value).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent));
        assert_eq!(error.to_string(), format!("the payload cannot be sent: {words}"));
    }

    watched(|| {
        let text = |call: &Call| RawValue::from_string(call.payload().unwrap_or("null").to_string()).unwrap();
        let server = Server::bind("127.0.0.1:0").unwrap().spawn(Router::new().method("text", text)).unwrap();
        let client = &Client::new(server.endpoint()).unwrap();
        goes(client, u128::MAX, "340282366920938463463374607431768211455");
        goes(client, i128::MIN, "-170141183460469231731687303715884105728");
        goes(client, -0.0, "-0.0");
        goes(client, 1e300, "1e+300");
        goes(client, f32::MAX, "3.4028235e+38");
        goes(client, serde_bytes(b"ab"), "[97,98]");
        goes(client, 'é', "\"é\"");
        goes(client, Some(Some(1)), "1");
        // Both are null: the difference is lost.
        goes(client, [None::<Option<u8>>, Some(None)], "[null,null]");
        goes(client, Shape::Unit, "\"Unit\"");
        goes(client, Shape::New(1), r#"{"New":1}"#);
        goes(client, Shape::Tuple(1, 2), r#"{"Tuple":[1,2]}"#);
        goes(client, Shape::Struct { x: 1 }, r#"{"Struct":{"x":1}}"#);
        goes(client, Twice { first: 1, second: 2 }, r#"{"a":1,"a":2}"#);
        goes(client, HashMap::from([(1, 2)]), r#"{"1":2}"#);
        goes(client, BTreeMap::from([(true, 1)]), r#"{"true":1}"#);
        goes(client, BTreeMap::from([('k', 1)]), r#"{"k":1}"#);
        goes(client, Duration::from_millis(1), r#"{"secs":0,"nanos":1000000}"#);
        goes(client, "\u{0}\u{1f}\u{7f}\u{2028}\u{feff}", "\"\\u0000\\u001f\u{7f}\u{2028}\u{feff}\"");
        // Keys of a `Value` are in the order of the alphabet, those of a struct in that of its fields.
        goes(client, serde_json::json!({"b": 1, "a": 2}), r#"{"a":2,"b":1}"#);
        goes(client, nested(127), &format!("{}{}", "[".repeat(127), "]".repeat(127)));

        refused(client, f64::NAN, "JSON has no NaN");
        refused(client, [f32::INFINITY], "JSON has no inf");
        refused(client, BTreeMap::from([([1, 2], 1)]), "key must be a string");
        refused(client, BTreeMap::from([(None::<u8>, 1)]), "key must be a string");
        refused(
            client,
            std::path::Path::new(std::ffi::OsStr::from_bytes(b"\xff")),
            "path contains invalid UTF-8 characters",
        );
        // The receiver judges the depth; 128 levels and no more are read, the body's own object counted.
        let error = client.request::<Value>("text", &nested(128)).unwrap_err();
        assert_eq!(error.remote().unwrap().code(), Some(code::TOO_LARGE));
        server.shutdown().unwrap();
    });
}

fn serde_bytes(bytes: &'static [u8]) -> impl Serialize {
    struct Bytes(&'static [u8]);
    impl Serialize for Bytes {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    Bytes(bytes)
}

/// JSON has no words for them, and `null` would be another value.
#[test]
fn a_float_that_is_not_finite_is_refused_on_every_way_out() {
    watched(|| {
        let hub = Hub::new();
        let router = Router::new()
            .method("result", || f64::NAN)
            .method("data", || Err::<(), _>([f64::NAN]))
            .stream("items", |_: (), items: &mut ItemSink| items.send(&f64::INFINITY))
            .stream("own", |_: (), _: &mut ItemSink| f64::NEG_INFINITY)
            .events(&hub);
        let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
        let client = Client::new(server.endpoint()).unwrap();
        let words = |error: procbridge::Error| error.to_string();
        assert_eq!(
            words(client.request::<f64>("result", &()).unwrap_err()),
            "the result cannot be sent: JSON has no NaN"
        );
        assert_eq!(
            words(client.request::<f64>("data", &()).unwrap_err()),
            "the result cannot be sent: JSON has no NaN"
        );
        let mut items = client.stream::<f64>("items", &()).unwrap();
        assert_eq!(words(items.next().unwrap().unwrap_err()), "the item cannot be sent: JSON has no inf");
        assert_eq!(
            words(client.request::<Value>("items", &()).unwrap_err()),
            "the item cannot be sent: JSON has no inf"
        );
        let own = client.stream::<f64>("own", &()).unwrap().finish::<f64>().unwrap_err();
        assert_eq!(words(own), "the result cannot be sent: JSON has no -inf");
        assert_eq!(
            words(hub.publish("x", &f64::NAN).unwrap_err()),
            "the payload cannot be sent: JSON has no NaN"
        );
        assert_eq!(
            words(client.notify("result", &f64::NAN).unwrap_err()),
            "the payload cannot be sent: JSON has no NaN"
        );
        // Values that were added to a refusal are left out, and the refusal is answered.
        assert!(ReplyError::new("no").with_data(&f64::NAN).data().is_none());
        server.shutdown().unwrap();
    });
}

/// A payload is read as a type that it does not fit.
#[test]
fn a_value_that_does_not_fit_its_type_is_refused_with_words() {
    #[derive(Debug, Serialize, Deserialize)]
    struct One {
        a: u8,
    }
    watched(|| {
        let router = Router::new()
            .method("i64", |x: i64| x)
            .method("u64", |x: u64| x)
            .method("u128", |x: u128| x)
            .method("i128", |x: i128| x)
            .method("u8", |x: u8| x)
            .method("one", |one: One| one)
            .method("string", |text: String| text)
            .method("value", |value: Value| value)
            .method("option", |x: Option<Option<u8>>| x);
        let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
        let client = Client::new(server.endpoint()).unwrap();
        let ask = |method: &str, text: &str| {
            let payload = RawValue::from_string(text.to_string()).unwrap();
            client.request::<Box<RawValue>>(method, &payload).map(|answer| answer.get().to_string())
        };
        for (method, text, words) in [
            (
                "i64",
                "9223372036854775808",
                "integer out of range of i64 (-9223372036854775808 to 9223372036854775807)",
            ),
            ("u64", "-1", "integer out of range of u64 (0 to 18446744073709551615)"),
            ("u64", "18446744073709551616", "integer out of range of u64 (0 to 18446744073709551615)"),
            ("u8", "256", "integer out of range of u8 (0 to 255)"),
            ("u128", "340282366920938463463374607431768211456", "number out of range"),
            ("i64", "1.5", "found floating point, expected i64"),
            ("one", r#"{"a":1,"a":2}"#, "duplicate field `a`"),
            ("one", "{}", "missing field `a`"),
            ("string", r#""\ud800""#, "unexpected end of hex escape"),
            ("value", r#"["\udc00"]"#, "lone leading surrogate in hex escape"),
        ] {
            let error = ask(method, text).unwrap_err();
            assert_eq!(error.remote().unwrap().code(), Some(code::INVALID_PAYLOAD), "{method} {text}");
            let told = error.to_string();
            assert!(told.starts_with(&format!("invalid payload for {method:?}: {words}")), "{told}");
        }
        for (method, text, answer) in [
            ("u128", "340282366920938463463374607431768211455", "340282366920938463463374607431768211455"),
            ("i128", "-170141183460469231731687303715884105728", "-170141183460469231731687303715884105728"),
            ("value", "-0.0", "-0.0"),
            ("value", r#"{"b":1,"a":2,"b":3}"#, r#"{"a":2,"b":3}"#),
            ("value", "18446744073709551615", "18446744073709551615"),
            // Beyond u64 a `Value` has a float; the raw value has the digits.
            ("value", "18446744073709551616", "1.8446744073709552e+19"),
            ("option", "null", "null"),
        ] {
            assert_eq!(ask(method, text).unwrap(), answer, "{method} {text}");
        }
        // The same words where a result is read.
        let error = client.request::<i8>("value", &300).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResult);
        let words = "the answer is not of the expected type: integer out of range of i8 (-128 to 127)";
        assert!(error.to_string().starts_with(words), "{error}");
        server.shutdown().unwrap();
    });
}
