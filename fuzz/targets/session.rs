//! Sessions. Either two ends do what the input says, against the model of the tests. Or one end with calls in flight
//! is given any bytes.
#![no_main]

#[path = "../../crates/procbridge-proto/tests/session_model/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use procbridge_fuzz::{answers, choices, portions, request, said, session, streamed};
use procbridge_proto::{Codec, Connection, Event, Limits, Misuse, Packet, Settings, Version};

use crate::world::{Body, Sort, Step, World};

fuzz_target!(|input: &[u8]| {
    let ([mode], rest) = choices(input);
    if mode & 1 == 0 { one_end(rest) } else { both_ends(rest) }
});

/// Steps of four bytes: what, which call, and how much.
fn both_ends(input: &[u8]) {
    let ([calls, window, bytes, codec], steps) = choices(input);
    let terms = |bits: u8| {
        let calls = [1, 3, 128, 128][usize::from(calls >> bits & 3)];
        let window = 1 + u32::from(window >> bits & 7);
        let bytes = [1, 3000, 1_000_000, 1_000_000][usize::from(bytes >> bits & 3)];
        Settings::new().with_max_calls(calls).with_stream_window(window).with_stream_bytes(bytes)
    };
    let first = body(codec, 0);
    let mut world = World::new([terms(0), terms(4)], first);
    let mut carried = [0; 2];
    for step in steps.chunks_exact(4).take(120) {
        let &[what, pick, size, more] = step else { return };
        let (side, pick) = (usize::from(what >> 7), usize::from(pick));
        let body = body(size, more);
        let step = match what & 0x1F {
            0..6 => {
                let sort = [Sort::Plain, Sort::Streamed, Sort::OneWay][pick % 3];
                Step::Call { side, sort, body }
            }
            6..10 => Step::Reply { side, pick, good: what & 0x40 != 0, body },
            10..14 => Step::Item { side, pick, body },
            14..16 => Step::Consume { side, pick },
            16..18 => Step::Cancel { side, pick },
            18 => Step::Ping { side },
            19 => Step::Shed { side },
            20 => Step::Goodbye { side },
            _ => {
                let bytes = match what & 0x60 {
                    0 => 1 + usize::from(size) % 40,
                    0x20 => 100 + 20 * usize::from(size),
                    0x40 => 65_551,
                    _ => usize::MAX,
                };
                carried[1 - side] += bytes.min(world.ends[side].transmit().len());
                Step::Carry { side, bytes }
            }
        };
        world.step(step);
        for side in 0..2 {
            check_held(&world.ends[side], carried[side] + LARGEST);
        }
    }
    world.settle(first);
    for end in &world.ends {
        check_held(end, LARGEST);
    }
}

fn body(size: u8, more: u8) -> Body {
    let codec = [None, None, Some(Codec::Lz4), Some(Codec::Zstd)][usize::from(more & 3)];
    let size = usize::from(size);
    // Large inputs cost much time, and few of them are enough.
    let size = match more >> 2 {
        0..57 => size % 60,
        57..62 => 900 + 20 * size,
        62 => 65_400 + size,
        _ => 70_000 + 700 * size,
    };
    Body { size, codec }
}

/// No body is larger. The memory of one that was written can be used for one that arrives.
const LARGEST: usize = 256 * 1024;

/// Gives any bytes to an end of a session.
fn one_end(input: &[u8]) {
    let ([how, seed], bytes) = choices(input);
    let whole = seen(how, &[bytes], false);
    let portions = portions(bytes, seed);
    assert_eq!(whole, seen(how, &portions, false));
    assert_eq!(whole, seen(how, &bytes.chunks(1).collect::<Vec<_>>(), false));
    check(&whole.0, &whole.1, how & 2 != 0);
    check_credit(&whole.0);
    // A program that acts on what it is told says more, which depends on when it is told. The same must hold.
    let (events, said) = seen(how, &portions, true);
    check(&events, &said, how & 2 != 0);
}

/// Returns either end with calls of its own in flight, and what it was told so far.
fn established(how: u8) -> (Connection, Vec<Event>) {
    let limits = Limits::default().with_max_body(if how & 4 == 0 { 100_000 } else { 300 });
    let acceptor = Settings::new().with_max_calls(3).with_stream_window(WINDOW);
    let [client, server] = session(limits, Settings::new().with_stream_window(WINDOW), acceptor);
    let mut end = if how & 1 != 0 { server } else { client };
    let events = std::iter::from_fn(|| end.poll_event()).collect();
    // In the order in which the vectors have them.
    end.call(streamed(&limits)).unwrap();
    end.call(request(&limits)).unwrap();
    let cancelled = end.call(streamed(&limits)).unwrap();
    said(&mut end);
    end.cancel(cancelled);
    said(&mut end);
    (end, events)
}

fn seen(how: u8, portions: &[&[u8]], acts: bool) -> (Vec<Event>, Vec<u8>) {
    let (mut end, mut events) = established(how);
    let (mut told, mut arrived) = (Vec::new(), 0);
    for portion in portions {
        end.receive(portion);
        arrived += portion.len();
        check_held(&end, arrived);
        while let Some(event) = end.poll_event() {
            if acts {
                act(&mut end, &event);
            }
            events.push(event);
        }
        if acts {
            told.extend(said(&mut end));
        }
    }
    if how & 2 != 0 {
        end.receive_end();
    }
    events.extend(std::iter::from_fn(|| end.poll_event()));
    told.extend(said(&mut end));
    (events, told)
}

/// Acts as a program that answers at once and takes every item.
fn act(end: &mut Connection, event: &Event) {
    let limits = Limits::default();
    let good = || Packet::good(Version::V1_1).finish(&limits).unwrap();
    match event {
        Event::Request { id, request } => {
            if request.wants_items() {
                let item = Packet::item().json_text("1").unwrap().finish(&limits).unwrap();
                // There may be no credit, and the call may be gone.
                let _ = end.item(*id, item);
            }
            // One in four waits until it is cancelled, or without an end.
            if id.number() % 8 < 6 && end.reply(*id, good()).is_ok() {
                assert_eq!(end.reply(*id, good()), Err(Misuse::UnknownCall));
            }
        }
        Event::Cancelled { id } => drop(end.reply(*id, good())),
        Event::Item { id, item } => end.consumed(*id, 1, item.size()),
        _ => {}
    }
}

/// Checks what must hold of any input: one end of each call and of the session.
fn check(events: &[Event], said: &[u8], ends: bool) {
    let mut ended = BTreeSet::new();
    let mut requests = BTreeSet::new();
    let mut closed = 0;
    for event in events {
        assert_eq!(closed, 0, "nothing comes behind the end");
        match event {
            Event::Response { id, .. } | Event::NotRun { id } => {
                assert!(ended.insert(*id), "{id:?} ended twice")
            }
            // Of an item that cannot be read, which ends the call, or of an answer.
            Event::Failed { id, .. } => assert!(ended.insert(*id), "{id:?} ended twice"),
            Event::Item { id, .. } => assert!(!ended.contains(id), "an item behind the end of {id:?}"),
            Event::Request { id, .. } => assert!(requests.insert(*id), "{id:?} came twice"),
            Event::Cancelled { id } | Event::Credit { id } => assert!(requests.contains(id)),
            Event::Closed { .. } => closed += 1,
            _ => {}
        }
    }
    assert!(closed <= 1 && (!ends || closed == 1));
    answers(said);
}

/// Checks that a program that takes no items is given no more than it said it takes ahead.
fn check_credit(events: &[Event]) {
    let mut items = BTreeMap::new();
    for event in events {
        if let Event::Item { id, .. } = event {
            *items.entry(*id).or_insert(0) += 1;
        }
    }
    assert!(items.values().all(|&items| items <= WINDOW), "more items than there was credit for: {items:?}");
}

/// Items that an end takes ahead.
const WINDOW: u32 = 2;

/// Checks that memory follows the bytes that arrived: buffers at most double, and have room for a read of 96 KiB.
fn check_held(end: &Connection, arrived: usize) {
    let held = end.held_bytes();
    assert!(held <= 2 * arrived + 200 * 1024, "{held} B held for {arrived} B");
}
