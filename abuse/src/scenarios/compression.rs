//! Messages that are small on the way and large where they arrive, and such as cannot be inflated.

use std::io;
use std::time::Duration;

use super::bodies::flood;
use crate::connection::Session;
use crate::field::Field;
use crate::packet::{self, LZ4, REQUEST, ZSTD};
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, Scenario, USUAL};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "zstd_bombs",
        faults: "H1",
        about: "8 sessions with 60 requests a second of 550 bytes each that inflate to 15 MiB",
        attack: |field| bombs(field, 8, 60, ZSTD, &zstd_bomb()),
        targets: ALL_SERVERS,
        bounds: INFLATED,
        ..USUAL
    },
    Scenario {
        name: "many_zstd_bombs",
        faults: "H1",
        about: "8 sessions with 150 requests a second of 550 bytes each that inflate to 15 MiB",
        attack: |field| bombs(field, 8, 150, ZSTD, &zstd_bomb()),
        bounds: INFLATED,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "zstd_bombs_in_one_write",
        faults: "H1",
        about: "one session that sends 400 such requests in one write, once a second",
        attack: |field| {
            let bomb = zstd_bomb();
            field.sessions(1, |_, session| {
                field.at_rate(1, |_| {
                    let burst: Vec<_> = (0..400)
                        .flat_map(|_| packet::packet(REQUEST, ZSTD, session.next_id(), &bomb))
                        .collect();
                    session.send(&burst)?;
                    session.connection.discard(1 << 20).map(drop)
                })
            });
        },
        targets: ALL_SERVERS,
        bounds: INFLATED,
        ..USUAL
    },
    Scenario {
        name: "lz4_bombs",
        faults: "H1",
        about: "8 sessions with 8 requests a second of 62 KB each that inflate to 15 MiB",
        attack: |field| bombs(field, 8, 8, LZ4, &lz4_bomb()),
        bounds: INFLATED,
        ..USUAL
    },
    Scenario {
        name: "bombs_beyond_the_calls",
        faults: "H1",
        about: "a server of 64 calls has 120 slow ones and gets 200 bombs a second: few are inflated",
        attack: |field| {
            let bomb = zstd_bomb();
            let mut open = field.open_sessions(3);
            for session in &mut open {
                for _ in 0..40 {
                    let _ = session.begin(0, packet::text("sleep", "30").as_bytes());
                }
            }
            field.sessions(1, |_, session| flood_with(field, session, 200, ZSTD, &bomb));
        },
        settings: &[("max_concurrent_calls", 64)],
        // A session may inflate 64 MiB at once beyond what it sends.
        bounds: Bounds { memory: 96.0, cores: 0.25, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "bombs_beyond_the_body",
        faults: "table",
        about: "4 sessions with 50 requests a second each that would inflate to 64 MiB",
        attack: |field| bombs(field, 4, 50, ZSTD, &zstd(&text(64 << 20))),
        is_short: false,
        bounds: INFLATED,
        ..USUAL
    },
    Scenario {
        name: "broken_compression",
        faults: "table",
        about: "4 sessions with 300 requests a second each that cannot be inflated",
        attack: |field| {
            let broken = packet::noise(7, 2_000);
            field.sessions(4, |number, session| {
                flood_with(field, session, 300, if number % 2 == 0 { ZSTD } else { LZ4 }, &broken)
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "sizes_declared_in_vain",
        faults: "table",
        about: "4 sessions with 300 requests a second each that declare 16 MiB and have 70 KB",
        attack: |field| {
            // LZ4 would allocate what is declared; a block of 66 KB may stand for 16 MiB.
            let lz4 = [&(16_u32 << 20).to_le_bytes()[..], &[0xff; 66_000]].concat();
            field.sessions(4, |_, session| flood_with(field, session, 75, LZ4, &lz4));
        },
        is_short: false,
        bounds: INFLATED,
        ..USUAL
    },
];

/// The calls that are admitted bound how much is inflated at a time.
const INFLATED: Bounds = Bounds { memory: 390.0, ..BOUNDS };

/// Returns a text of so many bytes that is worth nothing.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = br#"{"method":"sleep","payload":3,"pad":""#.to_vec();
    text.resize(bytes - 2, b'a');
    text.extend_from_slice(b"\"}");
    text
}

pub(super) fn zstd_bomb() -> Vec<u8> {
    zstd(&text(15 << 20))
}

pub(super) fn zstd(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; zstd_safe::compress_bound(text.len())];
    let length = zstd_safe::compress(&mut out[..], text, 3).expect("zstd compresses");
    out.truncate(length);
    out
}

fn lz4_bomb() -> Vec<u8> {
    let text = text(15 << 20);
    let length = u32::try_from(text.len()).expect("a text fits its length");
    [&length.to_le_bytes()[..], &lz4_flex::block::compress(&text)].concat()
}

fn bombs(field: &Field<'_>, sessions: usize, a_second: u32, codec: u8, bomb: &[u8]) {
    field.sessions(sessions, |_, session| flood_with(field, session, a_second, codec, bomb));
}

fn flood_with(
    field: &Field<'_>,
    session: &mut Session,
    a_second: u32,
    codec: u8,
    content: &[u8],
) -> io::Result<()> {
    let first = session.next_id();
    session.connection.write_within(Duration::from_secs(1))?;
    let first = first.max(1_001);
    flood(field, session, a_second, |turn| packet::packet(REQUEST, codec, first + 2 * turn as u32, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_small() {
        assert!(zstd_bomb().len() < 1_500);
        assert!(lz4_bomb().len() < 70_000);
    }

    #[test]
    fn a_bomb_is_a_call_once_it_is_inflated() {
        let text = text(2_000);
        assert_eq!(text.len(), 2_000);
        let mut out = vec![0; 2_000];
        let length = zstd_safe::decompress(&mut out[..], &zstd(&text)).unwrap();
        assert_eq!(out[..length], text);
    }
}
