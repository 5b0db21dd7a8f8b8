//! Clients that ask for much and do not read it.

use std::io::Write;
use std::time::{Duration, Instant};

use procbridge::ClientConfig;
use serde_json::json;

use crate::support::faces::{FACES, TestClient, Transport};
use crate::support::wire::{CREDIT, REQUEST, RawStream, STREAM, raw, session_packet};
use crate::support::{eventually, watched};
use crate::{Victim, alone, tell};

/// Far more credit than anything here uses.
const PLENTY: &str = r#"{"items":1000000000,"bytes":1000000000000}"#;
const DEAF: usize = 4;
/// Memory that the server may hold for a peer that does not read: queued packets, and the queue of events.
const HELD_KIB: usize = 40 * 1024;

/// Returns a session with a streamed call and credit without end. Its items are not read.
fn deaf(victim: &Victim, request: &str) -> RawStream {
    let mut stream = raw(&victim.endpoint);
    stream.open_session();
    stream.write_all(&session_packet(REQUEST, STREAM, 3, request)).unwrap();
    stream.write_all(&session_packet(CREDIT, 0, 3, PLENTY)).unwrap();
    stream
}

/// Returns the 99th percentile of 300 calls.
fn p99(client: &TestClient) -> Duration {
    let mut took: Vec<_> = (0..300)
        .map(|n| {
            let began = Instant::now();
            assert_eq!(client.request("echo", &json!(n)).unwrap(), json!(n));
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[296]
}

#[test]
fn a_client_that_does_not_read_its_streams_holds_little_and_nobody_up() {
    let _alone = alone();
    for &server in FACES {
        for transport in [Transport::Tcp, Transport::Unix] {
            watched(move || {
                let victim = Victim::start(server, transport, "impatient");
                let healthy = TestClient::new(FACES[0], &victim.endpoint, ClientConfig::new());
                let (quiet, before) = (p99(&healthy), victim.memory());
                let _deaf: Vec<_> =
                    (0..DEAF).map(|_| deaf(&victim, r#"{"method":"flood","payload":100000}"#)).collect();
                let (mut most, mut slow) = (0, Duration::ZERO);
                // Until the server has given them up.
                eventually(|| {
                    slow = slow.max(p99(&healthy));
                    most = most.max(victim.memory());
                    healthy.counted("sessions", "open") == 1
                });
                let more = most.saturating_sub(before);
                tell(&format!(
                    "{DEAF} deaf streams, {server:?} server, {transport:?}: {more} KiB more; \
                     others' p99 {quiet:?} before, {slow:?} meanwhile"
                ));
                assert!(more < DEAF * HELD_KIB, "{more} KiB");
                assert!(slow < Duration::from_millis(500), "{slow:?}");
            });
        }
    }
}

#[test]
fn a_subscriber_that_does_not_read_its_events_holds_little_and_nobody_up() {
    let _alone = alone();
    for &server in FACES {
        for transport in [Transport::Tcp, Transport::Unix] {
            watched(move || {
                let victim = Victim::start(server, transport, "");
                let healthy = TestClient::new(FACES[0], &victim.endpoint, ClientConfig::new());
                let (quiet, before) = (p99(&healthy), victim.memory());
                let request = r#"{"method":"$/subscribe","payload":{"topics":["flood"]}}"#;
                let _deaf: Vec<_> = (0..DEAF).map(|_| deaf(&victim, request)).collect();
                let publisher = TestClient::new(FACES[0], &victim.endpoint, ClientConfig::new());
                eventually(|| publisher.request("publish", &json!([1, 10])).unwrap() == json!(DEAF));
                let flood = std::thread::spawn(move || {
                    let began = Instant::now();
                    for _ in 0..10 {
                        publisher.request("publish", &json!([1_000, 1_000])).unwrap();
                    }
                    for _ in 0..10 {
                        publisher.request("publish", &json!([10, 400_000])).unwrap();
                    }
                    began.elapsed()
                });
                let (mut most, mut slow) = (0, Duration::ZERO);
                while !flood.is_finished() {
                    slow = slow.max(p99(&healthy));
                    most = most.max(victim.memory());
                }
                let more = most.saturating_sub(before);
                tell(&format!(
                    "{DEAF} deaf subscribers, 50 MB of events in {:?}, {server:?} server, {transport:?}: {more} KiB \
                     more; others' p99 {quiet:?} before, {slow:?} meanwhile",
                    flood.join().unwrap()
                ));
                assert!(more < DEAF * HELD_KIB, "{more} KiB");
                assert!(slow < Duration::from_millis(500), "{slow:?}");
            });
        }
    }
}
