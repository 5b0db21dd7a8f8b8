//! Events as a client receives them (PB-EVT-*).

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::tokio::time::sleep;
use futures_core::Stream;
use serde_json::{Value, json};

use crate::client::request::{self, CallOptions, ResultForm};
use crate::client::retry::{Backoff, may_pass};
use crate::error::Error;
use crate::events::event::{self, Event, Missed};
use crate::tokio::clock;
use crate::tokio::flow::Begun;
use crate::tokio::inner::Inner;
use crate::tokio::item_stream::Items;

/// The events of some topics, see [`Client::subscribe`](crate::tokio::Client::subscribe). Dropping it ends the
/// subscription.
///
/// The [`Stream`] ends only with an error that a retry would not fix. That is so if the server refuses the
/// subscription, has no events, or no longer supports sessions. While the server is unreachable, full or stopping, the
/// subscription waits and retries.
#[must_use = "a subscription that is dropped has ended"]
pub struct Subscription {
    client: Arc<Inner>,
    /// The payload of the subscribing call.
    wanted: Value,
    state: State,
    /// An event that arrived before the confirmation.
    first: Option<Event>,
    backoff: Backoff,
    /// Whether events may have been missed since the last one.
    gap: bool,
}

enum State {
    Open(Events),
    /// Only `get_mut` of the mutex is used: it makes a subscription `Sync` and never blocks.
    Renewing(Mutex<Pin<Box<dyn Future<Output = Renewed> + Send>>>),
    Over,
}

/// The stream of events. Its first item is empty: from then on no event is missed.
type Events = Items<Option<Event>>;
/// An active subscription, with the event that arrived in place of the confirmation. With such an event, others may
/// have been missed before it.
type Renewed = Result<(Events, Option<Event>), Error>;

impl Subscription {
    pub(super) async fn begin(client: Arc<Inner>, topics: Vec<String>) -> Result<Self, Error> {
        event::check_patterns(&topics)?;
        let wanted = json!({ "topics": topics });
        let (items, first) = renew(client.clone(), wanted.clone(), Duration::ZERO).await?;
        let (state, gap) = (State::Open(items), first.is_some());
        let mut backoff = Backoff::default();
        backoff.begun(clock::now());
        Ok(Self { client, wanted, state, first, backoff, gap })
    }

    /// Returns the next event. Returns `None` after the error with which the subscription failed for good.
    ///
    /// # Errors
    ///
    /// - `Remote`: the server refuses the subscription.
    /// - `Protocol`: the server breaks a rule, has no events, or no longer supports sessions.
    /// - `Denied`: the server may no longer be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next one returns the event.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        loop {
            if let Some(mut event) = self.first.take() {
                if mem::take(&mut self.gap) {
                    event.missed = Missed::Unknown;
                }
                return Poll::Ready(Some(Ok(event)));
            }
            let error = match &mut self.state {
                State::Open(items) => match ready!(Pin::new(items).poll_next(context)) {
                    Some(Ok(event)) => {
                        self.first = event;
                        continue;
                    }
                    Some(Err(error)) => Some(error),
                    // The server ended the subscription gracefully.
                    None => None,
                },
                State::Renewing(renewing) => match ready!(polled(renewing, context)) {
                    Ok((items, first)) => {
                        self.state = State::Open(items);
                        self.backoff.begun(clock::now());
                        self.first = first;
                        continue;
                    }
                    Err(error) => Some(error),
                },
                State::Over => return Poll::Ready(None),
            };
            self.gap = true;
            if let Some(error) = error
                && !may_pass(&error)
            {
                self.state = State::Over;
                return Poll::Ready(Some(Err(error)));
            }
            let renewing = renew(self.client.clone(), self.wanted.clone(), self.backoff.pause(clock::now()));
            self.state = State::Renewing(Mutex::new(Box::pin(renewing)));
        }
    }
}

fn polled<T>(
    work: &mut Mutex<Pin<Box<dyn Future<Output = T> + Send>>>,
    context: &mut Context<'_>,
) -> Poll<T> {
    work.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(context)
}

async fn renew(client: Arc<Inner>, wanted: Value, pause: Duration) -> Renewed {
    if !pause.is_zero() {
        sleep(pause).await;
    }
    let time = clock::time(client.config.inactivity_timeout());
    let options = CallOptions { form: ResultForm::Stream, needs_session: true, ..CallOptions::default() };
    let packet = request::packet(&client.config, Some("$/subscribe"), Some(&wanted), &options)?;
    let begun = client.begin_within(time, &options, packet).await?;
    let Begun::Calling(_) = begun else { return Err(request::no_sessions()) };
    let mut items = Events::new(begun, time, None)?;
    // A first item other than the confirmation is an event; no item is the end.
    let first = items.next().await.ok_or_else(event::none_there)??;
    items.without_limit();
    Ok((items, first))
}

impl Stream for Subscription {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}
