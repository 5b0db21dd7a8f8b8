//! Clients of servers that are full, slow, silent, or gone in the middle. The tests look at errors, retries, and how
//! often they dial. The servers are made by hand, or are at a limit.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{
    Call, Client, ClientConfig, Endpoint, Error, ErrorKind, Hub, Missed, Outcome, Router, ServerConfig,
    SessionMode,
};
use serde_json::{Value, json};

use crate::support::faces::{
    ClientKind, FACES, Face, Options, TestClient, TestServer, TestSubscription, Transport,
};
use crate::support::wire::{
    BAD, GOOD, GOODBYE, HEADER, ITEM, PONG, REQUEST, RawStream, TERMS, hello, packet_of, session_packet,
};
use crate::support::{each_face, eventually, watched};

/// Returns a server by hand: it gives each connection to `serve` on a thread, with the connection's number.
fn by_hand(serve: impl Fn(RawStream, usize) + Send + Sync + 'static) -> (Endpoint, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    let (count, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
    let counted = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (serve, number) = (serve.clone(), counted.fetch_add(1, Ordering::SeqCst) + 1);
            thread::spawn(move || serve(RawStream::Tcp(stream), number));
        }
    });
    (endpoint, count)
}

fn good(id: u32, payload: &Value) -> Vec<u8> {
    session_packet(GOOD, 0, id, json!({ "payload": payload }).to_string())
}

/// Closes a connection with a reset.
fn reset(stream: RawStream) {
    let RawStream::Tcp(stream) = stream else { return };
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

fn client(face: Face, endpoint: &Endpoint, config: ClientConfig) -> TestClient {
    TestClient::new(face, endpoint, config)
}

/// Returns the error of whatever a client did.
fn error<T>(result: Result<T, Error>) -> Error {
    result.err().unwrap()
}

fn code(error: &Error) -> Option<&str> {
    error.remote().and_then(|remote| remote.code())
}

#[test]
fn a_call_that_ran_on_a_session_that_was_reset_is_not_sent_again() {
    each_face(|face| {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let (endpoint, _) = by_hand(move |mut stream, _| {
            if stream.packet().is_none() {
                return;
            }
            let run = counted.fetch_add(1, Ordering::SeqCst) + 1;
            let _ = stream.write_all(&[hello(TERMS), good(1, &json!(run))].concat());
            reset(stream);
        });
        for number in 1..=60 {
            let answer = client(face, &endpoint, ClientConfig::new()).request("charge", &Value::Null);
            match answer {
                Ok(run) => assert_eq!(run, number),
                Err(error) => assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}"),
            }
            assert_eq!(runs.load(Ordering::SeqCst), number);
        }
    });
}

#[test]
fn a_ping_that_is_lost_is_not_told_as_the_outcome_of_the_call_behind_it() {
    each_face(|face| {
        // The third connection is a good one: the call goes on by itself.
        let (endpoint, connections) = by_hand(|mut stream, number| {
            let first = stream.packet();
            if number < 3 || first.is_none() {
                return;
            }
            stream.write_all(&[hello(TERMS), good(1, &Value::Null)].concat()).unwrap();
            let call = stream.packet().unwrap();
            stream.write_all(&good(call.id(), &json!("done"))).unwrap();
            drop(stream.packet());
        });
        let config = || ClientConfig::new().with_sessions(SessionMode::Required);
        let required = client(face, &endpoint, config());
        assert_eq!(required.request("pay", &json!(1)).unwrap(), "done");
        assert_eq!(connections.load(Ordering::SeqCst), 3);
        // None ever is.
        let (endpoint, _) = by_hand(|mut stream, _| drop(stream.packet()));
        let required = client(face, &endpoint, config().with_call_timeout(Duration::from_secs(1)));
        let lost = error(required.request("pay", &json!(1)));
        // The last attempt may be the one that has no more time.
        assert!(matches!(lost.kind(), ErrorKind::Disconnected | ErrorKind::Timeout), "{lost:?}");
        assert!(lost.outcome() == Outcome::NotSent && lost.is_retryable(), "{lost:?}");
    });
}

/// The server is full; each use of a client says so.
#[test]
fn a_full_server_is_not_one_without_sessions() {
    for &server_face in FACES {
        for &face in FACES {
            watched(move || {
                let config = ServerConfig::new().with_max_connections(1);
                let hub = Hub::new();
                let router = Router::new().events(&hub).method("one", || 1);
                let server = TestServer::start(server_face, Transport::Unix, router, config);
                let holder = server.client(face);
                // A session with a subscription is not idle, so that it need not make room.
                let _kept = holder.subscribe(&["kept"]).unwrap();
                let new = || server.client(face);
                let required = server.client(ClientKind { face, sessions: SessionMode::Required });
                let errors = [
                    error(new().request("one", &Value::Null)),
                    error(new().subscribe(&["x"])),
                    error(new().serve(Router::new())),
                    error(new().notify("one", &Value::Null)),
                    error(required.request("one", &Value::Null)),
                ];
                for (at, error) in errors.iter().enumerate() {
                    assert_eq!((error.kind(), code(error)), (ErrorKind::Remote, Some("overloaded")), "{at}");
                    assert!(!error.is_sessionless());
                }
                assert_eq!(errors[4].outcome(), Outcome::NotSent);
                assert!(errors[4].is_retryable());
            });
        }
    }
}

#[test]
fn a_server_without_sessions_is_told_from_one_that_refuses() {
    each_face(|face| {
        let config = ServerConfig::new().without_sessions();
        let server = TestServer::start(face, Transport::Unix, Router::new(), config);
        let sessionless = error(server.client(face).subscribe(&["x"]));
        assert!(sessionless.is_sessionless() && sessionless.kind() == ErrorKind::Protocol, "{sessionless:?}");
        for (answer, is_sessionless) in [
            (r#"{"message":"unknown method: $/ping"}"#, true),
            (r#"{"message":"no such","code":"unknown_method"}"#, true),
            (r#"{"message":"later","code":"unavailable"}"#, false),
            (r#"{"message":"who","code":"denied"}"#, false),
            (r#"{"message":"slow","code":"timeout"}"#, false),
        ] {
            let (endpoint, _) = by_hand(move |mut stream, _| {
                drop(stream.packet());
                let _ = stream.write_all(&packet_of(BAD, 0, answer));
            });
            let told = error(client(face, &endpoint, ClientConfig::new()).subscribe(&["x"]));
            assert_eq!(told.is_sessionless(), is_sessionless, "{told:?}");
            assert_eq!(told.kind() == ErrorKind::Remote, !is_sessionless, "{told:?}");
        }
    });
}

/// A subscriber whose server comes back full waits until there is room.
#[test]
fn a_subscription_outlasts_a_server_that_is_full_when_it_comes_back() {
    each_face(|face| {
        let start = |endpoint: &Endpoint, most| {
            let hub = Hub::new();
            let router = Router::new().events(&hub).method("one", || 1);
            let config = ServerConfig::new().with_max_connections(most);
            (TestServer::start_at(face, endpoint, router, config), hub)
        };
        let dir = tempfile::tempdir().unwrap();
        let endpoint: Endpoint = format!("unix:{}/s.sock", dir.path().display()).parse().unwrap();
        let (server, _hub) = start(&endpoint, 10);
        let subscriber = client(face, &endpoint, ClientConfig::new());
        let mut subscription = subscriber.subscribe(&["x"]).unwrap();
        let waits = thread::spawn(move || {
            let event = next(&mut subscription);
            (event, subscription)
        });
        server.stop();
        let (server, full) = start(&endpoint, 1);
        let holder = Client::new(&endpoint).unwrap();
        // Once it is full, the subscriber is refused.
        if holder.request::<i32>("one", &()).is_ok() {
            thread::sleep(Duration::from_millis(300));
            drop(holder);
        }
        let publisher = thread::spawn(move || {
            eventually(|| full.publish("x", &1).unwrap() == 1);
        });
        let (event, _subscription) = waits.join().unwrap();
        assert_eq!(event.unwrap().missed(), Missed::Unknown);
        publisher.join().unwrap();
        server.stop();
    });
}

fn next(subscription: &mut TestSubscription) -> Result<procbridge::Event, Error> {
    subscription.next().unwrap()
}

/// Returns a server that takes a session and ends it at once.
fn leaving() -> (Endpoint, Arc<AtomicUsize>) {
    by_hand(|mut stream, _| {
        drop(stream.packet());
        let goodbye = session_packet(GOODBYE, 0, 0, r#"{"last_id":4294967295,"reason":"idle"}"#);
        let _ = stream.write_all(&[hello(TERMS), good(1, &Value::Null), goodbye].concat());
        drop(stream.packet());
    })
}

#[test]
fn a_server_that_ends_each_session_at_once_is_dialled_a_few_times_a_call() {
    each_face(|face| {
        let (endpoint, connections) = leaving();
        let config = ClientConfig::new().with_sessions(SessionMode::Required);
        let config = config.with_call_timeout(Duration::from_millis(1500));
        let gone = error(client(face, &endpoint, config).request("one", &Value::Null));
        assert_eq!(gone.outcome(), Outcome::NotSent, "{gone:?}");
        let dialled = connections.load(Ordering::SeqCst);
        assert!((2..=12).contains(&dialled), "{dialled} connections");
    });
}

#[test]
fn a_client_that_serves_comes_back_ever_later_to_a_server_that_ends_each_session() {
    each_face(|face| {
        let (endpoint, connections) = leaving();
        let serves = client(face, &endpoint, ClientConfig::new());
        // It has one for a moment, or none.
        let served = serves.serve(Router::new());
        thread::sleep(Duration::from_secs(3));
        let dialled = connections.load(Ordering::SeqCst);
        assert!(dialled <= 24, "{dialled} connections, {served:?}");
    });
}

#[test]
fn a_stream_is_not_waited_for_where_nothing_is_said() {
    each_face(|face| {
        let (endpoint, _) = by_hand(|stream, _| {
            thread::sleep(Duration::from_secs(30));
            drop(stream);
        });
        let short = Duration::from_millis(300);
        let by_heartbeat = ClientConfig::new().with_call_timeout(None).with_keepalive(short / 3);
        for config in [ClientConfig::new().with_call_timeout(short), by_heartbeat] {
            let began = Instant::now();
            let client = client(face, &endpoint, config);
            let late = error(client.stream("s", &Value::Null));
            assert_eq!((late.kind(), late.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{late:?}");
            let late = error(client.subscribe(&["x"]));
            assert_eq!((late.kind(), late.outcome()), (ErrorKind::Timeout, Outcome::NotSent), "{late:?}");
            let late = error(client.serve(Router::new()));
            assert_eq!((late.kind(), late.outcome()), (ErrorKind::Timeout, Outcome::NotSent), "{late:?}");
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
    });
}

/// Returns a server by hand that holds a session and reads nothing behind the opening.
fn deaf() -> Endpoint {
    by_hand(|mut stream, _| {
        drop(stream.packet());
        stream.write_all(&[hello(TERMS), good(1, &json!(1))].concat()).unwrap();
        thread::sleep(Duration::from_secs(30));
    })
    .0
}

#[test]
fn a_time_limit_holds_while_a_one_way_call_or_a_stream_is_written() {
    watched(|| {
        let client = Client::new(deaf()).unwrap();
        assert_eq!(client.request::<i32>("one", &()).unwrap(), 1);
        let (large, limit) = ("x".repeat(12 << 20), Duration::from_millis(300));
        let began = Instant::now();
        let late = client.call("note").payload(&large).timeout(limit).notify().unwrap_err();
        assert_eq!((late.kind(), late.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{late:?}");
        let late = client.call("note").payload(&large).timeout(limit).notify().unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late:?}");
        let late = client.call("s").payload(&large).timeout(limit).stream::<i32>().map(drop).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
}

#[test]
fn a_one_way_call_whose_session_ends_before_it_is_written_is_an_error() {
    each_face(|face| {
        let (endpoint, _) = by_hand(|mut stream, _| {
            drop(stream.packet());
            stream.write_all(&[hello(TERMS), good(1, &json!(1))].concat()).unwrap();
            // The next call has begun to arrive.
            stream.read_exact(&mut [0; HEADER]).unwrap();
            reset(stream);
        });
        let client = client(face, &endpoint, ClientConfig::new());
        client.request("one", &Value::Null).unwrap();
        let lost = error(client.notify("note", &json!("x".repeat(12 << 20))));
        assert_eq!((lost.kind(), lost.outcome()), (ErrorKind::Disconnected, Outcome::Unknown), "{lost:?}");
    });
}

#[test]
fn a_subscription_that_does_not_come_into_force_is_a_timeout() {
    each_face(|face| {
        // The session is there, and nothing is said of the subscription.
        let (endpoint, _) = by_hand(|mut stream, _| {
            drop(stream.packet());
            stream.write_all(&[hello(TERMS), good(1, &Value::Null)].concat()).unwrap();
            while stream.packet().is_some() {}
        });
        let config = ClientConfig::new().with_call_timeout(Duration::from_secs(3));
        let began = Instant::now();
        let late = error(client(face, &endpoint, config).subscribe(&["x"]));
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late:?}");
        assert!(began.elapsed() > Duration::from_millis(2500), "{:?}", began.elapsed());
    });
}

#[test]
fn a_first_event_without_the_word_that_it_is_in_force_may_not_be_the_first() {
    each_face(|face| {
        let (endpoint, _) = by_hand(|mut stream, _| {
            drop(stream.packet());
            stream.write_all(&[hello(TERMS), good(1, &Value::Null)].concat()).unwrap();
            let id = stream.packet().unwrap().id();
            let event = r#"{"payload":{"topic":"x","payload":1}}"#;
            let item = session_packet(ITEM, 0, id, event);
            stream.write_all(&[item.clone(), item].concat()).unwrap();
            while stream.packet().is_some() {}
        });
        let client = client(face, &endpoint, ClientConfig::new());
        let mut subscription = client.subscribe(&["x"]).unwrap();
        assert_eq!(next(&mut subscription).unwrap().missed(), Missed::Unknown);
        assert_eq!(next(&mut subscription).unwrap().missed(), Missed::Nothing);
    });
}

/// A client reads a session that it has not used for a second before it calls on it.
#[test]
fn a_server_that_sends_without_a_pause_does_not_hold_up_the_call_on_an_old_session() {
    each_face(|face| {
        let (endpoint, dialled) = by_hand(|mut stream, _| {
            drop(stream.packet());
            stream.write_all(&[hello(TERMS), good(1, &json!(1))].concat()).unwrap();
            let RawStream::Tcp(writer) = &stream else { return };
            let mut writer = writer.try_clone().unwrap();
            let called = Arc::new(AtomicUsize::new(0));
            let id = called.clone();
            let flood = thread::spawn(move || {
                let pongs = session_packet(PONG, 0, 0, "x").repeat(10_000);
                loop {
                    writer.write_all(&pongs).unwrap();
                    if let id @ 1.. = id.load(Ordering::SeqCst) {
                        return writer.write_all(&good(id as u32, &json!(2))).unwrap();
                    }
                }
            });
            let call = std::iter::from_fn(|| stream.packet()).find(|packet| packet.kind == REQUEST);
            called.store(call.unwrap().id() as usize, Ordering::SeqCst);
            flood.join().unwrap();
            while stream.packet().is_some() {}
        });
        let client = client(face, &endpoint, ClientConfig::new().with_call_timeout(Duration::from_secs(10)));
        assert_eq!(client.request("one", &Value::Null).unwrap(), json!(1));
        thread::sleep(Duration::from_millis(1_200));
        assert_eq!(client.request("two", &Value::Null).unwrap(), json!(2));
        assert_eq!(dialled.load(Ordering::SeqCst), 1);
    });
}

/// Sessions that end one soon after the other, while threads call.
#[test]
fn each_session_is_greeted_once_however_soon_it_ends() {
    watched(|| {
        let (greeted, called) = (counts(), counts());
        let dir = tempfile::tempdir().unwrap();
        let endpoint: Endpoint = format!("unix:{}/s.sock", dir.path().display()).parse().unwrap();
        let start = |number: usize| {
            let (greeted, called) = (greeted.clone(), called.clone());
            let router = Router::new()
                .method("register", move |_: &Call| count(&greeted, number))
                .method("one", move |_: &Call| count(&called, number));
            TestServer::start_at(Face::Blocking, &endpoint, router, ServerConfig::new())
        };
        let mut server = start(0);
        let client = Client::new(&endpoint).unwrap();
        client.on_session(|client| drop(client.request::<Value>("register", &())));
        client.serve(Router::new()).unwrap();
        let is_over = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (client, is_over) = (client.clone(), is_over.clone());
                thread::spawn(move || {
                    while is_over.load(Ordering::SeqCst) == 0 {
                        drop(client.request::<Value>("one", &()));
                    }
                })
            })
            .collect();
        for number in 1..30 {
            // Some calls are answered in each.
            eventually(|| called.lock().unwrap().get(&(number - 1)).is_some_and(|&count| count > 20));
            eventually(|| greeted.lock().unwrap().contains_key(&(number - 1)));
            server.stop();
            server = start(number);
        }
        eventually(|| greeted.lock().unwrap().contains_key(&29));
        is_over.store(1, Ordering::SeqCst);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        server.stop();
        let greeted = greeted.lock().unwrap();
        let twice = greeted.values().filter(|&&count| count > 1).count();
        assert_eq!((greeted.len(), twice), (30, 0), "{greeted:?}");
    });
}

type Counts = Arc<Mutex<HashMap<usize, usize>>>;

fn counts() -> Counts {
    Arc::default()
}

fn count(counts: &Counts, number: usize) {
    *counts.lock().unwrap().entry(number).or_default() += 1;
}

/// It accepts one connection at a time, and the system drops what comes meanwhile.
#[test]
fn a_server_with_the_shortest_queue_answers_all_of_a_crowd() {
    each_face(|face| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let endpoint: Endpoint = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::sleep(Duration::from_millis(5));
                thread::spawn(move || answer_classic(stream));
            }
        });
        let client = client(face, &endpoint, ClientConfig::new());
        let (begin, slowest) = (Arc::new(Barrier::new(20)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (client, begin, slowest) = (client.clone(), begin.clone(), slowest.clone());
                thread::spawn(move || {
                    begin.wait();
                    let began = Instant::now();
                    assert_eq!(client.request("one", &Value::Null).unwrap(), 1);
                    let took = usize::try_from(began.elapsed().as_millis()).unwrap();
                    slowest.fetch_max(took, Ordering::SeqCst);
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(slowest.load(Ordering::SeqCst) < 2000, "{slowest:?} ms");
    });
}

fn answer_classic(stream: TcpStream) {
    let mut stream = RawStream::Tcp(stream);
    if stream.packet().is_some() {
        let _ = stream.write_all(&packet_of(GOOD, 0, r#"{"payload":1}"#));
    }
}

#[test]
fn a_call_that_waits_for_others_to_connect_says_so() {
    each_face(|face| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let endpoint: Endpoint = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
        // Nothing is accepted: the queue is full.
        let _full = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let config = ClientConfig::new().with_max_connecting(1).with_sessions(SessionMode::Off);
        let client = client(face, &endpoint, config);
        let first = client.clone();
        let connecting = thread::spawn(move || {
            first.request_within(Duration::from_secs(2), "one", &Value::Null).unwrap_err()
        });
        thread::sleep(Duration::from_millis(200));
        let late = client.request_within(Duration::from_millis(200), "one", &Value::Null).unwrap_err();
        assert_eq!((late.kind(), late.outcome()), (ErrorKind::Timeout, Outcome::NotSent));
        assert!(late.to_string().contains("max_connecting"), "{late}");
        let late = connecting.join().unwrap();
        assert_eq!((late.kind(), late.outcome()), (ErrorKind::Timeout, Outcome::NotSent), "{late:?}");
    });
}

#[test]
fn an_idempotent_call_that_was_lost_waits_for_its_server_to_come_back() {
    each_face(|face| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint: Endpoint = format!("tcp:{address}").parse().unwrap();
        let server = thread::spawn(move || {
            // The first attempt is lost, and then there is no server for a while.
            let (stream, _) = listener.accept().unwrap();
            drop(listener);
            let mut stream = RawStream::Tcp(stream);
            drop(stream.packet());
            reset(stream);
            thread::sleep(Duration::from_millis(700));
            let listener = TcpListener::bind(address).unwrap();
            answer_classic(listener.accept().unwrap().0);
        });
        let options =
            Options { timeout: Some(Duration::from_secs(20)), is_idempotent: true, ..Options::default() };
        let client = client(face, &endpoint, ClientConfig::new());
        assert_eq!(client.ask("one", &Value::Null, &options).unwrap(), 1);
        server.join().unwrap();
    });
}
