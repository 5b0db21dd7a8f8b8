//! The flow of a call: on the current session, or on a connection of its own (PB-OFR-*, PB-OUT-*).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use procbridge_proto::{Packet, Response};

use crate::blocking::inner::Inner;
use crate::blocking::open::OpenCall;
use crate::blocking::transport::Transport;
use crate::blocking::wait::{self, Parker};
use crate::classic::client::{CallTimeout, ClassicClient};
use crate::client::connections::{OneShotPermit, Route};
use crate::client::request::{self, CallOptions, ResultForm};
use crate::client::retry::Retry;
use crate::config::client::{ClientConfig, SessionMode};
use crate::config::tuning::{STALE, STALE_READS};
use crate::error::{Error, Outcome};
use crate::session::concurrency_limit::{QueuedCall, Started};
use crate::session::{CallEnd, PendingCall, Session};

/// How far a call has come before its caller waits for the answer.
#[derive(Debug)]
pub(super) enum Begun {
    Response(Response),
    Calling(PendingCall),
    /// Not sent yet: the caller sends it on this session when it waits for the answer.
    Ready(Arc<Session>, Packet),
    /// A one-way call that was sent.
    Sent,
}

impl Inner {
    /// Makes a call and waits for its answer. `make` writes its packet, once for each attempt.
    pub(super) fn run(
        &self,
        options: &CallOptions,
        mut make: impl FnMut() -> Result<Packet, Error>,
    ) -> Result<Option<Response>, Error> {
        let time = CallTimeout::new(options.timeout.or(self.config.call_timeout));
        let (mut retry, mut now) = (Retry::default(), time.started);
        loop {
            let begun = self.begin_once(make()?, time, options, &mut now);
            let answered = begun.and_then(|begun| match begun {
                Begun::Response(response) => Ok(Some(response)),
                Begun::Calling(pending) => finish(pending, time, now).map(Some),
                Begun::Ready(session, packet) => answer(&self.config, &session, packet, time, now).map(Some),
                Begun::Sent => Ok(None),
            });
            let Err(error) = answered else { return answered };
            thread::sleep(retry.after(error, options.is_idempotent, time.left(Instant::now()))?);
            now = Instant::now();
        }
    }

    /// Begins a call whose answer another method waits for.
    pub(super) fn begin(
        &self,
        options: &CallOptions,
        make: impl FnMut() -> Result<Packet, Error>,
    ) -> Result<(Begun, CallTimeout), Error> {
        let time = CallTimeout::new(options.timeout);
        self.begin_within(time, options, make).map(|begun| (begun, time))
    }

    /// Begins such a call and retries until `time` is over; it must be sent within `time`.
    pub(super) fn begin_within(
        &self,
        time: CallTimeout,
        options: &CallOptions,
        mut make: impl FnMut() -> Result<Packet, Error>,
    ) -> Result<Begun, Error> {
        let mut retry = Retry::default();
        loop {
            match self.begin_once(make()?, time, options, &mut Instant::now()) {
                Ok(begun) => return Ok(begun),
                Err(error) => thread::sleep(retry.after(error, false, time.left(Instant::now()))?),
            }
        }
    }

    /// Sends a call on the current session, or on a connection of its own. Sets `now` to the current time after it
    /// waited.
    fn begin_once(
        &self,
        packet: Packet,
        time: CallTimeout,
        options: &CallOptions,
        now: &mut Instant,
    ) -> Result<Begun, Error> {
        let needs_session =
            options.needs_session || self.config.sessions == SessionMode::Required || self.is_serving();
        // A plain call without a timeout waits without one: its user chose that.
        let is_plain = options.form == ResultForm::Result && !needs_session;
        let opened = if is_plain { time } else { time.or(*now, self.config.inactivity_timeout()) };
        let session = match self.route(opened, now)? {
            Route::Session(session) => session,
            // While a client that serves makes a call, it may be called itself, so its session needs a background
            // thread.
            Route::OneShot(permit) if needs_session => {
                // If this session ends at once, do not reopen it here: the retry of the unsent call does that after its
                // pause.
                let session = self.open(permit, time)?;
                *now = Instant::now();
                session
            }
            Route::OneShot(permit) => {
                let begun = self.begin_one_shot(permit, packet, time, options.form);
                *now = Instant::now();
                return begun;
            }
            Route::Full => return Err(opened.no_connection_free()),
        };
        begin_on(&self.config, &session, packet, options.form, time)
    }

    fn begin_one_shot(
        &self,
        mut permit: OneShotPermit<'_>,
        packet: Packet,
        time: CallTimeout,
        form: ResultForm,
    ) -> Result<Begun, Error> {
        let patience = self.config.inactivity_timeout().filter(|_| form == ResultForm::Stream);
        let opening = self.connect(&mut permit, packet, time, patience)?;
        let answered = |response| match form {
            ResultForm::OneWay => request::dropped(&response).map(|()| Begun::Sent),
            ResultForm::Result | ResultForm::Stream => Ok(Begun::Response(response)),
        };
        match opening.run()? {
            Ok(response) => answered(response),
            Err(opened) => {
                let (session, id) = match opened.into_session(&self.admission, form != ResultForm::OneWay) {
                    Ok(session) => session,
                    // The call was sent, and has no answer to wait for.
                    Err(_) if form == ResultForm::OneWay => return Ok(Begun::Sent),
                    Err(ended) => return ended.and_then(answered),
                };
                // If another call opened a session first, this connection ends with its call. The same holds if the
                // client has begun to serve: this session told the server that it takes no calls.
                self.current.install(&session, || !self.is_serving());
                drop(permit);
                Ok(match form {
                    ResultForm::OneWay => Begun::Sent,
                    ResultForm::Result | ResultForm::Stream => Begun::Calling(session.pending(id)),
                })
            }
        }
    }

    /// Opens a new connection and queues a call on it.
    fn connect(
        &self,
        permit: &mut OneShotPermit<'_>,
        packet: Packet,
        time: CallTimeout,
        patience: Option<Duration>,
    ) -> Result<OpenCall, Error> {
        let offer = request::offer(&self.config, self.is_serving());
        let outgoing = ClassicClient::new(&self.config, packet, time, Instant::now(), offer, patience)?;
        let sends_token = self.config.token.is_some();
        let (stream, peer) =
            Transport::connect(&self.endpoint, outgoing.connect_deadline, sends_token, permit)?;
        Ok(OpenCall { stream, peer, outgoing })
    }

    /// Returns the route for a call; waits for a free permit if there is none.
    fn route(&self, time: CallTimeout, now: &mut Instant) -> Result<Route<'_>, Error> {
        let waker = || Parker::this().waker().clone();
        let mut checkout = self.current.checkout();
        loop {
            let route = match self.config.sessions {
                SessionMode::Off => checkout.one_shot_route(waker),
                SessionMode::Auto | SessionMode::Required => checkout.route(waker),
            };
            match route {
                Route::Session(session) if session.is_unseen(*now, STALE) && session.was_forked() => {
                    self.current.forget(&session)
                }
                Route::Session(session) if session.is_unseen(*now, STALE) => refresh(&session),
                Route::Full if wait::is_past(time.deadline) => return Err(time.no_connection_free()),
                Route::Full => {
                    Parker::this().park(time.deadline);
                    *now = Instant::now();
                }
                route => return Ok(route),
            }
        }
    }

    /// Returns the current session, or opens a new one without a user's call.
    pub(super) fn open_session(&self, time: CallTimeout) -> Result<Arc<Session>, Error> {
        match self.route(time, &mut Instant::now())? {
            Route::Session(session) => Ok(session),
            Route::OneShot(permit) => self.open(permit, time),
            Route::Full => Err(time.no_connection_free()),
        }
    }

    /// Opens a session with a `$/ping`. A call that waits for the session learns only that it was not sent.
    fn open(&self, permit: OneShotPermit<'_>, time: CallTimeout) -> Result<Arc<Session>, Error> {
        self.try_open(permit, time.or(Instant::now(), self.config.inactivity_timeout()))
            .map_err(Error::before_call)
    }

    fn try_open(&self, mut permit: OneShotPermit<'_>, time: CallTimeout) -> Result<Arc<Session>, Error> {
        let is_serving = self.is_serving();
        let ping = request::packet::<()>(&self.config, Some("$/ping"), None, &CallOptions::default())?;
        let opened = match self.connect(&mut permit, ping, time, None)?.run()? {
            Ok(response) => return Err(request::without_session(&response)),
            Err(opened) => opened,
        };
        let (session, id) = opened
            .into_session(&self.admission, true)
            .map_err(|ended| ended.err().unwrap_or_else(Error::not_run))?;
        finish(session.pending(id), time, Instant::now())?;
        let is_first = self.current.install(&session, || is_serving == self.is_serving());
        drop(permit);
        if !is_first {
            session.goodbye("another session was opened first");
            return self.session().ok_or_else(Error::not_run);
        }
        if is_serving {
            // Without a thread this session must not be used: it has told the server that it takes calls.
            self.serve_background(session.clone())
                .inspect_err(|_| session.goodbye("no thread can be started to serve it"))?;
            self.keep_open();
        }
        Ok(session)
    }
}

/// Begins a call on a session.
pub(super) fn begin_on(
    config: &ClientConfig,
    session: &Arc<Session>,
    packet: Packet,
    form: ResultForm,
    time: CallTimeout,
) -> Result<Begun, Error> {
    let packet = request::for_session(config, session, packet);
    match form {
        ResultForm::OneWay => {
            let id = session.notify(packet).map_err(request::refused)?;
            match wait::written(session, time.deadline) {
                Some(true) => Ok(Begun::Sent),
                Some(false) => request::unwritten(session, id).map(|()| Begun::Sent),
                None => {
                    let over = time.expired(session.take_back(id));
                    wait::write_in_background(session);
                    Err(over)
                }
            }
        }
        ResultForm::Stream => {
            let mut pending = session.begin(packet).map_err(request::refused)?;
            // If the session ends first, the call ends with it; reading its items reports that.
            if wait::written(session, time.deadline).is_none() {
                let over = time.expired(pending.cancel());
                wait::write_in_background(session);
                return Err(over);
            }
            Ok(Begun::Calling(pending))
        }
        ResultForm::Result => Ok(Begun::Ready(session.clone(), packet)),
    }
}

/// Waits at the concurrency limit until the peer takes the call, and begins it.
fn wait_for_permit(
    session: &Arc<Session>,
    mut queued: QueuedCall,
    time: CallTimeout,
) -> Result<PendingCall, Error> {
    let begun = wait::wait(session, queued.until(time.deadline), |waker| queued.poll(waker));
    match begun {
        Some(begun) => begun.map_err(request::refused),
        None if wait::is_past(time.deadline) => Err(time.expired(Outcome::NotSent)),
        None => queued.send_anyway().map_err(request::refused),
    }
}

/// Waits for the answer to a call. `now` is a recent clock reading.
pub(super) fn finish(mut pending: PendingCall, time: CallTimeout, now: Instant) -> Result<Response, Error> {
    let answer = wait::answer(&mut pending, time.deadline, now);
    finished(pending, answer, time)
}

/// Makes a call on a session and waits for the answer.
pub(super) fn answer(
    config: &ClientConfig,
    session: &Arc<Session>,
    packet: Packet,
    time: CallTimeout,
    now: Instant,
) -> Result<Response, Error> {
    match wait::call(session, packet, config.queue_timeout, time.deadline, now).map_err(request::refused)? {
        Started::Now((pending, answer)) => finished(pending, answer, time),
        Started::Queued(queued) => finish(wait_for_permit(session, *queued, time)?, time, Instant::now()),
    }
}

fn finished(mut pending: PendingCall, answer: Option<CallEnd>, time: CallTimeout) -> Result<Response, Error> {
    let finished = match answer {
        // The usual case: an answered call has been written.
        Some(answer @ CallEnd::Response(Response::Good(_))) => {
            return request::answered(answer, pending.session());
        }
        Some(answer) => request::answered(answer, pending.session()),
        None => Err(time.expired(pending.cancel())),
    };
    wait::write_in_background(pending.session());
    finished
}

/// Reads what has arrived on a session that has no leader.
fn refresh(session: &Arc<Session>) {
    if session.become_leader(None) {
        // The bound is for a server that floods its client: a caller that waits for an answer reads the rest.
        for _ in 0..STALE_READS {
            if !wait::read_now(session) {
                break;
            }
        }
        session.flush();
        session.step_down(None);
    }
    session.note_seen();
}
