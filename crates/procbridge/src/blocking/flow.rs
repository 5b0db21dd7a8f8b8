//! The way of a call: on the session that there is, or on a connection of its own (PB-OFR-*, PB-OUT-*).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use procbridge_proto::{Packet, Response};

use crate::blocking::background::{self, Keeping};
use crate::blocking::client::Client;
use crate::blocking::open::Opening;
use crate::blocking::router::Router;
use crate::blocking::transport::Stream;
use crate::blocking::wait::{self, Sleeper};
use crate::classic::client::{CallTime, Outgoing};
use crate::client::connections::{Alone, Current, Way};
use crate::client::request::{self, Form, Style};
use crate::client::retry::Retry;
use crate::config::client::{ClientConfig, Sessions};
use crate::endpoint::Endpoint;
use crate::error::{Error, Outcome};
use crate::limits::admission::Admission;
use crate::session::concurrency_limit::{Begun, Held};
use crate::session::state::End;
use crate::session::{Answer, Calling, Link};

/// What the clones of a client share.
#[derive(Debug)]
pub(super) struct Inner {
    me: Weak<Inner>,
    pub(super) endpoint: Endpoint,
    pub(super) config: ClientConfig,
    pub(super) current: Current,
    pub(super) admission: Arc<Admission>,
    /// The methods for the server to call.
    router: Mutex<Option<Arc<Router>>>,
    greeting: Mutex<Greeting>,
    /// What keeps a session open, if this client serves.
    pub(super) keeping: Arc<Keeping>,
}

/// What is to be done with each new session of a client that serves.
#[derive(Clone, Default)]
pub(super) struct Greeting(pub(super) Option<Arc<Greet>>);

type Greet = dyn Fn(&Client) + Send + Sync;

impl fmt::Debug for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Greeting").field(&self.0.is_some()).finish()
    }
}

/// How far a call has come without waiting for its answer.
#[derive(Debug)]
pub(super) enum Reached {
    Response(Response),
    Calling(Calling),
    /// Nowhere yet: the call goes out on this session with the wait for its answer.
    Ready(Arc<Link>, Packet),
    /// Nothing is answered.
    Sent,
}

impl Inner {
    pub(super) fn new(endpoint: Endpoint, config: ClientConfig) -> Arc<Self> {
        let admission = Arc::new(Admission::of_client(&config));
        let current = Current::new(config.max_connecting);
        let (router, greeting, keeping) = (Mutex::default(), Mutex::default(), Arc::default());
        Arc::new_cyclic(|me| {
            let me = me.clone();
            Self { me, endpoint, config, current, admission, router, greeting, keeping }
        })
    }

    /// Makes a call and waits for its answer. `make` writes its packet, once for each attempt.
    pub(super) fn run(
        &self,
        style: &Style,
        mut make: impl FnMut() -> Result<Packet, Error>,
    ) -> Result<Option<Response>, Error> {
        let time = CallTime::new(style.timeout.or(self.config.call_timeout));
        let (mut retry, mut now) = (Retry::default(), time.started);
        loop {
            let reached = self.reach(make()?, time, style, &mut now);
            let answered = reached.and_then(|reached| match reached {
                Reached::Response(response) => Ok(Some(response)),
                Reached::Calling(calling) => finish(calling, time, now).map(Some),
                Reached::Ready(link, packet) => answer(&self.config, &link, packet, time, now).map(Some),
                Reached::Sent => Ok(None),
            });
            let Err(error) = answered else { return answered };
            thread::sleep(retry.after(error, style.is_idempotent, time.left(Instant::now()))?);
            now = Instant::now();
        }
    }

    /// Makes a call whose answer is waited for elsewhere.
    pub(super) fn begin(
        &self,
        style: &Style,
        make: impl FnMut() -> Result<Packet, Error>,
    ) -> Result<(Reached, CallTime), Error> {
        let time = CallTime::new(style.timeout);
        self.begin_within(time, style, make).map(|reached| (reached, time))
    }

    /// Makes such a call, which must be sent within `time`.
    pub(super) fn begin_within(
        &self,
        time: CallTime,
        style: &Style,
        mut make: impl FnMut() -> Result<Packet, Error>,
    ) -> Result<Reached, Error> {
        let mut retry = Retry::default();
        loop {
            match self.reach(make()?, time, style, &mut Instant::now()) {
                Ok(reached) => return Ok(reached),
                Err(error) => thread::sleep(retry.after(error, false, time.left(Instant::now()))?),
            }
        }
    }

    /// Sends a call on the session that there is, or on a connection of its own. `now` is moved on where that takes time.
    fn reach(
        &self,
        packet: Packet,
        time: CallTime,
        style: &Style,
        now: &mut Instant,
    ) -> Result<Reached, Error> {
        let needs_session =
            style.needs_session || self.config.sessions == Sessions::Required || self.is_serving();
        // A plain call that waits for ever was told to.
        let is_patient = style.form == Form::Result && !needs_session;
        let opened = if is_patient { time } else { time.or(*now, self.config.patience()) };
        let link = match self.way(opened, now)? {
            Way::Session(link) => link,
            // A call of a client that serves may be one during which it is called: its session is looked after.
            Way::Alone(alone) if needs_session => {
                // A session that ends at once is not opened again here, but after the pause of a call that was not run.
                let link = self.open(alone, time)?;
                *now = Instant::now();
                link
            }
            Way::Alone(alone) => {
                let reached = self.reach_alone(alone, packet, time, style.form);
                *now = Instant::now();
                return reached;
            }
            Way::Full => return Err(opened.crowded_out()),
        };
        begin_on(&self.config, &link, packet, style.form, time)
    }

    fn reach_alone(
        &self,
        mut alone: Alone<'_>,
        packet: Packet,
        time: CallTime,
        form: Form,
    ) -> Result<Reached, Error> {
        let patience = self.config.patience().filter(|_| form == Form::Stream);
        let opening = self.dial(&mut alone, packet, time, patience)?;
        let answered = |response| match form {
            Form::OneWay => request::dropped(&response).map(|()| Reached::Sent),
            Form::Result | Form::Stream => Ok(Reached::Response(response)),
        };
        match opening.run()? {
            Ok(response) => answered(response),
            Err(session) => {
                let (link, id) = match session.into_link(&self.admission, form != Form::OneWay) {
                    Ok(link) => link,
                    // It was sent, and has nothing to wait for.
                    Err(_) if form == Form::OneWay => return Ok(Reached::Sent),
                    Err(ended) => return ended.and_then(answered),
                };
                // If another call was faster, this connection ends with its call. So it does if the client serves by now:
                // this session was opened as one of a client that does not.
                self.current.install(&link, || !self.is_serving());
                drop(alone);
                Ok(match form {
                    Form::OneWay => Reached::Sent,
                    Form::Result | Form::Stream => Reached::Calling(link.opening(id)),
                })
            }
        }
    }

    /// A new connection with a call on it.
    fn dial(
        &self,
        alone: &mut Alone<'_>,
        packet: Packet,
        time: CallTime,
        patience: Option<Duration>,
    ) -> Result<Opening, Error> {
        let terms = request::offer(&self.config, self.is_serving());
        let outgoing = Outgoing::new(&self.config, packet, time, Instant::now(), terms, patience)?;
        let sends_token = self.config.token.is_some();
        let (stream, peer) = Stream::connect(&self.endpoint, outgoing.connect_deadline, sends_token, alone)?;
        Ok(Opening { stream, peer, outgoing })
    }

    /// The way for a call now; it waits while there is none.
    fn way(&self, time: CallTime, now: &mut Instant) -> Result<Way<'_>, Error> {
        let waker = || Sleeper::this().waker().clone();
        let mut seeking = self.current.seek();
        loop {
            let way = match self.config.sessions {
                Sessions::Never => seeking.way_alone(waker),
                Sessions::Offered | Sessions::Required => seeking.way(waker),
            };
            match way {
                Way::Session(link) if link.is_unseen(*now, STALE) && link.is_copy() => {
                    self.current.forget(&link)
                }
                Way::Session(link) if link.is_unseen(*now, STALE) => refresh(&link),
                Way::Full if wait::is_past(time.deadline) => return Err(time.crowded_out()),
                Way::Full => {
                    Sleeper::this().sleep(time.deadline);
                    *now = Instant::now();
                }
                way => return Ok(way),
            }
        }
    }

    /// The session that there is, or a new one, opened without a call of the user's.
    pub(super) fn open_session(&self, time: CallTime) -> Result<Arc<Link>, Error> {
        match self.way(time, &mut Instant::now())? {
            Way::Session(link) => Ok(link),
            Way::Alone(alone) => self.open(alone, time),
            Way::Full => Err(time.crowded_out()),
        }
    }

    /// Opens a session with a `$/ping`, of which a call that waits for the session hears nothing but that it was not sent.
    fn open(&self, alone: Alone<'_>, time: CallTime) -> Result<Arc<Link>, Error> {
        self.try_open(alone, time.or(Instant::now(), self.config.patience())).map_err(Error::before_call)
    }

    fn try_open(&self, mut alone: Alone<'_>, time: CallTime) -> Result<Arc<Link>, Error> {
        let is_serving = self.is_serving();
        let ping = request::packet::<()>(&self.config, Some("$/ping"), None, &Style::default())?;
        let session = match self.dial(&mut alone, ping, time, None)?.run()? {
            Ok(response) => return Err(request::without_session(&response)),
            Err(session) => session,
        };
        let (link, id) = session
            .into_link(&self.admission, true)
            .map_err(|ended| ended.err().unwrap_or_else(request::gone))?;
        finish(link.opening(id), time, Instant::now())?;
        let is_first = self.current.install(&link, || is_serving == self.is_serving());
        drop(alone);
        if !is_first {
            link.goodbye("another session takes its place");
            return self.session().ok_or_else(request::gone);
        }
        if is_serving {
            // Without a thread it must not be the session: it has told the server that it takes calls.
            background::look_after(&self.me, link.clone())
                .inspect_err(|_| link.goodbye("nobody can attend to it"))?;
            self.keep();
        }
        Ok(link)
    }

    /// Whether the server may call this client.
    fn is_serving(&self) -> bool {
        self.router().is_some()
    }

    /// The methods for the server to call, if this client serves.
    pub(super) fn router(&self) -> MutexGuard<'_, Option<Arc<Router>>> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the session of a client that serves looked after, which may have been lost.
    pub(super) fn keep(&self) {
        self.keeping.has_session(&self.me);
    }

    /// Does what is to be done with a new session.
    pub(super) fn greet(&self) {
        let greeting = self.greeting().clone();
        if let (Greeting(Some(greet)), Some(inner)) = (greeting, self.me.upgrade()) {
            greet(&Client { inner });
        }
    }

    pub(super) fn greeting(&self) -> MutexGuard<'_, Greeting> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, if there is one now.
    pub(super) fn session(&self) -> Option<Arc<Link>> {
        self.current.session()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A thread that attends to it would keep it open. Streams that are being read go on; whoever calls this client
        // is told that it is gone.
        if let Some(link) = self.current.session() {
            link.goodbye("the client is done");
            if !link.is_calling() {
                link.close(End::Closed);
            }
        }
        self.keeping.end();
    }
}

/// Begins a call on a session.
pub(super) fn begin_on(
    config: &ClientConfig,
    link: &Arc<Link>,
    packet: Packet,
    form: Form,
    time: CallTime,
) -> Result<Reached, Error> {
    let packet = request::for_session(config, link, packet);
    match form {
        Form::OneWay => {
            let id = link.notify(packet).map_err(request::refused)?;
            match wait::written(link, time.deadline) {
                Some(true) => Ok(Reached::Sent),
                Some(false) => request::unwritten(link, id).map(|()| Reached::Sent),
                None => {
                    let over = time.over(link.take_back(id));
                    wait::leave_writing(link);
                    Err(over)
                }
            }
        }
        Form::Stream => {
            let mut calling = link.begin(packet).map_err(request::refused)?;
            // If the session ends first, the call has ended with it, and the items say so.
            if wait::written(link, time.deadline).is_none() {
                let over = time.over(calling.give_up());
                wait::leave_writing(link);
                return Err(over);
            }
            Ok(Reached::Calling(calling))
        }
        Form::Result => Ok(Reached::Ready(link.clone(), packet)),
    }
}

/// Waits until the peer takes a call, and begins it.
fn in_turn(link: &Arc<Link>, mut held: Held, time: CallTime) -> Result<Calling, Error> {
    let begun = wait::wait(link, held.until(time.deadline), |waker| held.poll(waker));
    match begun {
        Some(begun) => begun.map_err(request::refused),
        None if wait::is_past(time.deadline) => Err(time.over(Outcome::NotSent)),
        None => held.insist().map_err(request::refused),
    }
}

/// Waits for the answer to a call. `now` is what the clock said lately.
pub(super) fn finish(mut calling: Calling, time: CallTime, now: Instant) -> Result<Response, Error> {
    let answer = wait::answer(&mut calling, time.deadline, now);
    finished(calling, answer, time)
}

/// Makes a call on a session and waits for the answer.
pub(super) fn answer(
    config: &ClientConfig,
    link: &Arc<Link>,
    packet: Packet,
    time: CallTime,
    now: Instant,
) -> Result<Response, Error> {
    match wait::call(link, packet, config.hold, time.deadline, now).map_err(request::refused)? {
        Begun::Calling((calling, answer)) => finished(calling, answer, time),
        Begun::Held(held) => finish(in_turn(link, *held, time)?, time, Instant::now()),
    }
}

fn finished(mut calling: Calling, answer: Option<Answer>, time: CallTime) -> Result<Response, Error> {
    let finished = match answer {
        // The usual case: what is answered was written.
        Some(answer @ Answer::Response(Response::Good(_))) => {
            return request::answered(answer, calling.link());
        }
        Some(answer) => request::answered(answer, calling.link()),
        None => Err(time.over(calling.give_up())),
    };
    wait::leave_writing(calling.link());
    finished
}

/// Looks at what has come to a session that nobody reads.
fn refresh(link: &Arc<Link>) {
    if link.take_seat(None) {
        // A server that floods its client is read by whoever waits for an answer.
        for _ in 0..READS {
            if !wait::read_now(link) {
                break;
            }
        }
        link.flush();
        link.leave_seat(None);
    }
    link.look();
}

/// A session that has been quiet for so long is looked at before it is used: the peer may have said goodbye.
const STALE: Duration = Duration::from_secs(1);
const READS: usize = 64;
