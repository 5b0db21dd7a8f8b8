//! The end of a server: in an orderly way, at once, and with all kinds of connections open.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use procbridge::tokio::{Client, Router, Server};
use procbridge::{ErrorKind, Outcome, ServerConfig, code};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::faces::code_of;
use crate::support::wire::{AsyncStream, SESSION, packet, packet_of, session_packet};
use crate::{Dropped, door_router, eventually, everywhere};

#[test]
fn stopping_finishes_what_runs_and_refuses_the_rest() {
    everywhere(|place| async move {
        let (open, door) = watch::channel(false);
        let (server, client) = place.serve(door_router(&door), ServerConfig::new());
        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(client.call("wait").send::<bool>())).collect();
        eventually(async || open.receiver_count() == 22).await;
        let mut silent = AsyncStream::connect(&server.endpoint()).await.unwrap();
        let mut half = AsyncStream::connect(&server.endpoint()).await.unwrap();
        half.write(&packet(r#"{"method":"echo"}"#)[..20]).await.unwrap();
        assert_eq!(client.request::<i32>("echo", &1).await.unwrap(), 1);

        server.handle().shutdown();
        // From this moment on, not from some later one.
        let error = client.request::<Value>("echo", &1).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Connect, Outcome::NotSent), "{error}");
        assert_eq!(half.code().await, code::UNAVAILABLE);
        assert_eq!(silent.code().await, code::UNAVAILABLE);
        open.send(true).unwrap();
        for call in calls {
            assert!(call.await.unwrap().unwrap());
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn what_does_not_finish_in_time_is_dropped_and_its_caller_told() {
    everywhere(|place| async move {
        for abort in [false, true] {
            let (sender, dropped) = mpsc::channel();
            let (entered, mut inside) = tokio::sync::mpsc::unbounded_channel();
            let router = Router::new().method("wait", move || {
                let guard = Dropped(sender.clone());
                entered.send(()).unwrap();
                async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                }
            });
            let drain = Duration::from_millis(if abort { 60_000 } else { 50 });
            let (server, client) = place.serve(router, ServerConfig::new().with_drain_timeout(drain));
            let call = tokio::spawn(client.call("wait").send::<Value>());
            inside.recv().await.unwrap();
            let started = Instant::now();
            server.handle().shutdown();
            if abort {
                server.handle().abort();
            }
            server.shutdown().await.unwrap();
            assert!(abort || started.elapsed() >= drain);
            assert_eq!(code_of(call.await.unwrap()), code::CANCELLED);
            dropped.try_recv().unwrap();
        }
    });
}

#[test]
fn who_is_in_the_queue_when_the_server_stops_is_answered() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let server = Server::bind(&place.endpoint).unwrap();
        let endpoint = server.endpoints().remove(0);
        let mut whole = AsyncStream::connect(&endpoint).await.unwrap();
        whole.write(&packet(r#"{"method":"echo","payload":1}"#)).await.unwrap();
        let mut half = AsyncStream::connect(&endpoint).await.unwrap();
        half.write(b"pb\x01").await.unwrap();
        server.handle().shutdown();
        server.serve(door_router(&door)).await.unwrap();
        assert_eq!(whole.answer().await, (1, json!({"payload": 1})));
        assert_eq!(half.code().await, code::UNAVAILABLE);
        assert!(AsyncStream::connect(&endpoint).await.is_err());
    });
}

#[test]
fn thousands_of_idle_connections_do_not_hold_up_the_end() {
    // Both ends of a connection are in this process.
    let idle = descriptors().saturating_sub(200).min(6000) / 2;
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let config = ServerConfig::new().with_max_connections(5000).with_max_pending_connections(5000);
        let (server, client) = place.serve(door_router(&door), config);
        let mut silent = Vec::new();
        for _ in 0..idle {
            silent.push(AsyncStream::connect(&server.endpoint()).await.unwrap());
            tokio::task::yield_now().await;
        }
        assert_eq!(client.request::<i32>("echo", &1).await.unwrap(), 1);
        let started = Instant::now();
        server.shutdown().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        for connection in &mut silent {
            assert_eq!(connection.code().await, code::UNAVAILABLE);
        }
    });
}

/// Returns how many descriptors this process may have, after asking for as many as there are.
fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |now| usize::try_from(now).unwrap())
}

#[test]
fn a_connection_that_lingers_does_not_hold_up_the_end() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let config = ServerConfig::new().with_max_body(10).with_linger_timeout(Duration::from_secs(60));
        let (server, _) = place.serve(door_router(&door), config);
        let mut sender = AsyncStream::connect(&server.endpoint()).await.unwrap();
        sender.write(&packet(r#"{"method":"echo","payload":1}"#)[..11]).await.unwrap();
        assert_eq!(sender.code().await, code::TOO_LARGE);
        let started = Instant::now();
        server.shutdown().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    });
}

#[test]
fn a_session_that_lingers_ends_with_its_server() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let config = ServerConfig::new().with_linger_timeout(Duration::from_secs(60));
        let (server, _) = place.serve(door_router(&door), config);
        let mut rude = AsyncStream::connect(&server.endpoint()).await.unwrap();
        rude.write(&packet_of(0, SESSION, br#"{"method":"$/ping"}"#)).await.unwrap();
        // An id that it does not have.
        rude.write(&session_packet(0, 0, 2, r#"{"method":"echo"}"#)).await.unwrap();
        while rude.packet().await.is_ok() {}
        server.shutdown().await.unwrap();
        let limit = Instant::now() + Duration::from_secs(10);
        while rude.write(b"x").await.is_ok() {
            assert!(Instant::now() < limit, "it lingers on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_peer_that_takes_nothing_does_not_hold_up_the_end() {
    everywhere(|place| async move {
        let (open, door) = watch::channel(false);
        let config = ServerConfig::new()
            .with_write_timeout(Duration::from_secs(60))
            .with_drain_timeout(Duration::from_millis(50));
        let large = Router::new().method("large", move || {
            let mut door = door.clone();
            async move {
                let _ = door.wait_for(|open| *open).await;
                "x".repeat(15_000_000)
            }
        });
        let (server, _) = place.serve(large, config);
        let mut greedy = AsyncStream::connect(&server.endpoint()).await.unwrap();
        greedy.write(&packet(r#"{"method":"large"}"#)).await.unwrap();
        eventually(async || open.receiver_count() == 2).await;
        open.send(true).unwrap();
        eventually(async || open.receiver_count() == 1).await;
        let started = Instant::now();
        server.shutdown().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    });
}

#[test]
fn an_endpoint_is_free_again_when_its_server_has_ended() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let mut handles = Vec::new();
        let unique = format!("unix:@procbridge-tokio-face-{}", std::process::id());
        for round in 0..3 {
            for endpoint in [&place.endpoint, &unique] {
                let server = Server::bind(endpoint).unwrap().spawn(door_router(&door));
                // A handle keeps nothing else alive.
                handles.push(server.handle());
                let client = Client::new(server.endpoint()).unwrap();
                assert_eq!(client.request::<i32>("echo", &round).await.unwrap(), round);
                let path = server.endpoint().path().map(|path| path.to_path_buf());
                assert!(path.as_ref().is_none_or(|path| path.exists()));
                server.shutdown().await.unwrap();
                assert!(path.is_none_or(|path| !path.exists()));
            }
        }
        for handle in handles {
            handle.shutdown();
            handle.abort();
        }
    });
}

#[test]
fn one_server_serves_several_endpoints() {
    everywhere(|place| async move {
        let (_open, door) = watch::channel(false);
        let server = Server::bind(&place.endpoint).unwrap().and_bind("localhost:0").unwrap();
        let server = server.spawn(door_router(&door));
        assert!(server.endpoints().len() >= 2);
        for endpoint in server.endpoints() {
            let client = Client::new(endpoint).unwrap();
            assert_eq!(client.request::<i32>("echo", &1).await.unwrap(), 1);
        }
        let endpoints = server.endpoints().to_vec();
        server.shutdown().await.unwrap();
        for endpoint in &endpoints {
            assert!(AsyncStream::connect(endpoint).await.is_err());
        }
    });
}
