//! The actions that a program's log may take while a line is written to it. A process has one log.

use std::io::Write;
use std::sync::OnceLock;

use procbridge::{Hub, Router, ServerConfig};
use serde_json::json;

use crate::support::faces::TestServer;
use crate::support::wire::{ITEM, REQUEST, STREAM, session_packet};
use crate::support::{everywhere_with_sessions, in_own_process};

/// A log whose lines are events, also those about who has subscribed to them.
struct Published;

static HUB: OnceLock<Hub> = OnceLock::new();

impl log::Log for Published {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "procbridge"
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = HUB.get().unwrap().publish("log", &record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn a_line_may_be_published_to_the_session_that_it_is_about() {
    in_own_process("log::a_line_may_be_published_to_the_session_that_it_is_about", publish);
}

fn publish() {
    HUB.set(Hub::new()).unwrap();
    log::set_logger(&Published).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    everywhere_with_sessions(|server, client, transport| {
        let hub = HUB.get().unwrap();
        let router = Router::new().events(hub).method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let mut wrong = server.connect();
        wrong.open_session();
        let wanted = r#"{"method":"$/subscribe","payload":{"topics":["log"]}}"#;
        wrong.write_all(&session_packet(REQUEST, STREAM, 3, wanted)).unwrap();
        assert_eq!(wrong.packet().unwrap().kind, ITEM);
        wrong.write_all(b"this is no packet").unwrap();
        while wrong.packet().is_some() {}
        assert_eq!(server.client(client).request("sum", &json!([1])).unwrap(), json!(1));
        server.stop();
    });
}
