//! The space that large answers take until their peer has taken them (PB-FLT-*).

use std::task::{Poll, Waker};
use std::time::Duration;

use procbridge_proto::{CallId, Packet};

use crate::limits::admission::LARGE;
use crate::limits::permits::{Permit, Resource};
use crate::reply_error::{self, Refusal};
use crate::session::served_call::PreparedReply;
use crate::session::session::Session;
use crate::session::waker::keep_waker;

impl Session {
    /// Takes the space that a large answer or item needs until its peer has taken it.
    ///
    /// # Errors
    ///
    /// So much waits for this peer, or for all, that there is none: that is the answer.
    pub(crate) fn prepare(&self, packet: Packet) -> Result<PreparedReply, Refusal> {
        let space = self.acquire_reply_bytes(packet.json_len())?;
        Ok(PreparedReply { packet, space })
    }

    /// Takes space for text of so many bytes that becomes an answer; none for a small one.
    pub(crate) fn acquire_reply_bytes(&self, bytes: usize) -> Result<Option<Permit>, Refusal> {
        if bytes <= LARGE {
            return Ok(None);
        }
        self.check_share(bytes)?;
        self.admission.answer(&self.account, bytes)
    }

    /// Holds space for the text of an answer as it grows.
    pub(crate) fn grow_reply_bytes(&self, space: &mut Option<Permit>, bytes: usize) -> Result<(), Refusal> {
        let held = space.as_ref().map_or(0, Permit::units);
        if bytes <= held.max(LARGE) {
            return Ok(());
        }
        // Nothing of it can be written before it is whole, so others of the session would not help by being written first.
        let (share, all) = (self.admission.session_share(), self.account.used(Resource::Answers));
        if all.saturating_add(LARGE) > share {
            return Err(reply_error::overloaded("bytes of answers of this peer", share, "max_unread"));
        }
        // In steps, so that many small items do not all count.
        let wanted = bytes.saturating_add(LARGE);
        match space {
            Some(space) => {
                if space.resize(wanted) {
                    Ok(())
                } else {
                    Err(self.admission.full_of_answers(LARGE))
                }
            }
            None => self.admission.answer(&self.account, wanted).map(|taken| *space = taken),
        }
    }

    /// Judges whether `bytes` more may wait for this peer: not beyond its share while it takes nothing.
    fn check_share(&self, bytes: usize) -> Result<(), Refusal> {
        let (share, admission) = (self.admission.session_share(), &self.admission);
        if self.account.used(Resource::Answers).saturating_add(bytes) <= share {
            return Ok(());
        }
        let now = admission.now();
        let is_stalled = self.with(|state| {
            state.over_share.get_or_insert((now, state.bytes_taken));
            state.blocked.is_some_and(|since| now.saturating_duration_since(since) >= STALLED)
        });
        if is_stalled {
            return Err(reply_error::overloaded(
                "bytes of answers not read by this peer",
                share,
                "max_unread",
            ));
        }
        Ok(())
    }

    /// Ready when there is room for a large answer, or nobody waits for it. A one-way call may go on after the session,
    /// where nothing makes room any more.
    pub(crate) fn poll_send_space(&self, id: CallId, waker: &Waker) -> Poll<()> {
        self.with(|state| {
            if state.is_backpressured() {
                // Perhaps nobody has written it yet.
                state.flush(self);
            }
            let crowded = state.is_backpressured();
            match state.serving.get_mut(id) {
                Some(serving) if crowded && !serving.call.is_one_way => {
                    keep_waker(&mut serving.send_space, waker);
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
    }
}

/// A peer that has taken nothing for so long gets no more large answers than its share.
const STALLED: Duration = Duration::from_secs(1);
