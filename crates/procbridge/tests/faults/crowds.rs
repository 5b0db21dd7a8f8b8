//! Ten thousand calls at once on one session.

use std::time::Instant;

use procbridge::{Client, ClientConfig, Error, ReplyError, code};
use serde_json::{Value, json};

use crate::support::faces::{FACES, Face, TestClient, Transport};
use crate::support::{eventually, watched};
use crate::{Victim, alone, memory_of, tell};

const CALLS: usize = 10_000;
/// Of a blocking server that is a thread each, so that it is most of what it has.
const HELD_KIB: usize = 600 * 1024;

/// Begins `CALLS` calls, does `meanwhile` when they are on their way, and gives their ends.
fn crowd(face: Face, victim: &Victim, meanwhile: impl FnOnce()) -> Vec<(usize, Result<Value, Error>)> {
    match face {
        Face::Blocking => {
            // A call that is begun as a stream needs no thread that waits.
            let client = Client::new(&victim.endpoint).unwrap();
            client.request::<Value>("echo", &()).unwrap();
            let calls: Vec<_> =
                (0..CALLS).map(|n| (n, client.stream::<Value>("wait", &n).unwrap())).collect();
            meanwhile();
            calls.into_iter().map(|(n, call)| (n, call.finish())).collect()
        }
        #[cfg(feature = "tokio")]
        Face::Tokio => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            // A call that is held back is not in flight.
            let config = ClientConfig::new().with_queue_timeout(None);
            let client = procbridge::tokio::Client::with_config(&victim.endpoint, config).unwrap();
            runtime.block_on(client.request::<Value>("echo", &())).unwrap();
            let calls: Vec<_> = (0..CALLS)
                .map(|n| (n, runtime.spawn(client.call("wait").payload(&n).send::<Value>())))
                .collect();
            meanwhile();
            calls.into_iter().map(|(n, call)| (n, runtime.block_on(call).unwrap())).collect()
        }
    }
}

#[test]
fn ten_thousand_calls_are_in_flight_on_one_session() {
    let _alone = alone();
    for &server in FACES {
        for &client in FACES {
            watched(move || {
                let victim = Victim::start(server, Transport::Unix, "many");
                let other = TestClient::new(Face::Blocking, &victim.endpoint, ClientConfig::new());
                let (ours, before, began) = (memory_of("self"), victim.memory(), Instant::now());
                let ends = crowd(client, &victim, || {
                    eventually(|| victim.begun() == CALLS);
                    let there = began.elapsed();
                    let more = victim.memory().saturating_sub(before);
                    tell(&format!(
                        "10,000 calls in flight on one session, {client:?} client, {server:?} server: there after \
                         {there:?}; {more} KiB more in the server, {} in the client",
                        memory_of("self").saturating_sub(ours)
                    ));
                    assert!(more < HELD_KIB, "{more} KiB");
                    other.request("open", &json!(null)).unwrap();
                });
                for (number, end) in ends {
                    assert_eq!(end.unwrap(), json!(number));
                }
                tell(&format!("all answered after {:?}", began.elapsed()));
                assert!(victim.runs().values().all(|&runs| runs == 1));
                assert_eq!(other.counted("sessions", "total"), 2);
            });
        }
    }
}

#[test]
fn ten_thousand_calls_beyond_the_limit_are_all_answered() {
    let _alone = alone();
    for &server in FACES {
        for &client in FACES {
            watched(move || {
                let victim = Victim::start(server, Transport::Unix, "");
                let other = TestClient::new(Face::Blocking, &victim.endpoint, ClientConfig::new());
                let (before, began) = (victim.memory(), Instant::now());
                let ends = crowd(client, &victim, || {
                    eventually(|| victim.begun() == 128);
                    // Their refusals are there when the last call's is; then the others may go on.
                    eventually(|| other.counted("bytes", "in") > 400_000);
                    let more = victim.memory().saturating_sub(before);
                    tell(&format!(
                        "10,000 calls against the default limits, {client:?} client, {server:?} server: {more} KiB \
                         more after {:?}",
                        began.elapsed()
                    ));
                    assert!(more < 64 * 1024, "{more} KiB");
                    other.request("open", &json!(null)).unwrap();
                });
                let runs = victim.runs();
                let mut answered = 0;
                for (number, end) in ends {
                    match end {
                        Ok(value) => {
                            assert_eq!((value, runs[&number]), (json!(number), 1));
                            answered += 1;
                        }
                        Err(error) => {
                            let code = error.remote().and_then(ReplyError::code);
                            assert_eq!(code, Some(code::OVERLOADED), "{error:?}");
                            assert_eq!(runs.get(&number), None);
                        }
                    }
                }
                assert!((128..CALLS).contains(&answered), "{answered}");
                assert_eq!(other.counted("sessions", "total"), 2);
            });
        }
    }
}
