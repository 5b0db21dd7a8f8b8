//! Each setting with 0, with the least and with the most that it can be given: it works, is off, or is refused by name.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use procbridge::{
    Client, ClientConfig, ErrorKind, Hub, ItemSink, Outcome, Router, Server, ServerConfig, code, layers,
};

use crate::support::faces::{FACES, Face, TestClient, TestServer, Transport};
use crate::support::watched;

/// The effect of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Calls and sessions go on as without it.
    Work,
    /// Every call ends, well or with an error that says why.
    End,
    /// It is refused at bind or connect, with its name.
    Refuse,
}

use Does::{End, Refuse, Work};

type Row<C, V> = (&'static str, fn(C, V) -> C, [Does; 3]);

const NANO: Duration = Duration::from_nanos(1);

/// In the order of 0, 1 ns and MAX.
const SERVER_TIMES: &[Row<ServerConfig, Duration>] = &[
    ("header_timeout", ServerConfig::with_header_timeout, [Refuse, End, Work]),
    ("write_timeout", ServerConfig::with_write_timeout, [Refuse, End, Work]),
    ("handler_timeout", ServerConfig::with_handler_timeout, [Refuse, End, Work]),
    ("drain_timeout", ServerConfig::with_drain_timeout, [Work, Work, Work]),
    ("linger_timeout", ServerConfig::with_linger_timeout, [Work, Work, Work]),
    ("spin", ServerConfig::with_spin, [Work, Work, Work]),
    ("keepalive", ServerConfig::with_keepalive, [Refuse, Work, Work]),
    ("idle_timeout", ServerConfig::with_idle_timeout, [Refuse, Work, Work]),
];

/// In the order of 0, 1 and MAX.
const SERVER_SIZES: &[Row<ServerConfig, usize>] = &[
    ("max_buffered_bytes", ServerConfig::with_max_buffered_bytes, [Refuse, End, Work]),
    ("max_unread_bytes", ServerConfig::with_max_unread_bytes, [Refuse, Work, Work]),
    ("max_connections", ServerConfig::with_max_connections, [Refuse, End, Work]),
    ("max_pending_connections", ServerConfig::with_max_pending_connections, [Refuse, End, Work]),
    ("max_concurrent_calls", ServerConfig::with_max_concurrent_calls, [Refuse, End, Work]),
    ("acceptors", ServerConfig::with_acceptors, [Work, Work, Work]),
];

const SERVER_NUMBERS: &[Row<ServerConfig, u32>] = &[
    ("max_body", ServerConfig::with_max_body, [Refuse, Refuse, Work]),
    ("max_depth", ServerConfig::with_max_depth, [Refuse, End, Work]),
    ("max_method", ServerConfig::with_max_method, [End, End, Work]),
    ("min_body_rate", ServerConfig::with_min_body_rate, [Work, Work, Work]),
    (
        "backlog",
        |config, backlog| config.with_backlog(backlog.min(u16::MAX.into()) as u16),
        [Work, Work, Work],
    ),
    ("max_session_calls", ServerConfig::with_max_session_calls, [Refuse, End, Work]),
];

const CLIENT_TIMES: &[Row<ClientConfig, Duration>] = &[
    ("connect_timeout", ClientConfig::with_connect_timeout, [Refuse, End, Work]),
    ("call_timeout", ClientConfig::with_call_timeout, [Refuse, End, Work]),
    ("queue_timeout", ClientConfig::with_queue_timeout, [Work, Work, Work]),
    ("keepalive", ClientConfig::with_keepalive, [Refuse, Work, Work]),
    ("spin", ClientConfig::with_spin, [Work, Work, Work]),
];

const CLIENT_NUMBERS: &[Row<ClientConfig, u32>] = &[
    ("max_body", ClientConfig::with_max_body, [Refuse, Refuse, Work]),
    ("max_depth", ClientConfig::with_max_depth, [Refuse, End, Work]),
    ("max_method", ClientConfig::with_max_method, [End, End, Work]),
    ("stream_window", ClientConfig::with_stream_window, [Work, Work, Work]),
    ("stream_bytes", ClientConfig::with_stream_bytes, [Work, Work, Work]),
    ("max_session_calls", ClientConfig::with_max_session_calls, [Refuse, Work, Work]),
];

/// `None` turns a time off, in every setting that is one.
#[test]
fn a_server_and_a_client_work_without_any_time() {
    for &face in FACES {
        watched(move || {
            let server = ServerConfig::new()
                .with_header_timeout(None)
                .with_write_timeout(None)
                .with_handler_timeout(None)
                .with_drain_timeout(None)
                .with_linger_timeout(None)
                .with_spin(None)
                .with_keepalive(None)
                .with_idle_timeout(None);
            let client = ClientConfig::new()
                .with_connect_timeout(None)
                .with_call_timeout(None)
                .with_queue_timeout(None)
                .with_keepalive(None)
                .with_spin(None);
            try_one(face, "no times", Work, server, client, "no times");
        });
    }
}

/// Tries every value of every row, given a configuration of both sides.
fn try_all<C, V: Copy + Debug + Send + 'static>(
    rows: &'static [Row<C, V>],
    values: [V; 3],
    default: fn() -> C,
    both: fn(C) -> (ServerConfig, ClientConfig),
) where
    C: 'static,
{
    for &face in FACES {
        for (name, set, does) in rows {
            for (value, does) in values.into_iter().zip(*does) {
                let what = format!("{face:?} {name} {value:?}");
                watched(move || {
                    let (server, client) = both(set(default(), value));
                    try_one(face, name, does, server, client, &what);
                });
            }
        }
    }
}

fn try_one(face: Face, name: &str, does: Does, server: ServerConfig, client: ClientConfig, what: &str) {
    let refused = bind_error(face, &server).or_else(|| connect_error(face, &client));
    if let Some((kind, words)) = refused {
        assert_eq!(does, Refuse, "{what}: {words}");
        assert_eq!(kind, ErrorKind::InvalidInput, "{what}");
        assert!(words.starts_with("the settings cannot work: ") && words.contains(name), "{what}: {words}");
        return;
    }
    assert_ne!(does, Refuse, "{what}");
    let server = TestServer::start(face, Transport::Tcp, router(), server);
    let client = TestClient::new(face, &server.endpoint, client);
    let began = Instant::now();
    for n in 0..3_u32 {
        // Longer than some heartbeats of 1 ns.
        let answer = client.request("slow", &n.into());
        match (answer, does) {
            (Ok(answer), _) => assert_eq!(answer, n, "{what}"),
            (Err(error), End) => assert!(!error.to_string().is_empty(), "{what}"),
            (Err(error), _) => panic!("{what}: {error}"),
        }
    }
    if does == Work {
        let collected = client.request("items", &3.into()).unwrap();
        assert_eq!(collected, serde_json::json!([0, 1, 2]), "{what}");
        if name != "idle_timeout" {
            assert_eq!(client.counted("sessions", "total"), 1, "{what}");
        }
    }
    drop(client);
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(30), "{what}");
}

fn router() -> Router {
    Router::new()
        .method("slow", |n: u32| {
            std::thread::sleep(Duration::from_millis(20));
            n
        })
        .stream("items", |n: u32, items: &mut ItemSink| (0..n).try_for_each(|n| items.send(&n)))
}

fn bind_error(face: Face, config: &ServerConfig) -> Option<(ErrorKind, String)> {
    let error = match face {
        Face::Blocking => Server::bind_with("127.0.0.1:0", config.clone()).err(),
        #[cfg(feature = "tokio")]
        Face::Tokio => procbridge::tokio::Server::bind_with("127.0.0.1:0", config.clone()).err(),
    };
    error.map(|error| (error.kind(), error.to_string()))
}

fn connect_error(face: Face, config: &ClientConfig) -> Option<(ErrorKind, String)> {
    let error = match face {
        Face::Blocking => Client::with_config(":1", config.clone()).err(),
        #[cfg(feature = "tokio")]
        Face::Tokio => procbridge::tokio::Client::with_config(":1", config.clone()).err(),
    };
    error.map(|error| (error.kind(), error.to_string()))
}

#[test]
fn every_time_of_a_server_works_or_is_refused_by_name() {
    let both = |server| (server, ClientConfig::new());
    try_all(SERVER_TIMES, [Duration::ZERO, NANO, Duration::MAX], ServerConfig::new, both);
}

#[test]
fn every_number_of_a_server_works_or_is_refused_by_name() {
    let both = |server| (server, ClientConfig::new());
    try_all(SERVER_SIZES, [0, 1, usize::MAX], ServerConfig::new, both);
    try_all(SERVER_NUMBERS, [0, 1, u32::MAX], ServerConfig::new, both);
}

#[test]
fn every_setting_of_a_client_works_or_is_refused_by_name() {
    let both = |client| (ServerConfig::new(), client);
    try_all(CLIENT_TIMES, [Duration::ZERO, NANO, Duration::MAX], ClientConfig::new, both);
    try_all(CLIENT_NUMBERS, [0, 1, u32::MAX], ClientConfig::new, both);
}

/// A request that brings no token has the empty one, and a server with a token listens to other machines.
#[test]
fn an_empty_token_is_refused() {
    let (server, client) = (ServerConfig::new().with_token(""), ClientConfig::new().with_token(""));
    for &face in FACES {
        let expected =
            Some((ErrorKind::InvalidInput, "the settings cannot work: the token is empty".to_string()));
        assert_eq!((bind_error(face, &server), connect_error(face, &client)), (expected.clone(), expected));
    }
}

#[test]
fn the_time_of_a_call_may_be_nothing_or_for_ever() {
    for &face in FACES {
        watched(move || {
            let server = TestServer::start(face, Transport::Tcp, router(), ServerConfig::new());
            let client = server.client(face);
            for round in 0..2 {
                let error = client.request_within(Duration::ZERO, "slow", &1.into()).unwrap_err();
                let ended = (error.kind(), error.outcome());
                assert_eq!(ended, (ErrorKind::Timeout, Outcome::NotSent), "{face:?} {round}");
                let error = client.request_within(NANO, "slow", &1.into()).unwrap_err();
                assert!(error.is_timeout(), "{face:?} {round}: {error}");
                assert_eq!(client.request_within(Duration::MAX, "slow", &1.into()).unwrap(), 1);
            }
            server.stop();
        });
    }
}

#[test]
fn a_hub_without_a_queue_keeps_the_last_event() {
    watched(|| {
        for queue in [0, usize::MAX] {
            let hub = Hub::with_queue(queue);
            let server = Server::bind("127.0.0.1:0").unwrap().spawn(Router::new().events(&hub)).unwrap();
            let client = Client::new(server.endpoint()).unwrap();
            let mut events = client.subscribe(["x"]).unwrap();
            hub.publish("x", &1).unwrap();
            assert_eq!(events.next().unwrap().unwrap().payload::<u32>().unwrap(), 1);
        }
    });
}

#[test]
fn a_layer_without_places_refuses_every_call() {
    watched(|| {
        for (places, is_refused) in [(0, true), (usize::MAX, false)] {
            let router = Router::new().layer(layers::max_in_flight(places)).method("one", || 1);
            let server = Server::bind("127.0.0.1:0").unwrap().spawn(router).unwrap();
            let answer = Client::new(server.endpoint()).unwrap().request::<u32>("one", &());
            let code = answer.err().and_then(|error| error.remote()?.code().map(str::to_string));
            assert_eq!(code, is_refused.then(|| code::OVERLOADED.to_string()));
        }
    });
}
