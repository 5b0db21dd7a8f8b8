//! A clock that stands still, or goes on by itself when there is nothing to do: what tests of programs ask of tokio.

use std::future::pending;
use std::time::{Duration, Instant};

use procbridge::tokio::{Call, Client, Router, Server};
use procbridge::{ClientConfig, ServerConfig, SessionMode, code};
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::time;

use crate::counted;
use crate::support::block_on;
use crate::support::faces::code_of;

/// Runs `scenario` on a runtime whose clock may be stopped. It must take hardly any time.
fn in_no_time<T: Future<Output = ()>>(scenario: impl FnOnce() -> T) {
    let start = Instant::now();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    block_on(&runtime, scenario());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

fn router() -> Router {
    Router::new()
        .method("echo", async |value: Value| value)
        .method("never", pending::<()>)
        .method("left", async |call: Call| call.remaining().unwrap().as_secs())
}

#[test]
fn a_time_limit_holds_by_a_clock_that_was_stopped() {
    in_no_time(|| async {
        let server = Server::bind("127.0.0.1:0").unwrap().spawn(router());
        for sessions in [SessionMode::Auto, SessionMode::Off] {
            let config = ClientConfig::new().with_sessions(sessions);
            let client = Client::with_config(server.endpoint(), config).unwrap();
            client.request::<Value>("echo", &1).await.unwrap();
            time::pause();
            let start = time::Instant::now();
            let never = client.call("never").timeout(Duration::from_secs(20)).send::<()>();
            let error = never.await.unwrap_err();
            assert!(error.is_timeout() || error.remote().unwrap().code() == Some(code::TIMEOUT), "{error}");
            let took = start.elapsed();
            assert!(took >= Duration::from_secs(20) && took < Duration::from_secs(40), "{took:?}");
            time::resume();
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn the_times_of_a_server_are_those_of_a_clock_that_was_stopped() {
    in_no_time(|| async {
        let config =
            ServerConfig::new().with_handler_timeout(Duration::from_secs(20)).with_max_session_calls(1);
        let server = Server::bind_with("127.0.0.1:0", config).unwrap().spawn(router());
        let client = Client::new(server.endpoint()).unwrap();
        client.request::<Value>("echo", &1).await.unwrap();
        time::pause();
        // A quiet session is looked at again and again, and goes on.
        time::sleep(Duration::from_secs(100)).await;
        assert_eq!(client.request::<u64>("left", &()).await.unwrap(), 20);
        assert_eq!(counted(&client, "connections", "total").await, 1);
        let start = time::Instant::now();
        let never = async { code_of(client.request::<Value>("never", &()).await) };
        let held = async {
            let refused = code_of(client.request::<Value>("echo", &1).await);
            (refused, start.elapsed().as_secs())
        };
        let (late, held) = tokio::join!(never, held);
        assert_eq!((&*late, start.elapsed().as_secs()), (code::TIMEOUT, 20));
        assert_eq!(held, (code::OVERLOADED.to_string(), 5));
        let never = client.request::<Value>("never", &());
        let (stopped, _) = tokio::join!(server.shutdown(), never);
        stopped.unwrap();
    });
}

/// An answer has arrived at the same time as the clock goes on by itself there. The answer counts.
#[test]
fn a_call_is_answered_or_late_by_a_clock_that_never_went() {
    in_no_time(|| async {
        time::pause();
        for sessions in [SessionMode::Auto, SessionMode::Off] {
            let server = Server::bind("127.0.0.1:0").unwrap().spawn(router());
            let config = ClientConfig::new().with_sessions(sessions);
            let client = Client::with_config(server.endpoint(), config).unwrap();
            for n in 0..100 {
                assert_eq!(client.request::<u32>("echo", &n).await.unwrap(), n);
            }
            let never = client.call("never").timeout(Duration::from_secs(20)).send::<Value>();
            let error = never.await.unwrap_err();
            assert!(error.is_timeout() || error.remote().unwrap().code() == Some(code::TIMEOUT), "{error}");
            server.shutdown().await.unwrap();
        }
    });
}
