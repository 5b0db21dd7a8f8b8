//! The error of a command: an exit code for scripts, lines for people, an envelope for programs.

use std::fmt::Display;
use std::time::Duration;

use procbridge::{Error, ErrorKind, Outcome};

use crate::exit_code::ExitCode;
use crate::json::layout::{Layout, lay_out};
use crate::json::object::Object;
use crate::text::system_error;

/// The reason why a command failed.
#[derive(Debug)]
pub(crate) struct CliError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    exit: ExitCode,
    kind: &'static str,
    message: String,
    outcome: Outcome,
    code: Option<String>,
    data: Option<String>,
    hints: Vec<String>,
    elapsed: Duration,
}

impl CliError {
    pub(crate) fn new(exit: ExitCode, kind: &'static str, message: impl Into<String>) -> Self {
        let (message, hints, elapsed) = (message.into(), Vec::new(), Duration::ZERO);
        let outcome = Outcome::NotSent;
        Self(Box::new(Parts { exit, kind, message, outcome, code: None, data: None, hints, elapsed }))
    }

    /// Returns the error for a wrong command line or input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, "usage", message)
    }

    /// Returns the error for a failure of the operating system. `doing` names the failed action.
    pub(crate) fn system(doing: impl Display, error: &std::io::Error) -> Self {
        Self::new(ExitCode::Internal, "internal", format!("{doing}: {}", system_error::describe(error)))
    }

    /// Returns the error for a command that a signal ended. No message is printed for it.
    pub(crate) fn signal(signal: i32) -> Self {
        let exit =
            if signal == signal_hook::consts::SIGTERM { ExitCode::Terminated } else { ExitCode::Interrupted };
        Self::new(exit, "cancelled", format!("cancelled by signal {signal}"))
    }

    /// Returns the error for a command whose reader of standard output has gone. No message is printed for it.
    pub(crate) fn reader_gone() -> Self {
        Self::new(ExitCode::ReaderGone, "cancelled", "no process reads the output")
    }

    /// Adds a line that tells what to change.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    pub(crate) fn with_code(mut self, code: &str) -> Self {
        self.0.code = Some(code.to_string());
        self
    }

    /// Adds data, which must be JSON text.
    pub(crate) fn with_data(mut self, data: String) -> Self {
        self.0.data = Some(data);
        self
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    pub(crate) fn with_elapsed(mut self, elapsed: Duration) -> Self {
        self.0.elapsed = elapsed;
        self
    }

    /// Returns the code of the server's error.
    pub(crate) fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    pub(crate) fn exit(&self) -> u8 {
        self.0.exit as u8
    }

    /// Returns the message for people, unless the user ended the command.
    pub(crate) fn message(&self) -> Option<&str> {
        let is_silent =
            matches!(self.0.exit, ExitCode::ReaderGone | ExitCode::Interrupted | ExitCode::Terminated);
        (!is_silent).then_some(&self.0.message)
    }

    /// Returns the labelled lines that follow the message.
    pub(crate) fn details(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let details = [("code", &self.0.code), ("data", &self.0.data)];
        let details = details.into_iter().filter_map(|(label, text)| Some((label, text.as_ref()?)));
        details.chain(self.0.hints.iter().map(|hint| ("help", hint)))
    }

    /// Returns the envelope, one line of JSON for programs.
    pub(crate) fn envelope(&self) -> String {
        let outcome = match self.0.outcome {
            Outcome::Replied => "replied",
            Outcome::NotSent => "not_sent",
            Outcome::Unknown => "unknown",
        };
        let error = Object::new()
            .string("kind", self.0.kind)
            .string("code", self.0.code.as_deref())
            .string("message", self.0.message.as_str())
            .member("data", self.0.data.as_deref().unwrap_or("null"))
            .string("outcome", outcome)
            .finish();
        Object::new()
            .member("ok", "false")
            .member("error", &error)
            .member("exit", self.exit())
            .member("elapsed_us", self.0.elapsed.as_micros())
            .finish()
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let (exit, kind) = match error.kind() {
            ErrorKind::InvalidEndpoint => (ExitCode::Usage, "invalid_endpoint"),
            ErrorKind::InvalidInput => (ExitCode::Usage, "invalid_input"),
            ErrorKind::Connect => (ExitCode::Connect, "connect"),
            ErrorKind::Timeout => (ExitCode::Timeout, "timeout"),
            ErrorKind::Protocol => (ExitCode::Protocol, "protocol"),
            ErrorKind::Remote => (ExitCode::Remote, "remote"),
            ErrorKind::Denied => (ExitCode::Denied, "denied"),
            ErrorKind::Disconnected => (ExitCode::Protocol, "disconnected"),
            ErrorKind::TooLarge => (ExitCode::Protocol, "too_large"),
            ErrorKind::Listen => (ExitCode::Connect, "listen"),
            _ => (ExitCode::Internal, "internal"),
        };
        let mut own = Self::new(exit, kind, error.to_string()).with_outcome(error.outcome());
        if let Some(remote) = error.remote() {
            own.0.code = remote.code().map(str::to_string);
            own.0.data = remote.data().map(|data| lay_out(data.get(), Layout::Compact));
        }
        own
    }
}

/// Gives a usage error of the argument parser the form of all other errors: a message and hints.
impl From<&clap::Error> for CliError {
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n");
        let first = paragraphs.next().unwrap_or_default();
        let message = first.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        let mut own = Self::usage(message);
        own.0.hints = paragraphs
            .flat_map(str::lines)
            .filter_map(|line| line.trim_start().strip_prefix("tip: ").map(str::to_string))
            .collect();
        // "Usage: procbridge call [OPTIONS] ..." names the command.
        let usage = text.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or_default();
        let words: Vec<_> =
            usage.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).collect();
        if !words.is_empty() {
            own.0.hints.push(format!("\"{} --help\" shows all options", words.join(" ")));
        }
        own
    }
}
