//! The way to a server: a client with the settings of the command line, and what its errors mean to a person.

use std::time::{Duration, Instant};

use procbridge::{Client, ClientConfig, Endpoint, Error};
use serde_json::value::RawValue;

use crate::args::ReachArgs;
use crate::args::units::Limit;
use crate::capture::relay::Seen;
use crate::capture::relay::Tap;
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::env::token;
use crate::error::Failure;

/// A server that is called. The fields are dropped in their order: the tap last, as it tells of the client's end.
#[derive(Debug)]
pub(crate) struct Reach {
    interrupt: Interrupt,
    endpoint: Endpoint,
    client: Client,
    tap: Option<Tap>,
}

/// What a command wants of its way to the server.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    config: ClientConfig,
    is_looking: bool,
}

impl From<ClientConfig> for Wishes {
    fn from(config: ClientConfig) -> Self {
        Self { config, is_looking: false }
    }
}

impl Wishes {
    /// A client whose questions have this limit.
    pub(crate) fn within(limit: Limit) -> Self {
        let config = ClientConfig::new();
        Self::from(if limit == Limit::Never { config.without_call_timeout() } else { config })
    }

    /// To know afterwards what was seen of the server.
    pub(crate) fn looking(mut self) -> Self {
        self.is_looking = true;
        self
    }
}

impl Reach {
    /// The way to `endpoint`. Its calls are cancelled when a signal comes.
    pub(crate) fn new(
        endpoint: &Endpoint,
        args: &ReachArgs,
        wishes: Wishes,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let config = wishes.config.with_max_body(args.max_body);
        let config = match token::read(args.token.as_deref())? {
            Some(token) => config.with_token(token),
            None => config,
        };
        let (config, limit) = match args.connect_timeout {
            Limit::After(limit) => (config.with_connect_timeout(limit), Some(limit)),
            Limit::Never => (config.without_connect_timeout(), None),
        };
        // What cannot be connected to is the same with a tap.
        let plain = Client::connect_with(endpoint, config.clone())?;
        let tap = (args.verbose || wishes.is_looking).then(|| Tap::open(endpoint, limit, args.verbose));
        let tap = tap.transpose()?;
        let client = match &tap {
            Some(tap) => Client::connect_with(tap.endpoint(), config)?,
            None => plain,
        };
        interrupt.cancels(client.clone());
        Ok(Self { interrupt: interrupt.clone(), endpoint: endpoint.clone(), client, tap })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What was seen of the server, by a way that looks.
    pub(crate) fn seen(&self) -> Seen {
        self.tap.as_ref().map(Tap::seen).unwrap_or_default()
    }

    /// Asks one question, with a limit that the server is told.
    pub(crate) fn ask(&self, method: &str, payload: Option<&RawValue>, limit: Limit) -> Asked {
        let began = Instant::now();
        let request = self.client.call(method);
        let request = match limit {
            Limit::After(limit) => request.timeout(limit),
            Limit::Never => request,
        };
        let result = request.payload(&payload).send();
        Asked { result, elapsed: began.elapsed(), limit }
    }

    /// What `error` means, for a person at a shell. With `own_limit` the limit of the call itself has passed.
    pub(crate) fn failure(&self, error: Error, own_limit: bool) -> Failure {
        if let Some(failure) = self.interrupt.failure() {
            return failure.with_outcome(error.outcome());
        }
        match self.tap.as_ref().and_then(Tap::unreachable) {
            Some(error) => hints::unreachable(&error, &self.endpoint),
            None => hints::failure(error, &self.endpoint, own_limit),
        }
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.interrupt.release();
    }
}

/// The answer to one question.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) result: Result<Box<RawValue>, Error>,
    pub(crate) elapsed: Duration,
    limit: Limit,
}

impl Asked {
    /// Whether the limit that was given has passed.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.limit, Limit::After(limit) if self.elapsed >= limit)
    }

    /// The answer, or what its failure means.
    pub(crate) fn or_failure(self, reach: &Reach) -> Result<Box<RawValue>, Failure> {
        let (is_late, elapsed) = (self.is_late(), self.elapsed);
        self.result.map_err(|error| reach.failure(error, is_late).with_elapsed(elapsed))
    }
}
