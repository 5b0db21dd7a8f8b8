//! Events as a client gets them (PB-EVT-*).

use std::mem;
use std::time::{Duration, Instant};

use crate::blocking::calls::{Reached, no_sessions};
use crate::blocking::client::Client;
use crate::blocking::items::Items;
use crate::error::Error;
use serde_json::{Value, json};

use crate::event::{self, Event, Missed};
use crate::outgoing::CallTime;
use crate::session::retry::Retry;

/// The events of some topics, see [`Client::subscribe`]. Dropping it ends the subscription.
///
/// As an iterator it ends only with an error that trying again would not mend: the server refuses the subscription, has no
/// events, or no longer holds sessions. While the server cannot be reached it waits and tries again.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    /// The payload of the subscribing call.
    wanted: Value,
    /// The first item is empty: from then on no event is missed.
    items: Option<Items<Option<Event>>>,
    /// An event that came at once.
    first: Option<Event>,
    retry: Retry,
    /// Whether anything came on the present one.
    begun: bool,
    /// Whether events may have been missed since the last one.
    gap: bool,
    over: bool,
}

impl Subscription {
    pub(super) fn begin(client: &Client, topics: Vec<String>) -> Result<Self, Error> {
        let (client, wanted) = (client.clone(), json!({ "topics": topics }));
        let retry = Retry::default();
        let mut subscription =
            Self { client, wanted, items: None, first: None, retry, begun: false, gap: false, over: false };
        subscription.items = Some(subscription.renew()?);
        Ok(subscription)
    }

    fn renew(&mut self) -> Result<Items<Option<Event>>, Error> {
        // A session first: a server without sessions would be asked for a method that it does not have.
        let time = CallTime::new(self.client.inner.config.call_timeout);
        self.client.inner.open_session(time)?;
        let (reached, _) = self.client.call("$/subscribe").payload(&self.wanted).begin_stream()?;
        let Reached::Calling(_) = reached else { return Err(no_sessions()) };
        let mut items = Items::new(reached, CallTime::new(None))?;
        // What else than the word that it is in force comes first is an event, or the end.
        let soon = Instant::now() + IN_FORCE;
        self.begun = match items.next_until(soon) {
            Some(Some(Ok(event))) => {
                self.first = event;
                true
            }
            Some(Some(Err(error))) => return Err(error),
            Some(None) => return Err(event::none_there()),
            None => false,
        };
        Ok(items)
    }
}

impl Subscription {
    /// An event as the program gets it, with the word on what was missed before it.
    fn reported(&mut self, mut event: Event) -> Event {
        self.retry.reset();
        if mem::take(&mut self.gap) {
            event.missed = Missed::Unknown;
        }
        event
    }
}

impl Iterator for Subscription {
    type Item = Result<Event, Error>;

    /// # Blocking
    ///
    /// Until there is an event, or the subscription has failed for good.
    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            if let Some(event) = self.first.take() {
                return Some(Ok(self.reported(event)));
            }
            let error = match &mut self.items {
                Some(items) => match items.next() {
                    Some(Ok(event)) => {
                        self.begun = true;
                        self.first = event;
                        continue;
                    }
                    Some(Err(error)) => Some(error),
                    None if !self.begun => Some(event::none_there()),
                    // The server ended it in an orderly way.
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
                && !event::may_pass(&error)
            {
                self.over = true;
                return Some(Err(error));
            }
            let pause: Duration = self.retry.next();
            std::thread::sleep(pause);
        }
        None
    }
}

/// How long a subscriber waits for the word that its subscription is in force. A server that does not give it is good
/// enough.
const IN_FORCE: Duration = Duration::from_secs(2);
