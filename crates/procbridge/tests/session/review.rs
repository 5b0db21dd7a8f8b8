//! Harm that a hostile or unlucky peer must not do in a session: hangs, lost answers, memory and work without
//! bound.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{
    Call, Client, ClientConfig, Endpoint, Hub, ReplyError, Router, RunningServer, Server, ServerConfig, code,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::wire::{
    BAD, CANCEL, GOOD, GOODBYE, HELLO, MORE, PING, REQUEST, RawPacket, RawStream, STREAM, raw, session_packet,
};
use crate::support::{WATCHDOG, eventually, in_own_process, watched};

const MOMENT: Duration = Duration::from_millis(300);

/// A server, and bare sessions with it. They are Unix sockets, whose buffers are small, unless it is said otherwise.
struct Scene {
    server: RunningServer,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new(router: Router, config: ServerConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = format!("unix:{}/s.sock", dir.path().display());
        let server = Server::bind_with(endpoint, config).unwrap().and_bind("127.0.0.1:0").unwrap();
        Self { server: server.spawn(router).unwrap(), _dir: dir }
    }

    fn session(&self) -> Bare {
        Bare::open(&self.server.endpoint())
    }

    fn tcp_session(&self) -> Bare {
        Bare::open(&self.server.endpoints()[1])
    }
}

/// A session without a library: bytes that no client would send.
struct Bare {
    stream: RawStream,
    /// Answers that have come in part.
    pieces: HashMap<u32, Vec<u8>>,
}

impl Bare {
    fn open(endpoint: &Endpoint) -> Self {
        let mut stream = raw(endpoint);
        stream.open_session();
        Self { stream, pieces: HashMap::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn packet(&mut self) -> RawPacket {
        self.stream.packet().unwrap()
    }

    /// Returns the next whole GOOD or BAD: its call and its body.
    fn answer(&mut self) -> (u32, Value) {
        loop {
            let packet = self.packet();
            if packet.kind == GOOD || packet.kind == BAD {
                let id = packet.id();
                self.pieces.entry(id).or_default().extend(packet.content());
                if packet.flags & MORE == 0 {
                    let text = self.pieces.remove(&id).unwrap();
                    return (id, serde_json::from_slice(&text).unwrap());
                }
            }
        }
    }
}

fn request(id: u32, method: &str, payload: &Value) -> Vec<u8> {
    session_packet(REQUEST, 0, id, json!({ "method": method, "payload": payload }).to_string())
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn sleep(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

#[test]
fn a_reader_that_gives_up_passes_the_seat_to_one_who_still_waits() {
    let server = Server::bind("127.0.0.1:0").unwrap().spawn(Router::new().method("sleep", sleep)).unwrap();
    for _ in 0..12 {
        // The server is not told of this limit, so that nothing comes when it has passed.
        let config = ClientConfig::new().with_call_timeout(Duration::from_millis(100));
        let client = Client::with_config(server.endpoint(), config).unwrap();
        client.request::<()>("sleep", &0).unwrap();
        let first = client.clone();
        let reader = thread::spawn(move || first.request::<()>("sleep", &400).unwrap_err());
        thread::sleep(Duration::from_millis(30));
        let start = Instant::now();
        client.call("sleep").payload(&200).timeout(Duration::from_secs(5)).send::<()>().unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "answered after {:?}", start.elapsed());
        assert!(reader.join().unwrap().is_timeout());
    }
}

#[test]
fn a_call_that_comes_while_a_handler_reads_is_served() {
    // The handler waits for its caller, and reads for all meanwhile. The event loop finds the session quiet and
    // leaves it.
    let router = Router::new()
        .method("back", |call: &Call| -> Result<(), ReplyError> {
            Ok(call.session()?.request("never", &())?)
        })
        .method("echo", |n: u32| n);
    let scene = Scene::new(router, ServerConfig::new());
    let mut session = scene.tcp_session();
    session.send(&session_packet(HELLO, 0, 0, br#"{"session":1,"max_calls":1}"#));
    session.send(&request(3, "back", &Value::Null));
    assert_eq!(session.packet().kind, REQUEST);
    for id in (5..25).step_by(2) {
        thread::sleep(MOMENT);
        session.send(&request(id, "echo", &json!(id)));
        assert_eq!(session.answer(), (id, json!({ "payload": id })));
    }
}

#[test]
fn a_peer_that_takes_nothing_costs_no_work() {
    in_own_process("review::a_peer_that_takes_nothing_costs_no_work", || watched(take_nothing));
}

fn take_nothing() {
    let scene = Scene::new(Router::new().method("big", |n: usize| "x".repeat(n)), ServerConfig::new());
    let mut session = scene.session();
    session.send(&request(3, "big", &json!(700_000)));
    thread::sleep(2 * MOMENT);
    let before = ticks();
    thread::sleep(4 * MOMENT);
    let used = ticks() - before;
    assert!(used < 30, "{used} ticks of 120");
    assert_eq!(session.answer().0, 3);
}

/// Returns the processor time of the threads of sessions in this process, in hundredths of a second.
fn ticks() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let used = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (name, fields) = stat.rsplit_once(") ")?;
        let fields = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        // An acceptor that attends goes on as what it is.
        name.contains("(procbridge").then(|| fields.sum::<u64>())
    });
    used.sum()
}

#[test]
fn answers_that_nobody_reads_hold_no_threads() {
    in_own_process("review::answers_that_nobody_reads_hold_no_threads", || watched(read_nothing));
}

fn read_nothing() {
    let router = Router::new().method("sleep", sleep).method("big", |n: usize| "x".repeat(n));
    let scene = Scene::new(router, ServerConfig::new());
    let mut session = scene.session();
    // More than the socket takes, and less than makes the server stop reading.
    session.send(&request(3, "big", &json!(700_000)));
    thread::sleep(MOMENT);
    let before = threads();
    for round in 0..20 {
        for n in 0..50 {
            session.send(&request(5 + 2 * (50 * round + n), "sleep", &json!(2)));
        }
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(MOMENT);
    assert!(threads() < before + 300, "{} threads more", threads() - before);
    for _ in 0..1001 {
        session.answer();
    }
}

#[test]
fn a_peer_that_has_closed_its_reading_side_is_given_up() {
    let scene = Scene::new(Router::new().method("echo", |text: String| text), ServerConfig::new());
    let mut session = scene.session();
    session.stream.shut(Shutdown::Read);
    let text = Value::from("x".repeat(60_000));
    let sent = (0..2000).take_while(|n| session.stream.write_all(&request(3 + 2 * n, "echo", &text)).is_ok());
    assert!(sent.count() < 2000, "120 MB of requests were taken, whose answers wait for ever");
}

#[test]
fn a_subscription_that_is_cancelled_at_once_is_answered() {
    let scene = Scene::new(Router::new().events(&Hub::new()), ServerConfig::new());
    let mut session = scene.session();
    let subscribe =
        session_packet(REQUEST, STREAM, 3, br#"{"method":"$/subscribe","payload":{"topics":["a"]}}"#);
    session.send(&[subscribe, session_packet(CANCEL, 0, 3, b"{}")].concat());
    let (id, answer) = session.answer();
    assert_eq!((id, &answer["code"]), (3, &json!(code::CANCELLED)));
    // It is not counted as a leaked handler, or only until its thread is done.
    eventually(|| scene.server.handle().leaked_handlers() == 0);
}

#[test]
fn requests_with_their_handlers_count_as_held() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    // They end when the other end of the channel does.
    let hold = move |_: Box<RawValue>| released.lock().unwrap().recv().is_err();
    let scene = Scene::new(
        Router::new().method("hold", hold),
        ServerConfig::new().with_max_buffered_bytes(8 * 1024 * 1024),
    );
    let mut session = scene.session();
    let text = Value::from("x".repeat(1024 * 1024));
    for n in 0..32 {
        session.send(&request(3 + 2 * n, "hold", &text));
    }
    for _ in 0..24 {
        assert_eq!(session.answer().1["code"], code::OVERLOADED);
    }
    drop(release);
    (24..32).for_each(|_| drop(session.answer()));
    // It was all given back.
    for n in 0..12 {
        session.send(&request(101 + 2 * n, "hold", &text));
        assert_eq!(session.answer().1, json!({ "payload": true }));
    }
}

#[test]
fn a_peer_that_reads_slowly_is_not_dead() {
    let config = ServerConfig::new().with_keepalive(MOMENT);
    let scene = Scene::new(Router::new().method("big", |n: usize| "x".repeat(n)), config);
    let mut session = scene.session();
    session.send(&request(3, "big", &json!(4_000_000)));
    let mut read = 0;
    let mut buffer = vec![0; 100_000];
    while read < 4_000_000 {
        let count = session.stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the session ended after {read} B");
        read += count;
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_request_that_stays_unfinished_ends_its_session() {
    let scene = Scene::new(
        Router::new().method("echo", |text: String| text),
        ServerConfig::new().with_min_body_rate(100_000),
    );
    let mut quiet = scene.session();
    let mut slow = scene.session();
    let bytes = request(3, "echo", &Value::from("x".repeat(1_000_000)));
    slow.send(&bytes[..900_000]);
    let start = Instant::now();
    let mut pings = 0;
    slow.stream.wait_at_most(Some(Duration::from_millis(1)));
    let ended = |slow: &mut Bare| matches!(slow.stream.read(&mut [0; 1024]), Ok(0));
    while !ended(&mut slow) {
        assert!(start.elapsed() < WATCHDOG / 2, "it is still there");
        let _ = slow.stream.write_all(b"x");
        pings += 1;
        thread::sleep(Duration::from_millis(200));
    }
    assert!(pings > 10);
    // A session between two packets may be silent.
    quiet.send(&request(3, "echo", &json!("here")));
    assert_eq!(quiet.answer().1, json!({ "payload": "here" }));
}

#[test]
fn an_answer_does_not_wait_for_the_calls_behind_it() {
    let busy = |us: u64| {
        let end = Instant::now() + Duration::from_micros(us);
        while Instant::now() < end {}
    };
    let scene = Scene::new(Router::new().method("busy", busy), ServerConfig::new());
    let mut session = scene.session();
    let calls: Vec<u8> = (0..100).flat_map(|n| request(3 + 2 * n, "busy", &json!(1000))).collect();
    let start = Instant::now();
    session.send(&calls);
    session.answer();
    let first = start.elapsed();
    (1..100).for_each(|_| drop(session.answer()));
    assert!(first < start.elapsed() / 4, "the first after {first:?}, the last after {:?}", start.elapsed());
}

#[test]
fn a_subscription_names_a_bounded_number_of_topics() {
    let scene = Scene::new(Router::new().events(&Hub::new()), ServerConfig::new());
    let mut session = scene.session();
    for (id, topics) in [(3, json!(vec!["a"; 100_000])), (5, json!([])), (7, json!([1])), (9, Value::Null)] {
        let subscribe = json!({ "method": "$/subscribe", "payload": { "topics": topics } }).to_string();
        session.send(&session_packet(REQUEST, STREAM, id, subscribe.as_bytes()));
        let (answered, answer) = session.answer();
        assert_eq!((answered, &answer["code"]), (id, &json!(code::INVALID_PAYLOAD)), "{answer}");
    }
}

#[test]
fn a_session_that_a_program_keeps_does_not_keep_its_connection() {
    let (sender, kept) = mpsc::channel();
    let keep = move |call: &Call| -> Result<(), ReplyError> { Ok(sender.send(call.session()?)?) };
    let scene = Scene::new(Router::new().method("keep", keep), ServerConfig::new().with_max_connections(4));
    let mut all = Vec::new();
    for _ in 0..10 {
        let mut session = scene.session();
        session.send(&request(3, "keep", &Value::Null));
        assert_eq!(session.answer().0, 3);
        drop(session);
        let session = kept.recv().unwrap();
        eventually(|| !session.is_open());
        thread::sleep(Duration::from_millis(20));
        assert!(session.request::<()>("any", &()).is_err());
        all.push(session);
    }
}

#[test]
fn a_silent_peer_is_told_which_calls_were_not_run() {
    let config = ServerConfig::new().with_keepalive(Duration::from_millis(50));
    let scene = Scene::new(Router::new(), config);
    let mut session = scene.session();
    assert_eq!([session.packet().kind, session.packet().kind], [PING, PING]);
    let goodbye = session.packet();
    assert_eq!((goodbye.kind, &goodbye.json()["last_id"]), (GOODBYE, &json!(1)));
    assert_eq!(session.stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_slow_handler_that_ends_leaves_the_session_attended() {
    let busy = |us: u64| {
        let end = Instant::now() + Duration::from_micros(us);
        while Instant::now() < end {}
    };
    let scene = Scene::new(Router::new().method("busy", busy).method("sleep", sleep), ServerConfig::new());
    let mut session = scene.session();
    let mut id = 1;
    let mut send = |session: &mut Bare, method: &str, n: u64| {
        id += 2;
        session.send(&request(id, method, &json!(n)));
        id
    };
    for _ in 0..40 {
        // The slow one is relieved of the session. Then quick ones make a thread serve calls by itself again, which is at
        // work when the slow one ends.
        let slow = send(&mut session, "sleep", 40);
        // On a busy machine the slow one may be answered before all of the quick ones.
        let mut is_slow_open = true;
        for _ in 0..100 {
            send(&mut session, "busy", 0);
            is_slow_open &= session.answer().0 != slow;
        }
        if !is_slow_open {
            session.answer();
        }
        send(&mut session, "busy", 1000);
        while is_slow_open {
            is_slow_open = session.answer().0 != slow;
            if is_slow_open {
                send(&mut session, "busy", 1000);
            }
        }
        session.answer();
    }
}
