//! Processes the packets that arrive in a session: events, answers, or the end of the session
//! (PB-PKT-*, PB-ID-*, PB-STR-*, PB-UNK-*, PB-SER-*).
//!
//! A header is judged as soon as it arrives, so a refused packet takes no memory. The content is judged once it is
//! complete.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use crate::body::Body;
use crate::compression::codec::{Codec, Codecs};
use crate::error::{ProtocolError, code};
use crate::event::{CallId, Event};
use crate::json::grammar;
use crate::json::string;
use crate::message::{LARGEST_EXACT, text};
use crate::session::draft::ascending;
use crate::session::ending::MAX_REASON;
use crate::session::frames::{Content, Frame, Next, Verdict};
use crate::session::reassembly::Joined;
use crate::session::send_queue::{PIECE, Withdrawn};
use crate::session::session::{Input, Session};
use crate::settings::Settings;
use crate::unread::{Unread, UnreadItem, UnreadResponse};
use crate::wire::{Status, flag};

impl Session {
    /// Processes the bytes that were appended to the read buffer.
    pub(crate) fn received(&mut self) {
        self.frames.appended();
        let mut happened = None;
        loop {
            let more = self.advance(&mut happened);
            if let Some(event) = happened.take() {
                self.push_event(event);
            }
            if !more {
                return;
            }
        }
    }

    /// Returns the next event from the bytes in the read buffer. It does not pass the event queue if that is empty.
    pub(crate) fn pull_event(&mut self) -> Option<Event> {
        let mut happened = None;
        loop {
            if !self.events.is_empty()
                && let event @ Some(_) = self.poll_event()
            {
                return event;
            }
            let more = self.advance(&mut happened);
            if happened.is_some() {
                if self.events.is_empty() {
                    return happened;
                }
                happened.take().into_iter().for_each(|event| self.push_event(event));
            } else if !more {
                let event = self.poll_event();
                if event.is_none() {
                    self.events.shrink();
                }
                return event;
            }
        }
    }

    fn push_event(&mut self, event: Event) {
        self.untold += event.request_bytes();
        self.events.push(event);
    }

    /// Processes the next packet unless the input has ended. Returns whether there may be another one.
    fn advance(&mut self, happened: &mut Option<Event>) -> bool {
        if self.input == Input::Open {
            match self.step(happened) {
                Ok(more) => return more,
                Err(error) => self.fail(error),
            }
        }
        // No more packets are processed.
        self.frames.clear();
        false
    }

    /// Processes the next packet. Returns whether there may be another one.
    fn step(&mut self, happened: &mut Option<Event>) -> Result<bool, ProtocolError> {
        let (frame, content) = match self.frames.next(self.limits.max_body())? {
            Next::Nothing => return Ok(false),
            Next::Packet(frame, content) => (frame, content),
            Next::Header(frame) => {
                if self.check_frame(&frame)? == Verdict::Skip {
                    self.frames.skip(&frame);
                    return Ok(true);
                }
                let body = self.body_of(&frame);
                match self.frames.take(frame, body) {
                    Some(content) => (frame, content),
                    None => return Ok(true),
                }
            }
        };
        self.accept(&frame, content, happened)?;
        Ok(true)
    }

    /// Returns the body so far, to which the content of a packet is appended.
    fn body_of(&mut self, frame: &Frame) -> Body {
        let is_first = match frame.kind {
            Status::REQUEST | Status::GOOD | Status::BAD | Status::ITEM => !self.pieces.is_open(frame.id),
            _ => return Body::default(),
        };
        match is_first {
            false => self.pieces.lend(frame.id),
            true if frame.length as usize >= PIECE => self.out.take_spare().into(),
            true => Body::default(),
        }
    }

    /// Acts on a complete packet.
    fn accept(
        &mut self,
        frame: &Frame,
        content: Content,
        happened: &mut Option<Event>,
    ) -> Result<(), ProtocolError> {
        let content = match frame.kind {
            Status::REQUEST => return self.accept_request(frame, content, happened),
            Status::GOOD | Status::BAD | Status::ITEM => {
                self.accept_answer(frame, content, happened);
                return Ok(());
            }
            _ => content.into_bytes(),
        };
        match frame.kind {
            Status::HELLO => {
                let codecs = Codecs::from_bits(frame.options);
                self.peer = Settings::read(&content, codecs, false, self.limits.max_depth())?;
                self.opener_spoke = true;
                Ok(())
            }
            Status::CREDIT => self.accept_credit(frame.id, content),
            Status::CANCEL => self.accept_cancel(frame.id, content),
            Status::PING => {
                self.pings += 1;
                check_object(&content, self.limits.max_depth())?;
                self.send(Status::PONG, 0, &content);
                Ok(())
            }
            Status::PONG => {
                self.events.push(Event::Pong);
                Ok(())
            }
            _ => self.accept_goodbye(content),
        }
    }

    fn accept_request(
        &mut self,
        frame: &Frame,
        content: Content,
        happened: &mut Option<Event>,
    ) -> Result<(), ProtocolError> {
        let &Frame { id, flags, .. } = frame;
        let limit = self.limits.max_body();
        let length = self.pieces.length(id).saturating_add(content.len());
        if length > limit as usize {
            let error = ProtocolError::TooLarge { length: u32::try_from(length).unwrap_or(u32::MAX), limit };
            return self.refuse_unreadable(id, flags, &error);
        }
        let all_limit = MIN_UNFINISHED.max(2 * u64::from(limit));
        let all = self.pieces.requests() as u64 + content.len() as u64;
        let more = flags & flag::MORE != 0;
        if more && all > all_limit {
            let message =
                format!("the session has reached its limit of {all_limit} B of unfinished requests");
            return self.refuse(id, flags, code::OVERLOADED, &message);
        }
        let Joined::Whole { flags, content } = self.pieces.join(frame, content) else { return Ok(()) };
        // One read may bring many requests that are small only while they are compressed.
        if flags & Codec::MASK != 0 && self.untold > all_limit {
            let message = format!("the session has reached its limit of {all_limit} B of requests at once");
            return self.refuse(id, 0, code::OVERLOADED, &message);
        }
        let (call, limits) = (CallId(id), self.limits);
        let request = Unread::new(frame.kind, flags, self.fitting(content), limits);
        if limits.leaves_requests() && request.is_costly() {
            *happened = Some(Event::Unread { id: call, request });
            return Ok(());
        }
        match request.read() {
            Ok(request) => {
                *happened = Some(Event::Request { id: call, request });
                Ok(())
            }
            Err(error) => self.refuse_unreadable(id, 0, &error),
        }
    }

    /// Moves a small body out of large memory. Only its length is counted from now on.
    fn fitting(&mut self, content: Body) -> Body {
        let (content, memory) = content.fitting();
        if memory.capacity() > 0 {
            self.out.put_spare(memory);
        }
        content
    }

    fn refuse_unreadable(&mut self, id: u32, flags: u8, error: &ProtocolError) -> Result<(), ProtocolError> {
        match error.answer() {
            Some(answer) => self.refuse(id, flags, answer.code, &answer.message),
            None => self.refuse(id, flags, code::INVALID_REQUEST, ""),
        }
    }

    fn accept_answer(&mut self, frame: &Frame, content: Content, happened: &mut Option<Event>) {
        let &Frame { id, kind, .. } = frame;
        let limit = self.limits.max_body();
        let length = self.pieces.length(id).saturating_add(content.len());
        let Some(discarded) = self.ours.get(CallId(id)).map(|call| call.discarded) else { return };
        if !discarded && length > limit as usize {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            // Join it as a piece, so that later pieces are known to follow one.
            self.pieces.join(frame, content);
            self.pieces.discard(id);
            self.fail_call(frame, ProtocolError::TooLarge { length, limit });
            return;
        }
        let joined = self.pieces.join(frame, content);
        if discarded {
            self.pieces.discard(id);
            let length = match joined {
                Joined::Whole { content, .. } => content.len(),
                Joined::Dropped { length } => length,
                Joined::Open => return,
            };
            self.spend(id, kind, length);
            self.end_call(id, kind);
            return;
        }
        let Joined::Whole { flags, content } = joined else { return };
        let content = self.fitting(content);
        match self.read_answer(CallId(id), kind, flags, content) {
            Ok(event) => {
                self.end_call(id, kind);
                *happened = Some(event);
            }
            Err(error) => self.fail_call(frame, error),
        }
    }

    /// Reads a complete answer or item, unless the limits leave that to the program.
    fn read_answer(
        &mut self,
        id: CallId,
        kind: Status,
        flags: u8,
        content: Body,
    ) -> Result<Event, ProtocolError> {
        let (limits, leaves) = (self.limits, self.limits.leaves_answers());
        if kind != Status::ITEM {
            let response = UnreadResponse::new(kind, flags, content, limits);
            if leaves && response.is_costly() {
                return Ok(Event::UnreadResponse { id, response });
            }
            return response.read().map(|response| Event::Response { id, response });
        }
        let mut item = UnreadItem::new(kind, flags, content, limits);
        if leaves && item.is_costly() {
            self.spend(id.0, kind, usize::try_from(item.charged()).unwrap_or(usize::MAX));
            return Ok(Event::UnreadItem { id, item });
        }
        let inflated = item.inflate();
        self.spend(id.0, kind, if inflated.is_ok() { item.arrived() } else { 0 });
        inflated?;
        item.inflated().map(|item| Event::Item { id, item })
    }

    /// Subtracts an item's cost from its call's credit.
    fn spend(&mut self, id: u32, kind: Status, length: usize) {
        let call = self.ours.get_mut(CallId(id)).filter(|_| kind == Status::ITEM);
        if let Some(window) = call.and_then(|call| call.stream.as_deref_mut()) {
            window.credit.spend(length);
        }
    }

    /// Removes an outgoing call from the table if a packet of this kind ends it.
    fn end_call(&mut self, id: u32, kind: Status) {
        if kind == Status::ITEM {
            return;
        }
        self.ours.remove(CallId(id));
        if self.ours.is_empty() && self.theirs.is_empty() {
            // No large body is expected.
            self.out.drop_spare();
        }
        if self.out.withdraw(id) == Withdrawn::Rest {
            // The answer came before the whole request was written. CANCEL tells the peer not to wait for the rest.
            self.send(Status::CANCEL, id, b"{}");
        }
    }

    /// Ends an outgoing call whose answer, or one of whose items, cannot be read.
    fn fail_call(&mut self, frame: &Frame, error: ProtocolError) {
        let &Frame { id, kind, .. } = frame;
        if kind == Status::ITEM {
            if let Some(call) = self.ours.get_mut(CallId(id)) {
                call.discarded = true;
            }
            self.out.withdraw(id);
            self.send(Status::CANCEL, id, b"{}");
        } else {
            self.pieces.forget(id);
            self.end_call(id, kind);
        }
        self.events.push(Event::Failed { id: CallId(id), error });
    }

    fn accept_credit(&mut self, id: u32, content: Vec<u8>) -> Result<(), ProtocolError> {
        let body = text(content)?;
        let (mut items, mut bytes) = (Ok(0), Ok(0));
        grammar::scan_members(&body, self.limits.max_depth(), &mut |key, value| {
            let value = body.get(value).unwrap_or_default();
            match key {
                "items" => items = number(value, LARGEST_EXACT, 0, "items"),
                "bytes" => bytes = number(value, LARGEST_EXACT, 0, "bytes"),
                _ => {}
            }
        })?;
        let (items, bytes) = (items?, bytes?);
        let call = self.theirs.get_mut(CallId(id));
        if let Some(credit) = call.and_then(|call| call.stream.as_deref_mut()) {
            let was_there = credit.is_there();
            credit.add(items, bytes);
            if !was_there && credit.is_there() {
                self.events.push(Event::Credit { id: CallId(id) });
            }
        }
        Ok(())
    }

    fn accept_cancel(&mut self, id: u32, content: Vec<u8>) -> Result<(), ProtocolError> {
        check_object(&content, self.limits.max_depth())?;
        if self.pieces.is_open(id) {
            self.refuse(id, 0, code::CANCELLED, "the call was cancelled")?;
            self.pieces.expect_late_cancelled(id);
        } else if let Some(call) = self.theirs.get_mut(CallId(id))
            && !mem::replace(&mut call.cancelled, true)
        {
            self.events.push(Event::Cancelled { id: CallId(id) });
        }
        Ok(())
    }

    fn accept_goodbye(&mut self, content: Vec<u8>) -> Result<(), ProtocolError> {
        let body = text(content)?;
        let (mut last_id, mut reason) = (Ok(MAX_ID), None);
        grammar::scan_members(&body, self.limits.max_depth(), &mut |key, value| {
            let value = body.get(value).unwrap_or_default();
            match key {
                "last_id" => last_id = number(value, MAX_ID, MAX_ID, "last_id"),
                "reason" => {
                    reason = string::read(value).map(|reason| string::cut(&reason.text, MAX_REASON).into())
                }
                _ => {}
            }
        })?;
        let last_id = u32::try_from(last_id?).unwrap_or(u32::MAX);
        let last_id = self.heard.map_or(last_id, |before| before.min(last_id));
        if self.heard.replace(last_id).is_none() {
            self.events.push(Event::Goodbye { reason: reason.unwrap_or_else(String::new) });
        }
        let mut not_run = self.out.unsent_above(last_id);
        not_run.extend(self.ours.iter().map(|(CallId(id), _)| id).filter(|&id| id > last_id));
        for id in ascending(not_run) {
            self.out.withdraw(id);
            self.pieces.forget(id);
            let discarded = self.ours.remove(CallId(id)).is_some_and(|call| call.discarded);
            if !discarded {
                self.events.push(Event::NotRun { id: CallId(id) });
            }
        }
        Ok(())
    }
}

/// Checks the content of a packet that has no known keys and may be empty.
fn check_object(content: &[u8], max_depth: u32) -> Result<(), ProtocolError> {
    if content.is_empty() {
        return Ok(());
    }
    let body = core::str::from_utf8(content)
        .map_err(|error| ProtocolError::InvalidUtf8 { at: error.valid_up_to() })?;
    grammar::scan_members(body, max_depth, &mut |_, _| ())
}

/// Reads a whole number of at most `most`. Null gives `absent`.
fn number(value: &str, most: u64, absent: u64, key: &'static str) -> Result<u64, ProtocolError> {
    if value == "null" {
        return Ok(absent);
    }
    value.parse().ok().filter(|&number| number <= most).ok_or(ProtocolError::InvalidNumber { key })
}

/// The last id of a GOODBYE that excludes no call.
const MAX_ID: u64 = u32::MAX as u64;

/// The limit on the bytes of all incomplete requests of a session. It is twice the body limit if that is more.
const MIN_UNFINISHED: u64 = 32 * 1024 * 1024;
