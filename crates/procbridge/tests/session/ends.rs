//! The ends of sessions: servers that stop, peers that are silent, sessions without use.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Call, ClientConfig, Endpoint, ErrorKind, Outcome, ReplyError, Router, ServerConfig, code};
use serde_json::{Value, json};

use crate::support::door::Door;
use crate::support::faces::{TestClient, TestServer, Transport, code_of};
use crate::support::proxy::Proxy;
use crate::support::router::{router, start};
use crate::support::wire::{GOODBYE, HELLO, PING, REQUEST, session_packet};
use crate::support::{WATCHDOG, eventually, everywhere_with_sessions};
use crate::{opened, opened_with};

#[test]
fn a_server_that_stops_finishes_what_runs() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new());
        let client = opened(&server, client);
        let waiting = client.calling(20, "wait");
        let mut items = client.stream("count", &json!(1_000)).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), json!(0));
        door.wait_for_callers(20);
        server.stop_soon();
        // A stream goes on to its end.
        assert_eq!(items.map(Result::unwrap).count(), 999);
        // A new call does not come in any more once the server has said so, and there is no other server.
        let mut error = None;
        eventually(|| {
            error = client.request("sum", &json!([1])).err();
            error.is_some()
        });
        let error = error.unwrap();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Connect, Outcome::NotSent), "{error:?}");
        door.open();
        for caller in waiting {
            assert_eq!(caller.join().unwrap().unwrap(), json!(true));
        }
        let started = Instant::now();
        server.stop();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    });
}

#[test]
fn calls_move_to_the_server_that_takes_the_place() {
    everywhere_with_sessions(|face, client, transport| {
        if transport != Transport::Unix {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let endpoint: Endpoint = format!("unix:{}", path.display()).parse().unwrap();
        let door = Door::default();
        let serving = |n: u32, endpoint: &Endpoint| {
            let router = router(&door).method("which", move || n);
            TestServer::start_at(face, endpoint, router, ServerConfig::new())
        };
        let mut server = serving(0, &endpoint);
        let client = opened(&server, client);
        let waiting = {
            let client = client.clone();
            thread::spawn(move || client.request("wait", &json!(null)))
        };
        door.wait_for_callers(1);
        let over = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (client, over) = (client.clone(), over.clone());
                thread::spawn(move || {
                    let mut last = 0;
                    while !over.load(Ordering::SeqCst) {
                        let which = client.request("which", &json!(null)).unwrap().as_u64().unwrap();
                        assert!(which >= last, "from {last} back to {which}");
                        last = which;
                    }
                    last
                })
            })
            .collect();
        for n in 1..=3 {
            let next = dir.path().join(format!("{n}.sock"));
            let successor = serving(n, &format!("unix:{}", next.display()).parse().unwrap());
            fs::rename(&next, &path).unwrap();
            server.stop_soon();
            // Without an error, at any time.
            eventually(|| client.request("which", &json!(null)).unwrap() == json!(n));
            if n == 1 {
                // Calls that ran on the old one are finished there.
                door.open();
            }
            server.stop();
            server = successor;
        }
        over.store(true, Ordering::SeqCst);
        assert!(callers.into_iter().all(|caller| caller.join().unwrap() >= 2));
        assert_eq!(waiting.join().unwrap().unwrap(), json!(true));
        server.stop();
    });
}

#[test]
fn what_does_not_finish_in_the_drain_time_is_cancelled() {
    everywhere_with_sessions(|server, client, transport| {
        let config = ServerConfig::new().with_drain_timeout(Duration::from_millis(100));
        for abort in [false, true] {
            let (server, door) = start(server, transport, config.clone());
            let client = opened(&server, client);
            let waiting = client.calling(5, "wait");
            door.wait_for_callers(5);
            if abort {
                server.abort_soon();
            }
            server.stop();
            for caller in waiting {
                assert_eq!(code_of(caller.join().unwrap()), code::CANCELLED);
            }
        }
    });
}

#[test]
fn a_client_that_goes_away_is_noticed_by_its_handlers() {
    everywhere_with_sessions(|server, _, transport| {
        let (server, door) = start(server, transport, ServerConfig::new());
        let mut client = server.connect();
        client.open_session();
        for id in [3, 5, 7] {
            client.write_all(&session_packet(0, 0, id, r#"{"method":"wait"}"#)).unwrap();
        }
        door.wait_for_callers(3);
        drop(client);
        // The handlers return without the door being opened, and the server waits for no peer.
        let started = Instant::now();
        server.stop();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    });
}

#[test]
fn a_call_that_nobody_waits_for_goes_on_when_its_caller_is_gone() {
    everywhere_with_sessions(|server, client, transport| {
        let door = Door::default();
        let (inside, (sender, passed)) = (door.clone(), mpsc::channel());
        let router = Router::new().method("wait", move |call: &Call| sender.send(inside.pass(call)).unwrap());
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let watcher = opened(&server, client);
        let client = opened(&server, client);
        client.notify("wait", &json!(null)).unwrap();
        door.wait_for_callers(1);
        drop(client);
        eventually(|| watcher.counted("sessions", "open") == 1);
        door.open();
        assert!(passed.recv_timeout(WATCHDOG).unwrap(), "it was cancelled");
        server.stop();
    });
}

#[test]
fn a_session_that_nobody_uses_ends_and_is_made_again() {
    everywhere_with_sessions(|server, client, transport| {
        let config = ServerConfig::new().with_idle_timeout(Duration::from_millis(300));
        let (server, door) = start(server, transport, config);
        let client = opened(&server, client);
        let watcher = opened(&server, client_face(&client));
        // Over TCP it ends, on a Unix socket it stays.
        if transport == Transport::Tcp {
            eventually(|| {
                thread::sleep(Duration::from_millis(20));
                watcher.counted("sessions", "open") == 1
            });
        }
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(watcher.counted("sessions", "open"), 2);
        // One with a call in flight is in use.
        let started = Instant::now();
        let waiting = thread::spawn(move || client.request("wait", &json!(null)));
        door.wait_for_callers(1);
        while started.elapsed() < Duration::from_millis(700) {
            thread::sleep(Duration::from_millis(20));
            assert_eq!(watcher.counted("sessions", "open"), 2);
        }
        door.open();
        assert_eq!(waiting.join().unwrap().unwrap(), json!(true));
        server.stop();
    });
}

fn client_face(client: &TestClient) -> crate::Face {
    match client {
        TestClient::Blocking(_) => crate::Face::Blocking,
        #[cfg(feature = "tokio")]
        TestClient::Tokio(..) => crate::Face::Tokio,
    }
}

#[test]
fn a_server_ends_the_session_of_a_silent_client() {
    everywhere_with_sessions(|server, client, transport| {
        let config = ServerConfig::new().with_keepalive(Duration::from_millis(250));
        let (server, _) = start(server, transport, config);
        let watcher = server.client(client);
        let mut silent = server.connect();
        silent.open_session();
        assert_eq!(silent.packet().unwrap().kind, PING);
        assert_eq!(silent.packet().unwrap().kind, PING);
        let started = Instant::now();
        while let Some(packet) = silent.packet() {
            assert!([PING, GOODBYE].contains(&packet.kind), "{packet:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        eventually(|| watcher.counted("sessions", "open") == 1);
        // One that says anything at all is alive.
        let mut alive = server.connect();
        alive.open_session();
        for n in 0..4 {
            let ping = alive.packet().unwrap();
            assert_eq!(ping.kind, PING, "{n}");
            alive.write_all(&session_packet(8, 0, 0, "{}")).unwrap();
        }
        drop(alive);
        server.stop();
    });
}

#[test]
fn a_client_gives_up_a_silent_server_and_not_a_slow_one() {
    everywhere_with_sessions(|server, client, transport| {
        let keepalive = Duration::from_millis(400);
        let (server, door) = start(server, transport, ServerConfig::new());
        let proxy = Proxy::start(transport, &server.endpoint);
        let config = ClientConfig::new().with_keepalive(keepalive);
        let client = TestClient::new(client, &proxy.endpoint, config);
        assert_eq!(client.request("$/ping", &json!(1)).unwrap(), json!(1));
        // Slow: the handler takes several keepalive intervals, the server answers each.
        let slow = Router::new().method("slow", || thread::sleep(Duration::from_millis(1_600)));
        let slow = TestServer::start(crate::Face::Blocking, transport, slow, ServerConfig::new());
        let config = ClientConfig::new().with_keepalive(keepalive);
        let patient = opened_with(&slow, client_face(&client), config);
        assert_eq!(patient.request("slow", &json!(null)).unwrap(), json!(null));
        assert_eq!(patient.counted("connections", "total"), 1);

        let waiting = client.calling(5, "wait");
        let mut items = client.stream("count", &json!(1_000_000)).unwrap();
        items.next().unwrap().unwrap();
        door.wait_for_callers(5);
        proxy.cut();
        let started = Instant::now();
        for caller in waiting {
            let error = caller.join().unwrap().unwrap_err();
            let seen = (error.kind(), error.outcome());
            assert_eq!(seen, (ErrorKind::Disconnected, Outcome::Unknown), "{error:?}");
            assert!(error.to_string().contains("keepalive"), "{error}");
        }
        let error = items.find_map(Result::err).unwrap();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
        let took = started.elapsed();
        assert!(took >= keepalive && took < Duration::from_secs(3), "{took:?}");
        // It goes on over a new connection.
        proxy.open();
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        server.stop();
        slow.stop();
    });
}

#[test]
fn a_session_that_broke_while_nobody_looked_is_made_again() {
    everywhere_with_sessions(|face, client, transport| {
        let (server, _) = start(face, transport, ServerConfig::new());
        let endpoint = server.endpoint.clone();
        let client = opened(&server, client);
        let mut dir = None;
        let mut server = Some(server);
        for n in 0..3 {
            if let Some(server) = server.take() {
                dir = server.end().or(dir);
            }
            let door = Door::default();
            server = Some(TestServer::start_at(face, &endpoint, router(&door), ServerConfig::new()));
            assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
            assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
            assert_eq!(client.counted("connections", "total"), 1);
        }
        server.unwrap().stop();
        drop(dir);
    });
}

#[test]
fn a_session_with_a_protocol_error_is_told_why_it_ends() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = opened(&server, client);
        let mut wrong = server.connect();
        wrong.open_session();
        // An even id is the server's.
        wrong.write_all(&session_packet(0, 0, 2, r#"{"method":"sum","payload":[1]}"#)).unwrap();
        let goodbye = wrong.packet().unwrap();
        assert_eq!((goodbye.kind, goodbye.id()), (GOODBYE, 0));
        assert_eq!(goodbye.json()["last_id"], 1);
        assert!(goodbye.json()["reason"].as_str().unwrap().contains("id"), "{}", goodbye.json());
        assert!(wrong.packet().is_none());
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        drop(wrong);
        eventually(|| client.counted("sessions", "open") == 1);
        server.stop();
    });
}

/// A handler that waits for an answer reads for all, for longer than a thread attends to a session in which nothing comes.
#[test]
fn a_protocol_error_that_a_handler_reads_is_told_too() {
    everywhere_with_sessions(|server, _, transport| {
        let asking = Router::new().method("ask", |call: &Call| -> Result<Value, ReplyError> {
            call.session()?.request("nobody answers", &()).map_err(ReplyError::from)
        });
        let server = TestServer::start(server, transport, asking, ServerConfig::new());
        let mut wrong = server.connect();
        wrong.open_session();
        wrong.write_all(&session_packet(HELLO, 0, 0, r#"{"session":1,"max_calls":8}"#)).unwrap();
        wrong.write_all(&session_packet(REQUEST, 0, 3, r#"{"method":"ask"}"#)).unwrap();
        assert_eq!(wrong.packet().unwrap().kind, REQUEST);
        // There is no sign by which to learn which thread reads.
        thread::sleep(Duration::from_millis(500));
        let mut bytes = session_packet(REQUEST, 0, 2, r#"{"method":"sum","payload":[1]}"#);
        // More than the sockets hold: it is all taken, so that the reason arrives.
        bytes.resize(bytes.len() + (8 << 20), b'x');
        wrong.write_all(&bytes).unwrap();
        let goodbye = std::iter::from_fn(|| wrong.packet()).find(|packet| packet.kind == GOODBYE).unwrap();
        assert!(goodbye.json()["reason"].as_str().unwrap().contains("id"), "{}", goodbye.json());
        assert!(wrong.packet().is_none());
        server.stop();
    });
}
