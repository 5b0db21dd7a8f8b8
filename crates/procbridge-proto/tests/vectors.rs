//! The vectors of the specification, each run whole, byte by byte and with bytes behind it. A test holds that every
//! rule has a vector and every vector names its rules.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use procbridge_proto::{
    Connection, Ending, Event, HEADER_LENGTH, Header, Limits, Packet, ProtocolError, Response, Status,
    Version,
};
use serde_json::{Value, json};

struct Vector {
    name: String,
    value: Value,
    bytes: Vec<u8>,
}

fn spec() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec")
}

fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for kind in ["packet", "reject"] {
        for entry in fs::read_dir(spec().join("vectors").join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let name = format!("{kind}/{}", path.file_stem().unwrap().to_str().unwrap());
            let bytes = bytes(&value["bytes"]);
            all.push(Vector { name, value, bytes });
        }
    }
    assert!(all.len() > 200, "the vectors are missing: {} found", all.len());
    all
}

fn bytes(parts: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts.as_array().unwrap() {
        if let Some(text) = part.as_str() {
            out.extend(hex(text));
        } else if let Some(text) = part["text"].as_str() {
            out.extend(text.as_bytes());
        } else if let Some(text) = part["repeat"].as_str() {
            out.extend(hex(text).repeat(usize::try_from(part["times"].as_u64().unwrap()).unwrap()));
        } else {
            let body = bytes(&part["body"]);
            out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
            out.extend(body);
        }
    }
    out
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    assert_eq!(digits.len() % 2, 0, "odd number of digits in {text:?}");
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}

impl Vector {
    fn version(&self) -> Version {
        if self.value["version"] == "1.0" { Version::V1_0 } else { Version::V1_1 }
    }

    fn limits(&self) -> Limits {
        let limit =
            |name: &str| self.value["limits"][name].as_u64().map(|limit| u32::try_from(limit).unwrap());
        let mut limits = Limits::default();
        limits = limit("max_body").map_or(limits, |limit| limits.with_max_body(limit));
        limits = limit("max_depth").map_or(limits, |limit| limits.with_max_depth(limit));
        limit("max_method").map_or(limits, |limit| limits.with_max_method(limit))
    }

    fn connection(&self) -> Connection {
        if self.value["receiver"] == "server" {
            return Connection::server(self.limits());
        }
        let mut client = Connection::client(self.limits());
        let request = Packet::request(self.version(), Some("m"), None).finish(&Limits::default()).unwrap();
        client.call(request).unwrap();
        let length = client.transmit().len();
        client.transmitted(length);
        client
    }

    fn may_be_followed(&self) -> bool {
        let by_kind = self.name.starts_with("packet/") || self.value["end"] != true;
        self.value["ignored"].as_bool().unwrap_or(by_kind)
    }

    /// Returns the outcome of the bytes when they are taken in as `portions`, in the words of the vector.
    fn outcome<'a>(&self, portions: impl IntoIterator<Item = &'a [u8]>) -> Value {
        let mut connection = self.connection();
        for portion in portions {
            connection.receive(portion);
        }
        if self.value["end"] == true {
            connection.receive_end();
        }
        let event = connection.poll_event();
        let again = connection.poll_event();
        assert_eq!(again, None, "{}: a second event", self.name);
        let outcome = describe(event, &connection);
        // Whatever comes later changes nothing: an error is reported once, an answer is not followed by another.
        let queued = connection.transmit().to_vec();
        connection.receive(b"pb\x01\x01\x00\x00\x00\x02\x00\x00\x00{}");
        connection.receive_end();
        let later = connection.poll_event();
        if outcome != json!({"waiting": {}}) {
            assert_eq!(
                (later, connection.transmit()),
                (None, &queued[..]),
                "{}: something came later",
                self.name
            );
        }
        outcome
    }
}

fn describe(event: Option<Event>, connection: &Connection) -> Value {
    match event {
        Some(Event::Request { request, .. }) => json!({"request": {
            "version": request.version().to_string(),
            "method": request.method(),
            "payload": request.payload(),
            "timeout_ms": request.timeout_ms(),
        }}),
        Some(Event::Response { response: Response::Good(good), .. }) => {
            json!({"good": {"payload": good.payload()}})
        }
        Some(Event::Response { response: Response::Bad(bad), .. }) => {
            json!({"bad": {"message": bad.message(), "code": bad.code(), "data": bad.data()}})
        }
        Some(Event::Closed { error: None }) => json!({"closed": {}}),
        Some(Event::Closed { error: Some(error) }) => {
            json!({"error": {"name": error.name(), "answer": answer(&error, connection)}})
        }
        Some(other) => panic!("unexpected event {other:?}"),
        None => json!({"waiting": {}}),
    }
}

/// Returns the answer that is queued for the peer.
fn answer(error: &ProtocolError, connection: &Connection) -> Value {
    let Ok(Some(header)) = Header::parse(connection.transmit()) else {
        assert!(connection.transmit().is_empty());
        return Value::Null;
    };
    assert_eq!((header.status, header.flags, header.options), (Status::BAD, 0, 0));
    assert_eq!(connection.ending(), Ending::Linger, "the peer may still be sending");
    let body: Value = serde_json::from_slice(&connection.transmit()[HEADER_LENGTH..]).unwrap();
    let key = if header.version == Version::V1_0 { "msg" } else { "message" };
    assert_eq!(body[key], error.to_string());
    json!({"version": header.version.to_string(), "code": body["code"]})
}

/// Returns the expectation with the keys filled in that may be left out.
fn expected(vector: &Vector) -> Value {
    let mut expected = vector.value["expect"].clone();
    for (kind, key) in [("request", "timeout_ms"), ("bad", "code"), ("bad", "data")] {
        if let Some(fields) = expected.get_mut(kind).and_then(Value::as_object_mut) {
            fields.entry(key).or_insert(Value::Null);
        }
    }
    expected
}

#[test]
fn every_vector_holds_whole() {
    for vector in vectors() {
        assert_eq!(vector.outcome([&vector.bytes[..]]), expected(&vector), "{}", vector.name);
    }
}

#[test]
fn every_vector_holds_byte_by_byte() {
    for vector in vectors() {
        assert_eq!(vector.outcome(vector.bytes.chunks(1)), expected(&vector), "{}", vector.name);
    }
}

#[test]
fn every_vector_holds_in_every_two_portions() {
    for vector in vectors().iter().filter(|vector| vector.bytes.len() < 300) {
        for cut in 0..=vector.bytes.len() {
            let (front, back) = vector.bytes.split_at(cut);
            assert_eq!(vector.outcome([front, back]), expected(vector), "{} cut at {cut}", vector.name);
        }
    }
}

#[test]
fn every_vector_holds_with_bytes_behind_it() {
    for vector in vectors().iter().filter(|vector| vector.may_be_followed()) {
        for behind in [&b"\0"[..], b"GET / HTTP/1.1\r\n\r\n", &vector.bytes] {
            let whole = [&vector.bytes, behind].concat();
            assert_eq!(vector.outcome([&whole[..]]), expected(vector), "{}", vector.name);
            assert_eq!(vector.outcome([&vector.bytes[..], behind]), expected(vector), "{}", vector.name);
        }
    }
}

#[test]
fn what_a_canonical_vector_means_is_written_as_it_stands() {
    let mut count = 0;
    for vector in vectors().iter().filter(|vector| vector.value["canonical"] == true) {
        let expect = &vector.value["expect"];
        let version = match &expect["request"]["version"] {
            Value::String(version) if version == "1.0" => Version::V1_0,
            _ => vector.version(),
        };
        let (packet, value) = if let Some(request) = expect.get("request") {
            let packet = Packet::request(version, request["method"].as_str(), request["timeout_ms"].as_u64());
            (packet, &request["payload"])
        } else if let Some(good) = expect.get("good") {
            (Packet::good(version), &good["payload"])
        } else {
            let bad = &expect["bad"];
            (Packet::bad(version, bad["message"].as_str().unwrap(), bad["code"].as_str()), &bad["data"])
        };
        let packet = packet.json_text(value.as_str().unwrap_or("null")).unwrap();
        let packet = packet.finish(&Limits::default()).unwrap();
        assert_eq!(packet.bytes(), vector.bytes, "{}", vector.name);
        count += 1;
    }
    assert!(count >= 20, "only {count} canonical vectors");
}

#[test]
fn every_rule_has_a_vector_and_every_vector_names_its_rules() {
    let text = fs::read_to_string(spec().join("procbridge-1.1.md")).unwrap();
    let marks: Vec<_> = text.split("**PB-").skip(1).map(|rest| rest.split("**").next().unwrap()).collect();
    let rules: BTreeSet<_> = marks.iter().map(|mark| format!("PB-{mark}")).collect();
    assert_eq!(marks.len(), rules.len(), "a rule id stands twice");
    let mut shown = BTreeSet::new();
    for vector in vectors() {
        let named = vector.value["rules"].as_array().unwrap();
        assert!(!named.is_empty(), "{} names no rule", vector.name);
        assert!(vector.value["about"].as_str().is_some_and(|about| !about.is_empty()), "{}", vector.name);
        for rule in named {
            assert!(
                rules.contains(rule.as_str().unwrap()),
                "{} names {rule}, which does not exist",
                vector.name
            );
            shown.insert(rule.as_str().unwrap().to_string());
        }
    }
    let missing: Vec<_> = rules.difference(&shown).collect();
    assert!(missing.is_empty(), "rules without a vector: {missing:?}");
}

#[test]
fn rules_that_the_code_names_exist() {
    let read = |name| fs::read_to_string(spec().join(name)).unwrap();
    let text = read("procbridge-1.1.md") + &read("sessions.md");
    let mut named = 0;
    for directory in [
        "procbridge-proto/src",
        "procbridge/src",
        "procbridge/src/blocking",
        "procbridge/src/session",
        "procbridge/src/tokio",
    ] {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(directory);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            for rule in source.split("PB-").skip(1) {
                let family: String = rule.chars().take_while(char::is_ascii_uppercase).collect();
                let number: String =
                    rule[family.len() + 1..].chars().take_while(char::is_ascii_digit).collect();
                let exists = match number.as_str() {
                    "" => text.contains(&format!("**PB-{family}-")),
                    number => text.contains(&format!("**PB-{family}-{number}**")),
                };
                assert!(exists, "{} names PB-{family}-{number}", path.display());
                named += 1;
            }
        }
    }
    assert!(named > 10);
}
