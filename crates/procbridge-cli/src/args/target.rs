//! Which words of a command line are the endpoint, and which stand behind it.

use std::ffi::OsString;

use procbridge::Endpoint;

use crate::args::utf8::not_utf8;
use crate::env::default_endpoint::{self, VARIABLE};
use crate::error::CliError;

/// The server that a command is about, and the words behind it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) words: Vec<OsString>,
    /// A line of help, if the first word was not read as the endpoint.
    pub(crate) assumed: Option<String>,
}

impl Target {
    /// Reads `words`, of which the first is the endpoint unless the variable holds one. `next` stands behind it.
    pub(crate) fn of(words: Vec<OsString>, next: &str, usage: &str) -> Result<Self, CliError> {
        let mut words = words.into_iter().peekable();
        let first = words.peek().map(|first| match first.to_str() {
            Some(first) => first.parse::<Endpoint>().map_err(CliError::from),
            None => Err(not_utf8(first)),
        });
        if let Some(Ok(endpoint)) = first {
            words.next();
            return Ok(Self { endpoint, words: words.collect(), assumed: None });
        }
        match (default_endpoint::read()?, first) {
            (Some(endpoint), _) => {
                let reason = |word| format!("{word:?} was read as the {next}, as {VARIABLE} is set");
                let assumed = words.peek().map(reason);
                Ok(Self { endpoint, words: words.collect(), assumed })
            }
            (None, Some(Err(failure))) => {
                Err(failure
                    .with_hint(format!("the first argument is the endpoint, unless {VARIABLE} holds one")))
            }
            (None, _) => Err(CliError::usage(format!("no endpoint and no {next}")).with_hint(usage)),
        }
    }

    /// Reads the only word that a command takes.
    pub(crate) fn alone(word: Option<&String>) -> Result<Endpoint, CliError> {
        if let Some(word) = word {
            return Ok(word.parse()?);
        }
        default_endpoint::read()?.ok_or_else(|| {
            CliError::usage("no endpoint")
                .with_hint("it is an argument such as :8000 or ./app.sock")
                .with_hint(format!("{VARIABLE} holds the default"))
        })
    }
}
