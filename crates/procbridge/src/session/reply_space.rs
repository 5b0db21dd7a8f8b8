//! The space permits of large answers, until the peer has read them (PB-FLT-*).

use std::task::{Poll, Waker};
use std::time::Duration;

use procbridge_proto::{CallId, Packet};

use crate::limits::admission::LARGE;
use crate::limits::permits::{Permit, Resource};
use crate::reply_error::{ReplyError, answer_lost, overloaded};
use crate::session::served_call::PreparedReply;
use crate::session::session::Session;
use crate::session::waker::keep_waker;

impl Session {
    /// Takes the space that a large answer or item needs until the peer has read it.
    ///
    /// # Errors
    ///
    /// Returns the answer to the caller if this peer, or all together, have no space left.
    pub(crate) fn prepare(&self, packet: Packet) -> Result<PreparedReply, ReplyError> {
        let space = self.acquire_reply_bytes(packet.json_len())?;
        Ok(PreparedReply { packet, space })
    }

    /// Takes space for an answer of so many bytes; none for a small one.
    pub(crate) fn acquire_reply_bytes(&self, bytes: usize) -> Result<Option<Permit>, ReplyError> {
        if bytes <= LARGE {
            return Ok(None);
        }
        self.check_share(bytes)?;
        self.admission.answer(&self.account, bytes)
    }

    /// Takes space for the text of an answer as it grows.
    pub(crate) fn grow_reply_bytes(
        &self,
        space: &mut Option<Permit>,
        bytes: usize,
    ) -> Result<(), ReplyError> {
        let taken = space.as_ref().map_or(0, Permit::units);
        if bytes <= taken.max(LARGE) {
            return Ok(());
        }
        // The answer cannot be written before it is complete, so flushing others of the session would free nothing for
        // it.
        let (share, all) = (self.admission.session_share(), self.account.used(Resource::Answers));
        if all.saturating_add(LARGE) > share {
            return Err(answer_lost(&overloaded("bytes of answers of this peer", share, "max_unread_bytes")));
        }
        // Space grows in steps, so that many small items need few changes.
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

    /// Refuses `bytes` more for this peer if they exceed its share and the peer does not read.
    fn check_share(&self, bytes: usize) -> Result<(), ReplyError> {
        let (share, admission) = (self.admission.session_share(), &self.admission);
        if self.account.used(Resource::Answers).saturating_add(bytes) <= share {
            return Ok(());
        }
        let now = admission.now();
        let is_stalled = self.with(|state| {
            state.writing.over_share.get_or_insert((now, state.writing.bytes_taken));
            state.writing.blocked.is_some_and(|since| now.saturating_duration_since(since) >= STALLED)
        });
        if is_stalled {
            let what = "bytes of answers not read by this peer";
            return Err(answer_lost(&overloaded(what, share, "max_unread_bytes")));
        }
        Ok(())
    }

    /// Returns `Ready` when there is send-queue space for a large answer, or the caller does not wait for it. A one-way call may
    /// outlive the session, where nothing would free space any more.
    pub(crate) fn poll_send_space(&self, id: CallId, waker: &Waker) -> Poll<()> {
        self.with(|state| {
            if state.is_backpressured() {
                // The queue may not have been flushed yet.
                state.flush(self);
            }
            let is_backpressured = state.is_backpressured();
            match state.incoming.served.get_mut(id) {
                Some(served) if is_backpressured && !served.call.is_one_way => {
                    keep_waker(&mut served.send_space, waker);
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
    }
}

/// How long the peer may read nothing before large answers beyond its share are refused.
const STALLED: Duration = Duration::from_secs(1);
