//! What happens in a client's session while no thread of the program waits there.

use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::blocking::flow::Inner;
use crate::blocking::router::{Router, guarded};
use crate::blocking::thread_pool::{ThreadPool, spawn};
use crate::blocking::transport::wait_for;
use crate::blocking::wait::{self, Parker};
use crate::classic::client::CallTimeout;
use crate::client::retry::Backoff;
use crate::error::{Error, ErrorKind};
use crate::session::Session;
use crate::session::incoming_calls::IncomingCall;

/// Keeps a session alive in which a stream is open: a program that takes its time over an item answers no PING. Nothing
/// happens if that is done already.
///
/// The thread waits for what arrives, so that it answers in time whatever the server's heartbeat is.
pub(super) fn tick(session: &Arc<Session>) {
    if session.is_driven() || session.ticked.swap(true, Ordering::AcqRel) {
        return;
    }
    let weak = Arc::downgrade(session);
    let ticker = spawn("procbridge-pulse", move || {
        while let Some(session) = weak.upgrade() {
            if session.has_ended() {
                return;
            }
            if !session.is_calling() {
                session.ticked.store(false, Ordering::Release);
                // A stream that was opened in between found that somebody looks after it.
                if !session.is_calling() || session.ticked.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
            let now = Instant::now();
            let mut due = now + TICK;
            if session.become_leader(None) {
                // What a server sends without an end is not read without one.
                for _ in 0..MAX_READS {
                    if !wait::read_now(&session) {
                        break;
                    }
                    session.flush();
                }
                session.flush();
                due = session.tick(Instant::now()).map_or(due, |next| next.min(due));
                session.step_down(None);
            }
            // No longer: the session is kept meanwhile.
            let _ = wait_for(&mut [PollFd::new(&*session, PollFlags::IN)], Some(due));
            drop(session);
            // A program that reads by itself is the first to.
            thread::sleep(FIRST_TICK);
        }
    });
    if ticker.is_err() {
        session.ticked.store(false, Ordering::Release);
    }
}

/// Serves the server's calls on `link` until it ends. As soon as it takes no more calls it is replaced, which gives the next
/// one somebody who looks after it; so a client that serves has a session until it is gone.
pub(super) fn serve_background(client: &Weak<Inner>, session: Arc<Session>) -> Result<(), Error> {
    let client = client.clone();
    spawn("procbridge-client", move || run_background(&client, &session))
        .map(drop)
        .map_err(|error| Error::io(ErrorKind::Io, "cannot start to serve", error))
}

/// Reads a session and serves its calls until it ends.
fn run_background(client: &Weak<Inner>, session: &Arc<Session>) {
    let router = client.upgrade().and_then(|client| client.router().clone());
    let (pool, router) = (ThreadPool::default(), router.unwrap_or_default());
    let sleeper = Parker::this();
    let mut is_replaced = false;
    loop {
        // First: what came before the end is run after it, as far as it is for nobody to wait for.
        let has_ended = session.has_ended();
        while let Some(work) = session.next_work() {
            if is_subscription(&router, session, &work) {
                answer(&router, session, &work, Instant::now());
                session.flush();
                continue;
            }
            let (router, session) = (router.clone(), session.clone());
            // Without a thread the call is answered when its time is over.
            let _ = pool.run("procbridge-client-call", move || run(&router, &session, work));
        }
        if !is_replaced && !session.is_open() {
            // Without a thread it is replaced when it has ended.
            is_replaced = Background::begin(client);
        }
        // Calls have their time limits here as they have at a server, whoever reads.
        let expire = || session.expire(Instant::now(), &session.admission.leaked).1;
        if has_ended {
            // One-way calls go on.
            session.set_standby(sleeper.waker());
            let Some(due) = expire() else { break };
            sleeper.park(Some(due));
        } else if session.become_leader(Some(sleeper.waker())) {
            while !session.has_work() && !session.has_ended() && (is_replaced || session.is_open()) {
                wait::read(session, expire());
            }
            session.step_down(None);
        } else {
            // Looked at again after it was said whom to tell: whoever reads may have found a call in between.
            let due = expire();
            if !session.has_work() && !session.has_ended() && (is_replaced || session.is_open()) {
                sleeper.park(due);
            }
        }
    }
    if !is_replaced {
        let keeping = client.upgrade().map(|client| client.keeping.clone());
        if let Some(keeping) = keeping.filter(|keeping| keeping.claim()) {
            keeping.keep(client);
        }
    }
}

/// Keeps a session open for a client that serves, and has each greeted once. One thread does, when there is something to be
/// done: sessions that end one soon after the other are all its own.
#[derive(Debug, Default)]
pub(super) struct Background {
    state: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// Whether the client serves, and its first session was greeted.
    is_on: bool,
    is_running: bool,
    is_over: bool,
    /// How often a session was opened.
    opened: u64,
    /// The last session that was greeted.
    greeted: Weak<Session>,
    backoff: Backoff,
}

impl Background {
    /// Begins with `link`, which the caller greets.
    pub(super) fn start(&self, session: &Arc<Session>) {
        let mut state = self.lock();
        state.is_on = true;
        state.greeted = Arc::downgrade(session);
        state.backoff.begun(Instant::now());
    }

    /// Has somebody see to it that there is a session, and that it is greeted. Whether there is a thread for that.
    pub(super) fn begin(client: &Weak<Inner>) -> bool {
        let Some(keeping) = client.upgrade().map(|client| client.keeping.clone()) else { return true };
        if !keeping.claim() {
            return true;
        }
        let (client, keeper) = (client.clone(), keeping.clone());
        let begun = spawn("procbridge-client", move || keeper.keep(&client)).is_ok();
        if !begun {
            keeping.lock().is_running = false;
        }
        begun
    }

    /// Tells that there is a session which may be a new one.
    pub(super) fn has_session(&self, client: &Weak<Inner>) {
        self.lock().opened += 1;
        self.changed.notify_all();
        // Without a thread it is greeted when the next is lost, if it is still there.
        Self::begin(client);
    }

    /// Tells that the client is gone.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Whether the caller is the one to [keep](Self::keep) from now on.
    fn claim(&self) -> bool {
        let mut state = self.lock();
        let is_free = state.is_on && !state.is_running;
        state.is_running |= is_free;
        is_free
    }

    /// Opens sessions and greets them until there is one that was greeted, or the client is gone.
    fn keep(&self, client: &Weak<Inner>) {
        while let Some(inner) = client.upgrade() {
            match inner.session() {
                Some(session) => {
                    if !self.greets_session(&session) {
                        // One that is lost, or opened, from here on begins anew. What was before is looked at once more.
                        self.lock().is_running = false;
                        let is_kept = |kept: Arc<Session>| Arc::ptr_eq(&kept, &session);
                        if inner.session().is_some_and(is_kept) || !self.claim() {
                            return;
                        }
                        continue;
                    }
                    drop(session);
                    // A callback that panics has to do with this session only.
                    let _ = guarded(|| {
                        inner.greet();
                        Ok(())
                    });
                }
                None => {
                    drop(inner);
                    self.pause(client);
                    let Some(inner) = client.upgrade() else { return };
                    // Where that fails there is a pause again.
                    drop(inner.open_session(CallTimeout::new(inner.config.patience())));
                }
            }
        }
    }

    /// Whether `link` was not greeted before. From now on it is.
    fn greets_session(&self, session: &Arc<Session>) -> bool {
        let mut state = self.lock();
        if ptr::eq(state.greeted.as_ptr(), Arc::as_ptr(session)) {
            return false;
        }
        state.greeted = Arc::downgrade(session);
        state.backoff.begun(Instant::now());
        true
    }

    /// Waits before the next attempt, unless a call opens a session meanwhile or the client ends.
    fn pause(&self, client: &Weak<Inner>) {
        let now = Instant::now();
        let until = now + self.lock().backoff.pause(now);
        loop {
            let opened = self.lock().opened;
            // Not under the lock: the client may end with this look at it, and says so.
            if client.upgrade().is_none_or(|client| client.session().is_some()) {
                return;
            }
            let state = self.lock();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_over {
                return;
            }
            // A session that was opened since then was told of before this waits.
            if state.opened == opened {
                drop(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(router: &Router, session: &Arc<Session>, work: IncomingCall) {
    answer(router, session, &work, Instant::now());
    drop(work);
    wait::write_all(session);
}

/// Whether a call becomes a subscription. It takes no time, and is to be in force before a call behind it begins, which may
/// publish (PB-EVT-8): so no thread of its own is for it.
pub(super) fn is_subscription(router: &Router, session: &Session, work: &IncomingCall) -> bool {
    router.routes.is_subscription(&work.call, &session.admission.config)
}

/// Runs the handler of a call, which `began` just now, and queues its answer. Tells when it ended.
pub(super) fn answer(
    router: &Router,
    session: &Arc<Session>,
    work: &IncomingCall,
    began: Instant,
) -> Instant {
    let (call, admission) = (&work.call, &session.admission);
    let Some(id) = call.session_call().map(|session_call| session_call.id) else { return began };
    let (packet, mut ended) = match call.read(admission) {
        Ok(()) => router.answer(call, &admission.config, &admission.stats, began),
        Err(refusal) => (Some(refusal.packet(call.version(), &admission.config.limits)), Instant::now()),
    };
    if let Some(packet) = packet {
        let answer = call.prepare(packet, session);
        if answer.is_large() {
            wait::wait(session, None, |waker| session.poll_send_space(id, waker));
            ended = Instant::now();
        }
        session.reply(id, answer);
    }
    call.end_handler(&admission.leaked);
    ended
}

/// Reads at a time, each of which takes in as much as there is room for.
const MAX_READS: usize = 32;
/// The longest wait for something to arrive.
const TICK: Duration = Duration::from_millis(250);
/// How long what has arrived is left to the program. The server's patience is longer: twice its heartbeat, which is some
/// tenths of a second at least.
const FIRST_TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::blocking::client::Client;
    use crate::client::request::{CallOptions, ResultForm};
    use crate::service::call::Call;
    use crate::session::state::{End, Reader};
    use crate::session::testing::{Ends, call, styled};

    /// A client that serves `router`, of a server that is not there.
    fn client(router: Router) -> Client {
        let client = Client::connect("unix:/nowhere/at/all").unwrap();
        *client.inner.router() = Some(Arc::new(router));
        client
    }

    /// Attends to `link` on a thread.
    fn attended(client: &Client, session: &Arc<Session>) -> thread::JoinHandle<()> {
        let (client, session) = (Arc::downgrade(&client.inner), session.clone());
        thread::spawn(move || run_background(&client, &session))
    }

    /// Whoever reads for all may find the end with the call.
    #[test]
    fn a_one_way_call_is_run_after_the_end_of_its_session() {
        let (told, hears) = mpsc::channel();
        let client = client(Router::new().method("note", move |n: u32| told.send(n).unwrap()));
        let mut ends = Ends::client(Reader::None, 8);
        ends.peer.call(call("note", &7, ResultForm::OneWay)).unwrap();
        ends.deliver();
        let Ends { session, socket, .. } = ends;
        drop(socket);
        assert!(wait::read_now(&session) && session.has_ended());
        let attending = attended(&client, &session);
        assert_eq!(hears.recv_timeout(Duration::from_secs(5)), Ok(7));
        drop(client);
        attending.join().unwrap();
    }

    /// A client whose method `work` tells whether its call was cancelled within some seconds.
    fn patient() -> (Client, mpsc::Receiver<bool>) {
        let (told, hears) = mpsc::channel();
        let router = Router::new().method("work", move |call: &Call| {
            let patience = Instant::now() + Duration::from_secs(5);
            while !call.is_cancelled() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(1));
            }
            told.send(call.is_cancelled()).unwrap();
        });
        (client(router), hears)
    }

    #[test]
    fn a_one_way_call_has_its_time_limit_after_the_end_of_its_session() {
        let (client, hears) = patient();
        let mut ends = Ends::client(Reader::None, 8);
        let (timeout, form) = (Some(Duration::from_millis(300)), ResultForm::OneWay);
        ends.peer.call(styled("work", &(), CallOptions { timeout, form, ..CallOptions::default() })).unwrap();
        ends.deliver();
        let Ends { session, socket, .. } = ends;
        drop(socket);
        assert!(wait::read_now(&session) && session.has_ended());
        let attending = attended(&client, &session);
        assert_eq!(hears.recv(), Ok(true));
        drop(client);
        attending.join().unwrap();
    }

    #[test]
    fn a_call_has_its_time_limit_while_another_thread_reads() {
        let (client, hears) = patient();
        let mut ends = Ends::client(Reader::None, 8);
        // This thread is the one that reads, and finds a call.
        assert!(ends.session.become_leader(None));
        let attending = attended(&client, &ends.session);
        let timeout = Some(Duration::from_millis(50));
        ends.peer.call(styled("work", &(), CallOptions { timeout, ..CallOptions::default() })).unwrap();
        ends.deliver();
        assert_eq!(hears.recv(), Ok(true));
        ends.session.close(End::Closed);
        drop(client);
        attending.join().unwrap();
    }
}
