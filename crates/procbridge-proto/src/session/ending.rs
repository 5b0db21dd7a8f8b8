//! The end of a session: graceful, by an error, or because its peer closed.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::error::{ProtocolError, code};
use crate::event::{CallId, Ending, Event};
use crate::json::string;
use crate::session::session::{Input, Session};
use crate::wire::{Status, flag};

impl Session {
    pub(crate) fn goodbye(&mut self, reason: &str) {
        if self.said.is_none() && self.input == Input::Open {
            self.send_goodbye(reason);
        }
    }

    fn send_goodbye(&mut self, reason: &str) {
        // A second GOODBYE never raises the last id.
        let last_id = *self.said.get_or_insert(self.highest);
        let mut text = format!("{{\"last_id\":{last_id}").into_bytes();
        let reason = string::cut(reason, MAX_REASON);
        // Leave the reason out if the peer's body limit is too small for it.
        if text.len() + 6 * reason.len() + 16 <= self.peer.max_body() as usize {
            text.extend_from_slice(b",\"reason\":");
            string::push(&mut text, reason);
        }
        text.push(b'}');
        self.send(Status::GOODBYE, 0, &text);
    }

    /// Answers `overloaded` to the largest incomplete request.
    pub(crate) fn shed(&mut self) -> bool {
        const MESSAGE: &str = "too many bytes of requests that have not fully arrived";
        let arriving = self.frames.arriving().filter(|(frame, _)| frame.kind == Status::REQUEST);
        let arriving = arriving.map(|(frame, held)| (frame, held + self.pieces.length(frame.id)));
        let pieced = self.pieces.largest_request();
        let refused = match (arriving, pieced) {
            (Some((frame, held)), pieced) if pieced.is_none_or(|(_, other)| held >= other) => {
                self.frames.skip_arriving();
                self.refuse(frame.id, frame.flags, code::OVERLOADED, MESSAGE)
            }
            (_, Some((id, _))) => {
                // The table of calls has the flags of the first piece.
                self.refuse(id, flag::MORE, code::OVERLOADED, MESSAGE)
            }
            _ => return false,
        };
        if let Err(error) = refused {
            self.fail(error);
        }
        true
    }

    /// Ends the session with `error`, and sends the peer a GOODBYE.
    pub(crate) fn fail(&mut self, error: ProtocolError) {
        self.withdraw_unsent();
        self.out.drop_large();
        self.send_goodbye(&error.to_string());
        self.input = Input::Failed;
        self.frames.clear();
        self.pieces.clear();
        self.ours.clear();
        self.theirs.clear();
        self.events.push(Event::Closed { error: Some(error) });
    }

    /// Withdraws the outgoing calls of which nothing was written: no answer can come for them.
    fn withdraw_unsent(&mut self) {
        for id in self.out.unsent_above(0) {
            self.out.withdraw(id);
            self.ours.remove(CallId(id));
            self.events.push(Event::NotRun { id: CallId(id) });
        }
    }

    /// Ends the input.
    pub(crate) fn end(&mut self) {
        if self.input != Input::Open {
            return;
        }
        if let Err(error) = self.frames.end() {
            self.fail(error);
            return;
        }
        self.withdraw_unsent();
        self.input = Input::Ended;
        for id in self.pieces.open_requests().collect::<Vec<_>>() {
            self.theirs.remove(CallId(id));
        }
        self.pieces.clear();
        self.frames.clear();
        self.ours.clear();
        self.events.push(Event::Closed { error: None });
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.said.is_some() || self.heard.is_some()
    }

    pub(crate) fn is_finished(&self) -> bool {
        (self.is_leaving() || self.input != Input::Open)
            && self.ours.is_empty()
            && self.theirs.is_empty()
            && self.out.queued() == 0
    }

    /// Returns how to close. Only after the peer's GOODBYE, or its end, is it known that the peer sends nothing more.
    pub(crate) fn ending(&self) -> Ending {
        match self.input {
            Input::Failed => Ending::Linger,
            Input::Open if self.said.is_some() && self.heard.is_none() => Ending::Linger,
            _ => Ending::Close,
        }
    }
}

/// The longest reason of a GOODBYE, in bytes.
pub(crate) const MAX_REASON: usize = 1024;
