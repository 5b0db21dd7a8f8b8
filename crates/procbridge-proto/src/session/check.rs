//! Judges a frame by its header and id, before any memory is used for it (PB-PKT-*, PB-ID-*).

use alloc::format;

use crate::compression::codec::Codec;
use crate::error::{ProtocolError, code};
use crate::event::CallId;
use crate::session::frames::{Frame, Verdict};
use crate::session::session::{MAX_CONTROL, MAX_PING, MAX_UNKNOWN, Session, Side};
use crate::wire::{Status, flag};

impl Session {
    /// Decides on a packet by its header.
    pub(super) fn check_frame(&mut self, frame: &Frame) -> Result<Verdict, ProtocolError> {
        let &Frame { kind, flags, id, .. } = frame;
        self.packets += 1;
        if kind.0 > Status::GOODBYE.0 {
            self.unknown_left = self.unknown_left.checked_sub(1).ok_or(ProtocolError::TooManyUnknown)?;
            return Ok(Verdict::Skip);
        }
        self.unknown_left = (self.unknown_left + 1).min(MAX_UNKNOWN);
        let has_text = matches!(kind, Status::REQUEST | Status::GOOD | Status::BAD | Status::ITEM);
        if flags & flag::MORE != 0 && !has_text {
            return Err(ProtocolError::UnexpectedPiece { kind, id });
        }
        if flags & Codec::MASK != 0 {
            let codec = Codec::of_flags(flags).filter(|_| has_text);
            if !codec.is_some_and(|codec| self.settings.codecs().contains(codec)) {
                return Err(ProtocolError::UnexpectedCodec { kind, flags });
            }
        }
        // Such a packet is short: it is stored and read before its position is known to be right (PB-PKT-14).
        if !has_text && kind != Status::PING && frame.length > MAX_CONTROL {
            return Err(ProtocolError::TooLarge { length: frame.length, limit: MAX_CONTROL });
        }
        match kind {
            Status::REQUEST => self.check_request(frame),
            Status::GOOD | Status::BAD | Status::ITEM => self.check_answer(frame),
            Status::CREDIT | Status::CANCEL => self.check_caller_packet(frame),
            _ if id != 0 => Err(ProtocolError::InvalidId { kind, id }),
            Status::HELLO if self.side == Side::Opener || self.opener_spoke => {
                Err(ProtocolError::UnexpectedStatus { found: kind, expected: "no second HELLO" })
            }
            Status::PING if frame.length as usize > MAX_PING => {
                Err(ProtocolError::PingTooLarge { length: frame.length as usize, limit: MAX_PING })
            }
            _ => Ok(Verdict::Take),
        }
    }

    fn check_request(&mut self, frame: &Frame) -> Result<Verdict, ProtocolError> {
        let &Frame { kind, flags, id, .. } = frame;
        if id == 0 || self.side.owns(id) {
            return Err(ProtocolError::InvalidId { kind, id });
        }
        if id <= self.highest {
            if self.pieces.is_open(id) {
                return self.pieces.check(frame).map(|()| Verdict::Take);
            }
            if !self.pieces.is_late(id) {
                return Err(ProtocolError::InvalidId { kind, id });
            }
            if flags & flag::MORE == 0 {
                self.pieces.end_late(id);
            }
            return Ok(Verdict::Skip);
        }
        self.highest = id;
        if self.said.is_some() {
            // GOODBYE told the peer that this request is not run, so there is nothing to answer.
            if flags & flag::MORE != 0 {
                self.pieces.expect_late(id)?;
            }
            return Ok(Verdict::Skip);
        }
        let limit = self.settings.max_calls();
        if limit == 0 {
            self.refuse(id, flags, code::UNKNOWN_METHOD, "this side takes no calls")?;
            return Ok(Verdict::Skip);
        }
        if self.theirs.len() >= limit as usize {
            let message =
                format!("the session has reached its limit of {limit} calls in flight (max_session_calls)");
            self.refuse(id, flags, code::OVERLOADED, &message)?;
            return Ok(Verdict::Skip);
        }
        self.serve(id, flags);
        Ok(Verdict::Take)
    }

    /// Judges a packet of a caller other than its request.
    fn check_caller_packet(&mut self, frame: &Frame) -> Result<Verdict, ProtocolError> {
        let &Frame { kind, id, .. } = frame;
        if id == 0 || self.side.owns(id) || id > self.highest {
            return Err(ProtocolError::InvalidId { kind, id });
        }
        if self.theirs.get(CallId(id)).is_some() {
            return Ok(Verdict::Take);
        }
        // The call has ended. Its caller may have sent this before it knew.
        if kind == Status::CANCEL && self.pieces.is_late_unaware(id) {
            self.pieces.expect_late_cancelled(id);
        }
        Ok(Verdict::Skip)
    }

    fn check_answer(&self, frame: &Frame) -> Result<Verdict, ProtocolError> {
        let &Frame { kind, id, .. } = frame;
        if !self.is_own(id) {
            return Err(ProtocolError::InvalidId { kind, id });
        }
        // The call has ended. Its caller may have cancelled it while this was on its way.
        let Some(call) = self.ours.get(CallId(id)) else { return Ok(Verdict::Skip) };
        self.pieces.check(frame)?;
        if kind == Status::ITEM {
            let window = call.stream.as_deref().ok_or(ProtocolError::UnexpectedItem { id })?;
            if !self.pieces.is_open(id) && !window.credit.is_there() {
                return Err(ProtocolError::NoCredit { id });
            }
        }
        Ok(Verdict::Take)
    }
}
