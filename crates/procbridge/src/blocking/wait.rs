//! How a thread waits on a session: as the leader it reads for all waiting threads, as a follower it parks.

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

/// A waker for one thread.
struct Unparker {
    thread: Thread,
    notified: AtomicBool,
}

thread_local! {
    static UNPARKER: RefCell<Option<(Arc<Unparker>, Waker)>> = const { RefCell::new(None) };
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// The calling thread, with the waker that unparks it.
pub(super) struct Parker {
    unparker: Arc<Unparker>,
    waker: Waker,
}

impl Parker {
    /// Returns the parker of the calling thread.
    pub(super) fn this() -> Self {
        let (unparker, waker) = UNPARKER.with_borrow_mut(|cached| {
            let (unparker, waker) = cached.get_or_insert_with(|| {
                let unparker =
                    Arc::new(Unparker { thread: thread::current(), notified: AtomicBool::new(false) });
                (unparker.clone(), Waker::from(unparker))
            });
            (unparker.clone(), waker.clone())
        });
        Self { unparker, waker }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Parks the thread until its waker is called, or until `deadline`.
    pub(super) fn park(&self, deadline: Option<Instant>) {
        while !self.unparker.notified.swap(false, Ordering::AcqRel) {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

/// Returns the waker of the calling thread.
pub(super) fn own_waker() -> Waker {
    Parker::this().waker
}

/// Makes a call and waits for its answer; returns no answer at `deadline`. `now` is a recent clock reading. A call
/// beyond the peer's concurrency limit is queued for `queue_timeout`, if it is given.
pub(super) fn call(
    session: &Arc<Session>,
    packet: Packet,
    queue_timeout: Option<Duration>,
    deadline: Option<Instant>,
    now: Instant,
) -> Result<Started<(PendingCall, Option<CallEnd>)>, BeginError> {
    let mut follower = Follower::new(now, own_waker);
    Ok(match session.call(packet, queue_timeout, &mut follower)? {
        Started::Now((mut pending, step)) => {
            let answer = follow(&mut pending, follower, step, deadline);
            Started::Now((pending, answer))
        }
        Started::Queued(queued) => Started::Queued(queued),
    })
}

/// Waits for the answer to a call that was made.
pub(super) fn answer(pending: &mut PendingCall, deadline: Option<Instant>, now: Instant) -> Option<CallEnd> {
    let mut follower = Follower::new(now, own_waker);
    let step = pending.step(&mut follower);
    follow(pending, follower, step, deadline)
}

fn follow(
    pending: &mut PendingCall,
    mut follower: Follower,
    mut step: Step<CallEnd>,
    deadline: Option<Instant>,
) -> Option<CallEnd> {
    loop {
        let session = pending.session();
        let is_over = deadline.is_some_and(|deadline| deadline <= follower.now);
        match step {
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
                    // The promoted thread may not come, so the wait for it is short.
                    let soon = is_leader_promoted.then(|| follower.now + PROMOTED_TIMEOUT);
                    Parker::this().park(soonest(deadline, soon));
                }
                follower.now = Instant::now();
            }
            step if is_over => {
                yield_leadership(session, step, follower.waker());
                return None;
            }
            step => {
                progress(session, &mut follower, step, deadline);
            }
        }
        step = pending.step(&mut follower);
    }
}

/// Does the read or write that the leader's `turn` asks for, until `deadline` at most. Returns whether anything
/// arrived.
pub(super) fn progress<T>(
    session: &Arc<Session>,
    follower: &mut Follower,
    step: Step<T>,
    deadline: Option<Instant>,
) -> bool {
    let came = match step {
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

/// Steps down without doing what `turn` asks for: its thread waits no longer. `own`: that thread's waker, which is not
/// woken.
pub(super) fn yield_leadership<T>(session: &Arc<Session>, step: Step<T>, own: Option<&Waker>) {
    match step {
        Step::Read { buffer, .. } => {
            session.received(buffer, Ok(Read::Nothing));
            session.step_down(own);
        }
        Step::Write { .. } => session.step_down(own),
        Step::Done(_) | Step::Follow { .. } => {}
    }
}

/// Waits until a blocked socket takes more bytes, or until input arrives.
fn wait_blocked(session: &Arc<Session>, is_reading_paused: bool, due: Option<Instant>) -> bool {
    let events = if is_reading_paused { PollFlags::OUT } else { PollFlags::IN | PollFlags::OUT };
    let _ = wait_for(&mut [PollFd::new(session, events)], due);
    session.flush();
    !session.is_reading_paused() && read_now(session)
}

/// Waits on `session` until `poll` is ready. Returns nothing once `deadline` has passed.
pub(super) fn wait<T>(
    session: &Arc<Session>,
    deadline: Option<Instant>,
    mut poll: impl FnMut(&Waker) -> Poll<T>,
) -> Option<T> {
    let parker = Parker::this();
    let mut waited = false;
    loop {
        let done = match poll(parker.waker()) {
            Poll::Ready(done) => Some(Some(done)),
            Poll::Pending => is_past(deadline).then_some(None),
        };
        if let Some(done) = done {
            // This thread may have been woken to become the leader, so it hands that over. A thread that is past its
            // deadline on arrival does too: it was a follower for a moment.
            if waited || done.is_none() {
                session.hand_over(done.is_none().then(|| parker.waker()));
            }
            return done;
        }
        if session.become_leader(None) {
            let done = read_until(session, deadline, || poll(parker.waker()));
            session.step_down(done.is_none().then(|| parker.waker()));
            return done;
        }
        waited = true;
        if session.is_blocked() && !session.is_driven() {
            wait_to_write(session, deadline);
        } else {
            parker.park(deadline);
        }
    }
}

/// Waits for the socket to take more bytes, and writes. The wait is short: leadership may become free meanwhile, and a
/// thread blocked in the system call is not woken for that.
fn wait_to_write(session: &Arc<Session>, deadline: Option<Instant>) {
    let soon = soonest(deadline, Some(Instant::now() + BLOCKED_POLL));
    let due = soonest(soon, session.tick(Instant::now()));
    let _ = wait_for(&mut [PollFd::new(session, PollFlags::OUT)], due);
    session.flush();
}

/// Writes what is queued, as long as the peer takes some of it and the session lives. Reads if no other thread leads: a
/// peer may take nothing before its own bytes are read.
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

/// Starts a thread that writes the rest of the queue, since the thread that waited for it leaves. The leader, if there
/// is one, is blocked in the system call and is not notified. A peer that got part of a message waits for the rest, and
/// not for long. At a server the event loop does this.
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
            // Check again after the store, or bytes queued in between, whose thread saw a writer, are not written.
            if !must_write(&written) || written.has_writer.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    });
    if writer.is_err() {
        // They are written with the next bytes.
        session.has_writer.store(false, Ordering::Release);
    }
}

/// Waits until the operating system has taken what is queued: the caller may use the session again only much later.
/// Input is read meanwhile, or both sides could wait for the other to read. Returns false if the session ended first,
/// and nothing if `deadline` has passed.
#[must_use]
pub(super) fn written(session: &Arc<Session>, deadline: Option<Instant>) -> Option<bool> {
    wait(session, deadline, |waker| session.poll_written(waker))
}

/// Reads for all threads that wait on `session`, until `poll` is ready or `deadline` has passed. The caller is the
/// leader.
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

/// Waits for input, until `deadline` at most, and processes it. The caller is the leader. Returns whether anything
/// arrived.
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

/// Processes what has arrived, without waiting.
pub(super) fn read_now(session: &Arc<Session>) -> bool {
    session.read(|buffer| Read::of(socket::receive(session, buffer)))
}

/// Sets the receive timeout so that the next read ends at `due` or somewhat before. The system call is made only if the
/// timeout set before does not fit: for calls in a row with the same timeout, never.
fn limit_wait(session: &Session, due: Option<Instant>, now: Instant) -> io::Result<()> {
    let wanted =
        due.map_or(MAX_RECEIVE_TIMEOUT, |due| due.saturating_duration_since(now).min(MAX_RECEIVE_TIMEOUT));
    let wanted = u64::try_from(wanted.as_micros()).unwrap_or(u64::MAX).max(MIN_RECEIVE_TIMEOUT);
    // A power of two, so that a timeout that shrinks slowly is set rarely.
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

/// How long a thread waits to write before it checks whether it should become the leader.
const BLOCKED_POLL: Duration = Duration::from_millis(10);
/// How long a thread waits for a promoted follower to become the leader.
const PROMOTED_TIMEOUT: Duration = Duration::from_millis(20);
/// The longest wait in one read. A blocked thread is not notified when another thread cancels its call, so it checks
/// for that at least this often.
const MAX_RECEIVE_TIMEOUT: Duration = Duration::from_millis(265);
/// The shortest wait in one read, in microseconds.
const MIN_RECEIVE_TIMEOUT: u64 = 512;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::blocking::flow;
    use crate::classic::client::CallTimeout;
    use crate::client::request::ResultForm;
    use crate::config::client::ClientConfig;
    use crate::session::end::End;
    use crate::session::reading::Reader;
    use crate::session::testing::{Bell, Ends, call};

    /// It was a follower for an instant, between registering its waker and reading the clock.
    #[test]
    fn a_thread_past_its_deadline_hands_leadership_over() {
        let Ends { session, socket: _socket, .. } = Ends::client(Reader::None, 8);
        let begin = || session.begin(call("work", &(), ResultForm::Stream)).unwrap();
        let (mut own, mut other) = (begin(), begin());
        let (bell, waker) = Bell::new();
        assert!(session.become_leader(None));
        assert!(other.poll_arrival(&waker).is_pending());
        let over = wait(&session, Some(Instant::now()), |waker| {
            let arrived = own.poll_arrival(waker);
            // Another thread steps down meanwhile.
            session.step_down(None);
            arrived
        });
        assert_eq!((over, bell.woken()), (None, 1));
    }

    /// The leader is blocked in a read when another thread's call does not fit the socket.
    #[test]
    fn a_call_that_was_begun_is_written_after_its_caller_timed_out() {
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
        // The peer begins to read.
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
