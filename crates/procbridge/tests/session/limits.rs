//! Limits: of time, of size, of calls.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Call, ClientConfig, Endpoint, ErrorKind, Outcome, Router, ServerConfig, SessionMode, code};
use serde_json::json;

use crate::support::faces::{FACES, Options, TestClient, TestServer, code_of};
use crate::support::router::start;
use crate::support::{WATCHDOG, everywhere_with_sessions, watched};
use crate::{opened, opened_with, remote};

#[test]
fn calls_beyond_the_limit_of_a_session_are_told() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new().with_max_session_calls(2));
        let other = opened(&server, client);
        let client = opened_with(&server, client, ClientConfig::new().with_queue_timeout(None));
        let waiting = client.calling(2, "wait");
        door.wait_for_callers(2);
        let words = "the session has reached its limit of 2 calls in flight (max_session_calls)".to_string();
        for _ in 0..10 {
            let refused = remote(client.request("sum", &json!([1])));
            assert_eq!(refused, (words.clone(), code::OVERLOADED.to_string()));
        }
        // One without an answer is dropped, and others' sessions are others'.
        client.notify("sum", &json!([1])).unwrap();
        assert_eq!(other.request("sum", &json!([1])).unwrap(), json!(1));
        door.open();
        assert!(waiting.into_iter().all(|caller| caller.join().unwrap().unwrap() == json!(true)));
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 2);
        server.stop();
    });
}

#[test]
fn calls_beyond_the_limit_of_a_session_wait_for_their_turn() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new().with_max_session_calls(2));
        let other = opened(&server, client);
        let hold = Duration::from_millis(50);
        let client = opened_with(&server, client, ClientConfig::new().with_queue_timeout(WATCHDOG));
        let mut waiting = client.calling(2, "wait");
        door.wait_for_callers(2);
        // One whose time is over meanwhile was not sent, and leaves the others their turn.
        waiting.extend(client.calling(10, "wait"));
        let options = Options { timeout: Some(hold), ..Options::default() };
        for _ in 0..3 {
            let error = client.ask("sum", &json!([1]), &options).unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotSent), "{error:?}");
        }
        // Streams and calls without an answer do not wait.
        client.notify("sum", &json!([1])).unwrap();
        assert_eq!(code_of(client.stream("count", &json!(1)).unwrap().next().unwrap()), code::OVERLOADED);
        assert_eq!(other.counted("sessions", "total"), 2);
        door.open();
        assert!(waiting.into_iter().all(|caller| caller.join().unwrap().unwrap() == json!(true)));
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 2);
        server.stop();
    });
}

#[test]
fn a_call_is_not_held_back_for_ever() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new().with_max_session_calls(1));
        let hold = Duration::from_millis(50);
        let client = opened_with(&server, client, ClientConfig::new().with_queue_timeout(hold));
        let waiting = client.calling(1, "wait");
        door.wait_for_callers(1);
        let began = Instant::now();
        assert_eq!(code_of(client.request("sum", &json!([1]))), code::OVERLOADED);
        assert!(began.elapsed() >= hold, "{:?}", began.elapsed());
        door.open();
        assert!(waiting.into_iter().all(|caller| caller.join().unwrap().unwrap() == json!(true)));
        server.stop();
    });
}

#[test]
fn calls_that_wait_for_their_turn_end_with_their_session() {
    everywhere_with_sessions(|server, client, transport| {
        let config = ServerConfig::new().with_max_session_calls(1).with_drain_timeout(Duration::ZERO);
        let (server, door) = start(server, transport, config);
        let client = opened_with(&server, client, ClientConfig::new().with_queue_timeout(WATCHDOG));
        let first = client.calling(1, "wait");
        door.wait_for_callers(1);
        let held = client.calling(5, "wait");
        server.stop();
        assert!(first.into_iter().all(|caller| caller.join().unwrap().is_err()));
        for call in held {
            // There is no server any more, which the call learns at once.
            let error = call.join().unwrap().unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Connect, Outcome::NotSent), "{error:?}");
        }
    });
}

#[test]
fn a_stream_waits_for_its_session_no_longer_than_a_call_may_take() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::from(silent.local_addr().unwrap());
    for &face in FACES {
        let endpoint = endpoint.clone();
        watched(move || {
            let config = ClientConfig::new().with_sessions(SessionMode::Required);
            let client =
                TestClient::new(face, &endpoint, config.with_call_timeout(Duration::from_millis(50)));
            let error = client.stream("count", &json!(1)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        });
    }
}

#[test]
fn calls_beyond_the_limit_of_the_server_are_told() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new().with_max_concurrent_calls(2));
        let client = opened(&server, client);
        let waiting = client.calling(2, "wait");
        door.wait_for_callers(2);
        let (message, code) = remote(client.request("sum", &json!([1])));
        assert_eq!(
            (&*message, &*code),
            (
                "the server has reached its limit of calls in flight (max_concurrent_calls = 2)",
                code::OVERLOADED
            )
        );
        door.open();
        assert!(waiting.into_iter().all(|caller| caller.join().unwrap().is_ok()));
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        server.stop();
    });
}

/// Returns a method that waits until its caller is gone, and reports that.
fn listening() -> (Router, mpsc::Receiver<(bool, Duration)>) {
    let (sender, heard) = mpsc::channel();
    let router = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>()).method(
        "listen",
        move |call: &Call| {
            let started = Instant::now();
            while !call.is_cancelled() && started.elapsed() < WATCHDOG / 4 {
                thread::sleep(Duration::from_millis(1));
            }
            sender.send((call.is_cancelled(), started.elapsed())).unwrap();
        },
    );
    (router, heard)
}

#[test]
fn a_call_that_is_given_up_is_cancelled_at_its_handler() {
    everywhere_with_sessions(|server, client, transport| {
        let (router, heard) = listening();
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        // The client's own limit, of which the server knows nothing, and enough for those calls that are answered.
        let limit = Duration::from_millis(300);
        let client = opened_with(&server, client, ClientConfig::new().with_call_timeout(limit));
        for _ in 0..2 {
            let started = Instant::now();
            let error = client.request("listen", &json!(null)).unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{error:?}");
            let took = started.elapsed();
            assert!(took >= limit && took < Duration::from_secs(5), "{took:?}");
            let (cancelled, after) = heard.recv_timeout(WATCHDOG).unwrap();
            assert!(cancelled && after < Duration::from_secs(5), "{after:?}");
        }
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn a_limit_that_the_server_knows_of_ends_the_call_on_both_sides() {
    everywhere_with_sessions(|server, client, transport| {
        let (router, heard) = listening();
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        let limit = Duration::from_millis(100);
        let options = Options { timeout: Some(limit), ..Options::default() };
        let started = Instant::now();
        let error = client.ask("listen", &json!(null), &options).unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        let took = started.elapsed();
        assert!(took >= limit - Duration::from_millis(10) && took < Duration::from_secs(5), "{took:?}");
        assert!(heard.recv_timeout(WATCHDOG).unwrap().0);
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn a_handler_past_its_time_is_answered_for() {
    everywhere_with_sessions(|server, client, transport| {
        let (router, heard) = listening();
        let config = ServerConfig::new().with_handler_timeout(Duration::from_millis(100));
        let server = TestServer::start(server, transport, router, config);
        let client = opened(&server, client);
        let calls = client.calling(5, "listen");
        for call in calls {
            assert_eq!(code_of(call.join().unwrap()), code::TIMEOUT);
            assert!(heard.recv_timeout(WATCHDOG).unwrap().0);
        }
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn what_is_too_large_for_the_server_is_not_sent() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new().with_max_body(10_000));
        let client = opened(&server, client);
        let large = json!("x".repeat(20_000));
        for error in [
            client.request("echo", &large).unwrap_err(),
            client.notify("echo", &large).unwrap_err(),
            client.stream("echo", &large).err().unwrap(),
        ] {
            let seen = (error.kind(), error.outcome());
            assert_eq!(seen, (ErrorKind::InvalidInput, Outcome::NotSent), "{error:?}");
            assert!(error.to_string().contains("10000") && error.to_string().contains("max_body"), "{error}");
        }
        let within = json!("x".repeat(9_000));
        assert_eq!(client.request("echo", &within).unwrap(), within);
        assert_eq!(code_of(client.request("big", &json!(20_000))), code::TOO_LARGE);
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn an_answer_too_large_for_the_client_is_told() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, _) = start(server, transport, ServerConfig::new());
        let client = opened_with(&server, client, ClientConfig::new().with_max_body(10_000));
        for _ in 0..3 {
            let (message, code) = remote(client.request("big", &json!(20_000)));
            assert_eq!(code, code::TOO_LARGE);
            assert!(message.contains("10000") && message.contains("max_body"), "{message}");
            let within = json!("x".repeat(9_000));
            assert_eq!(client.request("big", &json!(9_000)).unwrap(), within);
        }
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn an_item_too_large_for_the_client_is_told() {
    everywhere_with_sessions(|server, client, transport| {
        let router = Router::new().stream("sizes", |sizes: Vec<usize>, items: &mut procbridge::ItemSink| {
            sizes.into_iter().try_for_each(|size| items.send(&"x".repeat(size)))
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened_with(&server, client, ClientConfig::new().with_max_body(10_000));
        let mut items = client.stream("sizes", &json!([10, 20_000, 30])).unwrap();
        assert_eq!(items.next().unwrap().unwrap(), json!("x".repeat(10)));
        assert_eq!(code_of(items.next().unwrap()), code::TOO_LARGE);
        assert!(items.next().is_none());
        assert_eq!(client.stream("sizes", &json!([30])).unwrap().map(Result::unwrap).count(), 1);
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}
