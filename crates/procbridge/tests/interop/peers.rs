//! The published packages of the other languages, in both directions. The tests show what they send and understand, and how
//! their known faults look from here (`tests/peers/README.md` has the measurements).
//!
//! `scripts/peers` installs them; `scripts/test` does that first.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{
    ClientConfig, Endpoint, Error, ErrorKind, Outcome, ReplyError, Router, ServerConfig, SessionMode,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::faces::{ClientKind, FACES, Face, TestClient, TestServer, Transport};
use crate::support::proxy::{Proxy, Seen};
use crate::support::watched;
use crate::support::wire::{HEADER, raw};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Python,
    Python103,
    Node,
}

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Unix];

/// Returns the directory in which `scripts/peers` has installed the packages: beside what cargo builds, unless set otherwise.
fn installed() -> PathBuf {
    let beside = || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers");
    env::var_os("PROCBRIDGE_PEERS").map_or_else(beside, PathBuf::from)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

impl Peer {
    fn command(self, program: &str) -> Command {
        let installed = installed();
        let name = match self {
            Self::Python => format!("{program}.py"),
            Self::Python103 => format!("{program}_103.py"),
            Self::Node => format!("{program}.js"),
        };
        let marker = installed.join(match self {
            Self::Python => "py122",
            Self::Python103 => "py103",
            Self::Node => "node",
        });
        assert!(marker.exists(), "no {}: install the peers with scripts/peers", marker.display());
        let mut command = match self {
            Self::Node => Command::new("node"),
            _ => Command::new(marker.join("bin/python")),
        };
        command
            .arg(root().join("tests/peers").join(name))
            .env("NODE_PATH", installed.join("node/node_modules"));
        command
    }
}

/// A peer's server. It ends when its standard input does, so also when this test is killed.
struct PeerServer {
    child: Child,
    endpoint: Endpoint,
    _dir: tempfile::TempDir,
}

impl PeerServer {
    fn start(peer: Peer, transport: Transport) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = peer.command("server");
        match transport {
            Transport::Tcp => command.args(["tcp", "0"]),
            _ => command.arg("unix").arg(dir.path().join("s.sock")),
        };
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoint =
            line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("{peer:?} is not ready: {line}"));
        Self { child, endpoint: endpoint.parse().unwrap(), _dir: dir }
    }

    fn client(&self, face: Face, config: ClientConfig) -> TestClient {
        TestClient::new(face, &self.endpoint, config)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A peer's client, which is told what to call.
struct PeerClient {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Answers {
    results: Vec<PeerResult>,
    #[serde(default = "one")]
    count: usize,
}

#[derive(Deserialize)]
struct PeerResult {
    ok: Option<Box<RawValue>>,
    error: Option<String>,
    r#type: Option<String>,
}

fn one() -> usize {
    1
}

impl PeerClient {
    fn start(peer: Peer, endpoint: &Endpoint) -> Self {
        let text = endpoint.to_string();
        let mut command = peer.command("client");
        match text.strip_prefix("unix:") {
            Some(path) => command.args(["unix", path]),
            None => command.args(["tcp", "127.0.0.1", &endpoint.port().unwrap().to_string()]),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn ask(&mut self, command: &str) -> Answers {
        writeln!(self.stdin, "{command}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {error} in {line:?}"))
    }

    /// Returns the one result of one call, as JSON text.
    fn ok(&mut self, command: &str) -> String {
        let answers = self.ask(command);
        let result = answers.results.first().unwrap();
        match (&result.ok, &result.error) {
            (Some(value), None) => value.get().to_string(),
            // serde reads a null into an Option as nothing.
            (None, None) => "null".to_string(),
            (_, Some(error)) => panic!("{command}: {error}"),
        }
    }

    fn error(&mut self, command: &str) -> (String, String) {
        let result = self.ask(command).results.pop().unwrap();
        (result.error.unwrap(), result.r#type.unwrap())
    }
}

impl Drop for PeerClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
struct Payload {
    name: String,
    json: String,
    #[serde(default)]
    skip: BTreeMap<String, String>,
}

/// Returns the payloads that a peer does not change by itself.
fn payloads(peer: Peer) -> Vec<Payload> {
    let text = fs::read_to_string(root().join("tests/peers/payloads.json")).unwrap();
    let all: Vec<Payload> = serde_json::from_str(&text).unwrap();
    let language = if peer == Peer::Node { "node" } else { "python" };
    let kept: Vec<_> = all.into_iter().filter(|payload| !payload.skip.contains_key(language)).collect();
    assert!(kept.len() >= 40);
    kept
}

/// Whether two JSON texts mean the same: objects in any order, strings as characters, integers exactly, floats as the
/// doubles that they are.
fn same(a: &str, b: &str) -> bool {
    fn array(text: &str) -> Vec<Box<RawValue>> {
        serde_json::from_str(text).unwrap()
    }
    fn object(text: &str) -> BTreeMap<String, Box<RawValue>> {
        serde_json::from_str(text).unwrap()
    }
    let (a, b) = (a.trim(), b.trim());
    match (a.as_bytes()[0], b.as_bytes()[0]) {
        (b'[', b'[') => {
            let (a, b) = (array(a), array(b));
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a.get(), b.get()))
        }
        (b'{', b'{') => {
            let (a, b) = (object(a), object(b));
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|b| same(value.get(), b.get())))
        }
        (b'"', b'"') => {
            serde_json::from_str::<String>(a).unwrap() == serde_json::from_str::<String>(b).unwrap()
        }
        (b'-' | b'0'..=b'9', b'-' | b'0'..=b'9') => {
            let is_float = |text: &str| text.contains(['.', 'e', 'E']);
            let double = |text: &str| text.parse::<f64>().unwrap().to_bits();
            a == b || (is_float(a) || is_float(b)) && double(a) == double(b)
        }
        _ => a == b,
    }
}

fn demo() -> Router {
    Router::new()
        .method("echo", |payload: Box<RawValue>| payload)
        .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
        .method(
            "sum_1_0",
            |body: BTreeMap<String, Vec<i64>>| json!({"result": body["values"].iter().sum::<i64>()}),
        )
        .method("err", || Err::<(), _>(ReplyError::new("generated error").with_code("test.generated")))
        .fallback(|_, _| Ok(Value::Null))
}

/// Runs `scenario` for each peer with each of our faces and each transport that the peer has.
fn with_each(peers: &'static [Peer], scenario: fn(Peer, Face, Transport)) {
    for &peer in peers {
        for &face in FACES {
            for transport in BOTH {
                if peer != Peer::Python103 || transport == Transport::Tcp {
                    watched(move || scenario(peer, face, transport));
                }
            }
        }
    }
}

#[test]
fn their_clients_are_served() {
    with_each(&[Peer::Python, Peer::Node], |peer, face, transport| {
        let server = TestServer::start(face, transport, demo(), ServerConfig::new());
        let mut client = PeerClient::start(peer, &server.endpoint);
        for payload in payloads(peer) {
            let json = payload.json.replace('\n', " ");
            let answer = client.ok(&format!(r#"{{"method":"echo","payload":{json}}}"#));
            assert!(same(&answer, &json), "{peer:?}: {} came back as {answer}", payload.name);
        }
        for size in [100_000, 1_000_000] {
            let text = format!("\"{}\"", "é".repeat(size / 2));
            let answer = client.ok(&format!(r#"{{"method":"echo","payload":{text}}}"#));
            assert!(same(&answer, &text), "{peer:?}: {size} bytes");
        }
        assert_eq!(client.ok(r#"{"method":"sum","payload":[1,2,3,4]}"#), "10");
        assert_eq!(client.ok(r#"{"method":"echo"}"#), "null");
        assert_eq!(client.ok(r#"{"payload":"hello"}"#), "null");
        assert_eq!(client.ok(r#"{"method":null}"#), "null");
        let (message, kind) = client.error(r#"{"method":"err"}"#);
        assert_eq!((&*message, &*kind), ("generated error", "ServerError"));
        let many = client.ask(r#"{"method":"echo","payload":{"n":1},"repeat":100}"#);
        assert_eq!((many.count, many.results.len()), (100, 1));
        let many = client.ask(r#"{"method":"echo","payload":{"n":1},"concurrent":16}"#);
        assert_eq!((many.count, many.results.len()), (16, 1));
        assert_eq!(many.results[0].ok.as_ref().unwrap().get().replace(' ', ""), r#"{"n":1}"#);
    });
}

#[test]
fn their_clients_of_the_old_format_are_served() {
    with_each(&[Peer::Python103], |peer, face, transport| {
        let server = TestServer::start(face, transport, demo(), ServerConfig::new());
        let mut client = PeerClient::start(peer, &server.endpoint);
        for payload in payloads(peer) {
            let body = format!("{{\"value\":{}}}", payload.json.replace('\n', " "));
            let answer = client.ok(&format!(r#"{{"method":"echo","payload":{body}}}"#));
            assert!(same(&answer, &body), "{} came back as {answer}", payload.name);
        }
        assert_eq!(
            client.ok(r#"{"method":"sum_1_0","payload":{"values":[1,2]}}"#).replace(' ', ""),
            r#"{"result":3}"#
        );
        assert_eq!(client.ok(r#"{"method":"nothing"}"#), "{}");
        let (message, _) = client.error(r#"{"method":"err"}"#);
        assert_eq!(message, "server error: generated error");
        assert_eq!(client.ask(r#"{"method":"echo","payload":{},"repeat":100}"#).count, 100);
        assert_eq!(client.ask(r#"{"method":"echo","payload":{},"concurrent":16}"#).count, 16);
    });
}

#[test]
fn their_servers_are_called() {
    with_each(&[Peer::Python, Peer::Node], |peer, face, transport| {
        let server = PeerServer::start(peer, transport);
        TestClient::connect(face, &server.endpoint, ClientConfig::new()).unwrap();
        let client = server.client(face, ClientConfig::new());
        for payload in payloads(peer) {
            let answer = client.request_text(Some("echo"), &payload.json).unwrap();
            assert!(same(&answer, &payload.json), "{peer:?}: {} came back as {answer}", payload.name);
        }
        let sizes: &[usize] = if peer == Peer::Python { &[100_000, 1_000_000] } else { &[100_000] };
        for size in sizes {
            let text = format!("\"{}\"", "x".repeat(*size));
            assert!(
                same(&client.request_text(Some("echo"), &text).unwrap(), &text),
                "{peer:?}: {size} bytes"
            );
        }
        assert_eq!(client.request("sum", &json!([1, 2, 3, 4])).unwrap(), json!(10));
        assert_eq!(client.request("echo", &json!(null)).unwrap(), json!(null));
        assert_eq!(client.request_without_method(&json!("hello")).unwrap(), json!(null));
        assert_eq!(client.request_without_method(&json!(null)).unwrap(), json!(null));
        let error = client.request("err", &json!(null)).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Remote, Outcome::Replied));
        assert_eq!(error.remote().unwrap().message(), "generated error");
        for n in 0..100 {
            assert_eq!(client.request("sum", &json!([n, 1])).unwrap(), json!(n + 1));
        }
    });
}

#[test]
fn their_servers_answer_twenty_at_once_within_two_seconds() {
    with_each(&[Peer::Python, Peer::Node], |peer, face, transport| {
        let server = PeerServer::start(peer, transport);
        // With its backlog of 0 a Python server loses connections over TCP.
        let client = server.client(face, ClientConfig::new());
        let together = Arc::new(Barrier::new(20));
        let callers: Vec<_> = (0..20)
            .map(|n| {
                let (client, together) = (client.clone(), together.clone());
                thread::spawn(move || {
                    together.wait();
                    let started = Instant::now();
                    (n, client.request("sum", &json!([n, 1])), started.elapsed())
                })
            })
            .collect();
        for caller in callers {
            let (n, result, took) = caller.join().unwrap();
            assert_eq!(result.unwrap(), json!(n + 1), "{peer:?} {transport:?}");
            assert!(took < Duration::from_secs(2), "{peer:?} {face:?} {transport:?}: {took:?}");
        }
    });
}

#[test]
fn twenty_at_once_are_answered_by_a_python_server_over_tcp_within_two_seconds() {
    const CALLERS: usize = 20;
    for (peer, config) in [
        (Peer::Python, ClientConfig::new()),
        (Peer::Python, ClientConfig::new().with_sessions(SessionMode::Off)),
        (Peer::Python103, ClientConfig::new().speaking_1_0()),
    ] {
        for &face in FACES {
            let config = config.clone();
            watched(move || {
                let server = PeerServer::start(peer, Transport::Tcp);
                let client = server.client(face, config);
                let together = Arc::new(Barrier::new(CALLERS));
                let callers: Vec<_> = (0..CALLERS)
                    .map(|n| {
                        let (client, together) = (client.clone(), together.clone());
                        thread::spawn(move || {
                            // An object, which both formats take and give back.
                            let payload = json!({"n": n});
                            together.wait();
                            let started = Instant::now();
                            let result = client.request("echo", &payload);
                            (result.map(|answer| answer == payload), started.elapsed())
                        })
                    })
                    .collect();
                let ended: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
                let in_time = |(result, took): &&(Result<bool, Error>, Duration)| {
                    matches!(result, Ok(true)) && *took < Duration::from_secs(2)
                };
                let answered = ended.iter().filter(in_time).count();
                assert_eq!(answered, CALLERS, "{peer:?} {face:?}: {ended:?}");
            });
        }
    }
}

#[test]
fn their_servers_of_the_old_format_are_called() {
    with_each(&[Peer::Python103], |peer, face, transport| {
        let server = PeerServer::start(peer, transport);
        let client = server.client(face, ClientConfig::new().speaking_1_0());
        for payload in payloads(peer) {
            let body = format!("{{\"value\":{}}}", payload.json);
            let answer = client.request_text(Some("echo"), &body).unwrap();
            assert!(same(&answer, &body), "{} came back as {answer}", payload.name);
        }
        let text = format!("{{\"value\":\"{}\"}}", "x".repeat(1_000_000));
        assert!(same(&client.request_text(Some("echo"), &text).unwrap(), &text));
        assert_eq!(client.request("sum", &json!({"values": [1, 2]})).unwrap(), json!({"result": 3}));
        assert_eq!(client.request("nothing", &json!(null)).unwrap(), json!({}));
        assert_eq!(client.request("err", &json!(null)).unwrap_err().to_string(), "generated error");
        for n in 0..100 {
            assert_eq!(client.request("sum", &json!({"values": [n]})).unwrap(), json!({"result": n}));
        }
        // A client that speaks 1.1 to it is not understood: the server closes without a word.
        let error = server.client(face, ClientConfig::new()).request("echo", &json!(1)).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Outcome::Unknown), "{error:?}");
    });
}

#[test]
fn answers_that_node_cuts_short_are_a_definite_error() {
    with_each(&[Peer::Node], |peer, face, transport| {
        let server = PeerServer::start(peer, transport);
        let client = server.client(face, ClientConfig::new());
        // It sends as much as its system's buffers take; a reader that drains them fast enough gets more of it.
        let started = Instant::now();
        match client.request("big", &json!({"bytes": 16_000_000})) {
            Ok(whole) => assert_eq!(whole.as_str().unwrap().len(), 16_000_000),
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.outcome()),
                    (ErrorKind::Protocol, Outcome::Unknown),
                    "{error:?}"
                );
                let words = "the answer cannot be read: input ended after ";
                assert!(error.to_string().starts_with(words), "{error}");
            }
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_node_server_that_died_of_an_empty_connection_is_nobody() {
    with_each(&[Peer::Node], |peer, face, transport| {
        let mut server = PeerServer::start(peer, transport);
        drop(raw(&server.endpoint));
        server.child.wait().unwrap();
        let error = server.client(face, ClientConfig::new()).request("echo", &json!(1)).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Connect, Outcome::NotSent), "{error:?}");
    });
}

#[test]
fn looking_for_a_live_server_does_not_kill_a_node_server() {
    with_each(&[Peer::Node], |peer, face, transport| {
        if transport == Transport::Unix {
            let server = PeerServer::start(peer, transport);
            let error = procbridge::Server::bind(&server.endpoint).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Listen);
            assert!(error.to_string().ends_with("another server listens there"), "{error}");
            let client = server.client(face, ClientConfig::new());
            assert_eq!(client.request("sum", &json!([1, 2])).unwrap(), json!(3));
        }
    });
}

#[test]
fn a_stopped_or_killed_server_ends_the_call() {
    with_each(&[Peer::Python, Peer::Node], |peer, face, transport| {
        let server = PeerServer::start(peer, transport);
        let limit = Duration::from_millis(500);
        let client = server.client(face, ClientConfig::new().with_call_timeout(limit));
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        server.signal(rustix::process::Signal::STOP);
        let started = Instant::now();
        let error = client.request("sum", &json!([1])).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{error:?}");
        assert!(started.elapsed() < limit + Duration::from_secs(1));
        server.signal(rustix::process::Signal::CONT);

        let patient = server.client(face, ClientConfig::new());
        let caller = thread::spawn(move || patient.request("sleep", &json!(60)));
        // The call is at work when a later one has been answered; Node and Python both take them in order.
        assert_eq!(server.client(face, ClientConfig::new()).request("sum", &json!([2])).unwrap(), json!(2));
        server.signal(rustix::process::Signal::KILL);
        let error = caller.join().unwrap().unwrap_err();
        // Whether the call was accepted before the kill decides; each is definite.
        let seen = (error.kind(), error.outcome());
        let lost = (ErrorKind::Disconnected, Outcome::Unknown);
        let refused = (ErrorKind::Connect, Outcome::NotSent);
        assert!(seen == lost || seen == refused, "{error:?}");
    });
}

#[test]
fn the_comparison_of_payloads_is_strict() {
    assert!(same(r#"{"a":[1,"é"],"b":1e2}"#, r#"{ "b":100.0,"a":[1,"\u00e9"]}"#));
    for (a, b) in [
        ("1", "2"),
        ("9007199254740993", "9007199254740992"),
        ("[1]", "[1,1]"),
        ("0.0", "-0.0"),
        ("1", "\"1\""),
    ] {
        assert!(!same(a, b), "{a} {b}");
    }
}

/// Returns the outcome of a call, whichever way it took.
fn outcome(result: Result<Value, Error>) -> Result<String, (ErrorKind, Outcome, String)> {
    result.map(|value| value.to_string()).map_err(|error| (error.kind(), error.outcome(), error.to_string()))
}

/// Calls of many kinds; all that a Node server answers in one piece.
fn mixed(n: usize) -> (Option<&'static str>, Value) {
    match n % 10 {
        0 => (Some("sum"), json!([n, 1])),
        1 => (Some("echo"), json!(null)),
        2 => (Some("err"), json!(n)),
        3 => (Some("echo"), json!({"n": n, "text": "é😄\n\"", "list": [1, 2.5, null, {"a": []}]})),
        4 => (None, json!("hello")),
        5 => (None, json!(null)),
        6 => (Some("nothing of the kind"), json!(n)),
        7 => (Some("echo"), json!("x".repeat(n % 100 * 100))),
        8 if n % 1000 == 8 => (Some("echo"), json!("y".repeat(100_000))),
        8 => (Some("big"), json!({"bytes": n % 3_000})),
        _ => (Some("echo"), json!([n])),
    }
}

fn request(client: &TestClient, (method, payload): (Option<&str>, &Value)) -> Result<Value, Error> {
    match method {
        Some(method) => client.request(method, payload),
        None => client.request_without_method(payload),
    }
}

/// Checks what a client which offers sessions has sent to a classic server. That is one 1.1 request on each connection,
/// with the offer in bytes 5 and 6, and it got one answer back.
fn is_classic_but_for_the_offer(seen: &Seen) {
    let (header, body) = seen.to_server.split_at(HEADER);
    assert_eq!(header[..5], *b"pb\x01\x01\0");
    assert_eq!(header[5], 1, "the flags of an offer of a plain call");
    assert_eq!(header[6] & !3, 0);
    assert_eq!(u32::from_le_bytes(header[7..11].try_into().unwrap()) as usize, body.len());
    let request: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap();
    assert!(request.keys().all(|key| ["method", "payload"].contains(&&**key)), "{request:?}");
    assert!([1, 2].contains(&seen.to_client[4]));
}

#[test]
fn ten_thousand_calls_of_their_servers_are_the_same_with_sessions_and_without() {
    for peer in [Peer::Python, Peer::Node] {
        for transport in BOTH {
            let calls = CALLS / BOTH.len() / FACES.len();
            for &face in FACES {
                watched(move || {
                    let server = PeerServer::start(peer, transport);
                    let offering = server.client(face, ClientConfig::new());
                    let never = ClientKind { face, sessions: SessionMode::Off };
                    let never = TestClient::new(never, &server.endpoint, ClientConfig::new());
                    for n in 0..calls {
                        let (method, payload) = mixed(n);
                        let ours = outcome(request(&offering, (method, &payload)));
                        // Each kind is compared in all its forms, and most calls are made once.
                        if n < 200 || n % 50 == 8 {
                            assert!(ours == outcome(request(&never, (method, &payload))), "{method:?} {n}");
                        }
                        match method {
                            Some("sum") => assert_eq!(ours, Ok((n + 1).to_string())),
                            Some("echo") => assert!(ours == Ok(payload.to_string()), "{n}"),
                            Some("err") => {
                                let (kind, outcome, message) = ours.unwrap_err();
                                assert_eq!((kind, outcome), (ErrorKind::Remote, Outcome::Replied));
                                assert_eq!(message, "generated error");
                            }
                            Some("big") => assert_eq!(ours.unwrap().len(), n % 3_000 + 2),
                            _ => assert_eq!(ours, Ok("null".to_string())),
                        }
                    }
                });
            }
        }
    }
}

#[test]
fn ten_thousand_calls_of_their_clients_are_served_with_sessions_and_without() {
    for peer in [Peer::Python, Peer::Node] {
        for transport in BOTH {
            for &face in FACES {
                watched(move || {
                    for is_offered in [true, false] {
                        let config = ServerConfig::new();
                        let config = if is_offered { config } else { config.without_sessions() };
                        let server = TestServer::start(face, transport, demo(), config);
                        let mut client = PeerClient::start(peer, &server.endpoint);
                        let rounds = if is_offered { CALLS / BOTH.len() / FACES.len() / 5 } else { 20 };
                        for (command, expected) in [
                            (r#""method":"sum","payload":[1,2,3]"#, "6"),
                            (r#""method":"echo""#, "null"),
                            (r#""payload":"hello""#, "null"),
                            (
                                r#""method":"echo","payload":{"a":[1,"é",{"b":null}]}"#,
                                r#"{"a":[1,"é",{"b":null}]}"#,
                            ),
                        ] {
                            let many = client.ask(&format!("{{{command},\"repeat\":{rounds}}}"));
                            assert_eq!((many.count, many.results.len()), (rounds, 1), "{command}");
                            let came = many.results[0].ok.as_ref().map_or("null", |ok| ok.get());
                            assert!(same(came, expected), "{peer:?}: {came}");
                        }
                        let many = client.ask(&format!(r#"{{"method":"err","repeat":{rounds}}}"#));
                        assert_eq!((many.count, many.results.len()), (rounds, 1));
                        assert_eq!(many.results[0].error.as_deref(), Some("generated error"));
                        let large = format!("\"{}\"", "z".repeat(100_000));
                        let command = format!(r#"{{"method":"echo","payload":{large}}}"#);
                        assert!(same(&client.ok(&command), &large));
                        let stats = server.client(Face::Blocking);
                        assert_eq!(stats.counted("sessions", "total"), u64::from(is_offered));
                    }
                });
            }
        }
    }
}

#[test]
fn no_classic_server_sees_a_byte_of_a_session_but_the_offer() {
    with_each(&[Peer::Python, Peer::Node], |peer, face, transport| {
        let server = PeerServer::start(peer, transport);
        let proxy = Proxy::recording(transport, &server.endpoint);
        let offering = TestClient::new(face, &proxy.endpoint, ClientConfig::new());
        let never = ClientKind { face, sessions: SessionMode::Off };
        let never = TestClient::new(never, &proxy.endpoint, ClientConfig::new());
        for n in 0..60 {
            let (method, payload) = mixed(n);
            let ours = outcome(request(&offering, (method, &payload)));
            let [offered] = &proxy.take_seen(1)[..] else { panic!("one call, one connection") };
            assert!(ours == outcome(request(&never, (method, &payload))), "{method:?} {n}");
            let [classic] = &proxy.take_seen(1)[..] else { panic!("one call, one connection") };
            is_classic_but_for_the_offer(offered);
            // Byte for byte what a client without sessions sends, and is answered.
            let mut request = offered.to_server.clone();
            request[5..7].fill(0);
            assert!(request == classic.to_server, "{method:?}");
            assert!(offered.to_client == classic.to_client, "{method:?}");
        }
        // Other uses of the client say no more to it.
        offering.notify("sum", &json!([1])).unwrap();
        let [seen] = &proxy.take_seen(1)[..] else { panic!("one call, one connection") };
        assert_eq!(
            (seen.to_server[5], seen.to_server.len()),
            (3, 11 + r#"{"method":"sum","payload":[1]}"#.len())
        );
        let items = offering.stream("echo", &json!([1, 2])).unwrap();
        assert_eq!(items.map(Result::unwrap).collect::<Vec<_>>(), [json!(1), json!(2)]);
        let [seen] = &proxy.take_seen(1)[..] else { panic!("one call, one connection") };
        assert_eq!(
            (seen.to_server[5], seen.to_server.len()),
            (5, 11 + r#"{"method":"echo","payload":[1,2]}"#.len())
        );
    });
}

#[test]
fn classic_clients_see_the_classic_answer() {
    with_each(&[Peer::Python, Peer::Node], |peer, face, transport| {
        let mut answers = Vec::new();
        for config in [ServerConfig::new(), ServerConfig::new().without_sessions()] {
            let server = TestServer::start(face, transport, demo(), config);
            let proxy = Proxy::recording(transport, &server.endpoint);
            let mut client = PeerClient::start(peer, &proxy.endpoint);
            let mut seen = Vec::new();
            for command in [
                r#"{"method":"sum","payload":[1,2,3]}"#,
                r#"{"method":"echo"}"#,
                r#"{"method":"echo","payload":{"a":[1,"é"]}}"#,
                r#"{"method":"err"}"#,
                r#"{"payload":"hello"}"#,
            ] {
                client.ask(command);
                let [one] = &proxy.take_seen(1)[..] else { panic!("one call, one connection") };
                assert_eq!(one.to_server[5..7], [0, 0]);
                assert_eq!(one.to_client[5..7], [0, 0]);
                seen.push((one.to_server.clone(), one.to_client.clone()));
            }
            answers.push(seen);
        }
        assert_eq!(answers[0], answers[1]);
    });
}

/// Calls with each peer's server, and with each peer's client.
const CALLS: usize = 10_000;
