//! Serves a client's session on threads of the library, and reopens it, while no thread of the program waits there.

use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::blocking::inner::Inner;
use crate::blocking::serve_call::{answer, is_subscription, run};
use crate::blocking::thread_pool::{ThreadPool, spawn};
use crate::blocking::wait::{self, Parker};
use crate::classic::client::CallTimeout;
use crate::error::{Error, ErrorKind};
use crate::service::dispatch::guarded;
use crate::session::Session;

impl Inner {
    /// Serves the server's calls on `session` until it ends, on a thread of its own. As soon as the session takes no
    /// more calls, it is replaced; the next one gets a thread too. So a client that serves has a session until it is
    /// dropped.
    pub(super) fn serve_background(&self, session: Arc<Session>) -> Result<(), Error> {
        let client = self.me.clone();
        spawn("procbridge-client", move || run_background(&client, &session)).map(drop).map_err(|error| {
            Error::io(ErrorKind::Io, "cannot start a thread that serves the server's calls", error)
        })
    }

    /// Notes that a session was opened, which may be a new one, and starts the thread that greets it.
    pub(super) fn keep_open(&self) {
        self.keep_open.note_opened();
        // If no thread can be started, the session is greeted when the next one is lost, if it is still open.
        start_keep_open(&self.me);
    }
}

/// Starts the thread that keeps a session open and greeted, unless one runs. Returns whether such a thread exists.
fn start_keep_open(client: &Weak<Inner>) -> bool {
    let Some(keep_open) = client.upgrade().map(|client| client.keep_open.clone()) else { return true };
    if !keep_open.claim() {
        return true;
    }
    let client = client.clone();
    let begun = spawn("procbridge-client", move || run_keep_open(&client)).is_ok();
    if !begun {
        keep_open.release();
    }
    begun
}

/// Opens sessions and greets them until the current one is greeted or the client is dropped.
fn run_keep_open(client: &Weak<Inner>) {
    while let Some(inner) = client.upgrade() {
        let keep_open = inner.keep_open.clone();
        match inner.session() {
            Some(session) => {
                if !keep_open.greets_session(&session) {
                    // Release before checking again, or a session that is lost or opened in between has no thread to
                    // greet it.
                    keep_open.release();
                    let is_kept = |current: Arc<Session>| Arc::ptr_eq(&current, &session);
                    if inner.session().is_some_and(is_kept) || !keep_open.claim() {
                        return;
                    }
                    continue;
                }
                drop(session);
                // A panic of the callback ends this greeting only.
                let _ = guarded(|| {
                    inner.greet();
                    Ok(())
                });
            }
            None => {
                drop(inner);
                keep_open.pause(|| client.upgrade().is_none_or(|client| client.session().is_some()));
                let Some(inner) = client.upgrade() else { return };
                // If this fails, the loop pauses again.
                drop(inner.open_session(CallTimeout::new(inner.config.inactivity_timeout())));
            }
        }
    }
}

/// Reads a session and serves its calls until it ends.
fn run_background(client: &Weak<Inner>, session: &Arc<Session>) {
    let router = client.upgrade().and_then(|client| client.router().clone());
    let (pool, router) = (ThreadPool::default(), router.unwrap_or_default());
    let parker = Parker::this();
    let mut is_replaced = false;
    loop {
        // Check for the end before taking calls: one-way calls that arrived before the end still run.
        let has_ended = session.has_ended();
        while let Some(work) = session.take_incoming() {
            if is_subscription(&router, session, &work) {
                answer(&router, session, &work, Instant::now());
                session.flush();
                continue;
            }
            let (router, session) = (router.clone(), session.clone());
            // Without a thread, the call is answered at its deadline.
            let _ = pool.run("procbridge-client-call", move || run(&router, &session, work));
        }
        if !is_replaced && !session.is_open() {
            // Without a thread, the session is replaced when it has ended.
            is_replaced = start_keep_open(client);
        }
        // The deadlines of incoming calls expire here as they do at a server, whichever thread reads.
        let expire = || session.expire(Instant::now(), &session.admission.leaked).1;
        if has_ended {
            // One-way calls go on after the session's end.
            session.set_standby(parker.waker());
            let Some(due) = expire() else { break };
            parker.park(Some(due));
        } else if session.become_leader(Some(parker.waker())) {
            while !session.has_incoming() && !session.has_ended() && (is_replaced || session.is_open()) {
                wait::read(session, expire());
            }
            session.step_down(None);
        } else {
            // Check again after registering the waker, or a call that the leader found in between waits.
            let due = expire();
            if !session.has_incoming() && !session.has_ended() && (is_replaced || session.is_open()) {
                parker.park(due);
            }
        }
    }
    if !is_replaced {
        let keep_open = client.upgrade().map(|client| client.keep_open.clone());
        if keep_open.is_some_and(|keep_open| keep_open.claim()) {
            run_keep_open(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::blocking::client::Client;
    use crate::blocking::router::Router;
    use crate::client::request::{CallOptions, ResultForm};
    use crate::service::call::Call;
    use crate::session::end::End;
    use crate::session::reading::Reader;
    use crate::session::testing::{Ends, call, styled};

    /// Returns a client that serves `router`; its server does not exist.
    fn client(router: Router) -> Client {
        let client = Client::new("unix:/nowhere/at/all").unwrap();
        *client.inner.router() = Some(Arc::new(router));
        client
    }

    /// Serves `session` on a thread.
    fn serve(client: &Client, session: &Arc<Session>) -> thread::JoinHandle<()> {
        let (client, session) = (Arc::downgrade(&client.inner), session.clone());
        thread::spawn(move || run_background(&client, &session))
    }

    /// The leader may find the end of the session together with the call.
    #[test]
    fn a_one_way_call_is_run_after_the_end_of_its_session() {
        let (sender, receiver) = mpsc::channel();
        let client = client(Router::new().method("note", move |n: u32| sender.send(n).unwrap()));
        let mut ends = Ends::client(Reader::None, 8);
        ends.peer.call(call("note", &7, ResultForm::OneWay)).unwrap();
        ends.deliver();
        let Ends { session, socket, .. } = ends;
        drop(socket);
        assert!(wait::read_now(&session) && session.has_ended());
        let serving = serve(&client, &session);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(7));
        drop(client);
        serving.join().unwrap();
    }

    /// Returns a client whose method `work` reports whether its call was cancelled within 5 s.
    fn waits_for_cancel() -> (Client, mpsc::Receiver<bool>) {
        let (sender, receiver) = mpsc::channel();
        let router = Router::new().method("work", move |call: &Call| {
            let deadline = Instant::now() + Duration::from_secs(5);
            while !call.is_cancelled() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            sender.send(call.is_cancelled()).unwrap();
        });
        (client(router), receiver)
    }

    #[test]
    fn a_one_way_call_has_its_time_limit_after_the_end_of_its_session() {
        let (client, receiver) = waits_for_cancel();
        let mut ends = Ends::client(Reader::None, 8);
        let (timeout, form) = (Some(Duration::from_millis(300)), ResultForm::OneWay);
        ends.peer.call(styled("work", &(), CallOptions { timeout, form, ..CallOptions::default() })).unwrap();
        ends.deliver();
        let Ends { session, socket, .. } = ends;
        drop(socket);
        assert!(wait::read_now(&session) && session.has_ended());
        let serving = serve(&client, &session);
        assert_eq!(receiver.recv(), Ok(true));
        drop(client);
        serving.join().unwrap();
    }

    #[test]
    fn a_call_has_its_time_limit_while_another_thread_reads() {
        let (client, receiver) = waits_for_cancel();
        let mut ends = Ends::client(Reader::None, 8);
        // This thread is the leader, and finds a call.
        assert!(ends.session.become_leader(None));
        let serving = serve(&client, &ends.session);
        let timeout = Some(Duration::from_millis(50));
        ends.peer.call(styled("work", &(), CallOptions { timeout, ..CallOptions::default() })).unwrap();
        ends.deliver();
        assert_eq!(receiver.recv(), Ok(true));
        ends.session.close(End::Closed);
        drop(client);
        serving.join().unwrap();
    }
}
