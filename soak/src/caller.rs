//! A client of either face.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use procbridge::{Client, ClientConfig, Endpoint, Error, Event};
use tokio::runtime::Runtime;

use crate::server::{Payload, Wanted};

/// Which implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Blocking,
    Tokio,
}

/// The client.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Blocking(Client),
    Tokio(procbridge::tokio::Client, Arc<Runtime>),
}

impl Caller {
    pub(crate) fn new(face: Face, endpoint: &Endpoint, config: ClientConfig) -> Self {
        match face {
            Face::Blocking => Self::Blocking(Client::with_config(endpoint, config).unwrap()),
            Face::Tokio => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
                let client = procbridge::tokio::Client::with_config(endpoint, config).unwrap();
                Self::Tokio(client, Arc::new(runtime.unwrap()))
            }
        }
    }

    pub(crate) fn ask(&self, method: &str, payload: &Payload, limit: Duration) -> Result<Payload, Error> {
        match self {
            Self::Blocking(client) => client.call(method).payload(payload).timeout(limit).send(),
            Self::Tokio(client, runtime) => {
                runtime.block_on(client.call(method).payload(payload).timeout(limit).send())
            }
        }
    }

    /// Calls, and gives the call up after `timeout`: `None`. The blocking face has a timeout of its own for that.
    pub(crate) fn ask_briefly(
        &self,
        method: &str,
        payload: &Payload,
        patience: Duration,
    ) -> Option<Result<Payload, Error>> {
        match self {
            Self::Blocking(_) => Some(self.ask(method, payload, patience)),
            Self::Tokio(client, runtime) => runtime.block_on(async {
                tokio::time::timeout(patience, client.call(method).payload(payload).send()).await.ok()
            }),
        }
    }

    pub(crate) fn tell(&self, method: &str, payload: &Payload) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.notify(method, payload),
            Self::Tokio(client, runtime) => runtime.block_on(client.notify(method, payload)),
        }
    }

    pub(crate) fn publish(&self, number: u64) -> Result<usize, Error> {
        match self {
            Self::Blocking(client) => client.request("publish", &number),
            Self::Tokio(client, runtime) => runtime.block_on(client.request("publish", &number)),
        }
    }

    /// Takes the first items of a stream, and then its result if that was all, or gives it up: `None`. Without a session the
    /// items are the result, and there is no other.
    pub(crate) fn stream(
        &self,
        wanted: &Wanted,
        take: usize,
        mut each: impl FnMut(usize, (u64, usize, String)),
    ) -> Result<Option<Option<u64>>, Error> {
        match self {
            Self::Blocking(client) => {
                let mut items = client.stream("count", wanted)?;
                for (n, item) in items.by_ref().take(take).enumerate() {
                    each(n, item?);
                }
                if take < wanted.1 { Ok(None) } else { items.finish().map(Some) }
            }
            Self::Tokio(client, runtime) => runtime.block_on(async {
                let mut items = client.stream("count", wanted).await?;
                for n in 0..take {
                    let Some(item) = items.next().await else { break };
                    each(n, item?);
                }
                if take < wanted.1 { Ok(None) } else { items.finish().await.map(Some) }
            }),
        }
    }

    /// Hands events to `each` as long as it wants more.
    pub(crate) fn subscribe(&self, topic: &str, mut each: impl FnMut(&Event) -> bool) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => {
                for event in client.subscribe([topic])? {
                    if !each(&event?) {
                        break;
                    }
                }
                Ok(())
            }
            Self::Tokio(client, runtime) => runtime.block_on(async {
                let mut events = client.subscribe([topic]).await?;
                while let Some(event) = events.next().await {
                    if !each(&event?) {
                        break;
                    }
                }
                Ok(())
            }),
        }
    }
}

impl FromStr for Face {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blocking" => Ok(Self::Blocking),
            "tokio" => Ok(Self::Tokio),
            _ => Err(format!("no face is called {text:?}")),
        }
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking",
            Self::Tokio => "tokio",
        })
    }
}
