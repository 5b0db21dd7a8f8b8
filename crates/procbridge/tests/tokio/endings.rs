//! How sessions end, and what becomes of their calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use procbridge::tokio::{Call, Client, Router, Server};
use procbridge::{
    ClientConfig, Endpoint, Error, ErrorKind, Outcome, ReplyError, ServerConfig, SessionMode, code,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::block_on;
use crate::support::wire::{
    AsyncStream, GOOD, GOODBYE, HELLO, PING, PONG, SESSION, packet_of, session_packet,
};
use crate::{counted, eventually, run, two_threads, with_sessions};

/// Hands each connection on to a server that can be changed.
struct Front {
    endpoint: Endpoint,
    target: watch::Sender<u16>,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Front {
    async fn of(target: &Endpoint) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::from(listener.local_addr().unwrap());
        let (target, chosen) = watch::channel(target.port().unwrap());
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let task = tokio::spawn(async move {
            // Dropped with this task, which cuts the connections.
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let port = *chosen.borrow();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { endpoint, target, accepted, task }
    }

    fn turn_to(&self, endpoint: &Endpoint) {
        self.target.send(endpoint.port().unwrap()).unwrap();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns a server made by hand: what it does with each connection is up to the test.
async fn by_hand<T>(serve: impl Fn(usize, AsyncStream) -> T + Send + 'static) -> (Endpoint, JoinHandle<()>)
where
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from(listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(n, AsyncStream::Tcp(stream)));
        }
    });
    (endpoint, task)
}

/// Accepts a session and answers the call that offers it.
async fn accept(stream: &mut AsyncStream) {
    let offer = stream.packet().await.unwrap();
    assert_eq!((offer.kind, offer.flags & SESSION), (0, SESSION));
    stream.write(&packet_of(HELLO, SESSION, br#"{"session":1}"#)).await.unwrap();
    stream.write(&session_packet(GOOD, 0, 1, "{}")).await.unwrap();
}

#[test]
fn a_stop_moves_clients_on_and_no_call_fails() {
    let runtime = two_threads().enable_all().build().unwrap();
    block_on(&runtime, async {
        let named = |name: &'static str| {
            Router::new().method("name", move |yields: u32| async move {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
                name
            })
        };
        let mut server = Server::bind(":0").unwrap().spawn(named("first"));
        let front = Front::of(&server.endpoint()).await;
        let client = Client::new(&front.endpoint).unwrap();
        let made = Arc::new(AtomicU32::new(0));
        let (end, over) = watch::channel(false);
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let (client, made, over) = (client.clone(), made.clone(), over.clone());
                tokio::spawn(async move {
                    while !*over.borrow() {
                        client.request::<String>("name", &(caller * 3)).await?;
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    client.request::<String>("name", &0).await
                })
            })
            .collect();
        for name in ["second", "third", "fourth"] {
            let until = made.load(Ordering::Relaxed) + 200;
            eventually(async || made.load(Ordering::Relaxed) > until).await;
            let next = Server::bind(":0").unwrap().spawn(named(name));
            front.turn_to(&next.endpoint());
            std::mem::replace(&mut server, next).shutdown().await.unwrap();
        }
        end.send(true).unwrap();
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap(), "fourth");
        }
    });
}

#[test]
fn only_what_was_certainly_not_run_is_sent_again() {
    with_sessions(|_| async move {
        // Which says of the second call on a session that it was not run, of the third nothing.
        let (endpoint, server) = by_hand(|n, mut stream| async move {
            accept(&mut stream).await;
            let call = stream.packet().await.unwrap();
            assert_eq!((call.kind, call.id()), (0, 3));
            let method = call.json()["method"].clone();
            if n == 0 {
                assert_eq!(method, "first");
                stream.write(&session_packet(GOODBYE, 0, 0, r#"{"last_id":1}"#)).await.unwrap();
                return;
            }
            let payload = json!({ "payload": n }).to_string();
            stream.write(&session_packet(GOOD, 0, 3, &payload)).await.unwrap();
            let unanswered = stream.packet().await.unwrap();
            assert_eq!(unanswered.id(), 5);
        })
        .await;
        let client = Client::new(&endpoint).unwrap();
        client.request::<()>("open", &()).await.unwrap();
        // Sent again, on a connection of its own, which it opens: that is answered with nothing.
        assert_eq!(client.request::<Option<u32>>("first", &()).await.unwrap(), None);
        assert_eq!(client.request::<u32>("third", &()).await.unwrap(), 1);
        let lost = client.request::<u32>("lost", &()).await.unwrap_err();
        assert_eq!((lost.kind(), lost.outcome()), (ErrorKind::Disconnected, Outcome::Unknown), "{lost}");
        // A new session; its second call is the one that is lost.
        client.request::<()>("open", &()).await.unwrap();
        assert_eq!(client.request::<u32>("fourth", &()).await.unwrap(), 2);
        // Unless it does no harm.
        let again = client.call("lost").idempotent().send::<Option<u32>>().await;
        assert_eq!(again.unwrap(), None);
        server.abort();
    });
}

#[test]
fn a_killed_server_ends_each_call_in_one_class() {
    for _ in 0..5 {
        let runtime = two_threads().enable_all().build().unwrap();
        block_on(&runtime, async {
            let begun = Arc::new(AtomicUsize::new(0));
            let counter = begun.clone();
            let router = Router::new().method("wait", move || {
                counter.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>()
            });
            let config = ServerConfig::new().with_max_session_calls(2000).with_max_concurrent_calls(2000);
            let server = Server::bind_with(":0", config).unwrap().spawn(router);
            let front = Front::of(&server.endpoint()).await;
            let client = Client::new(&front.endpoint).unwrap();
            client.request::<Value>("$/ping", &()).await.unwrap();
            let calls: Vec<_> = (0..1000).map(|_| tokio::spawn(client.call("wait").send::<()>())).collect();
            eventually(async || begun.load(Ordering::Relaxed) > 500).await;
            drop(front);
            let mut unknown = 0;
            for call in calls {
                let error = call.await.unwrap().unwrap_err();
                match (error.kind(), error.outcome()) {
                    (ErrorKind::Disconnected, Outcome::Unknown) => unknown += 1,
                    // It was sent again and found no server.
                    (ErrorKind::Connect | ErrorKind::Disconnected, Outcome::NotSent) => {}
                    other => panic!("{other:?}: {error}"),
                }
            }
            // A call that ran is not said not to have been sent.
            assert!(unknown >= begun.load(Ordering::Relaxed));
            server.handle().abort();
            server.shutdown().await.unwrap();
        });
    }
}

#[test]
fn a_server_that_gives_no_sign_of_life_is_given_up() {
    with_sessions(|_| async move {
        let (endpoint, server) = by_hand(|_, mut stream| async move {
            accept(&mut stream).await;
            let mut pings = 0;
            while let Ok(packet) = stream.packet().await {
                pings += u32::from(packet.kind == PING);
            }
            assert_eq!(pings, 2);
        })
        .await;
        let config = ClientConfig::new().with_keepalive(Duration::from_millis(30));
        let client = Client::with_config(&endpoint, config).unwrap();
        client.request::<()>("open", &()).await.unwrap();
        let error = client.request::<()>("wait", &()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Outcome::Unknown));
        assert!(error.to_string().contains("no sign of life"), "{error}");
        server.abort();
    });
}

#[test]
fn a_quiet_session_lives_by_its_heartbeat_and_ends_when_nobody_uses_it() {
    with_sessions(|place| async move {
        let config = ServerConfig::new()
            .with_keepalive(Duration::from_millis(150))
            .with_idle_timeout(Duration::from_millis(1_000));
        let router = Router::new().method("wait", async |milliseconds: u64| {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        });
        let (server, client) = place.serve(router, config);
        // Far longer than three heartbeats.
        client.request::<()>("wait", &800).await.unwrap();
        client.request::<()>("wait", &0).await.unwrap();
        assert_eq!(counted(&client, "connections", "total").await, 1);
        if server.endpoint().path().is_none() {
            let watcher = ClientConfig::new().with_sessions(SessionMode::Off);
            let watcher = Client::with_config(client.endpoint(), watcher).unwrap();
            eventually(async || counted(&watcher, "sessions", "open").await == 0).await;
            // Its client does not notice.
            client.request::<()>("wait", &0).await.unwrap();
            assert_eq!(counted(&watcher, "sessions", "total").await, 2);
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_peer_that_takes_nothing_of_its_answers_is_left() {
    with_sessions(|place| async move {
        let config = ServerConfig::new().with_write_timeout(Duration::from_millis(50));
        let router = Router::new().method("large", async || "x".repeat(1_500_000));
        let (server, client) = place.serve(router, config);
        let mut greedy = AsyncStream::connect(&server.endpoint()).await.unwrap();
        greedy.write(&packet_of(0, SESSION, br#"{"method":"large"}"#)).await.unwrap();
        for id in (3..20).step_by(2) {
            greedy.write(&session_packet(0, 0, id, r#"{"method":"large"}"#)).await.unwrap();
        }
        eventually(async || counted(&client, "sessions", "total").await == 2).await;
        eventually(async || counted(&client, "sessions", "open").await == 1).await;
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_flood_of_pings_ends_the_session() {
    with_sessions(|place| async move {
        let (server, _) = place.serve(Router::new(), ServerConfig::new());
        let mut peer = AsyncStream::connect(&server.endpoint()).await.unwrap();
        peer.write(&packet_of(0, SESSION, br#"{"method":"$/ping"}"#)).await.unwrap();
        assert_eq!((peer.packet().await.unwrap().kind, peer.packet().await.unwrap().kind), (HELLO, GOOD));
        // A few are nothing; each ten more are a strike.
        let mut answered = 0;
        let goodbye = loop {
            // When the session is over nothing more is taken.
            let _ = peer.write(&session_packet(PING, 0, 0, "{}")).await;
            let answer = peer.packet().await.unwrap();
            if answer.kind == GOODBYE {
                break answer;
            }
            assert_eq!(answer.kind, PONG);
            answered += 1;
        };
        assert_eq!(goodbye.json()["reason"], "too many pings");
        assert!((20..40).contains(&answered), "{answered}");
        server.shutdown().await.unwrap();
    });
}

#[test]
fn who_sends_a_part_of_a_request_and_no_more_is_left() {
    // Once: the time is not one of the settings.
    run(two_threads, "unix", SessionMode::Auto, |place| async move {
        let (server, client) = place.serve(Router::new(), ServerConfig::new());
        let mut peer = AsyncStream::connect(&server.endpoint()).await.unwrap();
        peer.write(&packet_of(0, SESSION, br#"{"method":"$/ping"}"#)).await.unwrap();
        assert_eq!((peer.packet().await.unwrap().kind, peer.packet().await.unwrap().kind), (HELLO, GOOD));
        peer.write(&session_packet(0, 0, 3, r#"{"method":"x"}"#)[..20]).await.unwrap();
        let goodbye = peer.packet().await.unwrap();
        assert_eq!(goodbye.kind, GOODBYE);
        assert!(goodbye.json()["reason"].as_str().unwrap().contains("min_body_rate"));
        assert!(peer.read_to_end().await.unwrap().is_empty());
        drop(client);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn who_breaks_the_rules_is_told_and_everything_of_it_ends() {
    with_sessions(|place| async move {
        let (dropped, mut guards) = tokio::sync::mpsc::unbounded_channel::<()>();
        let router = Router::new().method("wait", move || {
            let guard = dropped.clone();
            async move {
                let _guard = guard;
                std::future::pending::<()>().await
            }
        });
        let (server, client) = place.serve(router, ServerConfig::new());
        let mut rude = AsyncStream::connect(&server.endpoint()).await.unwrap();
        rude.write(&packet_of(0, SESSION, br#"{"method":"wait"}"#)).await.unwrap();
        assert_eq!(rude.packet().await.unwrap().kind, HELLO);
        // An id of the server's.
        rude.write(&session_packet(0, 0, 2, r#"{"method":"wait"}"#)).await.unwrap();
        let goodbye = rude.packet().await.unwrap();
        assert_eq!((goodbye.kind, goodbye.json()["last_id"].as_u64()), (GOODBYE, Some(1)));
        assert!(rude.read_to_end().await.unwrap().is_empty());
        eventually(async || counted(&client, "sessions", "open").await == 1).await;
        assert!(guards.try_recv().is_err());
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_client_that_serves_comes_back_by_itself() {
    let runtime = two_threads().enable_all().build().unwrap();
    block_on(&runtime, async {
        let (sender, mut sessions) = tokio::sync::mpsc::unbounded_channel();
        let serve = move || {
            let sender = sender.clone();
            let join = move |call: Call| {
                let sender = sender.clone();
                async move { Ok::<_, ReplyError>(sender.send(call.session()?).is_ok()) }
            };
            Server::bind(":0")
                .unwrap()
                .spawn(Router::new().method("join", join).method("$/ping", async || ()))
        };
        let first = serve();
        let front = Front::of(&first.endpoint()).await;
        let client = Client::new(&front.endpoint).unwrap();
        client.on_session(async |client| assert!(client.request::<bool>("join", &()).await.unwrap()));
        client.serve(Router::new().method("name", async || "me")).await.unwrap();
        let session = sessions.try_recv().unwrap();
        assert_eq!(session.request::<String>("name", &()).await.unwrap(), "me");
        let accepted = front.accepted.load(Ordering::Relaxed);
        let second = serve();
        front.turn_to(&second.endpoint());
        first.shutdown().await.unwrap();
        // Without a call of the program's.
        eventually(async || front.accepted.load(Ordering::Relaxed) > accepted).await;
        let session = sessions.recv().await.unwrap();
        assert_eq!(session.request::<String>("name", &()).await.unwrap(), "me");
        let accepted = front.accepted.load(Ordering::Relaxed);
        // It is done when its last client is gone.
        let waiting = tokio::spawn(async move {
            while session.is_open() {
                tokio::task::yield_now().await
            }
        });
        drop(client);
        waiting.await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(front.accepted.load(Ordering::Relaxed), accepted);
    });
}

#[test]
fn a_client_that_serves_comes_back_also_after_a_panic_of_its_own() {
    let runtime = two_threads().enable_all().build().unwrap();
    block_on(&runtime, async {
        let serve = || Server::bind(":0").unwrap().spawn(Router::new().method("$/ping", async || ()));
        let mut server = serve();
        let front = Front::of(&server.endpoint()).await;
        let client = Client::new(&front.endpoint).unwrap();
        let greeted = Arc::new(AtomicUsize::new(0));
        let greetings = greeted.clone();
        client.on_session(move |_| {
            let number = greetings.fetch_add(1, Ordering::SeqCst);
            // The first is that of `serve`.
            async move { assert_ne!(number, 1, "on purpose") }
        });
        client.serve(Router::new().method("name", async || "me")).await.unwrap();
        for number in 2..=3 {
            let next = serve();
            front.turn_to(&next.endpoint());
            server.shutdown().await.unwrap();
            server = next;
            eventually(async || greeted.load(Ordering::SeqCst) == number).await;
        }
        drop(client);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn what_still_runs_when_a_server_stops_is_finished_or_told() {
    with_sessions(|place| async move {
        for abort in [false, true] {
            let place = crate::Place { endpoint: place.endpoint.clone(), sessions: place.sessions };
            let (open, door) = watch::channel(false);
            let router = Router::new().method("wait", move || {
                let mut door = door.clone();
                async move { door.wait_for(|open| *open).await.is_ok() }
            });
            let (server, client) = place.serve(router, ServerConfig::new());
            client.request::<Value>("$/ping", &()).await.unwrap();
            let calls: Vec<_> = (0..50).map(|_| tokio::spawn(client.call("wait").send::<bool>())).collect();
            eventually(async || open.receiver_count() == 51).await;
            let handle = server.handle();
            handle.shutdown();
            let none = client.request::<Value>("$/ping", &()).await.unwrap_err();
            assert_eq!((none.kind(), none.outcome()), (ErrorKind::Connect, Outcome::NotSent));
            if abort {
                handle.abort();
            } else {
                open.send(true).unwrap();
            }
            for call in calls {
                let answer: Result<bool, Error> = call.await.unwrap();
                match abort {
                    false => assert!(answer.unwrap()),
                    true => {
                        assert_eq!(answer.unwrap_err().remote().unwrap().code(), Some(code::CANCELLED));
                    }
                }
            }
            server.shutdown().await.unwrap();
            assert_eq!(handle.leaked_handlers(), 0);
        }
    });
}

#[test]
fn a_one_way_call_outlives_its_session_but_not_its_server() {
    with_sessions(|place| async move {
        for abort in [false, true] {
            let place = crate::Place { endpoint: place.endpoint.clone(), sessions: place.sessions };
            let (open, door) = watch::channel(false);
            let (sender, mut notes) = tokio::sync::mpsc::unbounded_channel();
            let router = Router::new().method("note", move || {
                let (mut door, sender) = (door.clone(), sender.clone());
                async move {
                    let opened = door.wait_for(|open| *open).await.is_ok();
                    sender.send(opened).unwrap();
                    "x".repeat(100_000)
                }
            });
            let (server, client) = place.serve(router, ServerConfig::new());
            client.notify("note", &()).await.unwrap();
            eventually(async || open.receiver_count() == 2).await;
            drop(client);
            let watcher = Client::new(server.endpoint()).unwrap();
            eventually(async || counted(&watcher, "sessions", "total").await == 2).await;
            drop(watcher);
            let handle = server.handle();
            let stopped = tokio::spawn(server.shutdown());
            if abort {
                handle.abort();
            } else {
                // The server waits for it.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                assert!(!stopped.is_finished());
                open.send(true).unwrap();
            }
            stopped.await.unwrap().unwrap();
            assert_eq!(notes.try_recv().ok(), (!abort).then_some(true));
            assert_eq!(open.receiver_count(), 0);
        }
    });
}
