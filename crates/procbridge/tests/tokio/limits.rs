//! The load that a server bears: too many, too slow, too large.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use procbridge::tokio::Router;
use procbridge::{ServerConfig, code};
use serde_json::json;
use tokio::sync::watch;

use crate::support::faces::refusal;
use crate::support::wire::{AsyncStream, packet};
use crate::{door_router, eventually, everywhere, has_answer, without_sessions};

#[test]
fn calls_beyond_the_limit_are_told() {
    everywhere(|place| async move {
        let (open, door) = watch::channel(false);
        let (server, client) =
            place.serve(door_router(&door), ServerConfig::new().with_max_concurrent_calls(2));
        let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(client.call("wait").send::<bool>())).collect();
        // One at the door is the test's own; the others are the handlers'.
        eventually(async || open.receiver_count() == 4).await;
        let expected = "the server has reached its limit of calls in flight (max_concurrent_calls = 2)";
        let (message, code, _) = refusal(client.request("echo", &1).await);
        assert_eq!((&*message, code.as_deref()), (expected, Some(code::OVERLOADED)));
        open.send(true).unwrap();
        for call in waiting {
            assert!(call.await.unwrap().unwrap());
        }
        eventually(async || client.request::<i32>("echo", &1).await.is_ok()).await;
        server.shutdown().await.unwrap();
    });
}

#[test]
fn connections_beyond_the_limit_are_told() {
    without_sessions(|place| async move {
        let (open, door) = watch::channel(false);
        let (_server, client) = place.serve(door_router(&door), ServerConfig::new().with_max_connections(2));
        let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(client.call("wait").send::<bool>())).collect();
        eventually(async || open.receiver_count() == 4).await;
        let expected = "the server has reached its limit of connections (max_connections = 2)";
        for _ in 0..100 {
            assert_eq!(refusal(client.request("echo", &1).await).0, expected);
        }
        open.send(true).unwrap();
        for call in waiting {
            assert!(call.await.unwrap().unwrap());
        }
        eventually(async || client.request::<i32>("echo", &1).await.is_ok()).await;
    });
}

#[test]
fn silent_connections_beyond_the_limit_are_told_and_keep_nobody_out() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let (server, client) =
            place.serve(door_router(&door), ServerConfig::new().with_max_pending_connections(2));
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(AsyncStream::connect(&server.endpoint()).await.unwrap());
        }
        // A client that sends at once is served, whether or not all places for silent ones are taken.
        for n in 0..20 {
            assert_eq!(client.request::<i32>("echo", &n).await.unwrap(), n);
        }
        // All but two are told that there is no place for them.
        eventually(async || {
            let mut told = 0;
            for connection in &silent {
                told += usize::from(has_answer(connection).await);
            }
            told == 8
        })
        .await;
        let (mut refused, mut welcome) = (Vec::new(), Vec::new());
        for connection in silent {
            let side = if has_answer(&connection).await { &mut refused } else { &mut welcome };
            side.push(connection);
        }
        for connection in &mut refused {
            let (_, body) = connection.answer().await;
            assert_eq!(body["code"], code::OVERLOADED);
            let message = "the server has reached its limit of connections without a request (max_pending_connections = 2)";
            assert_eq!(body["message"], message);
        }
        // The two are still welcome, and their places are free again afterwards.
        for connection in &mut welcome {
            connection.write(&packet(r#"{"method":"echo","payload":1}"#)).await.unwrap();
            assert_eq!(connection.answer().await, (1, json!({"payload": 1})));
        }
        let mut next = AsyncStream::connect(&server.endpoint()).await.unwrap();
        next.write(b"p").await.unwrap();
        assert_eq!(client.request::<i32>("echo", &1).await.unwrap(), 1);
        next.write(&packet(r#"{"method":"echo","payload":2}"#)[1..]).await.unwrap();
        assert_eq!(next.answer().await, (1, json!({"payload": 2})));
    });
}

#[test]
fn slow_requests_are_ended_at_their_limit() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let limit = Duration::from_millis(100);
        let (server, client) =
            place.serve(door_router(&door), ServerConfig::new().with_header_timeout(limit));
        let started = Instant::now();
        let mut silent = AsyncStream::connect(&server.endpoint()).await.unwrap();
        let mut half = AsyncStream::connect(&server.endpoint()).await.unwrap();
        half.write(b"pb\x01\x01").await.unwrap();
        assert_eq!(half.code().await, code::TIMEOUT);
        let message = "the request did not arrive in time (header_timeout)";
        assert_eq!(silent.answer().await, (2, json!({"message": message, "code": code::TIMEOUT})));
        let took = started.elapsed();
        assert!(took >= limit && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(client.request::<i32>("echo", &1).await.unwrap(), 1);
        // A header that is complete in time gives the body a time of its own.
        let mut slow = AsyncStream::connect(&server.endpoint()).await.unwrap();
        let whole = packet(r#"{"method":"echo","payload":1}"#);
        slow.write(&whole[..20]).await.unwrap();
        assert_eq!(half_open_for(limit * 2, &mut slow).await, None);
        slow.write(&whole[20..]).await.unwrap();
        assert_eq!(slow.answer().await, (1, json!({"payload": 1})));
    });
}

/// Returns the server's answer within `time`.
async fn half_open_for(time: Duration, connection: &mut AsyncStream) -> Option<Vec<u8>> {
    tokio::time::timeout(time, connection.read_to_end()).await.ok().map(Result::unwrap)
}

#[test]
fn bytes_of_unfinished_requests_are_bounded_together() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let (server, client) =
            place.serve(door_router(&door), ServerConfig::new().with_max_buffered_bytes(3_000_000));
        let mut large = AsyncStream::connect(&server.endpoint()).await.unwrap();
        let body = format!("{{\"payload\":\"{}\"}}", "x".repeat(10_000_000));
        large.write(&packet(&body)).await.unwrap();
        assert_eq!(large.code().await, code::OVERLOADED);
        assert_eq!(client.request::<i32>("echo", &1).await.unwrap(), 1);
    });
}

#[test]
fn a_callers_limit_holds_at_the_server() {
    everywhere(|place| async move {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let router = Router::new().method("wait", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>()
        });
        let (server, _) = place.serve(router, ServerConfig::new());
        for (limit, begun) in [(0, 0), (50, 1)] {
            let started = Instant::now();
            let mut caller = AsyncStream::connect(&server.endpoint()).await.unwrap();
            let body = format!(r#"{{"method":"wait","timeout_ms":{limit}}}"#);
            caller.write(&packet(&body)).await.unwrap();
            assert_eq!(caller.code().await, code::TIMEOUT);
            assert_eq!(calls.load(Ordering::Relaxed), begun);
            assert!(started.elapsed() >= Duration::from_millis(limit));
        }
    });
}

#[test]
fn a_peer_that_takes_nothing_of_its_answer_is_left() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let config =
            ServerConfig::new().with_write_timeout(Duration::from_millis(50)).with_max_connections(1);
        let (server, client) = place.serve(door_router(&door), config);
        let mut greedy = AsyncStream::connect(&server.endpoint()).await.unwrap();
        let body = format!(r#"{{"method":"echo","payload":"{}"}}"#, "x".repeat(15_000_000));
        greedy.write(&packet(&body)).await.unwrap();
        eventually(async || client.request::<i32>("echo", &1).await.is_ok()).await;
        // The part of the answer that is there ends in the middle.
        assert!(greedy.read_to_end().await.map_or(0, |bytes| bytes.len()) < body.len());
    });
}

#[test]
fn a_peer_that_goes_on_sending_after_its_answer_is_left() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let config = ServerConfig::new()
            .with_max_body(200)
            .with_linger_timeout(Duration::from_millis(100))
            .with_max_connections(1);
        let (server, client) = place.serve(door_router(&door), config);
        let started = Instant::now();
        let mut sender = AsyncStream::connect(&server.endpoint()).await.unwrap();
        sender.write(&packet(&" ".repeat(201))[..11]).await.unwrap();
        assert_eq!(sender.code().await, code::TOO_LARGE);
        // It has its answer and keeps the connection, and so its place, until the server has had enough of that.
        eventually(async || client.request::<i32>("echo", &1).await.is_ok()).await;
        assert!(started.elapsed() >= Duration::from_millis(100));
        drop(sender);
    });
}

#[test]
fn requests_in_any_pieces_are_served() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let (server, _) = place.serve(door_router(&door), ServerConfig::new());
        let whole = packet(r#"{"method":"echo","payload":[1,2]}"#);
        for cut in 1..whole.len() {
            let mut connection = AsyncStream::connect(&server.endpoint()).await.unwrap();
            connection.write(&whole[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            connection.write(&whole[cut..]).await.unwrap();
            assert_eq!(connection.answer().await, (1, json!({"payload": [1, 2]})));
        }
        // Bytes behind the request mean nothing, and do not cost the answer.
        let mut connection = AsyncStream::connect(&server.endpoint()).await.unwrap();
        connection.write(&[&whole[..], &whole[..]].concat()).await.unwrap();
        drop(half_close(&mut connection).await);
        assert_eq!(connection.answer().await, (1, json!({"payload": [1, 2]})));
    });
}

async fn half_close(connection: &mut AsyncStream) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt;
    match connection {
        AsyncStream::Tcp(stream) => stream.shutdown().await,
        AsyncStream::Unix(stream) => stream.shutdown().await,
    }
}
