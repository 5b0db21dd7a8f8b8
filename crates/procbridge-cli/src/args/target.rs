//! Splits the words of a command line into the endpoint and the rest.

use std::ffi::OsString;

use procbridge::Endpoint;

use crate::args::utf8::not_utf8;
use crate::env::default_endpoint::{self, VARIABLE, missing};
use crate::error::CliError;

/// The endpoint that a command calls, and the words after it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) words: Vec<OsString>,
    /// A hint, if the first word was not read as the endpoint.
    hint: Option<String>,
}

impl Target {
    /// Parses `words`. The first is the endpoint unless the variable holds one. `next` names the word after it.
    pub(crate) fn parse(words: Vec<OsString>, next: &str, usage: &str) -> Result<Self, CliError> {
        let mut words = words.into_iter().peekable();
        let first = words.peek().map(|first| match first.to_str() {
            Some(first) => first.parse::<Endpoint>().map_err(CliError::from),
            None => Err(not_utf8(first)),
        });
        if let Some(Ok(endpoint)) = first {
            words.next();
            return Ok(Self { endpoint, words: words.collect(), hint: None });
        }
        match (default_endpoint::read()?, first) {
            (Some(endpoint), _) => {
                let reason = |word| format!("{word:?} was read as the {next}, as {VARIABLE} is set");
                let hint = words.peek().map(reason);
                Ok(Self { endpoint, words: words.collect(), hint })
            }
            (None, Some(Err(error))) => {
                Err(error
                    .with_hint(format!("the first argument is the endpoint, unless {VARIABLE} holds one")))
            }
            (None, _) => Err(CliError::usage(format!("no endpoint and no {next}")).with_hint(usage)),
        }
    }

    /// Adds the hint to `error`, which the words after the endpoint caused.
    pub(crate) fn explain(&self, error: CliError) -> CliError {
        self.hint.iter().fold(error, CliError::with_hint)
    }

    /// Parses the endpoint of a command that takes no other word.
    pub(crate) fn endpoint(word: Option<&String>) -> Result<Endpoint, CliError> {
        match word {
            Some(word) => Ok(word.parse()?),
            None => default_endpoint::read()?.ok_or_else(|| missing("")),
        }
    }
}
