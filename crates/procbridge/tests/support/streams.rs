//! What only sessions have, behind the same types for both faces: streams, events, methods of a client.

use std::time::Duration;

use procbridge::{Error, Event, Items, Router, Subscription};
use serde_json::Value;

use super::TestClient;
#[cfg(feature = "tokio")]
use std::sync::Arc;

/// What a call has of its own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub timeout: Option<Duration>,
    pub meta: Vec<(&'static str, Value)>,
    pub is_idempotent: bool,
}

/// The items of a stream of either face.
pub enum TestItems {
    Blocking(Items<Value>),
    #[cfg(feature = "tokio")]
    Tokio(procbridge::tokio::Items<Value>, Arc<tokio::runtime::Runtime>),
}

/// A subscription of either face.
pub enum TestSubscription {
    Blocking(Box<Subscription>),
    #[cfg(feature = "tokio")]
    Tokio(Box<procbridge::tokio::Subscription>, Arc<tokio::runtime::Runtime>),
}

/// A call with its options, on either face.
macro_rules! built {
    ($client:expr, $method:expr, $payload:expr, $options:expr) => {{
        let mut call = $client.call($method).payload($payload);
        if let Some(limit) = $options.timeout {
            call = call.timeout(limit);
        }
        for (key, value) in &$options.meta {
            call = call.meta(*key, value);
        }
        if $options.is_idempotent { call.idempotent() } else { call }
    }};
}

impl TestClient {
    pub fn ask(&self, method: &str, payload: &Value, options: &Options) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => built!(client, method, payload, options).send(),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(built!(client, method, payload, options).send()),
        }
    }

    pub fn notify(&self, method: &str, payload: &Value) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.notify(method, payload),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(client.notify(method, payload)),
        }
    }

    pub fn stream(&self, method: &str, payload: &Value) -> Result<TestItems, Error> {
        self.stream_with(method, payload, &Options::default())
    }

    pub fn stream_with(&self, method: &str, payload: &Value, options: &Options) -> Result<TestItems, Error> {
        match self {
            Self::Blocking(client) => {
                built!(client, method, payload, options).stream().map(TestItems::Blocking)
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime
                .block_on(async { built!(client, method, payload, options).stream().await })
                .map(|items| TestItems::Tokio(items, runtime.clone())),
        }
    }

    pub fn subscribe(&self, topics: &[&str]) -> Result<TestSubscription, Error> {
        match self {
            Self::Blocking(client) => client
                .subscribe(topics.iter().copied())
                .map(|events| TestSubscription::Blocking(Box::new(events))),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime
                .block_on(client.subscribe(topics.iter().copied()))
                .map(|events| TestSubscription::Tokio(Box::new(events), runtime.clone())),
        }
    }

    pub fn serve(&self, router: Router) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.serve(router),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(client.serve(router.into())),
        }
    }

    /// A number that the server has counted.
    pub fn counted(&self, kind: &str, key: &str) -> u64 {
        let stats = self.request("$/stats", &Value::Null).unwrap();
        stats.get(kind).and_then(|kind| kind.get(key)).and_then(Value::as_u64).unwrap()
    }
}

impl Iterator for TestItems {
    type Item = Result<Value, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Blocking(items) => items.next(),
            #[cfg(feature = "tokio")]
            Self::Tokio(items, runtime) => runtime.block_on(items.next()),
        }
    }
}

impl TestItems {
    pub fn finish(self) -> Result<Value, Error> {
        match self {
            Self::Blocking(items) => items.finish(),
            #[cfg(feature = "tokio")]
            Self::Tokio(items, runtime) => runtime.block_on(items.finish()),
        }
    }
}

impl Iterator for TestSubscription {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Blocking(events) => events.next(),
            #[cfg(feature = "tokio")]
            Self::Tokio(events, runtime) => runtime.block_on(events.next()),
        }
    }
}
