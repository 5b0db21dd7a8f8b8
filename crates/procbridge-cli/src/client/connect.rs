//! The way to a server: a client with the settings of the command line, and what its errors mean to a person.

use std::time::{Duration, Instant};

use procbridge::{Client, ClientConfig, Endpoint, Error};
use serde_json::value::RawValue;

use crate::args::connect::ConnectArgs;
use crate::args::timeout::Timeout;
use crate::capture::observed::Observed;
use crate::capture::proxy::Capture;
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::env::token;
use crate::error::CliError;

/// A server that is called. The fields are dropped in their order: the capture last, as it tells of the client's end.
#[derive(Debug)]
pub(crate) struct Connection {
    interrupt: Interrupt,
    endpoint: Endpoint,
    client: Client,
    capture: Option<Capture>,
}

/// What a command wants of its way to the server.
#[derive(Debug, Default)]
pub(crate) struct ConnectOptions {
    config: ClientConfig,
    is_captured: bool,
}

impl From<ClientConfig> for ConnectOptions {
    fn from(config: ClientConfig) -> Self {
        Self { config, is_captured: false }
    }
}

impl ConnectOptions {
    /// A client whose questions have this limit.
    pub(crate) fn with_timeout(limit: Timeout) -> Self {
        let config = ClientConfig::new();
        Self::from(if limit == Timeout::Never { config.without_call_timeout() } else { config })
    }

    /// To know afterwards what was seen of the server.
    pub(crate) fn captured(mut self) -> Self {
        self.is_captured = true;
        self
    }
}

impl Connection {
    /// The way to `endpoint`. Its calls are cancelled when a signal comes.
    pub(crate) fn new(
        endpoint: &Endpoint,
        args: &ConnectArgs,
        options: ConnectOptions,
        interrupt: &Interrupt,
    ) -> Result<Self, CliError> {
        let config = options.config.with_max_body(args.max_body);
        let config = match token::read(args.token.as_deref())? {
            Some(token) => config.with_token(token),
            None => config,
        };
        let (config, limit) = match args.connect_timeout {
            Timeout::After(limit) => (config.with_connect_timeout(limit), Some(limit)),
            Timeout::Never => (config.without_connect_timeout(), None),
        };
        // What cannot be connected to is the same with a capture.
        let plain = Client::connect_with(endpoint, config.clone())?;
        let capture =
            (args.verbose || options.is_captured).then(|| Capture::open(endpoint, limit, args.verbose));
        let capture = capture.transpose()?;
        let client = match &capture {
            Some(capture) => Client::connect_with(capture.endpoint(), config)?,
            None => plain,
        };
        interrupt.attach(client.clone());
        Ok(Self { interrupt: interrupt.clone(), endpoint: endpoint.clone(), client, capture })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What was seen of the server, by a way that looks.
    pub(crate) fn observed(&self) -> Observed {
        self.capture.as_ref().map(Capture::observed).unwrap_or_default()
    }

    /// Asks one question, with a limit that the server is told.
    pub(crate) fn ask(&self, method: &str, payload: Option<&RawValue>, limit: Timeout) -> TimedReply {
        let began = Instant::now();
        let request = self.client.call(method);
        let request = match limit {
            Timeout::After(limit) => request.timeout(limit),
            Timeout::Never => request,
        };
        let result = request.payload(&payload).send();
        TimedReply { result, elapsed: began.elapsed(), limit }
    }

    /// What `error` means, for a person at a shell. With `own_timeout` the limit of the call itself has passed.
    pub(crate) fn error(&self, error: Error, own_timeout: bool) -> CliError {
        if let Some(failure) = self.interrupt.error() {
            return failure.with_outcome(error.outcome());
        }
        match self.capture.as_ref().and_then(Capture::unreachable) {
            Some(error) => hints::explain_connect(&error, &self.endpoint),
            None => hints::explain(error, &self.endpoint, own_timeout),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.interrupt.detach();
    }
}

/// The answer to one question.
#[derive(Debug)]
pub(crate) struct TimedReply {
    pub(crate) result: Result<Box<RawValue>, Error>,
    pub(crate) elapsed: Duration,
    limit: Timeout,
}

impl TimedReply {
    /// Whether the limit that was given has passed.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.limit, Timeout::After(limit) if self.elapsed >= limit)
    }

    /// The answer, or what its failure means.
    pub(crate) fn or_error(self, connection: &Connection) -> Result<Box<RawValue>, CliError> {
        let (is_late, elapsed) = (self.is_late(), self.elapsed);
        self.result.map_err(|error| connection.error(error, is_late).with_elapsed(elapsed))
    }
}
