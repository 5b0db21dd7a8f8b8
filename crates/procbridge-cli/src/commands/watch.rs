//! `procbridge watch`: prints events as lines of JSON, until the reader has gone.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use procbridge::{
    Backoff, ClientConfig, Error, ErrorKind, Event, Items, Missed, Outcome, ReplyError, SessionMode, code,
    may_pass,
};
use serde_json::json;

use crate::args::connect::RAISE_CONNECT_TIMEOUT;
use crate::args::target::Target;
use crate::args::timeout::Timeout;
use crate::args::utf8::into_utf8;
use crate::args::watch::WatchArgs;
use crate::client::connect::Connection;
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::json::layout::{Layout, lay_out};
use crate::json::object::Object;
use crate::terminal::{stderr, stdout};

/// Prints events, and reconnects when a connection is lost.
pub(crate) fn run(args: &WatchArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.json)?;
    interrupt.watch_reader()?;
    let target = Target::parse(args.words.iter().map(OsString::from).collect(), "topic", USAGE)?;
    let topics = target.words.iter().cloned().map(into_utf8).collect::<Result<Vec<_>, _>>()?;
    if topics.is_empty() {
        return Err(CliError::usage(format!("no topic to watch at {}", target.endpoint))
            .with_hint(USAGE)
            .with_hint("the topic '*' matches all topics; quote it for the shell"));
    }
    let mut watch = Watch { args, target, topics, interrupt, progress: Progress::default() };
    watch.run()
}

struct Watch<'a> {
    args: &'a WatchArgs,
    target: Target,
    topics: Vec<String>,
    interrupt: Interrupt,
    progress: Progress,
}

/// The end of a subscription.
enum End {
    /// The command has printed enough events, or its reader has gone.
    Enough,
    /// The server has ended the subscription.
    ByServer,
    Failed(Error),
}

/// The progress over all connections.
#[derive(Debug, Default)]
struct Progress {
    /// The number of printed events.
    printed: u64,
    /// Whether a subscription was ever active.
    was_active: bool,
    /// Whether the current subscription is active.
    is_active: bool,
    /// Whether events may have been missed since the last one.
    has_gap: bool,
    /// Whether the loss of the connection is reported, which is done once a loss.
    is_loss_reported: bool,
    backoff: Backoff,
}

impl Progress {
    /// Records that the subscription is active.
    fn activate(&mut self) {
        (self.is_active, self.was_active) = (true, true);
        self.backoff.begun(Instant::now());
    }
}

impl Watch<'_> {
    fn run(&mut self) -> Result<(), CliError> {
        loop {
            let config = ClientConfig::new().with_sessions(SessionMode::Required);
            // A server that accepts a connection and stays silent gets no more time than connecting.
            let config = match self.args.connect.connect_timeout {
                Timeout::After(timeout) => config.with_call_timeout(timeout),
                Timeout::Never => config.with_call_timeout(None),
            };
            let endpoint = &self.target.endpoint;
            let connection = Connection::new(endpoint, &self.args.connect, config, &self.interrupt)?;
            let end = match self.subscribe(&connection) {
                Ok(items) => self.print(items)?,
                Err(error) => End::Failed(error),
            };
            if let Some(error) = self.interrupt.error() {
                return Err(error);
            }
            let reason = match end {
                End::Enough => return Ok(()),
                // A server without events may answer every method.
                End::ByServer if !self.progress.was_active => return Err(self.no_events()),
                End::ByServer => "the server ended the subscription".to_string(),
                End::Failed(error) if self.progress.was_active && may_pass(&error) => error.to_string(),
                End::Failed(error) => return Err(self.explain(&connection, error)),
            };
            drop(connection);
            let progress = &mut self.progress;
            if !std::mem::replace(&mut progress.is_loss_reported, true) && !self.args.json {
                stderr::report("warn", &format!("{reason}; reconnecting"), []);
            }
            (progress.has_gap, progress.is_active) = (true, false);
            self.interrupt.sleep(progress.backoff.pause(Instant::now()));
        }
    }

    /// Subscribes to the topics. The first item is empty, and reports that the subscription is active.
    fn subscribe(&self, connection: &Connection) -> Result<Items<Option<Event>>, Error> {
        let payload = json!({ "topics": self.topics });
        connection.client().call("$/subscribe").payload(&payload).stream()
    }

    /// Prints the events of one subscription.
    fn print(&mut self, items: Items<Option<Event>>) -> Result<End, CliError> {
        for event in items {
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => {
                    self.report_active();
                    continue;
                }
                Err(error) => return Ok(End::Failed(error)),
            };
            let progress = &mut self.progress;
            // Before the subscription is reported active, it is unknown which events it misses.
            progress.has_gap |= !progress.is_active;
            progress.activate();
            let missed = match event.missed() {
                _ if std::mem::take(&mut progress.has_gap) => Some("\"unknown\"".to_string()),
                Missed::Nothing => None,
                Missed::Events(count) => Some(count.to_string()),
                _ => Some("\"unknown\"".to_string()),
            };
            progress.printed += 1;
            let is_last = self.args.count == Some(progress.printed);
            let line = Object::new().string("topic", event.topic());
            let line = line.member("payload", event.payload_text().unwrap_or("null"));
            let line = missed.iter().fold(line, |line, missed| line.member("missed", missed));
            if !stdout::stream_line(lay_out(&line.finish(), Layout::Compact))? || is_last {
                return Ok(End::Enough);
            }
        }
        Ok(End::ByServer)
    }

    /// Reports that the subscription is active. From now on no event is missed.
    fn report_active(&mut self) {
        let topics = self.topics.join(" ");
        let note = match self.progress.was_active {
            false => format!("watching {topics} at {}", self.target.endpoint),
            true => format!("watching {topics} again; events may have been missed"),
        };
        if !self.args.json {
            stderr::write_line(&note);
        }
        self.progress.activate();
        self.progress.is_loss_reported = false;
    }

    fn explain(&self, connection: &Connection, error: Error) -> CliError {
        if error.is_sessionless() {
            return hints::missing_builtin(&self.target.endpoint, false, "$/subscribe");
        }
        if error.remote().and_then(ReplyError::code) == Some(code::UNKNOWN_METHOD) {
            return self.no_events();
        }
        self.target.explain(match error.kind() {
            ErrorKind::Timeout => CliError::from(error).with_hint(RAISE_CONNECT_TIMEOUT),
            _ => connection.explain(error, Duration::ZERO, None),
        })
    }

    fn no_events(&self) -> CliError {
        let endpoint = &self.target.endpoint;
        let message = format!("the server at {endpoint} has no events: it has no \"$/subscribe\"");
        let error = CliError::new(ExitCode::Remote, "remote", message);
        error.with_code(code::UNKNOWN_METHOD).with_outcome(Outcome::Replied)
    }
}

const USAGE: &str =
    "it is \"procbridge watch ENDPOINT TOPIC...\", as in \"procbridge watch :8000 'build.*'\"";
