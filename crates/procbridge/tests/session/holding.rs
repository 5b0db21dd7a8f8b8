//! The time for which a peer holds a thread, a task or a place. Timeouts hold whatever a peer sends. No peer, handler or
//! idle connection holds up others.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Client, ClientConfig, Endpoint, ErrorKind, ReplyError, Router, ServerConfig};
use serde_json::json;

use crate::support::faces::{FACES, TestClient, TestServer, Transport};
use crate::support::wire::{GOOD, GOODBYE, ITEM, PONG, REQUEST, RawStream, TERMS, hello, session_packet};
use crate::support::{eventually, watched};

/// Returns many packets of one kind.
fn many(kind: u8, id: u32) -> Vec<u8> {
    session_packet(kind, 0, id, "{}").repeat(4_000)
}

/// Writes `packets` again and again for some seconds, or until the peer has had enough.
fn flood(mut stream: impl Write, packets: &[u8]) {
    let end = Instant::now() + FLOODED;
    while Instant::now() < end && stream.write_all(packets).is_ok() {}
}

const FLOODED: Duration = Duration::from_secs(8);

/// Returns a server that answers one call on a session, and at the next one sends `packets` only.
fn flooding_server(packets: Vec<u8>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::from(listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut stream = RawStream::Tcp(listener.accept().unwrap().0);
        assert_eq!(stream.packet().unwrap().kind, REQUEST);
        stream.write_all(&hello(TERMS)).unwrap();
        stream.write_all(&session_packet(GOOD, 0, 1, "{}")).unwrap();
        while stream.packet().unwrap().kind != REQUEST {}
        flood(stream, &packets);
    });
    endpoint
}

#[test]
fn a_time_limit_holds_while_the_server_sends_without_a_pause() {
    // Items of a call that has ended are skipped, which costs the least.
    for packets in [many(PONG, 0), many(ITEM, 1)] {
        for &face in FACES {
            let packets = packets.clone();
            watched(move || {
                let limit = Duration::from_secs(1);
                let config = ClientConfig::new().with_call_timeout(limit);
                let client = TestClient::new(face, &flooding_server(packets), config);
                client.request("first", &json!(null)).unwrap();
                let begun = Instant::now();
                let error = client.request("second", &json!(null)).unwrap_err();
                let lasted = begun.elapsed();
                assert_eq!(error.kind(), ErrorKind::Timeout, "{face:?}: {error}");
                assert!(lasted < FLOODED / 2, "{face:?}: {lasted:?}");
            });
        }
    }
}

#[test]
fn an_idle_time_holds_while_the_client_sends_without_a_pause() {
    for &face in FACES {
        watched(move || {
            let config = ServerConfig::new().with_idle_timeout(Duration::from_secs(1));
            let server = TestServer::start(face, Transport::Tcp, Router::new(), config);
            let mut stream = server.connect();
            stream.open_session();
            let begun = Instant::now();
            flood(&mut stream, &many(PONG, 0));
            assert!(begun.elapsed() < FLOODED / 2, "{face:?}");
            server.stop();
        });
    }
}

#[test]
fn a_write_timeout_holds_while_the_client_sends_without_a_pause() {
    for &face in FACES {
        watched(move || {
            let config = ServerConfig::new().with_write_timeout(Duration::from_secs(1));
            let router = Router::new().method("big", |size: usize| "x".repeat(size));
            let server = TestServer::start(face, Transport::Unix, router, config);
            let mut stream = server.connect();
            stream.open_session();
            // More than the socket takes, and little enough that the server goes on to read.
            for id in [3, 5] {
                let call = r#"{"method":"big","payload":900000}"#;
                stream.write_all(&session_packet(REQUEST, 0, id, call)).unwrap();
            }
            let begun = Instant::now();
            flood(&mut stream, &many(PONG, 0));
            assert!(begun.elapsed() < FLOODED / 2, "{face:?}");
            server.stop();
        });
    }
}

/// The server's heartbeat is shorter than any pause of the client's own threads.
#[test]
fn a_client_that_takes_its_time_over_an_item_keeps_its_stream() {
    for &face in FACES {
        watched(move || {
            let router = Router::new().stream(
                "count",
                |n: u32, items: &mut procbridge::ItemSink| -> Result<(), ReplyError> {
                    (0..n).try_for_each(|i| items.send(&i))?;
                    Ok(())
                },
            );
            let config = ServerConfig::new().with_keepalive(Duration::from_millis(300));
            let server = TestServer::start(face, Transport::Unix, router, config);
            let client = Client::new(&server.endpoint).unwrap();
            let mut items = client.stream::<u32>("count", &200).unwrap();
            assert_eq!(items.next().unwrap().unwrap(), 0);
            // This is what the program does with it.
            thread::sleep(Duration::from_millis(2_500));
            let rest: Result<Vec<_>, _> = items.collect();
            assert_eq!(rest.unwrap().len(), 199, "{face:?}");
            server.stop();
        });
    }
}

#[test]
fn a_full_server_ends_what_has_been_idle_longest() {
    for &face in FACES {
        watched(move || {
            let config = ServerConfig::new().with_max_connections(2);
            let router = Router::new().method("one", || 1);
            let server = TestServer::start(face, Transport::Unix, router, config);
            let (mut first, mut second) = (server.connect(), server.connect());
            first.open_session();
            second.open_session();
            let begun = Instant::now();
            // A session that has just been at work is not ended.
            let client = server.client(face);
            eventually(|| client.request("one", &json!(null)).is_ok());
            assert!(begun.elapsed() > Duration::from_millis(200), "{face:?}");
            let goodbye = first.packet().unwrap();
            assert_eq!(goodbye.kind, GOODBYE);
            assert!(first.packet().is_none());
            // The other one goes on.
            second.write_all(&session_packet(REQUEST, 0, 3, r#"{"method":"one"}"#)).unwrap();
            assert_eq!(second.packet().unwrap().kind, GOOD);
            server.stop();
        });
    }
}

#[test]
fn a_connection_past_its_time_gives_its_place_back() {
    for &face in FACES {
        watched(move || {
            let config = ServerConfig::new()
                .with_max_connections(1)
                .with_header_timeout(Duration::from_millis(200))
                .with_linger_timeout(Duration::from_secs(3_600));
            let router = Router::new().method("one", || 1);
            let server = TestServer::start(face, Transport::Unix, router, config);
            let mut slow = server.connect();
            slow.write_all(b"pb").unwrap();
            let (_, body) = slow.answer().unwrap();
            assert_eq!(body["errorCode"].as_str().or(body["code"].as_str()).unwrap_or("timeout"), "timeout");
            // It stays connected, and says nothing more.
            let client = server.client(face);
            eventually(|| client.request("one", &json!(null)).is_ok());
            server.stop();
        });
    }
}

#[cfg(feature = "tokio")]
mod handlers {
    use std::sync::mpsc;

    use crate::support::faces::Face;
    use procbridge::tokio::Router;

    use super::*;

    /// The task that reads the session must go on, or nothing of it does: no call, and no heartbeat.
    #[test]
    fn a_handler_that_blocks_at_its_beginning_holds_up_one_call_at_most() {
        watched(|| {
            let (open, door) = mpsc::channel::<()>();
            let door = std::sync::Arc::new(std::sync::Mutex::new(door));
            let router = Router::new().method("quick", || async { 1 }).method("block", move |wait: bool| {
                let door = door.clone();
                async move {
                    if wait {
                        door.lock().unwrap().recv().unwrap();
                    } else {
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            });
            let server = TestServer::start(Face::Tokio, Transport::Unix, router, ServerConfig::new());
            let config = ClientConfig::new().with_keepalive(Duration::from_millis(500));
            let client = TestClient::new(Face::Blocking, &server.endpoint, config);
            // The one that pays.
            client.request("block", &json!(false)).unwrap();
            let blocking = client.clone();
            let blocked = thread::spawn(move || blocking.request("block", &json!(true)));
            for _ in 0..100 {
                assert_eq!(client.request("quick", &json!(null)).unwrap(), json!(1));
            }
            // Longer than the client waits for a sign of life.
            thread::sleep(Duration::from_millis(2_500));
            assert_eq!(client.request("quick", &json!(null)).unwrap(), json!(1));
            open.send(()).unwrap();
            blocked.join().unwrap().unwrap();
            assert_eq!(client.counted("connections", "total"), 1);
            server.stop();
        });
    }
}
