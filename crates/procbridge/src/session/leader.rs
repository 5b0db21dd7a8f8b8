//! The Leader/Followers pattern for threads that wait on one session, as in the blocking face.
//!
//! The *leader* is the one thread that reads the socket and hands out what arrives for all. A *follower* is a thread
//! that waits for its own event, parked until the leader wakes it. A leader that has what it waited for steps down and
//! promotes a follower: it wakes one, which becomes the leader. A thread works between two system calls under one lock; a call whose answer
//! comes at once takes the lock twice.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::net::socket::Read;
use crate::session::context::SessionContext;
use crate::session::reading::Reader;
use crate::session::session::Session;
use crate::session::state::State;

/// A thread that waits on a session: a follower, or the leader.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The time at its last return from a system call; timers are judged by it.
    pub(crate) now: Instant,
    /// Whether it is the leader.
    pub(crate) is_leader: bool,
    /// Whether it has been parked, and may have been woken to become the leader.
    pub(crate) has_waited: bool,
    /// The buffer and result of its last read.
    pub(crate) last_read: Option<(Vec<u8>, io::Result<Read>)>,
    /// Its waker, made by `own` when it first has to follow.
    waker: Option<Waker>,
    own: fn() -> Waker,
}

/// The next step of a thread.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// The event that it waited for, with its value. The thread is not the leader any longer.
    Done(T),
    /// Another thread or task is the leader: park as a follower.
    Follow {
        /// Whether the socket is full, and no thread or task is sure to wait until it is writable.
        is_blocked: bool,
        /// Whether there is no leader yet, but a promoted follower is about to take over.
        is_leader_promoted: bool,
    },
    /// The thread is the leader: read into this buffer, at most until `due`, and pass the result to the next step.
    Read { buffer: Vec<u8>, due: Option<Instant> },
    /// The thread is the leader and the socket is full: wait until it is readable or writable, at most until `due`.
    Write { is_reading_paused: bool, due: Option<Instant> },
}

impl Follower {
    /// Returns a thread that has just arrived and is not the leader. `own` makes its waker.
    pub(crate) fn new(now: Instant, own: fn() -> Waker) -> Self {
        Self { now, is_leader: false, has_waited: false, last_read: None, waker: None, own }
    }

    /// Returns its waker, if one was ever registered.
    pub(crate) fn waker(&self) -> Option<&Waker> {
        self.waker.as_ref()
    }
}

impl Session {
    /// Takes in what `follower` has read and calls `poll` for its event. Without the event, makes it the leader if
    /// there is none; otherwise calls `poll` again to register its waker.
    pub(crate) fn step<T>(
        self: &Arc<Self>,
        follower: &mut Follower,
        mut poll: impl FnMut(&mut State, Option<&Waker>) -> Option<T>,
    ) -> Step<T> {
        if let Some((buffer, read)) = follower.last_read.take() {
            let mut is_more = false;
            let step = self.with(|state| {
                state.give_back(buffer);
                is_more = state.received(self, read, follower.now);
                if is_more {
                    return None;
                }
                // Woken callers usually call again at once; one write sends all that they queue meanwhile.
                state.reading.is_reader_waking = state.unlocked.to_wake.len() > 1;
                (!state.reading.is_reader_waking).then(|| state.step(self, follower, &mut poll))
            });
            if let Some(step) = step {
                return step;
            }
            self.dispatch_rest(is_more, follower.now);
        }
        self.with(|state| state.step(self, follower, poll))
    }
}

impl State {
    /// Does the same as [`Session::step`] for a caller that holds the lock.
    pub(super) fn step<T>(
        &mut self,
        context: &SessionContext,
        follower: &mut Follower,
        mut poll: impl FnMut(&mut State, Option<&Waker>) -> Option<T>,
    ) -> Step<T> {
        if follower.is_leader {
            self.reading.is_reader_waking = false;
        }
        if let Some(done) = poll(self, None) {
            if follower.is_leader {
                follower.is_leader = false;
                self.clear_reader();
                self.promote_follower(context, follower.waker());
            } else if follower.has_waited {
                self.promote_follower(context, None);
            }
            return Step::Done(done);
        }
        if !follower.is_leader {
            let is_leader_promoted = self.reading.is_leader_promoted && !follower.has_waited;
            if self.reading.reader != Reader::None || is_leader_promoted || self.has_ended() {
                let waker = follower.waker.get_or_insert_with(follower.own);
                let done = poll(self, Some(waker));
                debug_assert!(done.is_none(), "nothing has changed meanwhile");
                let is_blocked = self.writing.blocked.is_some() && self.reading.reader != Reader::Task;
                return Step::Follow { is_blocked, is_leader_promoted };
            }
            self.reading.reader = Reader::Thread;
            self.reading.is_leader_promoted = false;
            follower.is_leader = true;
        }
        // Packets already in the buffer are handled before more is read.
        self.dispatch_all(context);
        self.flush(context);
        let due = context.tick_with(self, follower.now);
        if self.writing.blocked.is_some() {
            return Step::Write { is_reading_paused: self.is_paused(context), due };
        }
        Step::Read { buffer: self.lend_buffer(), due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::ResultForm;
    use crate::net::socket;
    use crate::session::reader::EVENTS_PER_LOCK;
    use crate::session::testing::{Ends, call};

    #[test]
    fn others_have_the_session_between_portions_of_a_read() {
        let mut ends = Ends::server_of(Reader::None, 1_000);
        for _ in 0..2 * EVENTS_PER_LOCK {
            ends.peer.call(call("note", &(), ResultForm::OneWay)).unwrap();
        }
        let bytes = ends.peer.transmit().to_vec();
        let mut sent = 0;
        let (mut is_more, mut portions) = (false, 0);
        while sent < bytes.len() {
            sent += socket::send(&ends.socket, &bytes[sent..]).unwrap();
            loop {
                let more = ends.session.with(|state| {
                    let before = state.incoming.ready.len();
                    let more = if is_more {
                        state.receive_more(&ends.session, Instant::now())
                    } else {
                        let read = Read::of(socket::receive(&ends.session, state.connection.read_buffer()));
                        if matches!(read, Ok(Read::Nothing)) {
                            return None;
                        }
                        state.received(&ends.session, read, Instant::now())
                    };
                    assert!(state.incoming.ready.len() - before <= EVENTS_PER_LOCK);
                    Some(more)
                });
                let Some(more) = more else { break };
                (is_more, portions) = (more, portions + 1);
            }
        }
        assert_eq!(ends.session.with(|state| state.incoming.ready.len()), 2 * EVENTS_PER_LOCK);
        assert!(portions >= 2);
    }
}
