//! The way of a call: on the session that there is, or on a connection of its own (PB-OFR-*, PB-OUT-*).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use procbridge_proto::{Packet, Response};

use crate::admission::Admission;
use crate::blocking::client::Client;
use crate::blocking::keeper;
use crate::blocking::opening::Opening;
use crate::blocking::stream::Stream;
use crate::blocking::waiting::{self, Sleeper};
use crate::client_config::{ClientConfig, Sessions};
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Outcome};
use crate::outgoing::{CallTime, Outgoing};
use crate::request::{self, Form, Style};
use crate::router::Router;
use crate::session::current::{Alone, Current, Way};
use crate::session::held::{Begun, Held};
use crate::session::retry::Retry;
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
        let (current, router, greeting) = (Current::default(), Mutex::default(), Mutex::default());
        Arc::new_cyclic(|me| {
            let me = me.clone();
            Self { me, endpoint, config, current, admission, router, greeting }
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
            let reached = self.reach(make()?, time, style.form, &mut now);
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
        mut make: impl FnMut() -> Result<Packet, Error>,
    ) -> Result<(Reached, CallTime), Error> {
        let time = CallTime::new(style.timeout);
        let mut retry = Retry::default();
        loop {
            match self.reach(make()?, time, style.form, &mut Instant::now()) {
                Ok(reached) => return Ok((reached, time)),
                Err(error) => thread::sleep(retry.after(error, false, time.left(Instant::now()))?),
            }
        }
    }

    /// Sends a call on the session that there is, or on a connection of its own. `now` is moved on where that takes time.
    fn reach(&self, packet: Packet, time: CallTime, form: Form, now: &mut Instant) -> Result<Reached, Error> {
        loop {
            match self.way(time, now)? {
                Way::Session(link) => return begin_on(&self.config, &link, packet, form),
                // A call of a client that serves may be one during which it is called: its session is looked after.
                Way::Alone(alone) if self.config.sessions == Sessions::Required || self.is_serving() => {
                    self.open(alone, time.or(Instant::now(), self.config.call_timeout))?;
                    *now = Instant::now();
                }
                Way::Alone(alone) => {
                    let reached = self.reach_alone(alone, packet, time, form);
                    *now = Instant::now();
                    return reached;
                }
                Way::Full => {}
            }
        }
    }

    fn reach_alone(
        &self,
        alone: Alone<'_>,
        packet: Packet,
        time: CallTime,
        form: Form,
    ) -> Result<Reached, Error> {
        let opening = self.dial(packet, time)?;
        match opening.run()? {
            Ok(response) if form == Form::OneWay => {
                drop(response);
                Ok(Reached::Sent)
            }
            Ok(response) => Ok(Reached::Response(response)),
            Err(session) => {
                let (link, id) = session.into_link(&self.admission, form != Form::OneWay)?;
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
    fn dial(&self, packet: Packet, time: CallTime) -> Result<Opening, Error> {
        let terms = request::offer(&self.config, self.is_serving());
        let outgoing = Outgoing::new(&self.config, packet, time, Instant::now(), terms)?;
        let sends_token = self.config.token.is_some();
        let (stream, peer) = Stream::connect(&self.endpoint, outgoing.connect_deadline, sends_token)?;
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
                Way::Full if waiting::is_past(time.deadline) => return Err(time.over(Outcome::NotSent)),
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
        loop {
            match self.way(time, &mut Instant::now())? {
                Way::Session(link) => return Ok(link),
                Way::Alone(alone) => return self.open(alone, time),
                Way::Full => {}
            }
        }
    }

    fn open(&self, alone: Alone<'_>, time: CallTime) -> Result<Arc<Link>, Error> {
        let is_serving = self.is_serving();
        let ping = request::packet::<()>(&self.config, Some("$/ping"), None, &Style::default())?;
        match self.dial(ping, time)?.run()? {
            Ok(_) => Err(no_sessions()),
            Err(session) => {
                let (link, id) = session.into_link(&self.admission, true)?;
                let _answer = finish(link.opening(id), time, Instant::now())?;
                let is_first = self.current.install(&link, || is_serving == self.is_serving());
                drop(alone);
                if is_first && is_serving {
                    // Without a thread it must not be the session: it has told the server that it takes calls.
                    keeper::look_after(&self.me, link.clone())
                        .inspect_err(|_| link.goodbye("nobody can attend to it"))?;
                }
                Ok(if is_first { link } else { self.session().unwrap_or(link) })
            }
        }
    }

    /// Whether the server may call this client.
    fn is_serving(&self) -> bool {
        self.router().is_some()
    }

    /// The methods for the server to call, if this client serves.
    pub(super) fn router(&self) -> MutexGuard<'_, Option<Arc<Router>>> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
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
    }
}

/// Begins a call on a session.
pub(super) fn begin_on(
    config: &ClientConfig,
    link: &Arc<Link>,
    packet: Packet,
    form: Form,
) -> Result<Reached, Error> {
    let packet = request::for_session(config, link, packet);
    match form {
        Form::OneWay => {
            link.notify(packet).map_err(request::refused)?;
            waiting::see_written(link);
            Ok(Reached::Sent)
        }
        Form::Stream => {
            let calling = link.begin(packet).map_err(request::refused)?;
            waiting::see_written(link);
            Ok(Reached::Calling(calling))
        }
        Form::Result => Ok(Reached::Ready(link.clone(), packet)),
    }
}

/// Waits until the peer takes a call, and begins it.
fn in_turn(link: &Arc<Link>, mut held: Held, time: CallTime) -> Result<Calling, Error> {
    let begun = waiting::wait(link, held.until(time.deadline), |waker| held.poll(waker));
    match begun {
        Some(begun) => begun.map_err(request::refused),
        None if waiting::is_past(time.deadline) => Err(time.over(Outcome::NotSent)),
        None => held.insist().map_err(request::refused),
    }
}

/// Waits for the answer to a call. `now` is what the clock said lately.
pub(super) fn finish(mut calling: Calling, time: CallTime, now: Instant) -> Result<Response, Error> {
    let answer = waiting::answer(&mut calling, time.deadline, now);
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
    match waiting::call(link, packet, config.hold, time.deadline, now).map_err(request::refused)? {
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
        None => Err(time.over(request::give_up(&mut calling))),
    };
    waiting::leave_writing(calling.link());
    finished
}

/// The error of a server that holds no sessions where one is needed.
pub(super) fn no_sessions() -> Error {
    Error::new(ErrorKind::Protocol, "the server holds no sessions: each of its connections is for one call")
}

/// Looks at what has come to a session that nobody reads.
fn refresh(link: &Arc<Link>) {
    if link.take_seat(None) {
        // A server that floods its client is read by whoever waits for an answer.
        for _ in 0..READS {
            if !waiting::read_now(link) {
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
