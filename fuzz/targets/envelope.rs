//! Any bytes as a body: what the core says of it is what `serde_json` says, within the limits that are the core's own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use procbridge_fuzz::choices;
use procbridge_proto::{
    Connection, Envelope, Event, Header, Limits, Packet, ProtocolError, Request, Response, Status, Version,
    member,
};
use serde_json::value::RawValue;

fuzz_target!(|input: &[u8]| {
    let ([how], body) = choices(input);
    let version = if how & 1 == 0 { Version::V1_1 } else { Version::V1_0 };
    let max_depth = if how & 2 == 0 { 128 } else { 3 };
    let limits = Limits::default().with_max_depth(max_depth).with_max_method(16);
    let oracle = Oracle::of(body, max_depth as usize);
    match how >> 2 & 3 {
        0 | 1 => request(version, body, limits, &oracle),
        2 => {
            good(version, body, limits, &oracle);
            left_to_a_parser(body, limits);
        }
        _ => bad(version, body, limits, &oracle),
    }
    written(body);
    if let Oracle::Object(members) = &oracle {
        for name in ["payload", "traceparent"] {
            let found = member(str::from_utf8(body).unwrap(), name);
            assert_eq!(found, last(members, name));
        }
    }
});

/// The verdict of `serde_json` on a body.
enum Oracle<'a> {
    /// An object of allowed depth: the keys as they are read, and the text of their values.
    Object(Vec<(Option<String>, &'a str)>),
    /// The core must refuse it, with an error of which this holds.
    Refused(fn(&ProtocolError) -> bool),
}

impl<'a> Oracle<'a> {
    fn of(body: &'a [u8], max_depth: usize) -> Self {
        let Ok(text) = str::from_utf8(body) else {
            return Self::Refused(|error| matches!(error, ProtocolError::InvalidUtf8 { .. }));
        };
        // To a `RawValue` it only checks, without a limit of its own on numbers or depth.
        let Ok(value) = serde_json::from_str::<&RawValue>(text) else {
            // The core stops at what is too deep, wherever else the body is wrong.
            let is_wrong = |error: &_| {
                matches!(error, ProtocolError::InvalidJson { .. } | ProtocolError::TooDeep { .. })
            };
            return Self::Refused(is_wrong);
        };
        if depth(value.get()) > max_depth {
            return Self::Refused(|error| matches!(error, ProtocolError::TooDeep { .. }));
        }
        match serde_json::from_str::<Members<'_>>(text) {
            Ok(members) => Self::Object(members.0),
            Err(_) => Self::Refused(|error| matches!(error, ProtocolError::NotAnObject { .. })),
        }
    }

    /// Returns the members if `refused` is none, else nothing, once it is the right error.
    fn members(&self, refused: Option<&ProtocolError>) -> Option<&[(Option<String>, &'a str)]> {
        match (self, refused) {
            (Self::Refused(is_right), Some(error)) => assert!(is_right(error), "{error:?}"),
            (Self::Refused(_), None) => panic!("read what serde_json does not"),
            (Self::Object(members), None) => return Some(members),
            (Self::Object(_), Some(error)) => panic!("{error:?}, but serde_json reads it"),
        }
        None
    }
}

/// The members of an object in their order.
struct Members<'a>(Vec<(Option<String>, &'a str)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    // A key with half a surrogate pair is none of those that have a meaning.
                    members.push((string(key.get()), value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Returns how deep arrays and objects are nested in `json`, which is JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Returns the last member of this name, which may be null.
fn last<'a>(members: &[(Option<String>, &'a str)], name: &str) -> Option<&'a str> {
    members.iter().rev().find(|(key, _)| key.as_deref() == Some(name)).map(|&(_, value)| value)
}

/// Returns the same, where null is as good as none.
fn not_null<'a>(members: &[(Option<String>, &'a str)], name: &str) -> Option<&'a str> {
    last(members, name).filter(|&value| value != "null")
}

/// Returns a string that has a meaning; not one with half a surrogate pair.
fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

fn packet(version: Version, status: Status, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&Header::classic(version, status, length).encode(), body].concat()
}

fn request(version: Version, body: &[u8], limits: Limits, oracle: &Oracle<'_>) {
    let mut server = Connection::server(limits);
    server.receive(&packet(version, Status::REQUEST, body));
    let (method_key, payload_key) =
        if version == Version::V1_1 { ("method", "payload") } else { ("api", "body") };
    let request = match server.poll_event() {
        Some(Event::Request { request, .. }) => Ok(request),
        Some(Event::Closed { error: Some(error) }) => Err(error),
        other => panic!("{other:?}"),
    };
    // A wrong method name is found once everything else is right.
    let about_method = |error: &ProtocolError| {
        matches!(error, ProtocolError::InvalidMethod { .. } | ProtocolError::MethodTooLong { .. })
    };
    let error = request.as_ref().err();
    let Some(members) = oracle.members(error.filter(|error| !about_method(error))) else { return };
    let method = not_null(members, method_key);
    let name = method.map(|method| string(method).ok_or(()));
    let expected = match (&name, version) {
        (Some(Err(())), _) => Err("invalid"),
        (None, Version::V1_0) => Err("invalid"),
        (Some(Ok(name)), Version::V1_0) if name.is_empty() => Err("invalid"),
        (Some(Ok(name)), _) if name.len() > limits.max_method() as usize => Err("long"),
        (Some(Ok(name)), _) => Ok(Some(&**name)),
        (None, Version::V1_1) => Ok(None),
    };
    let request = match (request, expected) {
        (Err(ProtocolError::InvalidMethod { .. }), Err("invalid")) => return,
        (Err(ProtocolError::MethodTooLong { .. }), Err("long")) => return,
        (Ok(request), Ok(expected)) => {
            assert_eq!(request.method(), expected);
            request
        }
        (request, expected) => panic!("{request:?}, but the method is {expected:?}"),
    };
    assert_eq!(request.payload(), not_null(members, payload_key));
    assert_eq!(request.size(), body.len());
    if version == Version::V1_0 {
        assert_eq!((request.timeout_ms(), request.meta(), request.token()), (None, None, None));
        return;
    }
    let number = |json| serde_json::from_str::<u64>(json).ok().filter(|&number| number < 1 << 53);
    assert_eq!(request.timeout_ms(), last(members, "timeout_ms").and_then(number));
    assert_eq!(request.meta(), last(members, "meta").filter(|meta| meta.starts_with('{')));
    match last(members, "token") {
        Some(token) if token.starts_with('"') => {
            let shown = request.token().expect("a string is a token");
            assert!(string(token).is_none_or(|token| token == shown));
        }
        _ => assert_eq!(request.token(), None),
    }
    read_back(&request);
}

/// Checks that a request with the same parts says the same.
fn read_back(request: &Request) {
    let token = request.token();
    let envelope =
        Envelope { timeout_ms: request.timeout_ms(), meta: request.meta(), token: token.as_deref() };
    let builder = Packet::request_with(Version::V1_1, request.method(), &envelope).unwrap();
    let builder = match request.payload() {
        Some(payload) => builder.json_text(payload).unwrap(),
        None => builder,
    };
    let limits = Limits::default();
    let mut server = Connection::server(limits);
    server.receive(builder.finish(&limits).unwrap().bytes());
    let Some(Event::Request { request: again, .. }) = server.poll_event() else { panic!("no request") };
    assert_eq!((again.method(), again.payload()), (request.method(), request.payload()));
    assert_eq!((again.timeout_ms(), again.meta()), (request.timeout_ms(), request.meta()));
    assert_eq!(again.token(), request.token());
}

/// Returns what a client gets for an answer with this body.
fn answer(version: Version, status: Status, body: &[u8], limits: Limits) -> Result<Response, ProtocolError> {
    let mut client = Connection::client(limits);
    client.call(Packet::request(version, Some("m"), None).finish(&limits).unwrap()).unwrap();
    client.receive(&packet(version, status, body));
    match client.poll_event() {
        Some(Event::Response { response, .. }) => Ok(response),
        Some(Event::Closed { error: Some(error) }) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn good(version: Version, body: &[u8], limits: Limits, oracle: &Oracle<'_>) {
    let response = answer(version, Status::GOOD, body, limits);
    let Some(members) = oracle.members(response.as_ref().err()) else { return };
    let key = if version == Version::V1_1 { "payload" } else { "body" };
    let response = response.unwrap();
    let good = response.good().expect("a good response");
    let expected = not_null(members, key);
    assert_eq!(good.payload(), expected);
    assert_eq!(good.clone().into_payload().as_deref(), expected);
}

/// Checks that text left to a parser and then checked is the text that is checked at once.
fn left_to_a_parser(body: &[u8], limits: Limits) {
    let checked = answer(Version::V1_1, Status::GOOD, body, limits);
    let left = answer(Version::V1_1, Status::GOOD, body, limits.with_results_unchecked());
    let Ok(Response::Good(left)) = &left else { return assert_eq!(checked, left) };
    match checked {
        Ok(checked) => {
            assert_eq!(left.check(), Ok(()));
            assert_eq!(checked.good().and_then(|good| good.payload()), left.payload());
        }
        Err(error) => {
            assert_eq!(left.check(), Err(error));
            // Nor does the parser read it.
            assert!(serde_json::from_str::<&RawValue>(left.payload().unwrap_or_default()).is_err());
        }
    }
}

fn bad(version: Version, body: &[u8], limits: Limits, oracle: &Oracle<'_>) {
    let response = answer(version, Status::BAD, body, limits);
    let Some(members) = oracle.members(response.as_ref().err()) else { return };
    let response = response.unwrap();
    let bad = response.bad().expect("a bad response");
    let key = if version == Version::V1_1 { "message" } else { "msg" };
    match not_null(members, key) {
        None => assert_eq!(bad.message(), "unknown server error"),
        Some(message) if message.starts_with('"') => {
            assert!(string(message).is_none_or(|message| message == bad.message()));
        }
        // A thrown value need not be a string.
        Some(message) => assert_eq!(bad.message(), message),
    }
    if version == Version::V1_0 {
        assert_eq!((bad.code(), bad.data()), (None, None));
        return;
    }
    match last(members, "code") {
        Some(code) if code.starts_with('"') => {
            let told = bad.code().expect("a string is a code");
            assert!(string(code).is_none_or(|code| code == told));
        }
        _ => assert_eq!(bad.code(), None),
    }
    assert_eq!(bad.data(), not_null(members, "data"));
}

/// Checks that a payload that may be sent is JSON of at most 128 levels.
fn written(body: &[u8]) {
    let Ok(text) = str::from_utf8(body) else { return };
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok_and(|value| depth(value.get()) <= 128);
    assert_eq!(Packet::good(Version::V1_1).json_text(text).is_ok(), is_json);
}
