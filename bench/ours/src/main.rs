//! ProcBridge itself, with all of its limits and timeouts at their defaults.
//!
//! | contender | what it does |
//! |---|---|
//! | `blocking`, `tokio` | one session, which all calls in flight share |
//! | `blocking-classic`, `tokio-classic` | a connection for each call |
//! | `blocking-value`, `tokio-value` | as `blocking` and `tokio`, with large payloads too as trees of values |
//! | `blocking-text`, `tokio-text` | the same, with small payloads too as JSON text, which is checked |
//! | `blocking-spin` | both sides look for up to 50 us before they wait |
//! | `blocking-first` | a new session for each measurement, of which the first large call counts |
//! | `blocking-beside`, `tokio-beside` | small calls on a session that carries large ones all the time |
//! | `blocking-idle`, `tokio-idle` | many sessions that do nothing |
//!
//! Small payloads go in and come out as [`serde_json::Value`] on both sides; large ones as the JSON text that they are.

mod blocking;
mod settings;
mod special;
mod tokio_face;

use std::process::ExitCode;

use contender::Contender;

use settings::Kind;

fn main() -> ExitCode {
    contender::main(&[
        Contender {
            name: "blocking",
            serve: blocking::serve,
            call: |run| blocking::call(run, Kind::SESSION),
        },
        Contender {
            name: "blocking-spin",
            serve: blocking::serve_spinning,
            call: |run| blocking::call(run, Kind::SESSION.with_spin()),
        },
        Contender {
            name: "blocking-value",
            serve: blocking::serve,
            call: |run| blocking::call(run, Kind::SESSION.with_values()),
        },
        Contender {
            name: "blocking-text",
            serve: blocking::serve,
            call: |run| blocking::call(run, Kind::SESSION.with_text()),
        },
        Contender {
            name: "blocking-classic",
            serve: blocking::serve,
            call: |run| blocking::call(run, Kind::CLASSIC),
        },
        Contender {
            name: "tokio",
            serve: tokio_face::serve,
            call: |run| tokio_face::call(run, Kind::SESSION),
        },
        Contender {
            name: "tokio-value",
            serve: tokio_face::serve,
            call: |run| tokio_face::call(run, Kind::SESSION.with_values()),
        },
        Contender {
            name: "tokio-text",
            serve: tokio_face::serve,
            call: |run| tokio_face::call(run, Kind::SESSION.with_text()),
        },
        Contender {
            name: "tokio-classic",
            serve: tokio_face::serve,
            call: |run| tokio_face::call(run, Kind::CLASSIC),
        },
        Contender { name: "blocking-first", serve: blocking::serve, call: special::first },
        Contender { name: "blocking-beside", serve: blocking::serve, call: special::beside },
        Contender { name: "tokio-beside", serve: tokio_face::serve, call: special::beside_tokio },
        Contender { name: "blocking-idle", serve: blocking::serve, call: special::idle },
        Contender { name: "tokio-idle", serve: tokio_face::serve, call: special::idle_tokio },
    ])
}
