//! How a thread waits on a session: it reads for all who wait there if nobody else does, or sleeps until it is woken.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use procbridge_proto::Packet;
use rustix::event::{PollFd, PollFlags};

use crate::blocking::thread_pool::spawn;
use crate::blocking::transport::wait_for;
use crate::net::socket::{self, Read};
use crate::session::concurrency_limit::Started;
use crate::session::leader::{Follower, Step};
use crate::session::session::BeginError;
use crate::session::{CallEnd, PendingCall, Session};

/// Wakes one thread.
struct Unparker {
    thread: Thread,
    rung: AtomicBool,
}

thread_local! {
    static ALARM: RefCell<Option<(Arc<Unparker>, Waker)>> = const { RefCell::new(None) };
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// The thread that runs this, as one that can be woken.
pub(super) struct Parker {
    alarm: Arc<Unparker>,
    waker: Waker,
}

impl Parker {
    /// This thread.
    pub(super) fn this() -> Self {
        let (alarm, waker) = ALARM.with_borrow_mut(|kept| {
            let (alarm, waker) = kept.get_or_insert_with(|| {
                let alarm = Arc::new(Unparker { thread: thread::current(), rung: AtomicBool::new(false) });
                (alarm.clone(), Waker::from(alarm))
            });
            (alarm.clone(), waker.clone())
        });
        Self { alarm, waker }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Sleeps until it is woken, or `deadline`.
    pub(super) fn park(&self, deadline: Option<Instant>) {
        while !self.alarm.rung.swap(false, Ordering::AcqRel) {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

/// What wakes this thread.
pub(super) fn own_waker() -> Waker {
    Parker::this().waker
}

/// Makes a call and waits for its answer, or until `deadline`: then nothing. `now` is what the clock said lately. A call that
/// the peer does not take for now is held back for `hold`, if it is given.
pub(super) fn call(
    session: &Arc<Session>,
    packet: Packet,
    hold: Option<Duration>,
    deadline: Option<Instant>,
    now: Instant,
) -> Result<Started<(PendingCall, Option<CallEnd>)>, BeginError> {
    let mut follower = Follower::new(now, own_waker);
    Ok(match session.call(packet, hold, &mut follower)? {
        Started::Now((mut pending, turn)) => {
            let answer = follow(&mut pending, follower, turn, deadline);
            Started::Now((pending, answer))
        }
        Started::Queued(held) => Started::Queued(held),
    })
}

/// Waits for the answer to a call that was made.
pub(super) fn answer(pending: &mut PendingCall, deadline: Option<Instant>, now: Instant) -> Option<CallEnd> {
    let mut follower = Follower::new(now, own_waker);
    let turn = pending.step(&mut follower);
    follow(pending, follower, turn, deadline)
}

fn follow(
    pending: &mut PendingCall,
    mut follower: Follower,
    mut turn: Step<CallEnd>,
    deadline: Option<Instant>,
) -> Option<CallEnd> {
    loop {
        let session = pending.session();
        let is_over = deadline.is_some_and(|deadline| deadline <= follower.now);
        match turn {
            Step::Done(answer) => return Some(answer),
            Step::Follow { .. } if is_over => {
                session.hand_over(follower.waker());
                return None;
            }
            Step::Follow { is_blocked, is_leader_promoted } => {
                follower.has_waited = true;
                if is_blocked {
                    wait_to_write(session, deadline);
                } else {
                    // A promise is no more than that.
                    let soon = is_leader_promoted.then(|| follower.now + PROMOTED_TIMEOUT);
                    Parker::this().park(soonest(deadline, soon));
                }
                follower.now = Instant::now();
            }
            turn if is_over => {
                yield_leadership(session, turn, follower.waker());
                return None;
            }
            turn => {
                progress(session, &mut follower, turn, deadline);
            }
        }
        turn = pending.step(&mut follower);
    }
}

/// Reads or writes as a turn says, waiting at most until `deadline`. Tells whether anything came.
pub(super) fn progress<T>(
    session: &Arc<Session>,
    follower: &mut Follower,
    turn: Step<T>,
    deadline: Option<Instant>,
) -> bool {
    let came = match turn {
        Step::Read { mut buffer, due } => {
            let spun = session.spin.find(|| match Read::of(socket::receive(session, &mut buffer)) {
                Ok(Read::Nothing) => None,
                read => Some(read),
            });
            let read = spun.unwrap_or_else(|| {
                limit_wait(session, soonest(deadline, due), follower.now)?;
                Read::of(socket::receive_waiting(session, &mut buffer))
            });
            let came = !matches!(read, Ok(Read::Nothing));
            follower.last_read = Some((buffer, read));
            came
        }
        Step::Write { is_reading_paused, due } => {
            wait_blocked(session, is_reading_paused, soonest(deadline, due))
        }
        Step::Done(_) | Step::Follow { .. } => false,
    };
    follower.now = Instant::now();
    came
}

/// Does not what a turn says: whoever had it waits no longer. `own` is its waker.
pub(super) fn yield_leadership<T>(session: &Arc<Session>, turn: Step<T>, own: Option<&Waker>) {
    match turn {
        Step::Read { buffer, .. } => {
            session.received(buffer, Ok(Read::Nothing));
            session.step_down(own);
        }
        Step::Write { .. } => session.step_down(own),
        Step::Done(_) | Step::Follow { .. } => {}
    }
}

/// Waits for a socket that takes nothing, or for something to arrive.
fn wait_blocked(session: &Arc<Session>, is_reading_paused: bool, due: Option<Instant>) -> bool {
    let events = if is_reading_paused { PollFlags::OUT } else { PollFlags::IN | PollFlags::OUT };
    let _ = wait_for(&mut [PollFd::new(session, events)], due);
    session.flush();
    !session.is_reading_paused() && read_now(session)
}

/// Waits on `link` until `poll` is ready, or `deadline` has passed: then nothing.
pub(super) fn wait<T>(
    session: &Arc<Session>,
    deadline: Option<Instant>,
    mut poll: impl FnMut(&Waker) -> Poll<T>,
) -> Option<T> {
    let sleeper = Parker::this();
    let mut waited = false;
    loop {
        let done = match poll(sleeper.waker()) {
            Poll::Ready(done) => Some(Some(done)),
            Poll::Pending => is_past(deadline).then_some(None),
        };
        if let Some(done) = done {
            // It may have been woken to read for those who still wait; one that comes too late to wait, too: it was among
            // them for a moment.
            if waited || done.is_none() {
                session.hand_over(done.is_none().then(|| sleeper.waker()));
            }
            return done;
        }
        if session.become_leader(None) {
            let done = read_until(session, deadline, || poll(sleeper.waker()));
            session.step_down(done.is_none().then(|| sleeper.waker()));
            return done;
        }
        waited = true;
        if session.is_blocked() && !session.is_driven() {
            wait_to_write(session, deadline);
        } else {
            sleeper.park(deadline);
        }
    }
}

/// Waits a while for the socket to take more, and writes. The seat may become free meanwhile, of which a thread that waits
/// in the system does not hear; so it is not for long.
fn wait_to_write(session: &Arc<Session>, deadline: Option<Instant>) {
    let soon = soonest(deadline, Some(Instant::now() + BLOCKED_POLL));
    let due = soonest(soon, session.tick(Instant::now()));
    let _ = wait_for(&mut [PollFd::new(session, PollFlags::OUT)], due);
    session.flush();
}

/// Writes what is queued, waiting for the peer as long as it takes something and the session lives. It reads if nobody
/// else does: a peer may take nothing before it has been read.
pub(super) fn write_all(session: &Arc<Session>) {
    session.flush();
    while session.is_blocked() && !session.is_driven() && !session.has_ended() {
        if session.become_leader(None) {
            read(session, Some(Instant::now() + BLOCKED_POLL));
            session.step_down(None);
        } else {
            wait_to_write(session, None);
        }
    }
}

/// Has what the socket has not taken written by a thread of its own, as whoever waited for that leaves. The one that reads
/// for all, if there is one, sleeps in the system and hears of nothing; and what a peer is sent a part of it waits for, though
/// not for long. A server's poller does this anyway.
pub(super) fn write_in_background(session: &Arc<Session>) {
    let must_write = |session: &Session| session.is_blocked() && !session.is_driven() && !session.has_ended();
    if !session.admission.is_client || !must_write(session) || session.has_writer.swap(true, Ordering::AcqRel)
    {
        return;
    }
    let written = session.clone();
    let writer = spawn("procbridge-write", move || {
        loop {
            write_all(&written);
            written.has_writer.store(false, Ordering::Release);
            // Whoever came in between found that somebody writes.
            if !must_write(&written) || written.has_writer.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    });
    if writer.is_err() {
        // It is written with what comes next.
        session.has_writer.store(false, Ordering::Release);
    }
}

/// Waits until the system has taken what is queued: the caller may look at the session again only much later. Meanwhile what
/// comes is read, or both sides could wait for the other to read. Returns false if the session ended first, and nothing if
/// `deadline` has passed.
#[must_use]
pub(super) fn written(session: &Arc<Session>, deadline: Option<Instant>) -> Option<bool> {
    wait(session, deadline, |waker| session.poll_written(waker))
}

/// Reads for all who wait on `link`, until `poll` is ready or `deadline` has passed. Whoever does this has the seat.
fn read_until<T>(
    session: &Arc<Session>,
    deadline: Option<Instant>,
    mut poll: impl FnMut() -> Poll<T>,
) -> Option<T> {
    loop {
        if let Poll::Ready(done) = poll() {
            return Some(done);
        }
        if is_past(deadline) {
            return None;
        }
        read(session, deadline);
    }
}

/// Waits for something to arrive, at most until `deadline`, and takes it in. Whoever does this has the seat. Tells
/// whether anything came.
pub(super) fn read(session: &Arc<Session>, deadline: Option<Instant>) -> bool {
    session.flush();
    let now = Instant::now();
    let due = soonest(deadline, session.tick(now));
    if session.is_blocked() {
        return wait_blocked(session, session.is_reading_paused(), due);
    }
    if let Err(error) = limit_wait(session, due, now) {
        session.received(Vec::new(), Err(error));
        return false;
    }
    let mut buffer = session.lend_buffer();
    let read = Read::of(socket::receive_waiting(session, &mut buffer));
    let came = !matches!(read, Ok(Read::Nothing));
    session.received(buffer, read);
    came
}

/// Takes in what has arrived, without waiting.
pub(super) fn read_now(session: &Arc<Session>) -> bool {
    session.read(|buffer| Read::of(socket::receive(session, buffer)))
}

/// Has the next wait in the system end at `due`, or somewhat before it. The system is told only when what it was told
/// before will not do: for calls in a row with the same time limit that is never.
fn limit_wait(session: &Session, due: Option<Instant>, now: Instant) -> io::Result<()> {
    let wanted =
        due.map_or(MAX_RECEIVE_TIMEOUT, |due| due.saturating_duration_since(now).min(MAX_RECEIVE_TIMEOUT));
    let wanted = u64::try_from(wanted.as_micros()).unwrap_or(u64::MAX).max(MIN_RECEIVE_TIMEOUT);
    // A power of two, so that a limit that comes down slowly is set rarely.
    let wanted = 1_u64 << wanted.ilog2();
    let set = session.wait_limit.load(Ordering::Relaxed);
    if set != wanted && !(set < wanted && set >= wanted / 2 && set > 0) {
        socket::set_receive_timeout(session.as_fd(), Duration::from_micros(wanted))?;
        session.wait_limit.store(wanted, Ordering::Relaxed);
    }
    Ok(())
}

pub(super) fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

pub(super) fn soonest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// How long a thread waits to write before it looks whether it is to read.
const BLOCKED_POLL: Duration = Duration::from_millis(10);
/// How long a thread waits for another one to take the seat.
const PROMOTED_TIMEOUT: Duration = Duration::from_millis(20);
/// The longest wait in the system. Whoever waits looks then whether another thread has ended its call, of which nothing
/// tells who waits there, and waits on.
const MAX_RECEIVE_TIMEOUT: Duration = Duration::from_millis(265);
/// The shortest, in microseconds.
const MIN_RECEIVE_TIMEOUT: u64 = 512;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::blocking::flow;
    use crate::classic::client::CallTimeout;
    use crate::client::request::ResultForm;
    use crate::config::client::ClientConfig;
    use crate::session::state::{End, Reader};
    use crate::session::testing::{Bell, Ends, call};

    /// It was told of for an instant, between its look and the one at the clock.
    #[test]
    fn who_comes_too_late_to_wait_passes_the_seat_on() {
        let Ends { session, socket: _socket, .. } = Ends::client(Reader::None, 8);
        let begin = || session.begin(call("work", &(), ResultForm::Stream)).unwrap();
        let (mut own, mut other) = (begin(), begin());
        let (bell, waker) = Bell::new();
        assert!(session.become_leader(None));
        assert!(other.poll_arrival(&waker).is_pending());
        let over = wait(&session, Some(Instant::now()), |waker| {
            let arrived = own.poll_arrival(waker);
            // Somebody else leaves the seat meanwhile.
            session.step_down(None);
            arrived
        });
        assert_eq!((over, bell.rung()), (None, 1));
    }

    /// The thread that reads is asleep in the system when another one's call does not fit the socket.
    #[test]
    fn what_was_begun_is_written_when_its_caller_has_given_up() {
        let Ends { session, mut peer, mut socket } = Ends::client(Reader::None, 8);
        socket::set_blocking(&*session).unwrap();
        let make = |deadline: Duration, payload: &str| {
            let (session, packet) = (session.clone(), call("work", payload, ResultForm::Result));
            let time = CallTimeout::new(Some(deadline));
            let config = ClientConfig::new();
            thread::spawn(move || flow::answer(&config, &session, packet, time, Instant::now()).is_err())
        };
        let reads = make(Duration::from_secs(60), "");
        while session.become_leader(None) {
            session.step_down(None);
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(50));
        assert!(make(Duration::from_millis(100), &"x".repeat(8 << 20)).join().unwrap());
        assert!(session.is_blocked());
        // The peer comes to read.
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut bytes = vec![0; 1 << 20];
        loop {
            let count = socket.read(&mut bytes).unwrap();
            peer.receive(&bytes[..count]);
            while peer.poll_event().is_some() {}
            if !session.is_blocked() && !peer.is_receiving() {
                break;
            }
        }
        session.close(End::Closed);
        assert!(reads.join().unwrap());
    }
}
