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
        spawn("procbridge-client", move || run_background(&client, &session))
            .map(drop)
            .map_err(|error| Error::io(ErrorKind::Io, "cannot start to serve", error))
    }

    /// Notes that a session was opened, which may be a new one, and starts the thread that greets it.
    pub(super) fn keep_open(&self) {
        self.keeping.note_opened();
        // If no thread can be started, the session is greeted when the next one is lost, if it is still open.
        begin_keeping(&self.me);
    }
}

/// Starts the thread that keeps a session open and greeted, unless one runs. Returns whether such a thread exists.
fn begin_keeping(client: &Weak<Inner>) -> bool {
    let Some(keeping) = client.upgrade().map(|client| client.keeping.clone()) else { return true };
    if !keeping.claim() {
        return true;
    }
    let client = client.clone();
    let begun = spawn("procbridge-client", move || keep(&client)).is_ok();
    if !begun {
        keeping.release();
    }
    begun
}

/// Opens sessions and greets them until the current one is greeted or the client is dropped.
fn keep(client: &Weak<Inner>) {
    while let Some(inner) = client.upgrade() {
        let keeping = inner.keeping.clone();
        match inner.session() {
            Some(session) => {
                if !keeping.greets_session(&session) {
                    // Release before checking again, or a session that is lost or opened in between has no thread to
                    // greet it.
                    keeping.release();
                    let is_kept = |kept: Arc<Session>| Arc::ptr_eq(&kept, &session);
                    if inner.session().is_some_and(is_kept) || !keeping.claim() {
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
                keeping.pause(|| client.upgrade().is_none_or(|client| client.session().is_some()));
                let Some(inner) = client.upgrade() else { return };
                // If this fails, the loop pauses again.
                drop(inner.open_session(CallTimeout::new(inner.config.patience())));
            }
        }
    }
}

/// Reads a session and serves its calls until it ends.
fn run_background(client: &Weak<Inner>, session: &Arc<Session>) {
    let router = client.upgrade().and_then(|client| client.router().clone());
    let (pool, router) = (ThreadPool::default(), router.unwrap_or_default());
    let sleeper = Parker::this();
    let mut is_replaced = false;
    loop {
        // Check for the end before taking calls: one-way calls that arrived before the end still run.
        let has_ended = session.has_ended();
        while let Some(work) = session.next_work() {
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
            is_replaced = begin_keeping(client);
        }
        // The deadlines of incoming calls expire here as they do at a server, whichever thread reads.
        let expire = || session.expire(Instant::now(), &session.admission.leaked).1;
        if has_ended {
            // One-way calls go on after the session's end.
            session.set_standby(sleeper.waker());
            let Some(due) = expire() else { break };
            sleeper.park(Some(due));
        } else if session.become_leader(Some(sleeper.waker())) {
            while !session.has_work() && !session.has_ended() && (is_replaced || session.is_open()) {
                wait::read(session, expire());
            }
            session.step_down(None);
        } else {
            // Check again after registering the waker, or a call that the leader found in between waits.
            let due = expire();
            if !session.has_work() && !session.has_ended() && (is_replaced || session.is_open()) {
                sleeper.park(due);
            }
        }
    }
    if !is_replaced {
        let keeping = client.upgrade().map(|client| client.keeping.clone());
        if keeping.is_some_and(|keeping| keeping.claim()) {
            keep(client);
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
    use crate::session::state::{End, Reader};
    use crate::session::testing::{Ends, call, styled};

    /// Returns a client that serves `router`; its server does not exist.
    fn client(router: Router) -> Client {
        let client = Client::connect("unix:/nowhere/at/all").unwrap();
        *client.inner.router() = Some(Arc::new(router));
        client
    }

    /// Serves `session` on a thread.
    fn attended(client: &Client, session: &Arc<Session>) -> thread::JoinHandle<()> {
        let (client, session) = (Arc::downgrade(&client.inner), session.clone());
        thread::spawn(move || run_background(&client, &session))
    }

    /// The leader may find the end of the session together with the call.
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

    /// Returns a client whose method `work` reports whether its call was cancelled within 5 s.
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
        // This thread is the leader, and finds a call.
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
