//! A log that takes its first line and never returns: nothing of a server may wait for it. A process has one log.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::{ErrorKind, Router, ServerConfig};
use serde_json::json;

use crate::support::faces::{TestServer, Transport};
use crate::support::{each_face, eventually, in_own_process};

struct Stuck;

static TAKEN: AtomicU32 = AtomicU32::new(0);

impl log::Log for Stuck {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "procbridge"
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == "procbridge" {
            TAKEN.fetch_add(1, Ordering::Relaxed);
            loop {
                thread::park();
            }
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_log_that_takes_nothing_stops_neither_calls_nor_the_end_of_a_server() {
    let name = "log_that_blocks::a_log_that_takes_nothing_stops_neither_calls_nor_the_end_of_a_server";
    in_own_process(name, beside_a_stuck_log);
}

fn beside_a_stuck_log() {
    log::set_logger(&Stuck).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    each_face(|face| {
        let config =
            ServerConfig::new().with_max_connections(20).with_handler_timeout(Duration::from_millis(50));
        let router = Router::new()
            .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
            .method("late", || thread::sleep(Duration::from_millis(300)));
        let server = TestServer::start(face, Transport::Unix, router, config);
        // Peers that break the protocol, connections that are too many, calls that are too late.
        let mut wrong: Vec<_> = (0..40).map(|_| server.connect()).collect();
        for stream in &mut wrong {
            let _ = stream.write_all(b"this is no packet");
        }
        eventually(|| TAKEN.load(Ordering::Relaxed) == 1);
        drop(wrong);
        let client = server.client(face);
        for _ in 0..3 {
            eventually(|| client.request("sum", &json!([1, 2])).is_ok());
            assert_eq!(client.request("late", &json!(null)).unwrap_err().kind(), ErrorKind::Remote);
        }
        let begun = Instant::now();
        server.stop();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(TAKEN.load(Ordering::Relaxed), 1);
    });
}
