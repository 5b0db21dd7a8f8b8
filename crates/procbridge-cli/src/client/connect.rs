//! Connects to a server with the settings of the command line.

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

/// A client of one server. Fields drop in their order: the capture is the last, as it shows how the client ends.
#[derive(Debug)]
pub(crate) struct Connection {
    interrupt: Interrupt,
    endpoint: Endpoint,
    client: Client,
    capture: Option<Capture>,
}

impl Connection {
    /// Prepares a connection to `endpoint`. A signal cancels its calls.
    pub(crate) fn new(
        endpoint: &Endpoint,
        args: &ConnectArgs,
        config: ClientConfig,
        interrupt: &Interrupt,
    ) -> Result<Self, CliError> {
        Self::open(endpoint, args, config, interrupt, args.verbose)
    }

    /// Prepares a connection to `endpoint` that observes the server.
    pub(crate) fn observing(
        endpoint: &Endpoint,
        args: &ConnectArgs,
        config: ClientConfig,
        interrupt: &Interrupt,
    ) -> Result<Self, CliError> {
        Self::open(endpoint, args, config, interrupt, true)
    }

    fn open(
        endpoint: &Endpoint,
        args: &ConnectArgs,
        config: ClientConfig,
        interrupt: &Interrupt,
        is_captured: bool,
    ) -> Result<Self, CliError> {
        let config = config.with_max_body(args.max_body);
        let config = match token::read(args.token.as_deref())? {
            Some(token) => config.with_token(token),
            None => config,
        };
        let (config, timeout) = match args.connect_timeout {
            Timeout::After(timeout) => (config.with_connect_timeout(timeout), Some(timeout)),
            Timeout::Never => (config.with_connect_timeout(None), None),
        };
        // An endpoint that no client can use fails here, with a capture or without.
        let plain = Client::with_config(endpoint, config.clone())?;
        let capture = is_captured.then(|| Capture::open(endpoint, timeout, args.verbose)).transpose()?;
        let client = match &capture {
            Some(capture) => Client::with_config(capture.endpoint(), config)?,
            None => plain,
        };
        interrupt.attach(client.clone());
        Ok(Self { interrupt: interrupt.clone(), endpoint: endpoint.clone(), client, capture })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns what a connection that observes has seen of the server.
    pub(crate) fn observed(&self) -> Observed {
        self.capture.as_ref().map(Capture::observed).unwrap_or_default()
    }

    /// Calls `method`, with a timeout that the server learns. Returns also how long the call took.
    pub(crate) fn call(
        &self,
        method: &str,
        payload: Option<&RawValue>,
        timeout: Timeout,
    ) -> (Result<Box<RawValue>, Error>, Duration) {
        let started = Instant::now();
        let request = self.client.call(method);
        let request = match timeout {
            Timeout::After(timeout) => request.timeout(timeout),
            Timeout::Never => request,
        };
        let result = request.payload(&payload).send();
        (result, started.elapsed())
    }

    /// Explains the error of a call that took `elapsed`. `timeout` is the call's own.
    pub(crate) fn explain(&self, error: Error, elapsed: Duration, timeout: Option<Timeout>) -> CliError {
        if let Some(interrupted) = self.interrupt.error() {
            return interrupted.with_outcome(error.outcome()).with_elapsed(elapsed);
        }
        let has_timed_out = matches!(timeout, Some(Timeout::After(timeout)) if elapsed >= timeout);
        let explained = match self.capture.as_ref().and_then(Capture::connect_error) {
            Some(error) => hints::explain_connect(&error, &self.endpoint),
            None => hints::explain(error, &self.endpoint, has_timed_out),
        };
        explained.with_elapsed(elapsed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.interrupt.detach();
    }
}

/// Returns the configuration of a client whose calls have timeouts of their own, or none.
pub(crate) fn config_for(timeout: Timeout) -> ClientConfig {
    match timeout {
        Timeout::After(_) => ClientConfig::new(),
        Timeout::Never => ClientConfig::new().with_call_timeout(None),
    }
}
