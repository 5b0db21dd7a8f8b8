//! A simple model of a session and of the programs at both its ends, which says of each event whether it may come. The
//! test draws the steps by chance; `fuzz/` looks for those that reach what no steps reached before.

use std::collections::BTreeMap;

use procbridge_proto::{
    CallId, Codec, Connection, Event, Limits, Misuse, Packet, PacketBuilder, Response, Settings, Version,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Plain,
    Streamed,
    OneWay,
}

/// The next action, by side 0, the opener, or side 1. A number picks one of the calls that it can be done to.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Call { side: usize, sort: Sort, body: Body },
    Reply { side: usize, pick: usize, good: bool, body: Body },
    Item { side: usize, pick: usize, body: Body },
    Consume { side: usize, pick: usize },
    Cancel { side: usize, pick: usize },
    Ping { side: usize },
    Goodbye { side: usize },
    Shed { side: usize },
    Carry { side: usize, bytes: usize },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    pub(crate) size: usize,
    pub(crate) codec: Option<Codec>,
}

/// A call as its caller's program and its callee's see it.
#[derive(Debug, Default)]
struct Call {
    sort: Option<Sort>,
    payload: String,
    /// It reached the callee's program, which answered it.
    seen: bool,
    replied: Option<Result<String, String>>,
    told_to_stop: bool,
    items_sent: Vec<String>,
    /// It was given up, and came to its end: at most once.
    cancelled: bool,
    ended: bool,
    items_got: usize,
    items_taken: usize,
    bytes_unread: u64,
}

pub(crate) struct World {
    pub(crate) ends: [Connection; 2],
    /// Calls by caller and id.
    calls: [BTreeMap<CallId, Call>; 2],
    window: [usize; 2],
    established: [usize; 2],
    pings: usize,
    pongs: usize,
    goodbyes: [bool; 2],
}

impl Call {
    fn is_served(&self) -> bool {
        self.seen && self.replied.is_none()
    }
}

impl World {
    pub(crate) fn new(terms: [Settings; 2], body: Body) -> Self {
        let limits = Limits::default();
        let window = [0, 1].map(|side: usize| usize::try_from(terms[side].stream_window()).unwrap());
        let [opener, acceptor] = terms;
        let ends = [
            // Its program reads what is compressed or large.
            Connection::client(limits.with_answers_unread()).with_session(opener),
            Connection::server(limits).with_session(acceptor),
        ];
        let calls = [BTreeMap::new(), BTreeMap::new()];
        let mut world =
            Self { ends, calls, window, established: [0; 2], pings: 0, pongs: 0, goodbyes: [false; 2] };
        world.call(0, Sort::Plain, Body { codec: None, ..body });
        world
    }

    fn call(&mut self, side: usize, sort: Sort, body: Body) {
        let payload = text(&format!("c{side}-{}", self.calls[side].len()), body.size);
        let builder = Packet::request(Version::V1_1, Some("m"), None);
        let builder = match sort {
            Sort::Plain => builder,
            Sort::Streamed => builder.stream(),
            Sort::OneWay => builder.one_way(),
        };
        let packet = self.packet(side, builder, &payload, body);
        match self.ends[side].call(packet) {
            Ok(id) => {
                let call = Call { sort: Some(sort), payload, ..Call::default() };
                assert!(self.calls[side].insert(id, call).is_none(), "an id names one call");
            }
            Err(Misuse::GoingAway) => assert!(self.goodbyes != [false; 2]),
            Err(Misuse::PeerTakesNoCalls) => assert_eq!(side, 1),
            Err(Misuse::NoCallPossible) => assert!(!self.ends[side].is_session()),
            Err(other) => panic!("{other}"),
        }
    }

    fn packet(&self, side: usize, builder: PacketBuilder, payload: &str, body: Body) -> Packet {
        let packet = builder.json_text(payload).unwrap().finish(&Limits::default()).unwrap();
        match body.codec {
            Some(codec) if self.ends[side].peer().is_some_and(|peer| peer.codecs().contains(codec)) => {
                packet.compressed(codec)
            }
            _ => packet,
        }
    }

    /// Returns one of the calls made by `caller` that `fits`.
    fn pick(&self, caller: usize, pick: usize, fits: impl Fn(&Call) -> bool) -> Option<CallId> {
        let all: Vec<_> =
            self.calls[caller].iter().filter(|(_, call)| fits(call)).map(|(&id, _)| id).collect();
        all.get(pick.checked_rem(all.len())?).copied()
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Call { side, sort, body } => self.call(side, sort, body),
            Step::Reply { side, pick, good, body } => {
                if let Some(id) = self.pick(1 - side, pick, Call::is_served) {
                    self.reply(side, id, good, body);
                }
            }
            Step::Item { side, pick, body } => {
                let streamed = |call: &Call| call.is_served() && call.sort == Some(Sort::Streamed);
                let Some(id) = self.pick(1 - side, pick, streamed) else { return };
                let call = &self.calls[1 - side][&id];
                let payload = text(&format!("i{}-{}", id.number(), call.items_sent.len()), body.size);
                let packet = self.packet(side, Packet::item(), &payload, body);
                let may = self.ends[side].may_send_item(id);
                let call = self.calls[1 - side].get_mut(&id).unwrap();
                match self.ends[side].item(id, packet) {
                    Ok(()) => {
                        call.items_sent.push(payload);
                        // The opening call was made before its side could tell its window.
                        let window = if id.number() == 1 { 64 } else { self.window[1 - side] };
                        assert!(may && call.items_sent.len() <= window + call.items_taken);
                    }
                    Err(Misuse::NoCredit) => assert!(!may),
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Consume { side, pick } => {
                let Some(id) = self.pick(side, pick, |call| call.items_got > call.items_taken) else {
                    return;
                };
                let call = self.calls[side].get_mut(&id).unwrap();
                let items = call.items_got - call.items_taken;
                call.items_taken = call.items_got;
                let bytes = std::mem::take(&mut call.bytes_unread);
                self.ends[side].consumed(id, items as u64, bytes);
            }
            Step::Cancel { side, pick } => {
                if !self.ends[side].is_session() {
                    return;
                }
                let alive = |call: &Call| !call.ended && !call.cancelled && call.sort != Some(Sort::OneWay);
                let Some(id) = self.pick(side, pick, alive) else { return };
                let unsent = !self.ends[side].was_sent(id);
                self.ends[side].cancel(id);
                let call = self.calls[side].get_mut(&id).unwrap();
                call.cancelled = true;
                if unsent {
                    assert!(!call.seen);
                    assert_eq!(self.ends[side].poll_event(), Some(Event::NotRun { id }));
                    call.ended = true;
                }
            }
            Step::Ping { side } => {
                if self.ends[side].is_session() {
                    self.ends[side].ping();
                    self.pings += 1;
                }
            }
            Step::Goodbye { side } => {
                if self.ends[side].is_session() {
                    self.ends[side].goodbye("reason");
                    self.goodbyes[side] = true;
                }
            }
            Step::Shed { side } => {
                self.ends[side].shed();
            }
            Step::Carry { side, bytes } => self.carry(side, bytes),
        }
        for side in 0..2 {
            self.events(side);
        }
    }

    fn reply(&mut self, side: usize, id: CallId, good: bool, body: Body) {
        let answer = text(&format!("r{}", id.number()), body.size);
        let builder = if good { Packet::good(Version::V1_1) } else { Packet::bad(Version::V1_1, "no", None) };
        let packet = self.packet(side, builder, &answer, body);
        assert_eq!(self.ends[side].reply(id, packet.clone()), Ok(()));
        assert_eq!(self.ends[side].reply(id, packet), Err(Misuse::UnknownCall));
        let call = self.calls[1 - side].get_mut(&id).unwrap();
        call.replied = Some(if good { Ok(answer) } else { Err(answer) });
    }

    fn carry(&mut self, side: usize, bytes: usize) {
        let [opener, acceptor] = &mut self.ends;
        let (from, to) = if side == 0 { (opener, acceptor) } else { (acceptor, opener) };
        let count = from.transmit().len().min(bytes);
        let queued = from.queued();
        to.receive(&from.transmit()[..count]);
        from.transmitted(count);
        // Written bytes leave the queue, and each piece adds a header to it.
        assert!(from.queued() + count >= queued && from.queued() <= queued + 15);
    }

    fn events(&mut self, side: usize) {
        while let Some(event) = self.ends[side].poll_event() {
            match self.read(side, event) {
                Event::Session => self.established[side] += 1,
                Event::Request { id, request } => {
                    let call = self.calls[1 - side].get_mut(&id).unwrap();
                    assert!(!call.seen && !call.ended, "a request comes once, and not after its end");
                    assert_eq!(request.payload(), Some(&*call.payload));
                    assert_eq!(request.wants_items(), call.sort == Some(Sort::Streamed));
                    assert_eq!(request.is_one_way(), call.sort == Some(Sort::OneWay));
                    call.seen = true;
                }
                Event::Cancelled { id } => {
                    let call = self.calls[1 - side].get_mut(&id).unwrap();
                    assert!(call.cancelled && call.is_served() && !call.told_to_stop);
                    call.told_to_stop = true;
                }
                Event::Credit { id } => {
                    let call = &self.calls[1 - side][&id];
                    assert!(call.is_served() && call.sort == Some(Sort::Streamed));
                }
                Event::Item { id, item } => {
                    let call = self.calls[side].get_mut(&id).unwrap();
                    assert!(!call.ended && !call.cancelled);
                    assert_eq!(item.payload(), Some(&*call.items_sent[call.items_got]));
                    call.items_got += 1;
                    call.bytes_unread += item.size();
                }
                Event::Response { id, response } => {
                    let call = self.calls[side].get_mut(&id).unwrap();
                    assert!(!call.ended && !call.cancelled && call.sort != Some(Sort::OneWay));
                    call.ended = true;
                    let got = match &response {
                        Response::Good(good) => Ok(good.payload().unwrap().to_string()),
                        Response::Bad(bad) if bad.code() == Some("overloaded") => {
                            assert!(!call.seen, "what runs is not refused");
                            continue;
                        }
                        Response::Bad(bad) => Err(bad.data().unwrap().to_string()),
                    };
                    assert_eq!(call.replied, Some(got));
                    assert_eq!(call.items_got, call.items_sent.len(), "no item is lost or late");
                }
                Event::NotRun { id } => {
                    let call = self.calls[side].get_mut(&id).unwrap();
                    assert!(!call.seen && !call.ended && !call.cancelled && self.goodbyes[1 - side]);
                    call.ended = true;
                }
                Event::Goodbye { reason } => {
                    assert!(self.goodbyes[1 - side], "{side} hears: {reason}");
                    assert_eq!(reason, "reason");
                }
                Event::Pong => self.pongs += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads what the core has left to the program.
    fn read(&mut self, side: usize, event: Event) -> Event {
        match event {
            Event::UnreadResponse { id, response } => {
                Event::Response { id, response: response.read().unwrap() }
            }
            Event::UnreadItem { id, item } => {
                let charged = item.charged();
                let item = item.read().unwrap();
                self.ends[side].charge(id, item.size() - charged);
                Event::Item { id, item }
            }
            event => event,
        }
    }

    /// Lets everything come to its end and looks at what is left.
    pub(crate) fn settle(&mut self, body: Body) {
        loop {
            for side in 0..2 {
                while !self.ends[side].transmit().is_empty() {
                    self.carry(side, usize::MAX);
                }
            }
            (0..2).for_each(|side| self.events(side));
            let mut busy = self.ends.iter().any(|end| !end.transmit().is_empty());
            for side in 0..2 {
                while let Some(id) = self.pick(1 - side, 0, Call::is_served) {
                    self.reply(side, id, true, body);
                    busy = true;
                }
            }
            if !busy {
                break;
            }
        }
        assert_eq!((self.established, self.pongs), ([1, 1], self.pings));
        for side in 0..2 {
            let end = &self.ends[side];
            assert_eq!(
                (end.pending_calls(), end.served_calls(), end.queued(), end.has_header()),
                (0, 0, 0, false)
            );
            assert_eq!(end.is_finished(), self.goodbyes != [false; 2]);
            for (id, call) in &self.calls[side] {
                match call.sort {
                    Some(Sort::OneWay) => assert!(!call.ended || !call.seen),
                    _ => assert!(call.ended || call.cancelled, "call {id:?} of {side} is stuck: {call:?}"),
                }
                // Cancelled or not: what reached a program was answered, and was told to stop if it was in time.
                assert!(!call.is_served());
            }
        }
    }
}

/// Returns a JSON string that begins with `name` and has about `size` bytes.
pub(crate) fn text(name: &str, size: usize) -> String {
    let filler: String = (b'a'..=b'z').map(char::from).cycle().take(size).collect();
    format!("\"{name}:{filler}\"")
}
