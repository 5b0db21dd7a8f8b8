//! Events: who gets what, and who is told what was lost.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use procbridge::{Call, ClientConfig, ErrorKind, Event, Hub, Missed, Outcome, Router, ServerConfig, code};
use serde_json::{Value, json};

use crate::opened;
use crate::support::faces::{TestClient, TestServer, code_of};
use crate::support::{WATCHDOG, eventually, everywhere_with_sessions};

fn router(hub: &Hub) -> Router {
    Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>()).events(hub)
}

fn told(event: &Event) -> (String, u64) {
    (event.topic().to_string(), event.payload().unwrap())
}

#[test]
fn subscribers_get_what_matches_their_patterns() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::new();
        let server = TestServer::start(server, transport, router(&hub), ServerConfig::new());
        let (one, other) = (server.client(client), server.client(client));
        let mut builds = one.subscribe(&["build.*"]).unwrap();
        let mut some = other.subscribe(&["*.done", "start", "build.done"]).unwrap();
        assert_eq!(hub.subscriptions(), 2);
        let topics = ["build", "build.done", "Build.done", "build.a.b", "test.done", "start", "build.end"];
        let wanted: Vec<_> =
            topics.iter().enumerate().map(|(n, topic)| hub.publish(topic, &n).unwrap()).collect();
        assert_eq!(wanted, [0, 2, 1, 1, 1, 1, 1]);
        for n in [1, 3, 6] {
            assert_eq!(told(&builds.next().unwrap().unwrap()), (topics[n].to_string(), n as u64));
        }
        for n in [1, 2, 4, 5] {
            let event = some.next().unwrap().unwrap();
            assert_eq!((told(&event), event.missed()), ((topics[n].to_string(), n as u64), Missed::Nothing));
        }
        // Calls go on beside them, on the same connections.
        assert_eq!(one.request("sum", &json!([1])).unwrap(), json!(1));
        assert_eq!(one.counted("connections", "total"), 2);
        server.stop();
    });
}

#[test]
fn topics_that_cannot_work_are_refused_when_they_are_given() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::new();
        let server = TestServer::start(server, transport, router(&hub), ServerConfig::new());
        let client = server.client(client);
        let long = "x".repeat(257);
        for (topic, reason) in [
            ("", "a segment between dots is empty"),
            ("a..b", "a segment between dots is empty"),
            ("build.", "a segment between dots is empty"),
            ("build*", "a \"*\" stands for a whole segment between dots, as in \"build.*\""),
            ("**", "a \"*\" stands for a whole segment between dots, as in \"build.*\""),
            (&long, "it exceeds 256 B"),
        ] {
            let error = client.subscribe(&["build.*", topic]).err().unwrap();
            let expected = format!("the topic {topic:?} cannot work: {reason}");
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidInput, expected));
            assert_eq!(error.outcome(), Outcome::NotSent);
            assert_eq!(hub.publish(topic, &1).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(hub.publish("build.*", &1).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(client.subscribe(&[]).err().unwrap().kind(), ErrorKind::InvalidInput);
        assert_eq!(hub.subscriptions(), 0);
        server.stop();
    });
}

#[test]
fn a_subscriber_does_not_miss_what_its_next_call_publishes() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::new();
        let publisher = hub.clone();
        let router = router(&hub).method("publish", move |n: u32| publisher.publish("own", &n).unwrap());
        // After it each call of the session gets a thread where that is the server's way.
        let router = router.method("slow", || thread::sleep(Duration::from_millis(5)));
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        for n in 0..50 {
            if n % 16 == 0 {
                client.request("slow", &json!(null)).unwrap();
            }
            // Nothing is waited for between the two.
            let mut events = client.stream("$/subscribe", &json!({"topics": ["own"]})).unwrap();
            assert_eq!(client.request("publish", &json!(n)).unwrap(), json!(1));
            assert_eq!(events.next().unwrap().unwrap(), json!(null), "the word that it is in force");
            assert_eq!(events.next().unwrap().unwrap(), json!({"topic": "own", "payload": n}));
            drop(events);
            eventually(|| hub.subscriptions() == 0);
        }
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn one_client_may_subscribe_many_times() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::new();
        let server = TestServer::start(server, transport, router(&hub), ServerConfig::new());
        let client = server.client(client);
        let mut all: Vec<_> = (0..20).map(|_| client.subscribe(&["*"]).unwrap()).collect();
        for n in 0..50 {
            assert_eq!(hub.publish("n", &n).unwrap(), 20);
        }
        for events in &mut all {
            for n in 0..50 {
                assert_eq!(told(&events.next().unwrap().unwrap()), ("n".to_string(), n));
            }
        }
        assert_eq!(client.counted("connections", "total"), 1);
        server.stop();
    });
}

#[test]
fn a_slow_subscriber_loses_the_oldest_and_is_told() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::with_queue(4);
        let server = TestServer::start(server, transport, router(&hub), ServerConfig::new());
        let config = ClientConfig::new().with_stream_window(2);
        let slow = TestClient::new(client, &server.endpoint, config);
        let mut slow = slow.subscribe(&["n"]).unwrap();
        let mut quick = server.client(client).subscribe(&["n"]).unwrap();
        for n in 0..1_000_u64 {
            hub.publish("n", &n).unwrap();
            let event = quick.next().unwrap().unwrap();
            assert_eq!((told(&event).1, event.missed()), (n, Missed::Nothing));
        }
        let (mut next, mut lost) = (0, 0);
        while next < 1_000 {
            let event = slow.next().unwrap().unwrap();
            if let Missed::Events(missed) = event.missed() {
                next += missed;
                lost += missed;
            }
            assert_eq!(told(&event).1, next);
            next += 1;
        }
        assert!(lost >= 1_000 - 4 - 4, "{lost} lost");
        // From now on it keeps up.
        hub.publish("n", &1_000).unwrap();
        let event = slow.next().unwrap().unwrap();
        assert_eq!((told(&event).1, event.missed()), (1_000, Missed::Nothing));
        server.stop();
    });
}

#[test]
fn a_subscription_that_is_dropped_has_ended() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::new();
        let server = TestServer::start(server, transport, router(&hub), ServerConfig::new());
        let client = server.client(client);
        for _ in 0..20 {
            let events = client.subscribe(&["a", "b"]).unwrap();
            assert_eq!(hub.subscriptions(), 1);
            drop(events);
            eventually(|| hub.subscriptions() == 0);
        }
        assert_eq!(hub.publish("a", &1).unwrap(), 0);
        // The connection going away is as good.
        let events = client.subscribe(&["a"]).unwrap();
        drop((events, client));
        eventually(|| hub.subscriptions() == 0);
        server.stop();
    });
}

#[test]
fn what_cannot_be_subscribed_is_told() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::new();
        let with = TestServer::start(server, transport, router(&hub), ServerConfig::new());
        let without = TestServer::start(server, transport, Router::new(), ServerConfig::new());
        let error = without.client(client).subscribe(&["a"]).err().unwrap();
        assert_eq!(code_of(Err(error)), code::UNKNOWN_METHOD);
        let client = with.client(client);
        let mut items = client.stream("$/subscribe", &json!({"topics": []})).unwrap();
        assert_eq!(code_of(items.next().unwrap()), code::INVALID_PAYLOAD);
        let plain = client.request("$/subscribe", &json!({"topics": ["a"]}));
        assert_eq!(code_of(plain), code::INVALID_REQUEST);
        assert_eq!(hub.subscriptions(), 0);
        assert_eq!(client.request("sum", &json!([1])).unwrap(), json!(1));
        with.stop();
        without.stop();
    });
}

/// Returns a server to which `$/subscribe` is a method like any other.
fn answers_everything() -> Router {
    Router::new().fallback(|_: &Call, _: Value| Ok(Value::Null))
}

#[test]
fn an_answer_without_an_item_is_no_subscription() {
    everywhere_with_sessions(|face, client, transport| {
        let server = TestServer::start(face, transport, answers_everything(), ServerConfig::new());
        let error = server.client(client).subscribe(&["a"]).err().unwrap();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Protocol, Outcome::Replied), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the server has no events: it answered \"$/subscribe\" without an item"
        );
        server.stop();
        // Nor is it one where there was one before.
        let server = TestServer::start(face, transport, router(&Hub::new()), ServerConfig::new());
        let endpoint = server.endpoint.clone();
        let mut events = server.client(client).subscribe(&["n"]).unwrap();
        let dir = server.end();
        let server = TestServer::start_at(face, &endpoint, answers_everything(), ServerConfig::new());
        let error = events.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        assert!(events.next().is_none());
        server.stop();
        drop(dir);
    });
}

#[test]
fn a_subscription_outlives_its_server_and_tells_the_gap() {
    everywhere_with_sessions(|face, client, transport| {
        let hub = Hub::new();
        let server = TestServer::start(face, transport, router(&hub), ServerConfig::new());
        let endpoint = server.endpoint.clone();
        let mut events = server.client(client).subscribe(&["n"]).unwrap();
        hub.publish("n", &1).unwrap();
        let (sender, came) = mpsc::channel();
        let reader = thread::spawn(move || {
            for event in events.by_ref().take(3) {
                sender.send(event.map(|event| (told(&event).1, event.missed()))).unwrap();
            }
        });
        assert_eq!(came.recv_timeout(WATCHDOG).unwrap().unwrap(), (1, Missed::Nothing));
        // The end of a subscription does not hold up the end of the server.
        let dir = server.end();
        let hub = Hub::new();
        let server = TestServer::start_at(face, &endpoint, router(&hub), ServerConfig::new());
        eventually(|| hub.subscriptions() == 1);
        for n in [2, 3] {
            hub.publish("n", &n).unwrap();
        }
        assert_eq!(came.recv_timeout(WATCHDOG).unwrap().unwrap(), (2, Missed::Unknown));
        assert_eq!(came.recv_timeout(WATCHDOG).unwrap().unwrap(), (3, Missed::Nothing));
        reader.join().unwrap();
        server.stop();
        drop(dir);
    });
}

#[test]
fn events_of_any_size_come() {
    everywhere_with_sessions(|server, client, transport| {
        let hub = Hub::new();
        let server = TestServer::start(server, transport, router(&hub), ServerConfig::new());
        let mut events = server.client(client).subscribe(&["*"]).unwrap();
        let sizes = [0, 10, 100_000, 3_000_000, 1, 70_000];
        for size in sizes {
            hub.publish("size", &"x".repeat(size)).unwrap();
        }
        for size in sizes {
            let event = events.next().unwrap().unwrap();
            assert_eq!(event.payload::<String>().unwrap().len(), size);
        }
        server.stop();
    });
}
