//! What a thread does with a session between two waits in the system: all of it under one lock. The blocking face has such
//! threads; a call whose answer comes at once takes two turns.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::net::socket::Read;
use crate::session::context::SessionContext;
use crate::session::session::Session;
use crate::session::state::{Reader, State};

/// A thread that waits on a session.
#[derive(Debug)]
pub(crate) struct Follower {
    /// What the clock said when it last came out of the system. What is due is judged by that.
    pub(crate) now: Instant,
    /// Whether it reads for all.
    pub(crate) is_seated: bool,
    /// Whether it may have been woken to read for those who still wait.
    pub(crate) has_waited: bool,
    /// What it has read.
    pub(crate) came: Option<(Vec<u8>, io::Result<Read>)>,
    /// Its waker, as soon as somebody else reads, and what makes it.
    waker: Option<Waker>,
    own: fn() -> Waker,
}

/// What a thread is to do next.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// What it waits for is there. It does not read any longer.
    Done(T),
    /// Somebody else reads.
    Stand {
        /// Whether the socket takes nothing, and nobody is sure to hear when it does.
        is_blocked: bool,
        /// Nobody reads yet, but somebody is about to.
        is_promised: bool,
    },
    /// It reads, into this buffer, at most until `due`; the next turn is told what came.
    Read { buffer: Vec<u8>, due: Option<Instant> },
    /// It reads and writes, at most until `due`: the socket takes nothing of what is queued.
    Write { is_reading_paused: bool, due: Option<Instant> },
}

impl Follower {
    /// One that has just come, and has nothing. `own` makes its waker.
    pub(crate) fn new(now: Instant, own: fn() -> Waker) -> Self {
        Self { now, is_seated: false, has_waited: false, came: None, waker: None, own }
    }

    /// What wakes it, if anything was ever told to.
    pub(crate) fn waker(&self) -> Option<&Waker> {
        self.waker.as_ref()
    }
}

impl Session {
    /// Takes in what `visitor` has read, looks whether `poll` finds what it waits for, and has it read otherwise, if nobody
    /// else does. If somebody does, `poll` is asked again with the waker that is to be told.
    pub(crate) fn turn<T>(
        self: &Arc<Self>,
        follower: &mut Follower,
        mut poll: impl FnMut(&mut State, Option<&Waker>) -> Option<T>,
    ) -> Step<T> {
        if let Some((buffer, read)) = follower.came.take() {
            let mut is_more = false;
            let turn = self.with(|state| {
                state.give_back(buffer);
                is_more = state.received(self, read, follower.now);
                if is_more {
                    return None;
                }
                // Those who are woken call again as a rule. What they queue meanwhile goes out with one write.
                state.is_reader_waking = state.to_wake.len() > 1;
                (!state.is_reader_waking).then(|| state.turn(self, follower, &mut poll))
            });
            if let Some(turn) = turn {
                return turn;
            }
            self.dispatch_rest(is_more, follower.now);
        }
        self.with(|state| state.turn(self, follower, poll))
    }
}

impl State {
    /// The same for who has the state.
    pub(super) fn turn<T>(
        &mut self,
        context: &SessionContext,
        follower: &mut Follower,
        mut poll: impl FnMut(&mut State, Option<&Waker>) -> Option<T>,
    ) -> Step<T> {
        if follower.is_seated {
            self.is_reader_waking = false;
        }
        if let Some(done) = poll(self, None) {
            if follower.is_seated {
                follower.is_seated = false;
                self.clear_reader();
                self.promote_follower(context, follower.waker());
            } else if follower.has_waited {
                self.promote_follower(context, None);
            }
            return Step::Done(done);
        }
        if !follower.is_seated {
            let is_promised = self.is_leader_promoted && !follower.has_waited;
            if self.reader != Reader::None || is_promised || self.has_ended() {
                let waker = follower.waker.get_or_insert_with(follower.own);
                let done = poll(self, Some(waker));
                debug_assert!(done.is_none(), "nothing has changed meanwhile");
                let is_blocked = self.blocked.is_some() && self.reader != Reader::Task;
                return Step::Stand { is_blocked, is_promised };
            }
            self.reader = Reader::Thread;
            self.is_leader_promoted = false;
            follower.is_seated = true;
        }
        // What is here is looked at before more is read.
        self.dispatch_all(context);
        self.flush(context);
        let due = context.tick_with(self, follower.now);
        if self.blocked.is_some() {
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
                    let before = state.ready.len();
                    let more = if is_more {
                        state.receive_more(&ends.session, Instant::now())
                    } else {
                        let read = Read::of(socket::receive(&ends.session, state.connection.read_buffer()));
                        if matches!(read, Ok(Read::Nothing)) {
                            return None;
                        }
                        state.received(&ends.session, read, Instant::now())
                    };
                    assert!(state.ready.len() - before <= EVENTS_PER_LOCK);
                    Some(more)
                });
                let Some(more) = more else { break };
                (is_more, portions) = (more, portions + 1);
            }
        }
        assert_eq!(ends.session.with(|state| state.ready.len()), 2 * EVENTS_PER_LOCK);
        assert!(portions >= 2);
    }
}
