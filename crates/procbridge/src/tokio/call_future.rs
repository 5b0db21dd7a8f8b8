//! The future of a call. It owns all it needs: the payload is serialised before the future exists.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use procbridge_proto::{Packet, Response, UnreadResponse};
use serde::de::DeserializeOwned;

use crate::classic::client::CallTimeout;
use crate::client::request::{self, CallOptions, ResultForm};
use crate::config::tuning::STALE;
use crate::error::{Error, ErrorKind, Outcome};
use crate::session::{CallEnd, PendingCall};
use crate::tokio::caller::Caller;
use crate::tokio::clock;
use crate::tokio::flow::{self, Attempts, Begun};
use crate::tokio::inner::Inner;
use crate::tokio::item_stream::Items;
use crate::tokio::subscription::Subscription;

/// The future of a call, see [`Client::request`](crate::tokio::Client::request). It borrows nothing, so it may be
/// stored, collected and spawned. The first poll makes the call; dropping the future cancels it.
#[must_use = "a call is made when its future is polled"]
pub struct CallFuture<T> {
    state: State,
    read: fn(End) -> Result<T, Error>,
    result: PhantomData<fn() -> T>,
}

/// A call that is ready to be sent.
pub(super) struct Prepared {
    pub(super) by: Sender,
    pub(super) options: CallOptions,
    pub(super) packet: Packet,
}

/// The client or session that makes the call.
pub(super) enum Sender {
    Client(Arc<Inner>),
    Session(Caller),
}

/// The successful ends of a call.
enum End {
    Answered(Option<Response>),
    Streaming(Begun, CallTimeout, Option<Arc<Inner>>),
    Subscribed(Box<Subscription>),
}

enum State {
    /// Not polled yet.
    Made(Result<Prepared, Error>),
    /// The usual case, without an allocation: the call is on the current session, whose task checks the deadline.
    Session(OnSession),
    Other(BoxedWork),
    Over,
}

struct OnSession {
    client: Arc<Inner>,
    pending: PendingCall,
    /// Kept to retry the call if it was not run.
    packet: Packet,
    time: CallTimeout,
    is_idempotent: bool,
}

/// All other waits of a call. Only `get_mut` of the mutex is used: it makes the future `Sync` and never blocks.
struct BoxedWork(Mutex<Pin<Box<Work>>>);

type Work = dyn Future<Output = Result<End, Error>> + Send;

impl<T> CallFuture<T> {
    fn new(state: State, read: fn(End) -> Result<T, Error>) -> Self {
        Self { state, read, result: PhantomData }
    }
}

impl<R: DeserializeOwned> CallFuture<R> {
    pub(super) fn of_result(made: Result<Prepared, Error>) -> Self {
        Self::new(State::Made(made), |ended| match ended {
            End::Answered(Some(response)) => request::into_result(response),
            _ => Err(unanswered()),
        })
    }
}

impl CallFuture<()> {
    pub(super) fn of_notification(made: Result<Prepared, Error>) -> Self {
        Self::new(State::Made(made), |_| Ok(()))
    }
}

impl<T: DeserializeOwned> CallFuture<Items<T>> {
    pub(super) fn of_stream(made: Result<Prepared, Error>) -> Self {
        Self::new(State::Made(made), |ended| match ended {
            End::Streaming(begun, time, client) => Items::new(begun, time, client),
            _ => Err(unanswered()),
        })
    }
}

impl CallFuture<Subscription> {
    pub(super) fn of_subscription(
        subscribing: impl Future<Output = Result<Subscription, Error>> + Send + 'static,
    ) -> Self {
        let subscribed = async move { subscribing.await.map(Box::new).map(End::Subscribed) };
        Self::new(State::Other(BoxedWork::new(subscribed)), |ended| match ended {
            End::Subscribed(subscription) => Ok(*subscription),
            _ => Err(unanswered()),
        })
    }
}

impl<T> Future for CallFuture<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(self.state.poll(context));
        self.state = State::Over;
        Poll::Ready(ended.and_then(self.read))
    }
}

impl State {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<End, Error>> {
        loop {
            match self {
                Self::Made(_) => {
                    let Self::Made(made) = std::mem::replace(self, Self::Over) else { continue };
                    *self = made?.begin(context.waker());
                    if matches!(self, Self::Session(_)) {
                        return Poll::Pending;
                    }
                }
                Self::Session(OnSession { pending, time, .. }) => {
                    let answer = match ready!(pending.poll(context.waker())) {
                        CallEnd::Unread(response) if flow::takes_time(response.size()) => {
                            let Self::Session(made) = std::mem::replace(self, Self::Over) else { continue };
                            *self = Self::boxed(made.read(response));
                            continue;
                        }
                        answer => answer,
                    };
                    match flow::ended(answer, pending.session(), *time) {
                        Ok(response) => return Poll::Ready(Ok(End::Answered(Some(response)))),
                        Err(error) => {
                            let Self::Session(failed) = std::mem::replace(self, Self::Over) else { continue };
                            *self = failed.retry(error);
                        }
                    }
                }
                Self::Other(other) => return other.poll(context),
                Self::Over => {
                    return Poll::Ready(Err(Error::new(
                        ErrorKind::InvalidInput,
                        Outcome::Unknown,
                        POLLED_AGAIN,
                    )));
                }
            }
        }
    }
}

impl Prepared {
    /// Makes the call. On a session in use, `waker` is called when the call has ended.
    fn begin(self, waker: &Waker) -> State {
        let Self { by, options, packet } = self;
        let client = match by {
            Sender::Client(client) => client,
            Sender::Session(session) => {
                return State::boxed(async move {
                    if options.form == ResultForm::Stream {
                        let (begun, time) = session.begin(&options, packet).await?;
                        return Ok(End::Streaming(begun, time, None));
                    }
                    session.run(&options, packet).await.map(End::Answered)
                });
            }
        };
        if options.form == ResultForm::Stream {
            return State::boxed(async move {
                let (begun, time) = client.begin(&options, packet).await?;
                Ok(End::Streaming(begun, time, Some(client)))
            });
        }
        let time = clock::time(options.timeout.or(client.config.call_timeout));
        let is_idempotent = options.is_idempotent;
        let Some(session) = client.ready_session(&options, &packet) else {
            let attempts = Attempts::new(packet, time, is_idempotent);
            return State::boxed(async move {
                client.retry_after(options.form, attempts, None).await.map(End::Answered)
            });
        };
        if !clock::is_watched(&session) {
            return State::boxed(async move {
                client.run_on_session(session, packet, time, is_idempotent).await.map(End::Answered)
            });
        }
        match session.begin_copied(&packet, time.started.checked_sub(STALE), time.deadline, waker) {
            Ok(Some(pending)) => State::Session(OnSession { client, pending, packet, time, is_idempotent }),
            begun => {
                let failed = begun.err().map(request::refused);
                let attempts = Attempts::new(packet, time, is_idempotent);
                State::boxed(async move {
                    client.retry_after(ResultForm::Result, attempts, failed).await.map(End::Answered)
                })
            }
        }
    }
}

impl OnSession {
    /// Reads a large answer on a thread for blocking work.
    async fn read(self, response: UnreadResponse) -> Result<End, Error> {
        let Self { client, packet, time, is_idempotent, .. } = self;
        let answered = match flow::read_apart(response).await {
            Ok(response) => Ok(Some(response)),
            Err(error) => {
                let attempts = Attempts::new(packet, time, is_idempotent);
                client.retry_after(ResultForm::Result, attempts, Some(error)).await
            }
        };
        answered.map(End::Answered)
    }

    /// Retries the call, if that is allowed after `error`.
    fn retry(self, error: Error) -> State {
        let Self { client, packet, time, is_idempotent, .. } = self;
        let attempts = Attempts::new(packet, time, is_idempotent);
        State::boxed(async move {
            client.retry_after(ResultForm::Result, attempts, Some(error)).await.map(End::Answered)
        })
    }
}

impl State {
    fn boxed(work: impl Future<Output = Result<End, Error>> + Send + 'static) -> Self {
        Self::Other(BoxedWork::new(work))
    }
}

impl BoxedWork {
    fn new(work: impl Future<Output = Result<End, Error>> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(work)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<End, Error>> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(context)
    }
}

impl<T> fmt::Debug for CallFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Protocol, Outcome::Unknown, "the call was not answered")
}

const POLLED_AGAIN: &str = "the future of a call was polled after it had ended";
