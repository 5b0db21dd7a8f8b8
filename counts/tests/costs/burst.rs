//! Classic calls that a server on one thread finds all at once.
//!
//! The scheduler decides whether such a server meets a connection before or with its request. It also decides whether the
//! server sleeps before the next one. Each costs system calls and allocations. So the server's only thread is held in a
//! handler until all connections and requests wait for it. Then it serves them in an order that nothing outside of it can
//! change.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::memory::request;
use crate::probe::{Counted, Server, Tool};

/// Returns the cost of one call in a server of the tokio face, as `tool` counts it.
pub(crate) fn of_one_call(tool: Tool) -> Counted {
    let count = |calls| {
        let server = Server::start(tool, "tokio");
        bursts(&server, calls);
        server.end()
    };
    each(count)
}

/// Returns the cost of one call, if `count` makes bursts of so many calls and returns their cost.
pub(crate) fn each(count: impl Fn(usize) -> Counted) -> Counted {
    count(CALLS).each(count(2 * CALLS), ROUNDS * CALLS)
}

/// Makes a few bursts of `calls`.
pub(crate) fn bursts(server: &Server, calls: usize) {
    let path = server.dir().join("gate");
    let gate = UnixListener::bind(&path).unwrap();
    for _ in 0..ROUNDS {
        let held = call(server, &format!(r#"{{"method":"hold","payload":{path:?}}}"#));
        let (handler, _) = gate.accept().unwrap();
        let waiting: Vec<_> = (0..calls).map(|_| call(server, ECHO)).collect();
        drop(handler);
        waiting.into_iter().chain([held]).for_each(is_answered);
    }
    std::fs::remove_file(path).unwrap();
}

fn call(server: &Server, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(&request(0, body)).unwrap();
    stream
}

fn is_answered(mut stream: UnixStream) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.get(4), Some(&GOOD), "{}", String::from_utf8_lossy(&answer));
}

/// The requests that the clients of the probe send.
const ECHO: &str = r#"{"method":"echo","payload":{"a":1,"b":[1,2,3],"s":"hello"}}"#;
const GOOD: u8 = 1;
const CALLS: usize = 100;
const ROUNDS: usize = 10;
