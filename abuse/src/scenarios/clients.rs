//! Servers that mean harm, before clients of each face and the command line. The honest clients' server is beside them.

use std::time::{Duration, Instant};

use super::compression::zstd;
use crate::field::Field;
use crate::hostile::{Ended, Hostile, Program, Victim, client};
use crate::packet::{self, BAD, GOOD, GOODBYE, HELLO, ITEM, MORE, PONG, REQUEST, SESSION, ZSTD};
use crate::scenario::{ALL_SERVERS, DEMO, Scenario, USUAL};
use crate::server::Target;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "client_of_a_server_that_says_goodbye",
        faults: "H5",
        about: "a server that accepts, answers `$/ping` and says GOODBYE, at clients that need a session",
        attack: goodbye_loop,
        targets: ALL_SERVERS,
        time: (Duration::from_secs(4), Duration::from_secs(3)),
        ..USUAL
    },
    Scenario {
        name: "client_of_a_server_that_cuts",
        faults: "G-I",
        about: "a server that closes each session after its first answer; a subscriber comes again",
        attack: cut_loop,
        targets: ALL_SERVERS,
        is_short: false,
        time: (Duration::from_secs(4), Duration::from_secs(3)),
        ..USUAL
    },
    Scenario {
        name: "client_flooded_with_pongs",
        faults: "H4",
        about: "a server that answers one call and then sends PONGs as fast as it can",
        attack: |field| {
            timed(field, 2, |victim| {
                if accept(victim, br#"{"payload":1}"#).is_ok() {
                    let pongs = packet::packet(PONG, 0, 0, b"{}").repeat(4_000);
                    // The second call begins before the flood does.
                    std::thread::sleep(Duration::from_millis(100));
                    while !victim.is_over() && victim.connection.send(&pongs).is_ok() {}
                }
            });
        },
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_of_a_server_that_says_nothing",
        faults: "G-D",
        about: "a server that accepts and never writes",
        attack: |field| drop(timed(field, 1, |victim| victim.hold())),
        targets: ALL_SERVERS,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "client_of_a_server_that_drips",
        faults: "table",
        about: "a server whose answer comes byte by byte and never ends",
        attack: |field| {
            timed(field, 1, |victim| {
                let answer = packet::header(GOOD, 0, 0, 1_000);
                for byte in answer.iter().chain(std::iter::repeat(&b' ')) {
                    std::thread::sleep(Duration::from_millis(20));
                    if victim.is_over() || victim.connection.send(&[*byte]).is_err() {
                        return;
                    }
                }
            });
        },
        is_short: false,
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_of_a_server_that_announces",
        faults: "table",
        about: "a server whose answer announces 16 MiB and has 10 bytes",
        attack: |field| {
            let ended = timed(field, 1, |victim| {
                let header = packet::header(GOOD, 0, 0, 16 << 20);
                let _ = victim.connection.send(&[&header[..], b"{\"payload\""].concat());
                victim.hold();
            });
            field.at_most("MiB of the client", mib(&ended), 24.0);
        },
        is_short: false,
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_of_a_server_with_a_bomb",
        faults: "table",
        about: "a server that answers with 3 KB that inflate to 32 MiB",
        attack: |field| {
            let mut text = br#"{"payload":""#.to_vec();
            text.resize(32 << 20, b'a');
            text.extend_from_slice(b"\"}");
            let bomb = zstd(&text);
            let ended = timed(field, 1, move |victim| {
                let hello = packet::classic(HELLO, SESSION, 3, br#"{"session":1}"#);
                let answer = packet::packet(GOOD, ZSTD, 1, &bomb);
                let _ = victim.connection.send(&[hello, answer].concat());
                victim.hold();
            });
            field.at_most("MiB of the client", mib(&ended), 64.0);
        },
        targets: ALL_SERVERS,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "client_of_a_server_with_a_long_name",
        faults: "H8",
        about: "a server whose HELLO has a name of 15 MiB",
        attack: |field| {
            let name = "n".repeat(15 << 20);
            let hello =
                packet::classic(HELLO, SESSION, 3, format!(r#"{{"session":1,"name":"{name}"}}"#).as_bytes());
            let ended = timed(field, 1, move |victim| {
                let _ = victim.connection.send(&hello);
                let _ = victim.connection.send(&packet::packet(GOOD, 0, 1, br#"{"payload":1}"#));
                victim.hold();
            });
            field.at_most("MiB of the client", mib(&ended), 72.0);
        },
        is_short: false,
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_of_a_server_of_another_protocol",
        faults: "table",
        about: "servers that answer with HTTP, random bytes and nothing but an end",
        attack: |field| {
            let http = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec();
            for answer in [http, packet::noise(5, 3_000), Vec::new()] {
                timed(field, 1, move |victim| {
                    let _ = victim.connection.answer();
                    let _ = victim.connection.send(&answer);
                });
            }
        },
        is_short: false,
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_with_items_unasked",
        faults: "table",
        about: "a server that sends items for a call that is no stream, and pieces that never end",
        attack: |field| {
            for kind in [ITEM, GOOD] {
                let ended = timed(field, 1, move |victim| {
                    let hello = packet::classic(HELLO, SESSION, 3, br#"{"session":1}"#);
                    let _ = victim.connection.send(&hello);
                    let piece = packet::packet(kind, MORE, 1, &[b' '; 60_000]);
                    while !victim.is_over() && victim.connection.send(&piece).is_ok() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
                field.at_most("MiB of the client", mib(&ended), 64.0);
            }
        },
        is_short: false,
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_called_by_its_server",
        faults: "table",
        about: "a server that answers a call with 100,000 calls of its own",
        attack: |field| {
            let ended = timed(field, 1, |victim| {
                let hello = packet::classic(HELLO, SESSION, 3, br#"{"session":1}"#);
                let _ = victim.connection.send(&hello);
                let mut id = 2_u32;
                while !victim.is_over() && id < 200_000 {
                    let calls: Vec<u8> = (0..100)
                        .flat_map(|number| packet::packet(REQUEST, 0, id + 2 * number, br#"{"method":"m"}"#))
                        .collect();
                    id += 200;
                    if victim.connection.send(&calls).is_err() {
                        return;
                    }
                }
                victim.hold();
            });
            field.at_most("MiB of the client", mib(&ended), 64.0);
        },
        is_short: false,
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_of_a_full_server",
        faults: "H10",
        about: "a server that answers everything `overloaded`: clients say so",
        attack: full_server,
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "client_whose_call_was_never_sent",
        faults: "H11",
        about: "a server that reads `$/ping` and closes: a call over a session is not sent",
        attack: |field| {
            let Ok(server) = Hostile::start(|victim| drop(victim.connection.answer())) else { return };
            let arguments =
                ["call", "--session", "--json", "--timeout", "2s", &server.endpoint(), "pay", "1"];
            let ended = client(Program::CommandLine, &arguments, Duration::from_secs(5));
            let is_not_sent = ended.output.contains(r#""outcome":"not_sent""#);
            field.at_least("told as not sent", f64::from(u8::from(is_not_sent)), 1.0);
            field.hold();
        },
        targets: DEMO,
        ..USUAL
    },
    Scenario {
        name: "client_streaming_from_a_mute_server",
        faults: "G-D",
        about: "a server that accepts and never writes; the first call is a stream with a limit",
        attack: |field| {
            let Ok(server) = Hostile::start(|victim| victim.hold()) else { return };
            let arguments = ["call", "--stream", "--timeout", "500ms", &server.endpoint(), "count", "{}"];
            let ended = client(Program::CommandLine, &arguments, Duration::from_secs(4));
            let took = ended.took.map_or(99_000.0, |took| took.as_secs_f64() * 1e3);
            field.at_most("ms until the call ended", took, LATE_MS);
        },
        targets: DEMO,
        is_short: false,
        time: (Duration::from_secs(4), Duration::from_secs(2)),
        ..USUAL
    },
];

/// The limit of a client's call.
const LIMIT_MS: f64 = 500.0;

/// When a call with that limit must have ended, the start of the program included.
const LATE_MS: f64 = 900.0;

fn mib(ended: &Ended) -> f64 {
    ended.peak_kib as f64 / 1024.0
}

/// Accepts the session that is offered, and answers the first call.
fn accept(victim: &mut Victim, answer: &[u8]) -> std::io::Result<()> {
    victim.connection.answer()?;
    let hello = packet::classic(HELLO, SESSION, 3, br#"{"session":1}"#);
    victim.connection.send(&[hello, packet::packet(GOOD, 0, 1, answer)].concat())
}

/// Lets a client make calls of 500 ms at such a server. Each must have ended in time.
fn timed(field: &Field<'_>, calls: u32, treat: impl Fn(&mut Victim) + Send + Sync + 'static) -> Ended {
    let Ok(server) = Hostile::start(treat) else { return Ended::default() };
    let (endpoint, calls) = (server.endpoint(), calls.to_string());
    match field.server.target {
        Target::Demo => {
            let limit = format!("{LIMIT_MS}ms");
            let mut ended = Ended::default();
            for _ in 0..2 {
                let arguments = ["call", "--timeout", &limit, &endpoint, "echo", "1"];
                ended = client(Program::CommandLine, &arguments, Duration::from_secs(4));
            }
            let took = ended.took.map_or(99_000.0, |took| took.as_secs_f64() * 1e3);
            field.at_most("ms until the call ended", took, LATE_MS);
            ended
        }
        target => {
            let (face, limit) = (target.to_string(), LIMIT_MS.to_string());
            let arguments = ["call", &face, &endpoint, &calls, &limit];
            let ended = client(Program::Peer, &arguments, Duration::from_secs(6));
            let longest = if ended.took.is_some() { ended.longest_call() } else { 99_000.0 };
            field.at_most("ms until the call ended", longest, LATE_MS);
            ended
        }
    }
}

/// Makes a client need a session, and counts how often it comes.
fn coming(field: &Field<'_>, mode: &str, treat: impl Fn(&mut Victim) + Send + Sync + 'static) {
    let Ok(server) = Hostile::start(treat) else { return };
    let endpoint = server.endpoint();
    let time = field.until.saturating_duration_since(Instant::now());
    let ended = match field.server.target {
        Target::Demo => client(Program::CommandLine, &["watch", &endpoint, "*"], time),
        target => {
            let arguments = [mode, &target.to_string(), &endpoint, &time.as_millis().to_string()];
            client(Program::Peer, &arguments, time + Duration::from_secs(1))
        }
    };
    // The whole time counts. A client that gives its call up comes no more, and pauses are random: ten of them may be
    // over in a second.
    let seconds = time.as_secs_f64();
    field.at_most("connections", server.connections() as f64, 4.0 + 4.0 * seconds);
    field.at_most("processors of the client", ended.cpu.as_secs_f64() / seconds, 0.05);
    field.hold();
}

fn goodbye_loop(field: &Field<'_>) {
    coming(field, "require", |victim| {
        if accept(victim, b"{}").is_ok() {
            let goodbye = br#"{"last_id":4294967295,"reason":"idle"}"#;
            let _ = victim.connection.send(&packet::packet(GOODBYE, 0, 0, goodbye));
            victim.hold();
        }
    });
}

fn cut_loop(field: &Field<'_>) {
    coming(field, "subscribe", |victim| drop(accept(victim, b"{}")));
}

fn full_server(field: &Field<'_>) {
    let refuse = |victim: &mut Victim| {
        if victim.connection.answer().is_ok() {
            let body = br#"{"message":"the server is full","code":"overloaded"}"#;
            let _ = victim.connection.send(&packet::classic(BAD, 0, 0, body));
            victim.connection.finish_writing();
            victim.hold();
        }
    };
    let Ok(server) = Hostile::start(refuse) else { return };
    let endpoint = server.endpoint();
    let told = |ended: &Ended| {
        let is_wrong =
            ended.output.contains("holds no sessions") || ended.output.contains("has no \"$/subscribe\"");
        f64::from(u8::from(!is_wrong))
    };
    match field.server.target {
        Target::Demo => {
            let call = ["call", "--session", "--timeout", "1s", &endpoint, "echo", "1"];
            let ended = client(Program::CommandLine, &call, Duration::from_secs(3));
            field.at_least("call tells no other reason", told(&ended), 1.0);
            let ended = client(Program::CommandLine, &["watch", &endpoint, "*"], Duration::from_secs(1));
            field.at_least("watch tells no other reason", told(&ended), 1.0);
            // It waits for a server that it has watched before. At the start it says what is wrong and ends.
            field.at_least("watch ends", f64::from(u8::from(ended.took.is_some())), 1.0);
        }
        target => {
            let arguments = ["subscribe", &target.to_string(), &endpoint, "1000"];
            let ended = client(Program::Peer, &arguments, Duration::from_secs(3));
            field.at_least("subscribe tells no other reason", told(&ended), 1.0);
        }
    }
}
