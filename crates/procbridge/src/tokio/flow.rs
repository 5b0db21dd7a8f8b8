//! The flow of a call: on the current session, or on a connection of its own (PB-OFR-*, PB-OUT-*).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ::tokio::task::spawn_blocking;
use ::tokio::time::sleep;
use procbridge_proto::{Packet, Response, UnreadResponse};

use crate::classic::client::{CallTimeout, ClassicClient};
use crate::client::connections::{OneShotPermit, Route};
use crate::client::request::{self, CallOptions, ResultForm};
use crate::client::retry::Retry;
use crate::config::client::{ClientConfig, SessionMode};
use crate::config::tuning::{STALE, STALE_READS};
use crate::error::{Error, ErrorKind, Outcome};
use crate::net::socket::{self, Read};
use crate::session::concurrency_limit::{QueuedCall, Started};
use crate::session::{CallEnd, PendingCall, Session};
use crate::tokio::clock;
use crate::tokio::inner::Inner;
use crate::tokio::open::{OpenCall, OpenedSession};
use crate::tokio::router::Router;
use crate::tokio::session_task::Role;
use crate::tokio::transport::{Transport, within};

/// How far a call has come before its caller waits for the answer.
#[derive(Debug)]
pub(super) enum Begun {
    Response(Response),
    Calling(PendingCall),
    /// A one-way call that was sent.
    Sent,
}

impl Inner {
    /// Returns the current session for the usual case: a call that may be retried as it is.
    pub(super) fn ready_session(&self, options: &CallOptions, packet: &Packet) -> Option<Arc<Session>> {
        let is_usual = options.form == ResultForm::Result
            && self.config.compression.is_none()
            && packet.json_len() <= MAX_RETRY_COPY;
        self.last_session().filter(|_| is_usual)
    }

    /// Makes a call on a session that another runtime drives, and waits for its answer.
    pub(super) async fn run_on_session(
        &self,
        session: Arc<Session>,
        packet: Packet,
        time: CallTimeout,
        is_idempotent: bool,
    ) -> Result<Option<Response>, Error> {
        let since = time.started.checked_sub(STALE);
        let (mut session, mut pending) = (Some(session), None);
        let answer = poll_fn(|context| {
            let waker = context.waker();
            if let Some(session) = session.take() {
                match session.begin_copied(&packet, since, None, waker) {
                    Ok(Some(begun)) => pending = Some(begun),
                    Ok(None) => return Poll::Ready(None),
                    Err(refused) => return Poll::Ready(Some(Err(request::refused(refused)))),
                }
                return Poll::Pending;
            }
            let Some(pending) = &mut pending else { return Poll::Pending };
            pending.poll(waker).map(|answer| Some(Ok(answer)))
        });
        let failed = match (within(time.deadline, answer).await, &mut pending) {
            (Some(Some(Ok(answer))), Some(pending)) => match read(answer, pending.session(), time).await {
                Ok(response) => return Ok(Some(response)),
                Err(error) => Some(error),
            },
            (Some(Some(Err(error))), _) => Some(error),
            (None, Some(pending)) => Some(time.expired(pending.cancel())),
            (Some(_), _) | (None, None) => None,
        };
        drop(pending);
        self.retry_after(ResultForm::Result, Attempts::new(packet, time, is_idempotent), failed).await
    }

    /// Makes a call, after a first attempt that `failed` if there was one, and retries it.
    pub(super) async fn retry_after(
        &self,
        form: ResultForm,
        mut attempts: Attempts,
        mut failed: Option<Error>,
    ) -> Result<Option<Response>, Error> {
        let time = attempts.time;
        loop {
            if let Some(error) = failed {
                attempts.after(error).await?;
            }
            let begun = self.begin_once(&mut attempts, form).await;
            let answered = match begun {
                Ok(Begun::Response(response)) => Ok(Some(response)),
                Ok(Begun::Calling(pending)) => finish(pending, time).await.map(Some),
                Ok(Begun::Sent) => Ok(None),
                Err(error) => Err(error),
            };
            match answered {
                Ok(answered) => return Ok(answered),
                Err(error) => failed = Some(error),
            }
        }
    }

    /// Begins a call whose answer another method waits for.
    pub(super) async fn begin(
        &self,
        options: &CallOptions,
        packet: Packet,
    ) -> Result<(Begun, CallTimeout), Error> {
        let time = clock::time(options.timeout);
        self.begin_within(time, options, packet).await.map(|begun| (begun, time))
    }

    /// Begins such a call and retries until `time` is over; it must be sent within `time`.
    pub(super) async fn begin_within(
        &self,
        time: CallTimeout,
        options: &CallOptions,
        packet: Packet,
    ) -> Result<Begun, Error> {
        let mut attempts = Attempts::new(packet, time, false);
        attempts.needs_session = options.needs_session;
        loop {
            match self.begin_once(&mut attempts, options.form).await {
                Ok(begun) => return Ok(begun),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// Sends a call on the current session, or on a connection of its own.
    async fn begin_once(&self, attempts: &mut Attempts, form: ResultForm) -> Result<Begun, Error> {
        let time = attempts.time;
        // A client that serves may be called during its own call. The server learns that it serves only from the HELLO
        // after the first call, so the session must be open before.
        let needs_session =
            attempts.needs_session || self.config.sessions == SessionMode::Required || self.lock().is_some();
        // A plain call without a timeout waits without one: its user chose that.
        let is_plain = form == ResultForm::Result && !needs_session;
        let opened = if is_plain { time } else { time.or(clock::now(), self.config.inactivity_timeout()) };
        match self.route(opened).await? {
            Route::OneShot(permit) if needs_session => {
                // If this session ends at once, do not reopen it here: the retry of the unsent call does that after its
                // pause.
                Box::pin(self.open(permit, opened)).await?;
                let session = self.session().ok_or_else(Error::not_run)?;
                begin_on(&self.config, &session, attempts.packet()?, form, time).await
            }
            // Boxed: this case is rare, and its future is large.
            Route::OneShot(permit) => {
                Box::pin(self.begin_one_shot(permit, attempts.packet()?, time, form)).await
            }
            Route::Session(session) => begin_on(&self.config, &session, attempts.packet()?, form, time).await,
            Route::Full => Err(opened.no_connection_free()),
        }
    }

    async fn begin_one_shot(
        &self,
        mut permit: OneShotPermit<'_>,
        packet: Packet,
        time: CallTimeout,
        form: ResultForm,
    ) -> Result<Begun, Error> {
        let patience = self.config.inactivity_timeout().filter(|_| form == ResultForm::Stream);
        let (opening, router) = self.connect(&mut permit, packet, time, patience).await?;
        let answered = |response| match form {
            ResultForm::OneWay => request::dropped(&response).map(|()| Begun::Sent),
            ResultForm::Result | ResultForm::Stream => Ok(Begun::Response(response)),
        };
        match opening.run().await? {
            Ok(response) => answered(response),
            Err(opened) => match self.install(opened, router, form != ResultForm::OneWay) {
                Ok(pending) => Ok(pending.map_or(Begun::Sent, Begun::Calling)),
                // The call was sent, and has no answer to wait for.
                Err(_) if form == ResultForm::OneWay => Ok(Begun::Sent),
                Err(ended) => ended.and_then(answered),
            },
        }
    }

    /// Opens a new connection and queues a call on it. Returns also the router for the session that it may become.
    async fn connect(
        &self,
        permit: &mut OneShotPermit<'_>,
        packet: Packet,
        time: CallTimeout,
        patience: Option<Duration>,
    ) -> Result<(OpenCall, Option<Arc<Router>>), Error> {
        let router = self.lock().clone();
        let offer = request::offer(&self.config, router.is_some());
        let outgoing = ClassicClient::new(&self.config, packet, time, clock::now(), offer, patience)?;
        let sends_token = self.config.token.is_some();
        let (stream, peer) =
            Transport::connect(&self.endpoint, outgoing.connect_deadline, sends_token, permit).await?;
        Ok((OpenCall { stream, peer, outgoing }, router))
    }

    /// Makes a session the current one, if there is none. It ends with its call if another call opened one first, or if
    /// the client has begun to serve and this session does not. On failure, returns the result of the call.
    fn install(
        &self,
        opened: OpenedSession,
        router: Option<Arc<Router>>,
        is_answered: bool,
    ) -> Result<Option<PendingCall>, Result<Response, Error>> {
        let is_serving = router.is_some();
        let serves = Role::Client { router, changed: self.changed.clone(), is_notified: false };
        let (session, id) = opened.into_session(&self.admission, is_answered, serves)?;
        let pending = is_answered.then(|| session.pending(id));
        if self.current.install(&session, || is_serving == self.lock().is_some()) {
            self.changed.notify_waiters();
        } else {
            session.goodbye("another session was opened first");
        }
        Ok(pending)
    }

    /// Returns the route for a call; waits for a free permit if there is none.
    async fn route(&self, time: CallTimeout) -> Result<Route<'_>, Error> {
        if let Some(session) = self.fresh_session(time) {
            return Ok(Route::Session(session));
        }
        let mut checkout = self.current.checkout();
        let route = poll_fn(move |context| {
            loop {
                let route = match self.config.sessions {
                    SessionMode::Off => checkout.one_shot_route(|| context.waker().clone()),
                    SessionMode::Auto | SessionMode::Required => checkout.route(|| context.waker().clone()),
                };
                match route {
                    Route::Session(session) if is_stale(&session, clock::now()) && session.was_forked() => {
                        self.current.forget(&session);
                    }
                    Route::Session(session) if is_stale(&session, clock::now()) => refresh(&session),
                    Route::Full => return Poll::Pending,
                    route => return Poll::Ready(route),
                }
            }
        });
        within(time.deadline, route).await.ok_or_else(|| time.no_connection_free())
    }

    /// Ensures that a session is open; opens one without a user's call.
    pub(super) async fn open_session(&self, time: CallTimeout) -> Result<(), Error> {
        match self.route(time).await? {
            Route::OneShot(permit) => self.open(permit, time).await,
            Route::Session(_) => Ok(()),
            Route::Full => Err(time.no_connection_free()),
        }
    }

    /// Opens a session with a `$/ping`. A call that waits for the session learns only that it was not sent.
    async fn open(&self, permit: OneShotPermit<'_>, time: CallTimeout) -> Result<(), Error> {
        self.try_open(permit, time).await.map_err(Error::before_call)
    }

    async fn try_open(&self, mut permit: OneShotPermit<'_>, time: CallTimeout) -> Result<(), Error> {
        let ping = request::packet::<()>(&self.config, Some("$/ping"), None, &CallOptions::default())?;
        let (opening, router) = self.connect(&mut permit, ping, time, None).await?;
        let opened = match opening.run().await? {
            Ok(response) => return Err(request::without_session(&response)),
            Err(opened) => opened,
        };
        let pending =
            self.install(opened, router, true).map_err(|ended| ended.err().unwrap_or_else(Error::not_run))?;
        drop(permit);
        if let Some(pending) = pending {
            finish(pending, time).await?;
        }
        Ok(())
    }

    /// Returns the current session, if it was read lately.
    fn fresh_session(&self, time: CallTimeout) -> Option<Arc<Session>> {
        let since = time.started.checked_sub(STALE);
        self.last_session().filter(|session| session.is_open_since(since))
    }
}

/// The attempts of one call.
pub(super) struct Attempts {
    packet: Option<Packet>,
    time: CallTimeout,
    is_idempotent: bool,
    /// Whether the call needs a session, whatever the client's setting is.
    needs_session: bool,
    retry: Retry,
}

impl Attempts {
    pub(super) fn new(packet: Packet, time: CallTimeout, is_idempotent: bool) -> Self {
        Self { packet: Some(packet), time, is_idempotent, needs_session: false, retry: Retry::default() }
    }

    /// Returns the packet for the next attempt. A small packet is kept for another one.
    fn packet(&mut self) -> Result<Packet, Error> {
        let kept = self.packet.as_ref().filter(|packet| packet.json_len() <= MAX_RETRY_COPY).cloned();
        let packet = std::mem::replace(&mut self.packet, kept);
        packet
            .ok_or_else(|| Error::new(ErrorKind::Disconnected, Outcome::Unknown, "the call was not answered"))
    }

    /// Waits before another attempt after `error`, or returns the error if there must be none.
    async fn after(&mut self, error: Error) -> Result<(), Error> {
        if self.packet.is_none() {
            return Err(self.retry.reported(error));
        }
        let pause = self.retry.after(error, self.is_idempotent, self.time.left(clock::now()))?;
        if !pause.is_zero() {
            sleep(pause).await;
        }
        Ok(())
    }
}

/// Begins a call on a session.
pub(super) async fn begin_on(
    config: &ClientConfig,
    session: &Arc<Session>,
    packet: Packet,
    form: ResultForm,
    time: CallTimeout,
) -> Result<Begun, Error> {
    let packet = request::for_session(config, session, packet);
    if form != ResultForm::OneWay {
        let queue_timeout = config.queue_timeout.filter(|_| form == ResultForm::Result);
        return match session.begin_or_queue(packet, queue_timeout).map_err(request::refused)? {
            Started::Now(pending) => Ok(Begun::Calling(pending)),
            // Boxed: this case is rare, and its future is large.
            Started::Queued(queued) => Box::pin(wait_for_permit(queued, time)).await.map(Begun::Calling),
        };
    }
    let id = session.notify(packet).map_err(request::refused)?;
    match within(time.deadline, poll_fn(|context| session.poll_written(context.waker()))).await {
        Some(true) => Ok(Begun::Sent),
        Some(false) => request::unwritten(session, id).map(|()| Begun::Sent),
        None => Err(time.expired(session.take_back(id))),
    }
}

/// Waits at the concurrency limit until the peer takes the call, and begins it.
async fn wait_for_permit(mut queued: Box<QueuedCall>, time: CallTimeout) -> Result<PendingCall, Error> {
    let until = queued.until(time.deadline);
    match within(until, poll_fn(|context| queued.poll(context.waker()))).await {
        Some(begun) => begun.map_err(request::refused),
        None if time.deadline.is_some_and(|deadline| deadline <= clock::now()) => {
            Err(time.expired(Outcome::NotSent))
        }
        None => queued.send_anyway().map_err(request::refused),
    }
}

/// Waits for the answer to a call.
pub(super) async fn finish(mut pending: PendingCall, time: CallTimeout) -> Result<Response, Error> {
    match within(time.deadline, poll_fn(|context| pending.poll(context.waker()))).await {
        Some(answer) => read(answer, pending.session(), time).await,
        // Dropping the call cancels it.
        None => Err(time.expired(pending.cancel())),
    }
}

/// Converts the end of a call to its result; a large answer takes time to read.
async fn read(answer: CallEnd, session: &Session, time: CallTimeout) -> Result<Response, Error> {
    match answer {
        CallEnd::Unread(response) if takes_time(response.size()) => read_apart(response).await,
        answer => ended(answer, session, time),
    }
}

/// Inflates and checks an answer on a thread for blocking work: the runtime's own threads are for others too.
pub(super) async fn read_apart(response: UnreadResponse) -> Result<Response, Error> {
    let read = spawn_blocking(move || response.read_checked()).await;
    // It fails only when the runtime ends.
    read.map_err(|_| request::cancelled(Outcome::Unknown))?.map_err(request::unreadable)
}

/// Whether reading so many bytes of text would noticeably delay other tasks on the thread.
pub(super) fn takes_time(bytes: usize) -> bool {
    bytes > APART
}

/// Converts the end of a call to its result.
pub(super) fn ended(answer: CallEnd, session: &Session, time: CallTimeout) -> Result<Response, Error> {
    match answer {
        CallEnd::Late { sent } => Err(time.expired(sent)),
        answer => request::answered(answer, session),
    }
}

/// Whether the session was not read for a while, perhaps because its runtime did not run. The peer may have said
/// goodbye.
fn is_stale(session: &Session, now: Instant) -> bool {
    now.saturating_duration_since(session.seen()) > STALE
}

/// Reads what has arrived on a session.
fn refresh(session: &Arc<Session>) {
    // The bound is for a peer that sends as fast as it is read: the session's task reads on.
    for _ in 0..STALE_READS {
        if !session.read_all(|buffer| Read::of(socket::receive(session, buffer))) {
            break;
        }
    }
    session.flush();
    session.note_seen();
}

/// The text size from which a thread for blocking work inflates and checks it.
const APART: usize = 128 * 1024;
/// The largest call that is kept until it is answered, to retry it if it was not run.
const MAX_RETRY_COPY: usize = 64 * 1024;
