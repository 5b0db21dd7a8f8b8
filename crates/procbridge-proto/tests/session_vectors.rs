//! The vectors of sessions, each run whole, byte by byte and cut in two everywhere. A test holds that every rule of
//! `spec/sessions.md` has a vector, or a place in the list of those that no bytes can show.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use procbridge_proto::{
    CallId, Codec, Codecs, Connection, Envelope, Event, HEADER_LENGTH, Header, Limits, Misuse, Packet,
    PacketBuilder, Response, Settings, Status, Version, flag,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

struct Vector {
    name: String,
    value: Value,
}

/// How the bytes of all `receive` steps are handed over.
#[derive(Clone, Copy)]
enum Portions {
    Of(usize),
    CutAt(usize),
    /// Whole; answers and items that the core leaves unread are read by the program.
    Unread,
}

/// A receiver at work on one vector.
struct Run<'a> {
    vector: &'a Vector,
    connection: Connection,
    portions: Portions,
    /// Bytes received in steps so far.
    received: usize,
    ids: BTreeMap<u64, CallId>,
    /// Sizes of the ITEMs of each call that the program has not taken.
    items: BTreeMap<u64, VecDeque<u64>>,
    events: VecDeque<Value>,
    sent: VecDeque<Sent>,
    /// The bytes that were sent and are no whole message yet, and pieces by kind and call.
    out: Vec<u8>,
    pieces: BTreeMap<(u8, u32), Sent>,
    /// Whether the next packet sent is a session packet.
    in_session: bool,
}

/// A message that the receiver sent.
struct Sent {
    bytes: Vec<u8>,
    header: Header,
    id: Option<u32>,
    content: Vec<u8>,
}

fn spec() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec")
}

fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for entry in fs::read_dir(spec().join("vectors/session")).unwrap() {
        let path = entry.unwrap().path();
        let value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        all.push(Vector { name: path.file_stem().unwrap().to_str().unwrap().into(), value });
    }
    assert!(all.len() > 300, "the vectors are missing: {} found", all.len());
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Returns the vectors whose codecs this build has.
fn runnable() -> Vec<Vector> {
    let all = vectors().into_iter();
    let has = |vector: &Vector| Codecs::available().and(vector.codecs()) == vector.codecs();
    all.filter(has).collect()
}

fn bytes(parts: &Value, id: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts.as_array().unwrap() {
        if let Some(text) = part.as_str() {
            out.extend(hex(text));
        } else if let Some(text) = part["text"].as_str() {
            out.extend(text.as_bytes());
        } else if let Some(text) = part["repeat"].as_str() {
            out.extend(hex(text).repeat(usize::try_from(part["times"].as_u64().unwrap()).unwrap()));
        } else if part["id"] == true {
            out.extend(u32::try_from(id.unwrap()).unwrap().to_le_bytes());
        } else if part["series"].is_array() {
            let [from, step, times] = ["from", "step", "times"].map(|key| part[key].as_u64().unwrap());
            (0..times).for_each(|n| out.extend(bytes(&part["series"], Some(from + n * step))));
        } else {
            let body = bytes(&part["body"], id);
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

/// Returns a payload: JSON text in a string, or, where it is long, its parts.
fn payload(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        parts => Some(String::from_utf8(bytes(parts, None)).unwrap()),
    }
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn codecs(names: &Value) -> Codecs {
    let names = names.as_array().into_iter().flatten();
    names.fold(Codecs::NONE, |codecs, name| codecs.with(codec(name)))
}

fn codec(name: &Value) -> Codec {
    match name.as_str().unwrap() {
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        other => panic!("no codec is called {other:?}"),
    }
}

fn codec_names(codecs: Codecs) -> Vec<&'static str> {
    let all = [(Codec::Lz4, "lz4"), (Codec::Zstd, "zstd")];
    all.into_iter().filter(|&(codec, _)| codecs.contains(codec)).map(|(_, name)| name).collect()
}

fn classic(status: Status, flags: u8, options: u8, body: &str) -> Vec<u8> {
    let header = Header {
        flags,
        options,
        ..Header::classic(Version::V1_1, status, u32::try_from(body.len()).unwrap())
    };
    [&header.encode(), body.as_bytes()].concat()
}

impl Vector {
    fn codecs(&self) -> Codecs {
        codecs(&self.value["terms"]["codecs"])
    }

    fn is_opener(&self) -> bool {
        self.value["receiver"] == "opener"
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        for (name, limit) in self.value["limits"].as_object().into_iter().flatten() {
            limits = match name.as_str() {
                "max_body" => limits.with_max_body(number(limit)),
                "max_depth" => limits.with_max_depth(number(limit)),
                "max_method" => limits.with_max_method(number(limit)),
                other => panic!("{}: no limit is called {other}", self.name),
            };
        }
        limits
    }

    fn connection(&self, portions: Portions) -> Connection {
        let limits = match portions {
            Portions::Unread => self.limits().with_answers_unread(),
            Portions::Of(_) | Portions::CutAt(_) => self.limits(),
        };
        let connection = match self.is_opener() {
            true => Connection::client(limits),
            false => Connection::server(limits),
        };
        if self.value["terms"] == false {
            return connection;
        }
        let mut terms = Settings::new().with_codecs(self.codecs());
        if self.is_opener() {
            terms = terms.with_max_calls(0);
        }
        for (key, value) in self.value["terms"].as_object().into_iter().flatten() {
            terms = match key.as_str() {
                "max_calls" => terms.with_max_calls(number(value)),
                "stream_window" => terms.with_stream_window(number(value)),
                "stream_bytes" => terms.with_stream_bytes(number(value)),
                "name" => terms.with_name(value.as_str().unwrap()),
                "codecs" => terms,
                other => panic!("{}: no term is called {other}", self.name),
            };
        }
        connection.with_session(terms)
    }

    fn receives(&self) -> usize {
        let steps = self.value["steps"].as_array().unwrap().iter();
        steps.filter_map(|step| step.get("receive")).map(|parts| bytes(parts, None).len()).sum()
    }

    fn run(&self, portions: Portions) {
        let mut run = Run {
            vector: self,
            connection: self.connection(portions),
            portions,
            received: 0,
            ids: BTreeMap::new(),
            items: BTreeMap::new(),
            events: VecDeque::new(),
            sent: VecDeque::new(),
            out: Vec::new(),
            pieces: BTreeMap::new(),
            in_session: false,
        };
        run.open();
        for (number, step) in self.value["steps"].as_array().unwrap().iter().enumerate() {
            run.step(number, step);
        }
        run.nothing_else("at the end");
        run.nothing_follows_an_error();
    }
}

impl Run<'_> {
    /// Brings the receiver to where the vector begins.
    fn open(&mut self) {
        let known =
            ["about", "rules", "receiver", "limits", "terms", "peer", "opening", "steps"].map(String::from);
        for key in self.vector.value.as_object().unwrap().keys() {
            assert!(known.contains(key), "{}: unknown key {key}", self.vector.name);
        }
        let opening = self.vector.value["opening"].as_str().unwrap_or("answered");
        let flags = match opening {
            "none" => return,
            "stream" => flag::STREAM,
            "answered" | "open" => 0,
            other => panic!("{}: no opening is called {other}", self.vector.name),
        };
        let options = codecs(&self.vector.value["peer"]["options"]).bits();
        if self.vector.is_opener() {
            let open = Packet::request(Version::V1_1, Some("open"), None);
            let open = if flags == 0 { open } else { open.stream() };
            let id = self.connection.call(open.finish(&Limits::default()).unwrap()).unwrap();
            self.ids.insert(1, id);
            self.pump();
            let mut hello = json!({"session": 1});
            let said = self.vector.value["peer"]["hello"].as_object().into_iter().flatten();
            hello.as_object_mut().unwrap().extend(said.map(|(key, value)| (key.clone(), value.clone())));
            self.connection.receive(&classic(Status::HELLO, flag::SESSION, options, &hello.to_string()));
            if opening == "answered" {
                self.connection.receive(&hex("70 62 01 01 01 00 00 06 00 00 00 01 00 00 00 7b 7d"));
            }
        } else {
            let offer = classic(Status::REQUEST, flag::SESSION | flags, options, r#"{"method":"open"}"#);
            self.connection.receive(&offer);
            self.pump();
            if opening == "answered" {
                let nothing = Packet::good(Version::V1_1).finish(&Limits::default()).unwrap();
                self.connection.reply(self.ids[&1], nothing).unwrap();
            }
        }
        self.pump();
        self.events.clear();
        self.sent.clear();
        assert!(self.connection.is_session(), "{}", self.vector.name);
    }

    fn step(&mut self, number: usize, step: &Value) {
        let at = format!("{}, step {number}", self.vector.name);
        let (kind, what) = step.as_object().unwrap().iter().find(|(key, _)| *key != "refused").unwrap();
        assert!(step.as_object().unwrap().len() == 1 || step["refused"] == true, "{at}");
        match kind.as_str() {
            "events" => return self.compare_events(&at, what),
            "sent" => return self.compare_sent(&at, what),
            "closes" => return assert_eq!(&json!(self.connection.is_finished()), what, "{at}"),
            "peer" => return self.compare_peer(&at, what),
            _ => self.nothing_else(&at),
        }
        let done = match kind.as_str() {
            "receive" => {
                self.receive(&bytes(what, None));
                Ok(())
            }
            "end" => {
                self.connection.receive_end();
                Ok(())
            }
            _ => self.act(kind, what),
        };
        assert_eq!(done.is_err(), step["refused"] == true, "{at}: {done:?}");
        self.pump();
    }

    /// Does what the receiver's own program asks for.
    fn act(&mut self, kind: &str, what: &Value) -> Result<(), Misuse> {
        let id = what["id"].as_u64().and_then(|id| self.ids.get(&id)).copied();
        match kind {
            "call" => {
                let version = if what["version"] == "1.0" { Version::V1_0 } else { Version::V1_1 };
                let envelope = Envelope { token: what["token"].as_str(), ..Envelope::default() };
                let mut packet = Packet::request_with(version, what["method"].as_str(), &envelope).unwrap();
                if what["one_way"] == true {
                    packet = packet.one_way();
                }
                if what["stream"] == true {
                    packet = packet.stream();
                }
                let id = self.connection.call(finish(packet, what))?;
                if !what["id"].is_null() {
                    assert_eq!(json!(id.number()), what["id"], "{}", self.vector.name);
                }
                self.ids.insert(id.number().into(), id);
            }
            "reply" => {
                let id = id.unwrap();
                let version =
                    if self.connection.is_session() { Version::V1_1 } else { self.connection.version() };
                self.connection.reply(id, finish(Packet::good(version), what))?;
            }
            "refuse" => {
                let bad = Packet::bad(Version::V1_1, "no", what["code"].as_str());
                self.connection.reply(id.unwrap(), finish(bad, what))?;
            }
            "item" => self.connection.item(id.unwrap(), finish(Packet::item(), what))?,
            "take" => {
                let sizes = self.items.get_mut(&what["id"].as_u64().unwrap()).unwrap();
                let items = what["items"].as_u64().unwrap();
                let bytes = sizes.drain(..usize::try_from(items).unwrap()).sum();
                self.connection.consumed(id.unwrap(), items, bytes);
            }
            "cancel" => self.connection.cancel(id.unwrap()),
            "ping" => self.connection.ping(),
            "goodbye" => self.connection.goodbye(what["reason"].as_str().unwrap()),
            other => panic!("{}: unknown step {other}", self.vector.name),
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8]) {
        let portions: Vec<&[u8]> = match self.portions {
            Portions::Of(size) => bytes.chunks(size).collect(),
            Portions::Unread => vec![bytes],
            Portions::CutAt(at) => {
                let (front, back) = bytes.split_at(at.saturating_sub(self.received).min(bytes.len()));
                vec![front, back]
            }
        };
        self.received += bytes.len();
        for portion in portions {
            self.connection.receive(portion);
        }
    }

    /// Takes what happened, and writes what is to be written.
    fn pump(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            let event = match event {
                Event::UnreadResponse { id, response } => match response.read() {
                    Ok(response) => Event::Response { id, response },
                    Err(error) => Event::Failed { id, error },
                },
                Event::UnreadItem { id, item } => {
                    let charged = item.charged();
                    match item.read() {
                        Ok(item) => {
                            self.connection.charge(id, item.size() - charged);
                            Event::Item { id, item }
                        }
                        Err(error) => {
                            self.connection.cancel(id);
                            Event::Failed { id, error }
                        }
                    }
                }
                event => event,
            };
            if let Some(event) = self.describe(event) {
                self.events.push_back(event);
            }
        }
        while !self.connection.transmit().is_empty() {
            self.out.extend_from_slice(self.connection.transmit());
            self.connection.transmitted(self.connection.transmit().len());
        }
        while let Some(sent) = self.next_packet() {
            self.join(sent);
        }
    }

    fn describe(&mut self, event: Event) -> Option<Value> {
        Some(match event {
            Event::Request { id, request } => {
                self.ids.insert(id.number().into(), id);
                json!({"request": {
                    "id": id.number(), "method": request.method(), "payload": request.payload(),
                    "timeout_ms": request.timeout_ms(), "meta": request.meta(), "codec": null,
                    "one_way": request.is_one_way(), "stream": request.wants_items(),
                }})
            }
            Event::Response { id, response: Response::Good(good) } => {
                json!({"good": {"id": id.number(), "payload": good.payload(), "codec": null}})
            }
            Event::Response { id, response: Response::Bad(bad) } => json!({"bad": {
                "id": id.number(), "message": bad.message(), "code": bad.code(), "data": bad.data(),
            }}),
            Event::Failed { id, error } => json!({"failed": {"id": id.number(), "name": error.name()}}),
            Event::Item { id, item } => {
                self.items.entry(id.number().into()).or_default().push_back(item.size());
                json!({"item": {"id": id.number(), "payload": item.payload(), "codec": null}})
            }
            Event::Session => json!({"session": {}}),
            Event::Cancelled { id } => json!({"cancelled": {"id": id.number()}}),
            Event::NotRun { id } => json!({"not_run": {"id": id.number()}}),
            Event::Goodbye { reason } => json!({"goodbye": {"reason": reason}}),
            Event::Closed { error: None } => json!({"closed": {}}),
            Event::Closed { error: Some(error) } => json!({"error": {"name": error.name()}}),
            // Events that an implementation may have besides.
            Event::Credit { .. } | Event::Pong => return None,
            other => panic!("{}: {other:?}", self.vector.name),
        })
    }

    fn next_packet(&mut self) -> Option<Sent> {
        let header = Header::parse(&self.out).unwrap()?;
        let whole: Vec<_> = self.out.drain(..HEADER_LENGTH + header.length as usize).collect();
        let body = &whole[HEADER_LENGTH..];
        let (id, content) = match self.in_session {
            true => (Some(u32::from_le_bytes(*body.first_chunk().unwrap())), body[4..].to_vec()),
            false => (None, body.to_vec()),
        };
        let unknown = if self.in_session { 0xc0 } else { 0xf8 };
        assert_eq!(header.flags & unknown, 0, "{}: flags {:#x}", self.vector.name, header.flags);
        // HELLO ends classic framing for its sender, the offer for the client.
        self.in_session |= self.vector.is_opener() || header.status == Status::HELLO;
        Some(Sent { bytes: whole, header, id, content })
    }

    /// Joins pieces (PB-PCE-2).
    fn join(&mut self, mut sent: Sent) {
        let key = (sent.header.status.0, sent.id.unwrap_or_default());
        if let Some(mut first) = self.pieces.remove(&key) {
            assert_eq!((first.header.flags ^ sent.header.flags) & 0x30, 0, "{}", self.vector.name);
            first.header.flags &= !flag::MORE | sent.header.flags;
            first.content.append(&mut sent.content);
            sent = first;
        }
        if sent.header.flags & flag::MORE != 0 {
            self.pieces.insert(key, sent);
        } else {
            self.sent.push_back(sent);
        }
    }

    fn nothing_else(&self, at: &str) {
        assert!(self.events.is_empty(), "{at}: before it came {:?}", self.events);
        let sent: Vec<_> = self.sent.iter().map(|sent| sent.describe(&self.vector.name)).collect();
        assert!(sent.is_empty(), "{at}: before it was sent {sent:?}");
    }

    fn compare_events(&mut self, at: &str, expected: &Value) {
        let mut events = Vec::new();
        for event in expected.as_array().unwrap() {
            let mut event = event.clone();
            let times = event.as_object_mut().unwrap().remove("times");
            let event = filled(&event);
            events.extend((0..times.map_or(1, |times| times.as_u64().unwrap())).map(|_| event.clone()));
        }
        let came = self.events.drain(..).enumerate();
        let came: Vec<_> = came.map(|(index, came)| told(came, events.get(index))).collect();
        assert_eq!(came, events, "{at}: what came");
    }

    fn compare_sent(&mut self, at: &str, expected: &Value) {
        let (mut sent, mut all) = (Vec::new(), Vec::new());
        let expected = expected.as_array().unwrap();
        for (index, message) in self.sent.drain(..).enumerate() {
            if let Some(parts) = expected.get(index).and_then(|expected| expected.get("bytes")) {
                assert_eq!(message.bytes, bytes(parts, None), "{at}: the bytes of {}", message.describe(at));
                sent.push(json!({"bytes": parts}));
            } else {
                let expected = expected.get(index).map(filled);
                sent.push(told(message.describe(at), expected.as_ref()));
            }
        }
        all.extend(expected.iter().map(|expected| match expected.get("bytes") {
            Some(parts) => json!({"bytes": parts}),
            None => filled(expected),
        }));
        assert_eq!(sent, all, "{at}: what was sent");
    }

    fn compare_peer(&self, at: &str, expected: &Value) {
        let peer = self.connection.peer().unwrap();
        let actual = json!({
            "max_body": peer.max_body(), "max_calls": peer.max_calls(), "name": peer.name(),
            "stream_window": peer.stream_window(), "stream_bytes": peer.stream_bytes(),
            "options": codec_names(peer.codecs()),
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&actual[key], value, "{at}: {key}");
        }
    }

    /// Checks that an error is reported once, and that what comes after it changes nothing (PB-SER-1).
    fn nothing_follows_an_error(&mut self) {
        let steps = self.vector.value["steps"].as_array().unwrap();
        let is_error = |step: &Value| {
            step["events"]
                .as_array()
                .is_some_and(|events| events.iter().any(|event| event.get("error").is_some()))
        };
        if steps.iter().any(is_error) {
            self.connection.receive(&hex("70 62 01 01 07 00 00 04 00 00 00 00 00 00 00 ff"));
            self.connection.receive_end();
            self.pump();
            self.nothing_else("after the error");
        }
    }
}

impl Sent {
    fn describe(&self, at: &str) -> Value {
        let Self { header, id, .. } = self;
        assert!(header.status == Status::HELLO || header.options == 0 || id.is_none(), "{at}: byte 6");
        let (text, codec) = match header.flags & 0x30 {
            0x00 => (self.content.clone(), Value::Null),
            0x10 => (unlz4(&self.content), json!("lz4")),
            _ => panic!("{at}: sent in a codec that is not read here"),
        };
        let fields: Value = serde_json::from_slice(&text).unwrap_or_default();
        let raw: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&text).unwrap_or_default();
        let raw = |key: &str| raw.get(key).map(|value| value.get().to_string());
        match header.status {
            Status::REQUEST => json!({"request": {
                "id": id, "method": fields["method"], "payload": raw("payload"), "codec": codec,
                "timeout_ms": fields["timeout_ms"], "meta": raw("meta"),
                "one_way": header.flags & flag::ONE_WAY != 0, "stream": header.flags & flag::STREAM != 0,
            }}),
            Status::GOOD => json!({"good": {"id": id, "payload": raw("payload"), "codec": codec}}),
            Status::BAD => json!({"bad": {
                "id": id, "message": fields["message"], "code": fields["code"], "data": raw("data"),
            }}),
            Status::HELLO => {
                assert_eq!(header.flags, flag::SESSION, "{at}: flags of HELLO");
                let mut hello = fields;
                hello["options"] = json!(codec_names(Codecs::from_bits(header.options)));
                hello["id"] = json!(id);
                filled(&json!({"hello": hello}))
            }
            Status::ITEM => json!({"item": {"id": id, "payload": raw("payload"), "codec": codec}}),
            Status::CREDIT => {
                json!({"credit": {"id": id, "items": fields["items"], "bytes": fields["bytes"]}})
            }
            Status::CANCEL => json!({"cancel": {"id": id}}),
            Status::PING => json!({"ping": {}}),
            Status::PONG => json!({"pong": {"content": String::from_utf8(text).unwrap()}}),
            Status::GOODBYE => {
                assert!(fields["reason"].is_string(), "{at}: GOODBYE without a reason");
                json!({"goodbye": {"last_id": fields["last_id"], "reason": fields["reason"]}})
            }
            other => panic!("{at}: sent a packet of kind {other}"),
        }
    }
}

fn finish(packet: PacketBuilder, what: &Value) -> Packet {
    let text = payload(&what["payload"]).unwrap_or_else(|| "null".into());
    let limits = Limits::default().with_max_body(u32::MAX);
    let packet = packet.json_text(&text).unwrap().finish(&limits).unwrap();
    if what["compress"].is_null() { packet } else { packet.compressed(codec(&what["compress"])) }
}

/// Returns an expectation with the keys filled in that may be left out, and long payloads written out.
fn filled(expected: &Value) -> Value {
    let (kind, fields) = expected.as_object().unwrap().iter().next().unwrap();
    let mut fields = fields.as_object().unwrap().clone();
    let defaults = match kind.as_str() {
        "request" => json!({"method": null, "payload": null, "timeout_ms": null, "meta": null, "codec": null,
            "one_way": false, "stream": false}),
        "good" | "item" => json!({"payload": null, "codec": null}),
        "bad" => json!({"message": null, "code": null, "data": null}),
        "hello" => json!({"session": 1, "max_body": 16_777_216, "max_calls": 128, "stream_window": 64,
            "stream_bytes": 1_048_576, "name": null, "options": [], "id": null}),
        "goodbye" => json!({"reason": null}),
        _ => json!({}),
    };
    for (key, value) in defaults.as_object().unwrap() {
        fields.entry(key).or_insert(value.clone());
    }
    for key in ["payload", "content"] {
        if let Some(value) = fields.get_mut(key).filter(|value| value.is_array()) {
            *value = payload(value).into();
        }
    }
    json!({kind: fields})
}

/// Leaves out text for people, messages and reasons, unless a vector names it.
fn told(mut came: Value, expected: Option<&Value>) -> Value {
    for (kind, key) in [("bad", "message"), ("goodbye", "reason")] {
        if came.get(kind).is_some() && expected.is_some_and(|expected| expected[kind][key].is_null()) {
            came[kind][key] = Value::Null;
        }
    }
    came
}

/// Returns the text of an LZ4 block behind its size, read without this crate.
fn unlz4(bytes: &[u8]) -> Vec<u8> {
    let (size, mut rest) = bytes.split_first_chunk::<4>().unwrap();
    let (mut out, mut literals) = (Vec::new(), true);
    let mut token = 0;
    loop {
        if literals {
            token = take(&mut rest, 1)[0];
            let length = length(token >> 4, &mut rest);
            out.extend_from_slice(take(&mut rest, length));
            if rest.is_empty() {
                break;
            }
        } else {
            let offset = usize::from(u16::from_le_bytes(*take(&mut rest, 2).first_chunk().unwrap()));
            let length = length(token & 15, &mut rest) + 4;
            (0..length).for_each(|_| out.push(out[out.len() - offset]));
        }
        literals = !literals;
    }
    assert_eq!(out.len(), u32::from_le_bytes(*size) as usize);
    out
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, back) = rest.split_at(count);
    *rest = back;
    front
}

fn length(nibble: u8, rest: &mut &[u8]) -> usize {
    let (mut length, mut more) = (usize::from(nibble), nibble == 15);
    while more {
        let byte = take(rest, 1)[0];
        length += usize::from(byte);
        more = byte == 255;
    }
    length
}

/// Runs all vectors, so that one that fails does not hide the others.
fn hold(run: impl Fn(&Vector)) {
    let vectors = runnable();
    let fails = |vector: &&Vector| catch_unwind(AssertUnwindSafe(|| run(vector))).is_err();
    let failed: Vec<_> = vectors.iter().filter(fails).map(|vector| &vector.name).collect();
    assert!(failed.is_empty(), "{} of {} vectors fail: {failed:#?}", failed.len(), vectors.len());
}

#[test]
fn every_vector_holds_whole() {
    hold(|vector| vector.run(Portions::Of(usize::MAX)));
}

#[test]
fn every_vector_holds_where_answers_are_left_to_be_read() {
    hold(|vector| vector.run(Portions::Unread));
}

#[test]
fn every_vector_holds_byte_by_byte() {
    // The few that stand for millions of bytes would take minutes.
    hold(|vector| vector.run(Portions::Of(if vector.receives() < 300_000 { 1 } else { 8191 })));
}

#[test]
fn every_vector_holds_in_every_two_portions() {
    hold(|vector| {
        // The long ones are cut near both ends, and here and there between.
        let length = vector.receives();
        let edge = if length < 300_000 { 60 } else { 4 };
        let is_cut =
            |at: &usize| length < 2000 || *at < edge || length - at < edge || at.is_multiple_of(length / 8);
        (0..=length).filter(is_cut).for_each(|at| vector.run(Portions::CutAt(at)));
    });
}

/// Returns the ids that stand in bold in a document of the specification.
fn rules(document: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(spec().join(document)).unwrap();
    let marks: Vec<_> = text.split("**PB-").skip(1).map(|rest| rest.split("**").next().unwrap()).collect();
    let rules: BTreeSet<_> = marks.iter().map(|mark| format!("PB-{mark}")).collect();
    assert_eq!(marks.len(), rules.len(), "{document}: a rule id stands twice");
    rules
}

#[test]
fn every_rule_has_a_vector_or_a_reason_and_every_vector_names_its_rules() {
    let (classic, sessions) = (rules("procbridge-1.1.md"), rules("sessions.md"));
    assert_eq!(classic.intersection(&sessions).next(), None, "a rule of both documents");
    let mut shown = BTreeSet::new();
    for Vector { name, value } in vectors() {
        assert!(value["about"].as_str().is_some_and(|about| !about.is_empty()), "{name} says nothing");
        let named = value["rules"].as_array().unwrap();
        assert!(!named.is_empty(), "{name} names no rule");
        for rule in named.iter().map(|rule| rule.as_str().unwrap()) {
            assert!(sessions.contains(rule), "{name} names {rule}, which sessions.md does not have");
            shown.insert(rule.to_string());
        }
    }
    let readme = fs::read_to_string(spec().join("vectors/README.md")).unwrap();
    let list = readme.split("\n## ").find(|section| section.starts_with("Rules without a vector")).unwrap();
    let without: BTreeSet<_> = list
        .lines()
        .filter_map(|line| line.strip_prefix("| PB-"))
        .map(|rest| format!("PB-{}", rest.split(' ').next().unwrap()))
        .collect();
    let unknown: Vec<_> = without.difference(&sessions).collect();
    assert!(unknown.is_empty(), "listed, but no rules: {unknown:?}");
    let needless: Vec<_> = without.intersection(&shown).collect();
    assert!(needless.is_empty(), "listed as without a vector, but shown: {needless:?}");
    let missing: Vec<_> =
        sessions.iter().filter(|rule| !shown.contains(*rule) && !without.contains(*rule)).collect();
    assert!(missing.is_empty(), "rules without a vector or a reason: {missing:?}");
    let sources = sources(&spec().join("../crates"));
    for test in
        list.lines().filter(|line| line.starts_with("| PB-")).filter_map(|line| line.split('`').nth(1))
    {
        let is_there = |text: &String| text.contains(&format!("fn {test}("));
        assert!(sources.iter().any(is_there), "there is no test {test}");
    }
}

/// Returns all source files below `directory`.
fn sources(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false if path.extension().is_some_and(|ending| ending == "rs") => {
                vec![fs::read_to_string(path).unwrap()]
            }
            false => Vec::new(),
        })
        .collect()
}

#[test]
fn every_error_of_a_vector_is_in_the_table() {
    let text = fs::read_to_string(spec().join("sessions.md")).unwrap();
    let table = text.split("\n## ").find(|section| section.contains("(PB-SER)")).unwrap();
    let mut told = BTreeSet::new();
    for Vector { value, .. } in vectors() {
        // Before there is a session the other document holds.
        let steps = value["steps"].as_array().unwrap().iter().filter(|_| value["opening"] != "none");
        let events = steps.filter_map(|step| step["events"].as_array()).flatten();
        told.extend(
            events
                .flat_map(|event| [&event["error"]["name"], &event["failed"]["name"]])
                .filter_map(|name| name.as_str().map(str::to_string)),
        );
    }
    for name in told {
        assert!(table.contains(&format!("\n| `{name}` |")), "{name} is not in the table of errors");
    }
}

#[test]
fn the_worked_example_has_the_bytes_of_its_vectors() {
    let text = fs::read_to_string(spec().join("sessions.md")).unwrap();
    let example = text.split("\n## ").find(|section| section.starts_with("19 Worked example")).unwrap();
    // The hexadecimal column ends before the remarks.
    let lines = example.lines().filter_map(|line| line.strip_prefix("    "));
    let mut written = hex(&lines.map(|line| line.split("  ").next().unwrap()).collect::<Vec<_>>().join(" "));
    let received = |name: &str| -> Vec<u8> {
        let vector = vectors().into_iter().find(|vector| vector.name == name).unwrap();
        let steps = vector.value["steps"].as_array().unwrap().iter();
        steps.filter_map(|step| step.get("receive")).flat_map(|parts| bytes(parts, None)).collect()
    };
    let (mut by_opener, mut by_acceptor) = (received("worked_example"), received("worked_example_opener"));
    while let Some(header) = Header::parse(&written).unwrap() {
        let length = HEADER_LENGTH + header.length as usize;
        let packet: Vec<_> = written.drain(..length).collect();
        let from = if by_opener.starts_with(&packet) { &mut by_opener } else { &mut by_acceptor };
        assert!(from.starts_with(&packet), "no vector has {packet:02x?}");
        from.drain(..length);
    }
    assert_eq!((written.len(), by_opener.len(), by_acceptor.len()), (0, 0, 0), "bytes that only one has");
}
