//! The future of a call. Its payload is written before it exists, so it owns all that it needs.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use procbridge_proto::{Packet, Response, UnreadResponse};
use serde::de::DeserializeOwned;

use crate::classic::client::CallTime;
use crate::client::request::{self, Form, Style};
use crate::error::{Error, ErrorKind, Outcome};
use crate::session::{Answer, Calling};
use crate::tokio::clock;
use crate::tokio::flow::{self, Attempts, Inner, Reached};
use crate::tokio::item_stream::Items;
use crate::tokio::session::Session;
use crate::tokio::subscription::Subscription;

/// The future of a call, see [`Client::request`](crate::tokio::Client::request). It borrows nothing: it may be stored,
/// collected and spawned. The call is made when the future is polled first, and given up when it is dropped.
#[must_use = "a call is made when its future is polled"]
pub struct CallFuture<T> {
    state: State,
    read: fn(Ended) -> Result<T, Error>,
    result: PhantomData<fn() -> T>,
}

/// A call that is ready to be made.
pub(super) struct Made {
    pub(super) by: By,
    pub(super) style: Style,
    pub(super) packet: Packet,
}

/// What makes a call.
pub(super) enum By {
    Client(Arc<Inner>),
    Session(Session),
}

/// How a call ended that did not fail.
enum Ended {
    Answered(Option<Response>),
    Streaming(Reached, CallTime, Option<Arc<Inner>>),
    Subscribed(Box<Subscription>),
}

enum State {
    /// Not polled yet.
    Made(Result<Made, Error>),
    /// The usual case, without an allocation: on the session that there is, whose task looks at the clock.
    Session(OnSession),
    Other(Other),
    Over,
}

struct OnSession {
    client: Arc<Inner>,
    calling: Calling,
    /// To be sent again if it was not run.
    packet: Packet,
    time: CallTime,
    is_idempotent: bool,
}

/// All else that a call may wait for. Only `get_mut` is used of the lock, which makes the future `Sync` without waiting.
struct Other(Mutex<Pin<Box<Work>>>);

type Work = dyn Future<Output = Result<Ended, Error>> + Send;

impl<T> CallFuture<T> {
    fn new(state: State, read: fn(Ended) -> Result<T, Error>) -> Self {
        Self { state, read, result: PhantomData }
    }
}

impl<R: DeserializeOwned> CallFuture<R> {
    pub(super) fn of_result(made: Result<Made, Error>) -> Self {
        Self::new(State::Made(made), |ended| match ended {
            Ended::Answered(Some(response)) => request::into_result(response),
            _ => Err(unanswered()),
        })
    }
}

impl CallFuture<()> {
    pub(super) fn of_notification(made: Result<Made, Error>) -> Self {
        Self::new(State::Made(made), |_| Ok(()))
    }
}

impl<T: DeserializeOwned> CallFuture<Items<T>> {
    pub(super) fn of_stream(made: Result<Made, Error>) -> Self {
        Self::new(State::Made(made), |ended| match ended {
            Ended::Streaming(reached, time, client) => Items::new(reached, time, client),
            _ => Err(unanswered()),
        })
    }
}

impl CallFuture<Subscription> {
    pub(super) fn of_subscription(
        subscribing: impl Future<Output = Result<Subscription, Error>> + Send + 'static,
    ) -> Self {
        let subscribed = async move { subscribing.await.map(Box::new).map(Ended::Subscribed) };
        Self::new(State::Other(Other::new(subscribed)), |ended| match ended {
            Ended::Subscribed(subscription) => Ok(*subscription),
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
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Ended, Error>> {
        loop {
            match self {
                Self::Made(_) => {
                    let Self::Made(made) = std::mem::replace(self, Self::Over) else { continue };
                    *self = made?.begin(context.waker());
                    if matches!(self, Self::Session(_)) {
                        return Poll::Pending;
                    }
                }
                Self::Session(OnSession { calling, time, .. }) => {
                    let answer = match ready!(calling.poll(context.waker())) {
                        Answer::Unread(response) if flow::takes_time(response.size()) => {
                            let Self::Session(made) = std::mem::replace(self, Self::Over) else { continue };
                            *self = Self::other(made.read(response));
                            continue;
                        }
                        answer => answer,
                    };
                    match flow::ended(answer, calling.link(), *time) {
                        Ok(response) => return Poll::Ready(Ok(Ended::Answered(Some(response)))),
                        Err(error) => {
                            let Self::Session(failed) = std::mem::replace(self, Self::Over) else { continue };
                            *self = failed.go_on(error);
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

impl Made {
    /// Makes the call. On a session that is in use, `waker` is woken when it has ended.
    fn begin(self, waker: &Waker) -> State {
        let Self { by, style, packet } = self;
        let client = match by {
            By::Client(client) => client,
            By::Session(session) => {
                return State::other(async move {
                    if style.form == Form::Stream {
                        let (reached, time) = session.begin(&style, packet).await?;
                        return Ok(Ended::Streaming(reached, time, None));
                    }
                    session.run(&style, packet).await.map(Ended::Answered)
                });
            }
        };
        if style.form == Form::Stream {
            return State::other(async move {
                let (reached, time) = client.begin(&style, packet).await?;
                Ok(Ended::Streaming(reached, time, Some(client)))
            });
        }
        let time = clock::time(style.timeout.or(client.config.call_timeout));
        let is_idempotent = style.is_idempotent;
        let Some(link) = client.usual(&style, &packet) else {
            let attempts = Attempts::new(packet, time, is_idempotent);
            return State::other(async move {
                client.go_on(style.form, attempts, None).await.map(Ended::Answered)
            });
        };
        if !clock::is_watched(&link) {
            return State::other(async move {
                client.run_on(link, packet, time, is_idempotent).await.map(Ended::Answered)
            });
        }
        match link.begin_copied(&packet, time.started.checked_sub(flow::STALE), time.deadline, waker) {
            Ok(Some(calling)) => State::Session(OnSession { client, calling, packet, time, is_idempotent }),
            begun => {
                let failed = begun.err().map(request::refused);
                let attempts = Attempts::new(packet, time, is_idempotent);
                State::other(async move {
                    client.go_on(Form::Result, attempts, failed).await.map(Ended::Answered)
                })
            }
        }
    }
}

impl OnSession {
    /// Reads the answer, which takes time.
    async fn read(self, response: UnreadResponse) -> Result<Ended, Error> {
        let Self { client, packet, time, is_idempotent, .. } = self;
        let answered = match flow::read_apart(response).await {
            Ok(response) => Ok(Some(response)),
            Err(error) => {
                let attempts = Attempts::new(packet, time, is_idempotent);
                client.go_on(Form::Result, attempts, Some(error)).await
            }
        };
        answered.map(Ended::Answered)
    }

    /// Makes the call again, if it may be after it has failed with `error`.
    fn go_on(self, error: Error) -> State {
        let Self { client, packet, time, is_idempotent, .. } = self;
        let attempts = Attempts::new(packet, time, is_idempotent);
        State::other(
            async move { client.go_on(Form::Result, attempts, Some(error)).await.map(Ended::Answered) },
        )
    }
}

impl State {
    fn other(work: impl Future<Output = Result<Ended, Error>> + Send + 'static) -> Self {
        Self::Other(Other::new(work))
    }
}

impl Other {
    fn new(work: impl Future<Output = Result<Ended, Error>> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(work)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Ended, Error>> {
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
