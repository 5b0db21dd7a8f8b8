//! Several sessions of one server that has few places for calls and few bytes for requests that have not fully arrived.
//! Callers send whole, compressed and unfinished requests, and any bytes.
#![no_main]

use std::alloc::System;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use procbridge_fuzz::{answers, choices, packet, portions, said, session};
use procbridge_proto::{
    CallId, Codec, Connection, Event, HEADER_LENGTH, Limits, Packet, Settings, Status, UnreadRequest,
    Version, flag,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fuzz_target!(|input: &[u8]| {
    let ([count, places, calls, seed], mut rest) = choices(input);
    let (count, places) = (1 + usize::from(count) % 4, usize::from(places) % 6);
    let mut server = Server::new(count, places, 1 + u32::from(calls) % 4);
    for _ in 0..STEPS {
        let Some((&[what, size], behind)) = rest.split_first_chunk() else { break };
        rest = behind;
        let (at, size) = (usize::from(what >> 6) % count, usize::from(size));
        let flags = if what & 0x20 != 0 { flag::ONE_WAY } else { 0 };
        match what & 0x1F {
            0..4 => server.request(at, flags, &plain(size)),
            4..8 => server.request(at, flags | LZ4, &INFLATES[0]),
            8..12 => server.request(at, flags | ZSTD, &INFLATES[1]),
            // The first piece of a request, and one more of it or of an earlier one.
            12..16 => server.request(at, flags | flag::MORE, &vec![b' '; 64 * size]),
            16..20 => server.piece(at, size, flag::MORE),
            20 => server.piece(at, size, 0),
            21 => server.send(at, &packet(Status::CANCEL, 0, server.sessions[at].id(size), b"{}")),
            22 => server.send(at, &packet(Status::GOODBYE, 0, 0, b"{}")),
            23 => server.end(at),
            24..28 => server.answer(size),
            _ => {
                let (bytes, behind) = rest.split_at(size.min(rest.len()));
                portions(bytes, seed).into_iter().for_each(|portion| server.send(at, portion));
                rest = behind;
            }
        }
    }
    server.finish();
});

/// The actions of a program that has one budget for all of its sessions.
struct Server {
    sessions: Vec<Caller>,
    /// Calls that hold a place: their session, and their text if it was not read.
    held: Vec<(usize, CallId, Option<UnreadRequest>)>,
    places: usize,
    max_calls: u32,
}

/// One session, and what its peer has done.
struct Caller {
    end: Connection,
    last_id: u32,
    arrived: usize,
    said: Vec<u8>,
    told: BTreeSet<u32>,
    one_way: BTreeSet<u32>,
    is_over: bool,
}

impl Server {
    fn new(count: usize, places: usize, max_calls: u32) -> Self {
        let limits = Limits::default().with_max_body(MAX_BODY).with_requests_unread();
        let sessions = (0..count).map(|_| {
            let [_, end] = session(limits, Settings::new(), Settings::new().with_max_calls(max_calls));
            let (told, one_way) = Default::default();
            Caller { end, last_id: 1, arrived: 0, said: Vec::new(), told, one_way, is_over: false }
        });
        let mut server = Self { sessions: sessions.collect(), held: Vec::new(), places, max_calls };
        (0..count).for_each(|at| server.send(at, b""));
        server
    }

    fn request(&mut self, at: usize, flags: u8, content: &[u8]) {
        let caller = &mut self.sessions[at];
        caller.last_id += 2;
        let packet = packet(Status::REQUEST, flags, caller.last_id, content);
        self.send(at, &packet);
    }

    /// Sends a piece of an earlier request, which may have ended.
    fn piece(&mut self, at: usize, pick: usize, flags: u8) {
        let id = self.sessions[at].id(pick);
        self.send(at, &packet(Status::REQUEST, flags, id, &[b' '; 2048]));
    }

    fn send(&mut self, at: usize, bytes: &[u8]) {
        let caller = &mut self.sessions[at];
        let region = Region::new(HEAP);
        caller.end.receive(bytes);
        caller.arrived += bytes.len();
        let mut happened = Vec::new();
        while let Some(event) = caller.end.poll_event() {
            match event {
                Event::Request { id, request } => happened.push((id, request.is_one_way(), None)),
                Event::Unread { id, request } => happened.push((id, request.is_one_way(), Some(request))),
                Event::Cancelled { id } => caller.end.decline(id, "cancelled", "the call was cancelled"),
                Event::Closed { .. } => caller.is_over = true,
                _ => {}
            }
        }
        for (id, is_one_way, request) in happened {
            assert!(caller.told.insert(id.number()), "call {} came twice", id.number());
            if is_one_way {
                caller.one_way.insert(id.number());
            }
            // The place is asked for before anything is done for the call.
            if self.held.len() < self.places {
                self.held.push((at, id, request));
            } else {
                caller.end.decline(id, "overloaded", "the server has no place for the call");
            }
        }
        caller.said.extend(said(&mut caller.end));
        let allocated = region.change().bytes_allocated;
        let most = 8 * (caller.arrived + caller.said.len()) + READ;
        assert!(allocated <= most, "{allocated} B allocated for {} B that arrived", caller.arrived);
        assert!(caller.end.served_calls() <= self.max_calls as usize, "more calls than the session takes");
        self.shed();
    }

    /// Gives up unfinished requests, of the session that holds most, until all of them are within the budget.
    fn shed(&mut self) {
        let held = |caller: &Caller| caller.end.held_bytes();
        for caller in &self.sessions {
            let held = held(caller);
            assert!(held <= 2 * caller.arrived + READ, "{held} B held for {} B", caller.arrived);
        }
        let mut rounds = 0;
        while self.sessions.iter().map(held).sum::<usize>() > BUDGET {
            let Some(largest) = self.sessions.iter_mut().max_by_key(|caller| held(caller)) else { return };
            if !largest.end.shed() {
                // The rest is room for the next read.
                assert!(held(largest) <= READ, "{} B held by no request", held(largest));
                return;
            }
            while let Some(event) = largest.end.poll_event() {
                largest.is_over |= matches!(event, Event::Closed { .. });
            }
            largest.said.extend(said(&mut largest.end));
            rounds += 1;
            assert!(rounds <= self.sessions.len() * self.max_calls as usize, "shedding does not end");
        }
    }

    /// Reads and answers a call that has a place.
    fn answer(&mut self, pick: usize) {
        if self.held.is_empty() {
            return;
        }
        let (at, id, request) = self.held.swap_remove(pick % self.held.len());
        let caller = &mut self.sessions[at];
        let most = request.as_ref().map_or(usize::MAX, UnreadRequest::size);
        assert!(request.is_none() || most <= MAX_BODY as usize, "{most} B are promised");
        match request.map(UnreadRequest::read) {
            Some(Err(error)) => match error.answer() {
                Some(answer) => caller.end.decline(id, answer.code, &answer.message),
                None => caller.end.decline(id, "invalid_request", ""),
            },
            read => {
                if let Some(Ok(request)) = read {
                    assert!(request.size() <= most, "{} B, where {most} were promised", request.size());
                }
                // It may have been cancelled and answered.
                let good = Packet::good(Version::V1_1).finish(&Limits::default()).unwrap();
                let _ = caller.end.reply(id, good);
            }
        }
        caller.said.extend(said(&mut caller.end));
    }

    fn end(&mut self, at: usize) {
        self.sessions[at].end.receive_end();
        self.send(at, b"");
    }

    /// Answers what is held, and looks at what every caller was told.
    fn finish(mut self) {
        while !self.held.is_empty() {
            self.answer(0);
        }
        for caller in &mut self.sessions {
            let answered = answers(&caller.said);
            if !caller.is_over {
                let wants_answer = |id: &&u32| !caller.one_way.contains(id);
                for id in caller.told.iter().filter(wants_answer) {
                    assert!(answered.contains_key(id), "call {id} has no answer");
                }
            }
            caller.end.receive_end();
            while caller.end.poll_event().is_some() {}
            assert_eq!(caller.end.served_calls(), 0, "a call is left");
        }
    }
}

impl Caller {
    /// Returns the id of an earlier call.
    fn id(&self, pick: usize) -> u32 {
        let calls = self.last_id / 2 + 1;
        1 + 2 * (pick as u32 % calls)
    }
}

fn plain(size: usize) -> Vec<u8> {
    format!(r#"{{"method":"m","payload":"{}"}}"#, "x".repeat(16 * size)).into_bytes()
}

/// A few hundred bytes for 512 KiB of text, for each codec.
static INFLATES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let payload = format!("\"{}\"", "x".repeat(512 * 1024));
    [Codec::Lz4, Codec::Zstd].map(|codec| {
        let request = Packet::request(Version::V1_1, Some("m"), None).json_text(&payload).unwrap();
        let packet = request.finish(&Limits::default()).unwrap().compressed(codec);
        assert!(packet.codec().is_some());
        packet.bytes()[HEADER_LENGTH..].to_vec()
    })
});

const LZ4: u8 = 0x10;
const ZSTD: u8 = 0x20;
/// Larger than what the compressed requests inflate to: the body limit is not what keeps them from that.
const MAX_BODY: u32 = 1 << 20;
/// Bytes of unfinished requests that the server holds for all sessions.
const BUDGET: usize = 64 * 1024;
/// A session reads up to 96 KiB at a time.
const READ: usize = 256 * 1024;
const STEPS: usize = 300;
