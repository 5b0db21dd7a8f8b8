//! One list of scenarios, run on {blocking, tokio} servers x {blocking, tokio} clients x {TCP, Unix, abstract}.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{ClientConfig, Endpoint, Error, ErrorKind, Outcome, Router, ServerConfig, code};
use serde_json::{Value, json};

use crate::support::door::Door;
use crate::support::faces::{FACES, Face, TRANSPORTS, TestClient, TestServer, Transport, code_of};
use crate::support::router::{router, start};
use crate::support::wire::{RawStream, first_readable, packet};
use crate::support::{eventually, everywhere, watched};

#[test]
fn calls_are_answered() {
    everywhere(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = server.client(client);
        for payload in [json!(null), json!(0), json!(""), json!([]), json!({"a": [1, {"b": "e😄э"}]})] {
            assert_eq!(client.request("echo", &payload).unwrap(), payload);
        }
        for n in 0..100 {
            assert_eq!(client.request("sum", &json!([n, 1])).unwrap(), json!(n + 1));
        }
        let error = client.request("err", &json!(null)).unwrap_err();
        assert_eq!((error.to_string(), error.kind()), ("generated error".to_string(), ErrorKind::Remote));
        assert_eq!(code_of(client.request("nope", &json!(1))), code::UNKNOWN_METHOD);
        assert_eq!(code_of(client.request_without_method(&json!(1))), code::UNKNOWN_METHOD);
        assert_eq!(code_of(client.request("panic", &json!(1))), code::INTERNAL);
        let large = json!("x".repeat(10_000_000));
        assert_eq!(client.request("echo", &large).unwrap(), large);
        server.stop();
    });
}

#[test]
fn sixty_four_callers_at_once_are_answered() {
    everywhere(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = server.client(client);
        let together = Arc::new(Barrier::new(64));
        let callers: Vec<_> = (0..64)
            .map(|n| {
                let (client, together) = (client.clone(), together.clone());
                thread::spawn(move || {
                    together.wait();
                    (0..10).all(|k| client.request("sum", &json!([n, k])).unwrap() == json!(n + k))
                })
            })
            .collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
    });
}

#[test]
fn a_client_can_speak_the_old_format() {
    everywhere(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = TestClient::new(client, &server.endpoint, ClientConfig::new().speaking_1_0());
        assert_eq!(client.request("sum", &json!([1, 2])).unwrap(), json!(3));
        assert_eq!(client.request("echo", &json!(null)).unwrap(), json!({}));
        let error = client.request("err", &json!(null)).unwrap_err();
        assert_eq!(
            (error.to_string(), error.remote().unwrap().code()),
            ("generated error".to_string(), None)
        );
        let error = client.request_without_method(&json!(1)).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent));
    });
}

#[test]
fn idle_connections_hold_nobody() {
    everywhere(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let idle: Vec<_> = (0..100).map(|_| server.connect()).collect();
        let half: Vec<_> = (0..100)
            .map(|_| {
                let mut stream = server.connect();
                stream.write_all(b"pb\x01\x01\0\0\0").unwrap();
                stream
            })
            .collect();
        let client = server.client(client);
        for n in 0..50 {
            assert_eq!(client.request("sum", &json!([n])).unwrap(), json!(n));
        }
        drop((idle, half));
    });
}

#[test]
fn a_request_may_arrive_in_any_pieces() {
    everywhere(|server, _, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let request = packet(r#"{"method":"sum","payload":[1,2,3]}"#);
        for pieces in [1, 2, 5, 11] {
            let mut stream = server.connect();
            for piece in request.chunks(pieces) {
                stream.write_all(piece).unwrap();
            }
            assert_eq!(stream.answer(), Some((1, json!({"payload": 6}))));
        }
        // In two pieces that are not there at the same time: it has left the fast path when the second comes.
        let mut stream = server.connect();
        stream.write_all(&request[..20]).unwrap();
        assert_eq!(server.client(Face::Blocking).request("sum", &json!([1])).unwrap(), json!(1));
        thread::sleep(Duration::from_millis(50));
        stream.write_all(&request[20..]).unwrap();
        assert_eq!(stream.answer(), Some((1, json!({"payload": 6}))));
    });
}

#[test]
fn half_close_and_bytes_behind_change_nothing() {
    everywhere(|server, _, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let request = packet(r#"{"method":"sum","payload":[1,2,3]}"#);
        let mut stream = server.connect();
        stream.write_all(&request).unwrap();
        stream.finish_writing();
        assert_eq!(stream.answer(), Some((1, json!({"payload": 6}))));
        let mut stream = server.connect();
        stream.write_all(&[&request[..], b"what follows", &request].concat()).unwrap();
        assert_eq!(stream.answer(), Some((1, json!({"payload": 6}))));
    });
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_max_body(1000);
        let (server, _) = start(server, transport, config);
        let config = ClientConfig::new().with_max_body(100_000_000);
        let client = TestClient::new(client, &server.endpoint, config);
        let error = client.request("echo", &json!("x".repeat(30_000_000))).unwrap_err();
        assert_eq!(error.to_string(), "body of 30000030 B exceeds the limit of 1000 B (max_body)");
        assert_eq!(error.remote().unwrap().code(), Some(code::TOO_LARGE));
        // A client that reads only when it has sent everything gets it too.
        let mut stream = server.connect();
        stream.write_all(&packet(&format!("{{\"payload\":\"{}\"}}", "x".repeat(30_000_000)))).unwrap();
        let (status, body) = stream.answer().unwrap();
        assert_eq!((status, &body["code"]), (2, &json!(code::TOO_LARGE)));
    });
}

#[test]
fn limits_on_calls_and_connections_are_answered_as_overloaded() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new()
            .with_max_concurrent_calls(2)
            .with_max_connections(5)
            .with_max_pending_connections(2);
        let (server, door) = start(server, transport, config);
        let client = server.client(client);
        let waiting = client.calling(2, "wait");
        door.wait_for_callers(2);
        let error = client.request("sum", &json!([1])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server has reached its limit of calls in flight (max_concurrent_calls = 2)"
        );

        // Two places for connections without a request; the third is refused, and says so without being asked.
        let mut idle: Vec<_> = (0..3).map(|_| server.connect()).collect();
        let (_, refused) = idle.remove(first_readable(&idle)).answer().unwrap();
        assert_eq!(refused["code"], code::OVERLOADED);
        door.open();
        for caller in waiting {
            assert_eq!(caller.join().unwrap().unwrap(), json!(true));
        }
        // A place is free again when its holder has gone.
        drop(idle);
        eventually(|| client.request("sum", &json!([1])).is_ok());
    });
}

#[test]
fn connections_beyond_the_limit_are_told() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_max_connections(2);
        let (server, door) = start(server, transport, config);
        let client = server.client(client);
        let mut waiting: Vec<_> = (0..2).map(|_| server.connect()).collect();
        for stream in &mut waiting {
            stream.write_all(&packet(r#"{"method":"wait"}"#)).unwrap();
        }
        door.wait_for_callers(2);
        let error = client.request("sum", &json!([1])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server has reached its limit of connections (max_connections = 2)"
        );
        door.open();
        assert!(waiting.into_iter().all(|mut stream| stream.answer().unwrap().0 == 1));
    });
}

#[test]
fn bytes_of_unfinished_requests_are_bounded_together() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_max_buffered_bytes(3_000_000);
        let (server, _) = start(server, transport, config);
        let body = format!("{{\"payload\":\"{}\"}}", "x".repeat(10_000_000));
        let (_, refused) = {
            let mut stream = server.connect();
            stream.write_all(&packet(&body)).unwrap();
            stream.answer().unwrap()
        };
        assert_eq!(refused["code"], code::OVERLOADED);
        assert_eq!(server.client(client).request("sum", &json!([1])).unwrap(), json!(1));
    });
}

#[test]
fn slow_requests_are_ended() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_header_timeout(Duration::from_millis(500));
        let (server, _) = start(server, transport, config);
        let mut silent = server.connect();
        let mut half = server.connect();
        half.write_all(b"pb\x01\x01").unwrap();
        let (_, body) = silent.answer().unwrap();
        assert_eq!(body["code"], code::TIMEOUT);
        let (_, body) = half.answer().unwrap();
        assert_eq!(body["code"], code::TIMEOUT);
        assert_eq!(server.client(client).request("sum", &json!([1])).unwrap(), json!(1));
    });
}

#[test]
fn a_handler_past_its_time_is_answered_for() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(500));
        let (server, door) = start(server, transport, config);
        let client = server.client(client);
        assert_eq!(code_of(client.request("wait", &json!(null))), code::TIMEOUT);
        door.open();
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
    });
}

#[test]
fn a_callers_limit_ends_the_call() {
    everywhere(|server, client, transport| {
        let (server, _door) = start(server, transport, ServerConfig::new());
        let client = server.client(client);
        let started = Instant::now();
        let error = client.request_within(Duration::from_millis(200), "wait", &json!(null)).unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        // Either side may be the first to notice; both say what is true.
        let expected = match error.kind() {
            ErrorKind::Timeout => Outcome::Unknown,
            _ => Outcome::Replied,
        };
        assert_eq!(error.outcome(), expected);
        assert!(started.elapsed() >= Duration::from_millis(190));
        assert!(started.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn stopping_finishes_what_runs_and_refuses_the_rest() {
    everywhere(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new());
        let face = client;
        let client = server.client(face);
        let waiting = client.calling(20, "wait");
        door.wait_for_callers(20);
        let mut half = server.connect();
        half.write_all(b"pb\x01\x01").unwrap();
        // It must be known to the server, or the stop meets it in the queue of the system.
        assert_eq!(server.client(face).request("sum", &json!([1])).unwrap(), json!(1));
        server.stop_soon();
        match half.answer() {
            Some((status, body)) => assert_eq!((status, &body["code"]), (2, &json!(code::UNAVAILABLE))),
            None => panic!("the half-sent request was not answered"),
        }
        let error = server.client(face).request("sum", &json!([1])).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Connect, Outcome::NotSent), "{error}");
        assert!(error.is_retryable());
        door.open();
        for caller in waiting {
            assert_eq!(caller.join().unwrap().unwrap(), json!(true));
        }
        server.stop();
    });
}

#[test]
fn what_does_not_finish_in_the_drain_time_is_cancelled() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_drain_timeout(Duration::from_millis(100));
        for abort in [false, true] {
            let (server, door) = start(server, transport, config.clone());
            let client = server.client(client);
            let caller = thread::spawn(move || client.request("wait", &json!(null)));
            door.wait_for_callers(1);
            if abort {
                server.abort_soon();
            }
            server.stop();
            assert_eq!(code_of(caller.join().unwrap()), code::CANCELLED);
        }
    });
}

#[test]
fn a_socket_file_is_there_while_its_server_is() {
    everywhere(|server, client, transport| {
        if transport != Transport::Unix {
            return;
        }
        let (server, _) = start(server, transport, ServerConfig::new());
        let path = server.endpoint.path().unwrap().to_path_buf();
        let error = procbridge::Server::bind(&server.endpoint).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Listen);
        let client = server.client(client);
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        server.stop();
        assert!(!path.exists());
        let error = client.request("sum", &json!([1])).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot connect to unix:{}: no such file", path.display()));
    });
}

/// Returns a server that does `act` with each of its connections, and the client's error about it.
fn error_from(face: Face, config: ClientConfig, act: fn(RawStream)) -> Error {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::from(listener.local_addr().unwrap());
    let server = thread::spawn(move || act(RawStream::Tcp(listener.accept().unwrap().0)));
    let error = TestClient::new(face, &endpoint, config).request("m", &json!(1)).unwrap_err();
    server.join().unwrap();
    error
}

fn read_request(stream: &mut RawStream) {
    stream.packet().unwrap();
}

#[test]
fn every_wrong_server_is_one_definite_error() {
    type Case = (fn(RawStream), ErrorKind, &'static str);
    let cases: &[Case] = &[
        (|_| (), ErrorKind::Disconnected, "without an answer"),
        (|mut s| read_request(&mut s), ErrorKind::Disconnected, "without an answer"),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"pb\x01\x01\x01").unwrap();
            },
            ErrorKind::Protocol,
            "input ended after 5 of 11 bytes of a packet's header",
        ),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"pb\x01\x01\x01\0\0\x10\0\0\0{\"pay").unwrap();
            },
            ErrorKind::Protocol,
            "input ended after 5 of 16 bytes of a packet's body",
        ),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"pb\x01\x01\x01\0\0\x0b\0\0\0pb\x01\x01\x01\0\0\x02\0\0\0{}").unwrap();
            },
            ErrorKind::Protocol,
            "body is not JSON",
        ),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"pb\x01\x02\x01\0\0\x02\0\0\0{}").unwrap();
            },
            ErrorKind::Protocol,
            "unsupported version 1.2, expected 1.1",
        ),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"pb\x01\x01\x01\0\0\xff\xff\xff\xff{}").unwrap();
            },
            ErrorKind::TooLarge,
            "body of 4294967295 B exceeds the limit of 16777216 B (max_body)",
        ),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            },
            ErrorKind::Protocol,
            "not a ProcBridge packet: byte 0 is 0x48",
        ),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"pb\x01\x01\x03\0\0\x02\0\0\0{}").unwrap();
            },
            ErrorKind::Protocol,
            "HELLO without a session format",
        ),
        (
            |mut s| {
                read_request(&mut s);
                s.write_all(b"pb\x01\x01\x04\0\0\x02\0\0\0{}").unwrap();
            },
            ErrorKind::Protocol,
            "unexpected status code 4",
        ),
    ];
    for &face in FACES {
        for &(act, kind, words) in cases {
            watched(move || {
                let error = error_from(face, ClientConfig::new(), act);
                // A server that closes without reading may reset the connection; that is the same loss.
                let reset =
                    kind == ErrorKind::Disconnected && error.to_string().contains("connection was lost");
                assert!(
                    error.kind() == kind && (error.to_string().contains(words) || reset),
                    "{face:?}: {error:?}"
                );
                assert!(!error.to_string().contains('\n'));
                assert_eq!(error.outcome(), Outcome::Unknown);
                assert!(!error.is_retryable());
            });
        }
    }
}

#[test]
fn a_silent_server_ends_a_call_at_its_limit() {
    for &face in FACES {
        watched(move || {
            let config = ClientConfig::new().with_call_timeout(Duration::from_millis(200));
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = Endpoint::from(listener.local_addr().unwrap());
            let client = TestClient::new(face, &endpoint, config);
            let started = Instant::now();
            let error = client.request("m", &json!(1)).unwrap_err();
            let took = started.elapsed();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{error:?}");
            assert!(took > Duration::from_millis(190) && took < Duration::from_secs(2), "{took:?}");
        });
    }
}

#[test]
fn a_full_queue_ends_a_connect_at_its_limit() {
    for &face in FACES {
        watched(move || {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("full.sock");
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            rustix::net::listen(&listener, 0).unwrap();
            let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
            let config = ClientConfig::new().with_connect_timeout(Duration::from_millis(200));
            let client = TestClient::new(face, &Endpoint::unix(&path), config);
            let error = client.request("m", &json!(1)).unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotSent), "{error:?}");
            assert!(error.is_retryable());
        });
    }
}

#[test]
fn nobody_there_is_told_at_once() {
    for &face in FACES {
        watched(move || {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let started = Instant::now();
            for endpoint in [Endpoint::from(free), Endpoint::tcp("localhost", free.port())] {
                let error = TestClient::new(face, &endpoint, ClientConfig::new())
                    .request("m", &json!(1))
                    .unwrap_err();
                assert_eq!(
                    (error.kind(), error.outcome()),
                    (ErrorKind::Connect, Outcome::NotSent),
                    "{error:?}"
                );
                let expected =
                    format!("cannot connect to {endpoint}: connection refused, no server answers there");
                assert_eq!(error.to_string(), expected);
            }
            assert!(started.elapsed() < Duration::from_secs(2));
        });
    }
}

#[test]
fn an_endpoint_that_others_can_reach_must_be_allowed() {
    let error = procbridge::Server::bind("0.0.0.0:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().starts_with("will not listen on tcp:0.0.0.0:0: other machines"), "{error}");
    assert!(procbridge::Server::bind_with("0.0.0.0:0", ServerConfig::new().allow_remote()).is_ok());
}

#[test]
fn localhost_is_served_on_every_address_it_has() {
    watched(|| {
        let server =
            procbridge::Server::bind("localhost:0").unwrap().spawn(Router::new().method("n", || 1)).unwrap();
        let port = server.endpoint().port().unwrap();
        for endpoint in server.endpoints() {
            assert_eq!(endpoint.port(), Some(port));
            let client = procbridge::Client::new(endpoint).unwrap();
            assert_eq!(client.request::<i64>("n", &()).unwrap(), 1);
        }
        let client = procbridge::Client::new(format!("localhost:{port}")).unwrap();
        assert_eq!(client.request::<i64>("n", &()).unwrap(), 1);
    });
}

#[test]
fn a_handler_may_call_its_own_server() {
    everywhere(|server, client, transport| {
        let (sender, receiver) = mpsc::channel::<TestClient>();
        let inner: Arc<Mutex<Option<TestClient>>> = Arc::default();
        let slot = inner.clone();
        let router = Router::new()
            .method("outer", move || {
                slot.lock().unwrap().clone().unwrap().request("inner", &json!(null)).unwrap()
            })
            .method("inner", || 7);
        let server = TestServer::start(server, transport, router, ServerConfig::new().with_acceptors(1));
        *inner.lock().unwrap() = Some(server.client(Face::Blocking));
        sender.send(server.client(client)).unwrap();
        assert_eq!(receiver.recv().unwrap().request("outer", &json!(null)).unwrap(), json!(7));
        *inner.lock().unwrap() = None;
    });
}

#[test]
fn a_stop_does_not_lose_calls_that_have_just_arrived() {
    everywhere(|server, client, transport| {
        for _ in 0..5 {
            let (server, _) = start(server, transport, ServerConfig::new());
            // Requests that are on their way when the stop comes, also those that were not accepted yet.
            let mut streams: Vec<_> = (0..100)
                .map(|n| {
                    let mut stream = server.connect();
                    stream.write_all(&packet(&format!("{{\"method\":\"sum\",\"payload\":[{n}]}}"))).unwrap();
                    stream
                })
                .collect();
            server.stop_soon();
            for (n, stream) in streams.iter_mut().enumerate() {
                assert_eq!(stream.answer().expect("a call was lost"), (1, json!({ "payload": n })));
            }
            assert!(server.client(client).request("sum", &json!([1])).is_err());
            server.stop();
        }
    });
}

#[cfg(feature = "tokio")]
#[test]
fn a_blocking_call_may_be_made_inside_an_async_runtime() {
    watched(|| {
        let (server, _) = start(Face::Tokio, Transport::Tcp, ServerConfig::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = server.endpoint.clone();
        let sum = runtime.block_on(async move {
            procbridge::Client::new(&endpoint).unwrap().request::<i64>("sum", &[1, 2]).unwrap()
        });
        assert_eq!(sum, 3);
    });
}

#[test]
fn limits_of_any_size_are_understood() {
    everywhere(|server, client, transport| {
        let ever = Duration::MAX;
        let config = ServerConfig::new()
            .with_header_timeout(ever)
            .with_write_timeout(ever)
            .with_handler_timeout(ever)
            .with_linger_timeout(ever)
            .with_drain_timeout(ever)
            .with_max_buffered_bytes(usize::MAX)
            .with_max_connections(usize::MAX)
            .with_max_pending_connections(usize::MAX)
            .with_max_concurrent_calls(usize::MAX);
        let (server, _) = start(server, transport, config);
        let config = ClientConfig::new().with_connect_timeout(ever).with_call_timeout(ever);
        let client = TestClient::new(client, &server.endpoint, config);
        let large = json!("x".repeat(1_000_000));
        assert_eq!(client.request("echo", &large).unwrap(), large);
        assert_eq!(client.request_within(ever, "sum", &json!([1])).unwrap(), json!(1));
        // One that is slow, one that lingers.
        let mut slow = server.connect();
        slow.write_all(b"pb\x01\x01").unwrap();
        let mut refused = server.connect();
        refused.write_all(b"pb\x01\x02\0").unwrap();
        assert_eq!(refused.answer().map(|(status, _)| status), Some(2));
        server.stop_soon();
        assert_eq!(slow.answer().map(|(status, _)| status), Some(2));
        drop((slow, refused));
        server.stop();
    });
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    everywhere(|server, client, transport| {
        for _ in 0..5 {
            let (server, _) = start(server, transport, ServerConfig::new());
            let idle: Vec<_> = (0..5).map(|_| server.connect()).collect();
            let mut half = server.connect();
            half.write_all(b"pb\x01").unwrap();
            let mut lingering = server.connect();
            lingering.write_all(b"pb\x09\x09").unwrap();
            assert_eq!(server.client(client).request("sum", &json!([1])).unwrap(), json!(1));
            let started = Instant::now();
            server.stop();
            assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
            drop((idle, half, lingering));
        }
    });
}

#[test]
fn late_senders_are_served_however_many_are_silent() {
    everywhere(|server, _, transport| {
        let (server, _) = start(server, transport, ServerConfig::new().with_max_pending_connections(2));
        let _silent: Vec<_> = (0..2).map(|_| server.connect()).collect();
        let served = (0..20).any(|_| {
            let mut stream = server.connect();
            // Later than the fast path waits, and well within what is left to those without a place.
            thread::sleep(Duration::from_millis(4));
            let (request, mut answer) = (packet(r#"{"method":"sum","payload":[1]}"#), Vec::new());
            let served = stream.write_all(&request).and_then(|()| stream.read_to_end(&mut answer));
            served.is_ok() && answer.ends_with(br#"{"payload":1}"#)
        });
        assert!(served);
    });
}

#[test]
fn peers_that_linger_take_no_places_from_others() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_max_connections(32).with_max_pending_connections(4);
        let (server, _) = start(server, transport, config);
        let _lingering: Vec<_> = (0..30)
            .map(|_| {
                let mut stream = server.connect();
                // One for which there is no place may be gone already.
                let _ = stream.write_all(b"pb\x09\x09");
                stream
            })
            .collect();
        let client = server.client(client);
        let soon = Instant::now() + Duration::from_secs(2);
        while let Err(error) = client.request("sum", &json!([1])) {
            assert!(Instant::now() < soon, "{error}");
        }
        for _ in 0..50 {
            assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        }
    });
}

#[test]
fn a_peer_that_does_not_read_its_answer_is_left() {
    everywhere(|server, client, transport| {
        let config =
            ServerConfig::new().with_max_concurrent_calls(1).with_write_timeout(Duration::from_millis(100));
        let (server, _) = start(server, transport, config);
        let mut deaf = server.connect();
        let body = format!(r#"{{"method":"echo","payload":"{}"}}"#, "x".repeat(12_000_000));
        deaf.write_all(&packet(&body)).unwrap();
        let client = server.client(client);
        eventually(|| client.request("sum", &json!([1])).is_ok());
        // It was cut off: what the system had taken is there, and no more.
        let mut taken = Vec::new();
        let _ = deaf.read_to_end(&mut taken);
        assert!(taken.len() < body.len(), "{} bytes", taken.len());
    });
}

#[test]
fn limits_on_depth_and_names_hold_over_sockets() {
    everywhere(|server, client, transport| {
        let config = ServerConfig::new().with_max_depth(3).with_max_method(4).with_explicit_null();
        let (server, _) = start(server, transport, config);
        let client = server.client(client);
        assert_eq!(client.request("echo", &json!([[1]])).unwrap(), json!([[1]]));
        let deep = client.request("echo", &json!([[[1]]])).unwrap_err();
        assert_eq!(deep.to_string(), "JSON nested deeper than the limit of 3 levels (max_depth)");
        assert_eq!(deep.remote().unwrap().code(), Some(code::TOO_LARGE));
        let long = client.request("panic", &json!(1)).unwrap_err();
        assert_eq!(long.to_string(), "method name of 5 B exceeds the limit of 4 B (max_method)");
        let mut stream = server.connect();
        stream.write_all(&packet(r#"{"method":"echo"}"#)).unwrap();
        assert_eq!(stream.answer(), Some((1, json!({"payload": null}))));
    });
}

#[test]
fn an_endpoint_is_free_again_when_its_server_has_ended() {
    watched(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("unix:{}/again.sock", dir.path().display());
        let name = format!("unix:@procbridge-again-{}", std::process::id());
        let mut endpoints =
            vec![path.parse().unwrap(), name.parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
        let mut handles = Vec::new();
        for _ in 0..20 {
            for endpoint in &mut endpoints {
                let door = Door::default();
                let server = procbridge::Server::bind(&*endpoint).unwrap().spawn(router(&door)).unwrap();
                *endpoint = server.endpoint();
                // A handle that outlives its server, and a handler that does.
                handles.push(server.handle());
                let client = procbridge::Client::new(&*endpoint).unwrap();
                let caller = thread::spawn(move || client.request::<Value>("wait", &()));
                door.wait_for_callers(1);
                server.handle().abort();
                server.shutdown().unwrap();
                assert_eq!(code_of(caller.join().unwrap()), code::CANCELLED);
            }
        }
    });
}

#[test]
fn leaked_handlers_are_counted_right() {
    watched(|| {
        let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(5));
        let router = Router::new().method("late", || thread::sleep(Duration::from_millis(5)));
        let server = procbridge::Server::bind_with("127.0.0.1:0", config).unwrap().spawn(router).unwrap();
        let (handle, client) = (server.handle(), procbridge::Client::new(server.endpoint()).unwrap());
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let client = client.clone();
                thread::spawn(move || (0..20).for_each(|_| drop(client.request::<Value>("late", &()))))
            })
            .collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            assert!(handle.leaked_handlers() <= 1000, "{}", handle.leaked_handlers());
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        eventually(|| handle.leaked_handlers() == 0);
    });
}

#[test]
fn the_next_server_binds_and_serves_while_the_last_one_finishes_its_calls() {
    for &face in FACES {
        for &transport in TRANSPORTS {
            watched(move || {
                let door = Door::default();
                let dir = tempfile::tempdir().unwrap();
                let endpoint = match transport {
                    Transport::Tcp => "127.0.0.1:0".to_string(),
                    Transport::Unix => format!("unix:{}/s.sock", dir.path().display()),
                    Transport::Abstract => format!("unix:@procbridge-next-{face:?}-{}", std::process::id()),
                };
                let endpoint = endpoint.parse().unwrap();
                let first = TestServer::start_at(face, &endpoint, router(&door), ServerConfig::new());
                let endpoint = first.endpoint.clone();
                let client = TestClient::new(Face::Blocking, &endpoint, ClientConfig::new());
                let caller = thread::spawn(move || client.request("wait", &json!(null)));
                door.wait_for_callers(1);
                first.stop_soon();
                // Stopping closes the gates; the threads that waited in accept let go of the socket a moment later.
                let mut next = None;
                eventually(|| {
                    next = procbridge::Server::bind(&endpoint).ok();
                    next.is_some()
                });
                assert!(!caller.is_finished());
                let next = next.unwrap().spawn(router(&Door::default())).unwrap();
                door.open();
                caller.join().unwrap().unwrap();
                first.stop();
                let client = TestClient::new(face, &endpoint, ClientConfig::new());
                assert_eq!(client.request("sum", &json!([1, 2])).unwrap(), json!(3));
                next.shutdown().unwrap();
            });
        }
    }
}
