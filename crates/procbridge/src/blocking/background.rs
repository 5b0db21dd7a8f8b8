//! What happens in a client's session while no thread of the program waits there.

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
    /// Serves the server's calls on `session` until it ends. As soon as it takes no more calls it is replaced, which gives
    /// the next one a thread; so a client that serves has a session until it is gone.
    pub(super) fn serve_background(&self, session: Arc<Session>) -> Result<(), Error> {
        let client = self.me.clone();
        spawn("procbridge-client", move || run_background(&client, &session))
            .map(drop)
            .map_err(|error| Error::io(ErrorKind::Io, "cannot start to serve", error))
    }

    /// Tells that there is a session which may be a new one, and has it looked after.
    pub(super) fn keep_open(&self) {
        self.keeping.note_opened();
        // Without a thread it is greeted when the next is lost, if it is still there.
        begin_keeping(&self.me);
    }
}

/// Has a thread see to it that there is a session, and that it is greeted. Whether there is a thread for that.
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

/// Opens sessions and greets them until there is one that was greeted, or the client is gone.
fn keep(client: &Weak<Inner>) {
    while let Some(inner) = client.upgrade() {
        let keeping = inner.keeping.clone();
        match inner.session() {
            Some(session) => {
                if !keeping.greets_session(&session) {
                    // One that is lost, or opened, from here on begins anew. What was before is looked at once more.
                    keeping.release();
                    let is_kept = |kept: Arc<Session>| Arc::ptr_eq(&kept, &session);
                    if inner.session().is_some_and(is_kept) || !keeping.claim() {
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
                keeping.pause(|| client.upgrade().is_none_or(|client| client.session().is_some()));
                let Some(inner) = client.upgrade() else { return };
                // Where that fails there is a pause again.
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
            is_replaced = begin_keeping(client);
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
