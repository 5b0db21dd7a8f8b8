//! Servers that die, stop, or are cut off under a thousand calls.

use std::thread;
use std::time::{Duration, Instant};

use procbridge::{ClientConfig, Error, ErrorKind, Outcome};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::faces::{FACES, Face, Options, TestClient, Transport};
use crate::support::proxy::Proxy;
use crate::support::{eventually, watched};
use crate::{Victim, alone, classify, setting, tell};

/// Rounds of `kill -9`; the environment may ask for more, `PROCBRIDGE_FAULTS_ROUNDS=200` for one.
const ROUNDS: usize = 20;
const CALLS: usize = 1_000;
const CLIENTS: usize = 4;

/// Calls on their way, each with a thread.
struct Calls {
    threads: Vec<thread::JoinHandle<Call>>,
}

/// A call that has ended.
struct Call {
    number: usize,
    end: Result<Value, Error>,
    at: Instant,
    took: Duration,
}

impl Calls {
    fn begin(
        clients: &[TestClient],
        method: fn(usize) -> &'static str,
        limit: fn(usize) -> Duration,
    ) -> Self {
        let threads = (0..CALLS).map(|number| {
            let client = clients[number % clients.len()].clone();
            let call = move || {
                let began = Instant::now();
                let options = Options { timeout: Some(limit(number)), ..Options::default() };
                let end = client.ask(method(number), &json!(number), &options);
                Call { number, end, at: Instant::now(), took: began.elapsed() }
            };
            thread::Builder::new().stack_size(256 * 1024).spawn(call).unwrap()
        });
        Self { threads: threads.collect() }
    }

    fn ended(self) -> Vec<Call> {
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

/// Clients with a session each.
fn clients(face: Face, victim: &Victim, config: &ClientConfig) -> Vec<TestClient> {
    let client = || {
        let client = TestClient::new(face, &victim.endpoint, config.clone());
        client.request("echo", &json!(1)).unwrap();
        client
    };
    (0..CLIENTS).map(|_| client()).collect()
}

fn ends(calls: Vec<Call>) -> Vec<(usize, Result<Value, Error>)> {
    calls.into_iter().map(|call| (call.number, call.end)).collect()
}

/// Returns every combination of faces and transports, in turns.
fn combination(round: usize) -> (Face, Face, Transport) {
    let transport = if round.is_multiple_of(2) { Transport::Tcp } else { Transport::Unix };
    (FACES[round / 2 % FACES.len()], FACES[round / 4 % FACES.len()], transport)
}

fn half_a_minute(_: usize) -> Duration {
    Duration::from_secs(30)
}

#[test]
fn a_server_that_is_killed_ends_every_call_at_once_in_one_way() {
    let _alone = alone();
    let (mut slowest, mut total) = (Duration::ZERO, [0; 3]);
    for round in 0..setting("PROCBRIDGE_FAULTS_ROUNDS", ROUNDS) {
        let (seen, slow) = watched(move || {
            let (server, client, transport) = combination(round);
            let victim = Victim::start(server, transport, "many");
            let clients = clients(client, &victim, &ClientConfig::new());
            let method = |number| if number % 5 == 0 { "at_once" } else { "wait" };
            // In every third round all of them are there, in the others some are anywhere on the way.
            let enough = [CALLS, CALLS / 20 * (1 + round % 19), 1 + round][round % 3];
            let (calls, killed) = thread::scope(|scope| {
                let killing = scope.spawn(|| {
                    eventually(|| victim.begun() >= enough);
                    victim.signal(Signal::KILL);
                    Instant::now()
                });
                (Calls::begin(&clients, method, half_a_minute), killing.join().unwrap())
            });
            let calls = calls.ended();
            let slow = calls.iter().map(|call| call.at.saturating_duration_since(killed)).max().unwrap();
            assert!(slow < Duration::from_secs(5), "{slow:?}");
            for call in &calls {
                if let Err(error) = &call.end {
                    let kinds = [ErrorKind::Disconnected, ErrorKind::Connect];
                    assert!(kinds.contains(&error.kind()), "{error:?}");
                }
            }
            (classify(&ends(calls), &victim.runs()), slow)
        });
        slowest = slowest.max(slow);
        for (total, seen) in total.iter_mut().zip([seen.replied, seen.not_sent, seen.unknown]) {
            *total += seen;
        }
    }
    tell(&format!(
        "kill -9: the last of 1,000 calls ended {slowest:?} after it; replied, not sent, unknown: {total:?}"
    ));
    assert!(total.iter().all(|&total| total > 0), "{total:?}");
}

#[test]
fn a_server_that_is_stopped_ends_each_call_at_its_limit() {
    let _alone = alone();
    for round in 0..4 {
        watched(move || {
            let (server, _, transport) = combination(round);
            let client = FACES[round % FACES.len()];
            let victim = Victim::start(server, transport, "many");
            let clients = clients(client, &victim, &ClientConfig::new());
            let limit = |number| Duration::from_millis(3_000 + number as u64 % 10 * 100);
            let calls = Calls::begin(&clients, |_| "wait", limit);
            eventually(|| victim.begun() == CALLS);
            victim.signal(Signal::STOP);
            let calls = calls.ended();
            victim.signal(Signal::CONT);
            let mut late = Duration::ZERO;
            for call in &calls {
                let error = call.end.as_ref().unwrap_err();
                let seen = (error.kind(), error.outcome());
                assert_eq!(seen, (ErrorKind::Timeout, Outcome::Unknown), "{error:?}");
                assert!(
                    call.took >= limit(call.number),
                    "{:?} is before {:?}",
                    call.took,
                    limit(call.number)
                );
                late = late.max(call.took - limit(call.number));
            }
            tell(&format!(
                "SIGSTOP: {client:?} client, {server:?} server: calls ended at most {late:?} after their limits"
            ));
            // On a machine at rest it is some 20 ms; one that is busy has a thousand threads to wake.
            assert!(late < Duration::from_secs(2), "{late:?}");
            // It goes on, on the same sessions, and has not run anything twice.
            for client in &clients {
                assert_eq!(client.request("echo", &json!(2)).unwrap(), json!(2));
            }
            assert_eq!(clients[0].counted("connections", "total"), CLIENTS as u64);
            assert_eq!(classify(&ends(calls), &victim.runs()).unknown, CALLS);
        });
    }
}

#[test]
fn a_cable_that_is_cut_is_noticed_by_the_heartbeat_on_both_sides() {
    let _alone = alone();
    for round in 0..4 {
        watched(move || {
            let (server, _, transport) = combination(round);
            let client = FACES[round % FACES.len()];
            let victim = Victim::start(server, transport, "many heartbeat");
            let proxy = Proxy::start(transport, &victim.endpoint);
            let heartbeat = Duration::from_millis(200);
            let config = ClientConfig::new().with_keepalive(heartbeat);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let client = TestClient::new(client, &proxy.endpoint, config.clone());
                    client.request("echo", &json!(1)).unwrap();
                    client
                })
                .collect();
            let calls = Calls::begin(&clients, |_| "wait", half_a_minute);
            eventually(|| victim.begun() == CALLS);
            proxy.cut();
            let cut = Instant::now();
            let calls = calls.ended();
            let slow = calls.iter().map(|call| call.at.saturating_duration_since(cut)).max().unwrap();
            for call in &calls {
                let error = call.end.as_ref().unwrap_err();
                let seen = (error.kind(), error.outcome());
                assert_eq!(seen, (ErrorKind::Disconnected, Outcome::Unknown), "{error:?}");
            }
            assert!(slow > heartbeat && slow < 10 * heartbeat, "{slow:?}");
            // The server has given them up too: it has no session any more when their handlers have ended.
            let watcher = TestClient::new(Face::Blocking, &victim.endpoint, ClientConfig::new());
            watcher.request("open", &json!(null)).unwrap();
            eventually(|| watcher.counted("sessions", "open") == 1);
            tell(&format!(
                "cut cable, heartbeat {heartbeat:?}: {client:?} client ended its calls after {slow:?}, {server:?} server by {:?}",
                cut.elapsed()
            ));
            assert_eq!(classify(&ends(calls), &victim.runs()).unknown, CALLS);
            proxy.open();
            for client in &clients {
                assert_eq!(client.request("echo", &json!(2)).unwrap(), json!(2));
            }
        });
    }
}

#[test]
fn what_is_declared_safe_to_repeat_is_repeated_and_nothing_else() {
    let _alone = alone();
    for &server in FACES {
        for &client in FACES {
            watched(move || {
                let victim = Victim::start(server, Transport::Unix, "many");
                let proxy = Proxy::start(Transport::Unix, &victim.endpoint);
                let config = ClientConfig::new().with_keepalive(Duration::from_millis(100));
                let client = TestClient::new(client, &proxy.endpoint, config);
                client.request("echo", &json!(1)).unwrap();
                let callers: Vec<_> = (0..20)
                    .map(|number| {
                        let client = client.clone();
                        thread::spawn(move || {
                            let options = Options { is_idempotent: number % 2 == 0, ..Options::default() };
                            (number, client.ask("wait", &json!(number), &options))
                        })
                    })
                    .collect();
                eventually(|| victim.begun() == 20);
                // The connection is lost, the server lives.
                proxy.cut();
                eventually(|| callers.iter().filter(|caller| caller.is_finished()).count() == 10);
                proxy.open();
                eventually(|| victim.begun() == 30);
                client.request("open", &json!(null)).unwrap();
                let runs = victim.runs();
                for caller in callers {
                    let (number, end) = caller.join().unwrap();
                    if number % 2 == 0 {
                        assert_eq!((end.unwrap(), runs[&number]), (json!(number), 2));
                    } else {
                        assert_eq!((end.unwrap_err().outcome(), runs[&number]), (Outcome::Unknown, 1));
                    }
                }
            });
        }
    }
}
