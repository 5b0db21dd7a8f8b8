//! Calls as their callers see them: both faces together, many at once, and every kind of error.

use std::io::Read;
use std::time::{Duration, Instant};

use procbridge::tokio::{Client, Router};
use procbridge::{ClientConfig, Endpoint, Error, ErrorKind, Outcome, ServerConfig, code};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::support::faces::code_of;
use crate::{Place, everywhere};

/// The length of `{"method":"m"}` with its header.
const REQUEST: usize = 25;

fn router() -> Router {
    Router::new()
        .method("echo", |value: Value| async move { value })
        .method("wait", std::future::pending::<()>)
}

#[test]
fn the_blocking_client_calls_the_tokio_server() {
    everywhere(|place| async move {
        let (server, client) = place.serve(router(), ServerConfig::new());
        let blocking = procbridge::Client::new(client.endpoint()).unwrap();
        let large = json!("x".repeat(5_000_000));
        let calls = move || {
            for payload in [json!(null), json!([1, {"a": "é😄"}]), large] {
                assert_eq!(blocking.request::<Value>("echo", &payload).unwrap(), payload);
            }
        };
        tokio::task::spawn_blocking(calls).await.unwrap();
        server.shutdown().await.unwrap();
    });
}

#[test]
fn the_tokio_client_calls_the_blocking_server() {
    everywhere(|place| async move {
        let router = procbridge::Router::new().method("echo", |value: Value| value);
        let server = procbridge::Server::bind(&place.endpoint).unwrap().spawn(router).unwrap();
        let client = Client::new(server.endpoint()).unwrap();
        let large = json!("x".repeat(5_000_000));
        for payload in [json!(null), json!([1, {"a": "é😄"}]), large] {
            assert_eq!(client.request::<Value>("echo", &payload).await.unwrap(), payload);
        }
        assert_eq!(code_of(client.request("nope", &()).await), code::UNKNOWN_METHOD);
        tokio::task::spawn_blocking(|| server.shutdown().unwrap()).await.unwrap();
    });
}

#[test]
fn sixty_four_calls_at_once_are_answered() {
    everywhere(|place| async move {
        let (_server, client) = place.serve(router(), ServerConfig::new());
        let calls: Vec<_> = (0..64)
            .map(|n| {
                let client = client.clone();
                tokio::spawn(async move {
                    for k in 0..10 {
                        assert_eq!(client.request::<[i32; 2]>("echo", &[n, k]).await.unwrap(), [n, k]);
                    }
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn the_old_format_is_spoken_when_asked_for() {
    everywhere(|place| async move {
        let (server, _) = place.serve(router(), ServerConfig::new());
        let client = Client::with_config(server.endpoint(), ClientConfig::new().speaking_1_0()).unwrap();
        assert_eq!(client.request::<Value>("echo", &json!({"a": 1})).await.unwrap(), json!({"a": 1}));
        let error = client.request::<Value>("nope", &()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Remote, "unknown method \"nope\"".to_string())
        );
        let unnamed = client.call_without_method().send::<Value>().await.unwrap_err();
        assert_eq!((unnamed.kind(), unnamed.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent));
    });
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    everywhere(|place| async move {
        let (_server, client) = place.serve(router(), ServerConfig::new());
        let config = ClientConfig::new().with_max_body(64 * 1024 * 1024);
        let client = Client::with_config(client.endpoint(), config).unwrap();
        let payload = "x".repeat(30_000_000);
        for _ in 0..3 {
            assert_eq!(code_of(client.request("echo", &payload).await), code::TOO_LARGE);
        }
    });
}

#[test]
fn what_cannot_be_sent_is_not_sent() {
    everywhere(|place| async move {
        let (_server, client) = place.serve(router(), ServerConfig::new());
        let nan = client.request::<Value>("echo", &f64::NAN).await.unwrap_err();
        assert_eq!((nan.kind(), nan.outcome()), (ErrorKind::InvalidInput, Outcome::NotSent));
        assert_eq!(nan.to_string(), "the payload cannot be sent: JSON has no NaN");
        let wrong = client.request::<String>("echo", &1).await.unwrap_err();
        assert_eq!((wrong.kind(), wrong.outcome()), (ErrorKind::InvalidResult, Outcome::Replied));
    });
}

#[test]
fn nobody_there_is_told_at_once() {
    everywhere(|place| async move {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for endpoint in [Endpoint::from(free), Endpoint::tcp("localhost", free.port())] {
            let error = Client::new(&endpoint).unwrap().request::<Value>("m", &()).await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Connect, Outcome::NotSent));
            assert!(error.is_retryable());
            let expected =
                format!("cannot connect to {endpoint}: connection refused, no server answers there");
            assert_eq!(error.to_string(), expected);
        }
        let missing = Endpoint::unix("/nonexistent/s.sock");
        let error = Client::new(&missing).unwrap().request::<Value>("m", &()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot connect to unix:/nonexistent/s.sock: no such file");
        let error = Client::new(":0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEndpoint);
        drop(place);
    });
}

#[test]
fn a_full_queue_ends_a_connect_at_its_limit() {
    everywhere(|place| async move {
        let Some(path) = place.endpoint.strip_prefix("unix:") else { return };
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let first = std::os::unix::net::UnixStream::connect(path).unwrap();
        let config = ClientConfig::new().with_connect_timeout(Duration::from_millis(100));
        let client = Client::with_config(&place.endpoint, config).unwrap();
        let started = Instant::now();
        let error = client.request::<Value>("m", &()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotSent), "{error:?}");
        assert!(error.is_retryable());
        assert!(started.elapsed() >= Duration::from_millis(95));

        // With room in the queue again, a client that waits for it gets through.
        let patient = Client::new(&place.endpoint).unwrap();
        let call = tokio::spawn(patient.call("m").send::<Value>());
        let server = tokio::task::spawn_blocking(move || {
            drop(listener.accept().unwrap());
            let mut second = listener.accept().unwrap().0;
            second.read_exact(&mut [0; REQUEST]).unwrap();
        });
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Outcome::Unknown), "{error:?}");
        server.await.unwrap();
        drop(first);
    });
}

#[test]
fn a_silent_server_ends_a_call_at_its_limit() {
    everywhere(|place| async move {
        let (_server, client) = place.serve(router(), ServerConfig::new().with_handler_timeout(None));
        let config = ClientConfig::new().with_call_timeout(Duration::from_millis(150));
        let client = Client::with_config(client.endpoint(), config).unwrap();
        let started = Instant::now();
        let error = client.request::<Value>("wait", &()).await.unwrap_err();
        let took = started.elapsed();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{error:?}");
        assert!(error.is_timeout() && !error.is_retryable());
        assert!(took >= Duration::from_millis(145) && took < Duration::from_secs(5), "{took:?}");

        // A limit of the call's own takes its place; the server may be the first to notice.
        let error = client.call("wait").timeout(Duration::from_millis(20)).send::<Value>().await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        let zero = client.call("wait").timeout(Duration::ZERO).send::<Value>().await.unwrap_err();
        assert!(zero.is_timeout(), "{zero:?}");
        // No limit at all is more than enough.
        let config = ClientConfig::new().with_call_timeout(None).with_connect_timeout(None);
        let patient = Client::with_config(client.endpoint(), config).unwrap();
        assert_eq!(patient.request::<Value>("echo", &1).await.unwrap(), json!(1));
        assert_eq!(
            patient.call("echo").timeout(Duration::MAX).payload(&2).send::<Value>().await.unwrap(),
            json!(2)
        );
    });
}

/// Returns the error from a server that answers with `bytes`, whatever is asked.
async fn answered_with(place: &Place, bytes: &'static [u8]) -> Error {
    async fn serve(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, bytes: &[u8]) {
        stream.read_exact(&mut [0; REQUEST]).await.unwrap();
        stream.write_all(bytes).await.unwrap();
    }
    let config = ClientConfig::new().with_max_body(1000);
    if let Some(path) = place.endpoint.strip_prefix("unix:") {
        let listener = UnixListener::bind(path).unwrap();
        let client = Client::with_config(&place.endpoint, config).unwrap();
        let call = tokio::spawn(client.call("m").send::<Value>());
        serve(listener.accept().await.unwrap().0, bytes).await;
        std::fs::remove_file(path).unwrap();
        return call.await.unwrap().unwrap_err();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::with_config(listener.local_addr().unwrap(), config).unwrap();
    let call = tokio::spawn(client.call("m").send::<Value>());
    let stream: TcpStream = listener.accept().await.unwrap().0;
    serve(stream, bytes).await;
    call.await.unwrap().unwrap_err()
}

#[test]
fn every_wrong_answer_is_one_definite_error() {
    let cases: &[(&[u8], ErrorKind, &str)] = &[
        (b"", ErrorKind::Disconnected, "the server closed the connection without an answer"),
        (b"pb\x01\x01\x01", ErrorKind::Protocol, "input ended after 5 of 11 bytes of a packet's header"),
        (b"pb\x01\x01\x01\0\0\x10\0\0\0{\"pay", ErrorKind::Protocol, "input ended after 5 of 16 bytes"),
        (b"pb\x01\x01\x01\0\0\x02\0\0\0[]", ErrorKind::Protocol, "body must be a JSON object"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorKind::Protocol, "not a ProcBridge packet: byte 0 is 0x48"),
        (
            b"pb\x01\x01\x01\0\0\xe9\x03\0\0",
            ErrorKind::TooLarge,
            "body of 1001 B exceeds the limit of 1000 B",
        ),
    ];
    everywhere(|place| async move {
        for &(bytes, kind, words) in cases {
            let error = answered_with(&place, bytes).await;
            assert_eq!((error.kind(), error.outcome()), (kind, Outcome::Unknown), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    });
}

#[test]
fn a_name_is_tried_at_all_its_addresses() {
    everywhere(|place| async move {
        if place.endpoint.starts_with("unix:") {
            return;
        }
        // Only the second address of the name has a server, if this machine has it at all.
        let Ok(server) = procbridge::tokio::Server::bind("[::1]:0") else { return };
        let server = server.spawn(router());
        let port = server.endpoint().port().unwrap();
        let client = Client::new(format!("localhost:{port}")).unwrap();
        assert_eq!(client.request::<Value>("echo", &1).await.unwrap(), json!(1));
        // An unknown name is an error of connecting, and the call has not been sent.
        let unknown = Client::new("no-such-host.invalid:1").unwrap();
        let error = unknown.request::<Value>("m", &()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout), "{error:?}");
    });
}
