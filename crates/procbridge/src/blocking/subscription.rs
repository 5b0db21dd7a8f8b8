//! Events as a client receives them (PB-EVT-*).

use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::blocking::call_builder::{CallBuilder, Target};
use crate::blocking::flow::Begun;
use crate::blocking::inner::Inner;
use crate::blocking::item_stream::Items;
use crate::classic::client::CallTimeout;
use crate::client::request;
use crate::client::retry::{Backoff, may_pass};
use crate::error::Error;
use crate::events::event::{self, Event, Missed};

/// The events of some topics, see [`Client::subscribe`](crate::Client::subscribe). Dropping it ends the subscription.
///
/// The iterator ends only with an error that a retry would not fix. That is so if the server refuses the subscription,
/// has no events, or no longer supports sessions. While the server is unreachable, full or stopping, the subscription
/// waits and retries.
#[derive(Debug)]
#[must_use = "a subscription that is dropped has ended"]
pub struct Subscription {
    client: Arc<Inner>,
    /// The payload of the subscribing call.
    wanted: Value,
    /// The stream of events. Its first item is empty: from then on no event is missed.
    items: Option<Items<Option<Event>>>,
    /// An event that arrived before that empty item.
    first: Option<Event>,
    backoff: Backoff,
    /// Whether events may have been missed since the last one.
    gap: bool,
    over: bool,
}

impl Subscription {
    pub(super) fn begin(client: &Arc<Inner>, topics: Vec<String>) -> Result<Self, Error> {
        event::check_patterns(&topics)?;
        let (client, wanted) = (client.clone(), json!({ "topics": topics }));
        let backoff = Backoff::default();
        let mut subscription =
            Self { client, wanted, items: None, first: None, backoff, gap: false, over: false };
        subscription.items = Some(subscription.renew()?);
        Ok(subscription)
    }

    /// Subscribes, and waits for the confirmation that the subscription is active.
    fn renew(&mut self) -> Result<Items<Option<Event>>, Error> {
        let time = CallTimeout::new(self.client.config.inactivity_timeout());
        let call = CallBuilder::new(Target::Client(&self.client), Some("$/subscribe")).payload(&self.wanted);
        let begun = call.begin_session_stream(time)?;
        let Begun::Calling(_) = begun else { return Err(request::no_sessions()) };
        let mut items = Items::new(begun, time)?;
        // A first item other than the confirmation is an event; no item is the end.
        self.first = items.next().ok_or_else(event::none_there)??;
        // Without the confirmation, events may have been missed before the first one.
        self.gap |= self.first.is_some();
        items.without_limit();
        self.backoff.begun(Instant::now());
        Ok(items)
    }
}

impl Subscription {
    /// Returns `event` as the program gets it, with the mark of what was missed before it.
    fn reported(&mut self, mut event: Event) -> Event {
        if mem::take(&mut self.gap) {
            event.missed = Missed::Unknown;
        }
        event
    }
}

impl Iterator for Subscription {
    type Item = Result<Event, Error>;

    /// Returns the next event; `None` after the error that ended the subscription.
    ///
    /// # Blocking
    ///
    /// Until an event arrives, or the subscription fails for good.
    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            if let Some(event) = self.first.take() {
                return Some(Ok(self.reported(event)));
            }
            let error = match &mut self.items {
                Some(items) => match items.next() {
                    Some(Ok(event)) => {
                        self.first = event;
                        continue;
                    }
                    Some(Err(error)) => Some(error),
                    // The server ended the subscription gracefully.
                    None => None,
                },
                None => match self.renew() {
                    Ok(items) => {
                        self.items = Some(items);
                        continue;
                    }
                    Err(error) => Some(error),
                },
            };
            self.items = None;
            self.gap = true;
            if let Some(error) = error
                && !may_pass(&error)
            {
                self.over = true;
                return Some(Err(error));
            }
            thread::sleep(self.backoff.pause(Instant::now()));
        }
        None
    }
}
