//! `procbridge watch`: events become lines of JSON, for as long as anybody wants them.

use std::ffi::OsString;
use std::time::Instant;

use procbridge::{
    Backoff, ClientConfig, Endpoint, Error, ErrorKind, Event, Items, Missed, RemoteError, Sessions, code,
    may_pass,
};
use serde_json::json;

use crate::args::target::Target;
use crate::args::timeout::Timeout;
use crate::args::utf8::into_utf8;
use crate::args::watch::WatchArgs;
use crate::client::connect::{ConnectOptions, Connection};
use crate::client::interrupt::Interrupt;
use crate::client::{hints, print};
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::json::object::Object;
use crate::terminal::{stderr, stdout};

/// Prints events until there were enough, or the server has none.
pub(crate) fn run(args: &WatchArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.json)?;
    interrupt.watch_reader()?;
    let Target { endpoint, words: topics, assumed } =
        Target::of(args.words.iter().map(OsString::from).collect(), "topic", USAGE)?;
    let topics = topics.into_iter().map(into_utf8).collect::<Result<Vec<_>, _>>()?;
    if topics.is_empty() {
        return Err(CliError::usage(format!("no topic to watch at {endpoint}"))
            .with_hint(USAGE)
            .with_hint("the topic '*' is all of them, in quotes that keep the shell away from it"));
    }
    let watch = Watch { args, endpoint, topics, interrupt, assumed };
    watch.run()
}

struct Watch<'a> {
    args: &'a WatchArgs,
    endpoint: Endpoint,
    topics: Vec<String>,
    interrupt: Interrupt,
    assumed: Option<String>,
}

/// Why a subscription was over.
enum Over {
    /// There were as many events as were asked for, or nobody reads them any more.
    Enough,
    /// The server has ended it.
    Ended,
    Failed(Error),
}

/// How far the watching has come, over all its connections.
#[derive(Debug, Default)]
struct Progress {
    /// Events that were printed.
    printed: u64,
    /// Whether a subscription was ever in force.
    begun: bool,
    /// Whether events may have been missed since the last one.
    gap: bool,
    backoff: Backoff,
    /// Whether the loss was told of. That is done once for each, however long it takes.
    is_told: bool,
    /// Whether the present subscription is in force.
    in_force: bool,
}

impl Watch<'_> {
    fn run(&self) -> Result<(), CliError> {
        let mut progress = Progress::default();
        loop {
            let config = ClientConfig::new().with_sessions(Sessions::Required);
            // What takes connections and says nothing is waited for no longer than for a connection.
            let config = match self.args.connect.connect_timeout {
                Timeout::After(limit) => config.with_call_timeout(limit),
                Timeout::Never => config.without_call_timeout(),
            };
            let connection = Connection::new(
                &self.endpoint,
                &self.args.connect,
                ConnectOptions::from(config),
                &self.interrupt,
            )?;
            let over = match self.subscribe(&connection) {
                Ok(items) => self.print(items, &mut progress)?,
                Err(error) => Over::Failed(error),
            };
            if let Some(failure) = self.interrupt.error() {
                return Err(failure);
            }
            let reason = match over {
                Over::Enough => return Ok(()),
                // A server without events may have an answer to every method.
                Over::Ended if !progress.begun => return Err(self.no_events()),
                Over::Ended => "the server ended the subscription".to_string(),
                Over::Failed(error) if progress.begun && may_pass(&error) => error.to_string(),
                Over::Failed(error) => return Err(self.error(&connection, error)),
            };
            drop(connection);
            if !std::mem::replace(&mut progress.is_told, true) && !self.args.json {
                stderr::report("warn", &format!("{reason}; trying again"), []);
            }
            (progress.gap, progress.in_force) = (true, false);
            self.interrupt.sleep(progress.backoff.pause(Instant::now()));
        }
    }

    /// The first item of a subscription is empty, and tells that it is in force.
    fn subscribe(&self, connection: &Connection) -> Result<Items<Option<Event>>, Error> {
        let wanted = json!({ "topics": self.topics });
        connection.client().call("$/subscribe").payload(&wanted).stream()
    }

    /// Prints the events of one subscription. After a loss the first tells that there may have been others.
    fn print(&self, mut items: Items<Option<Event>>, progress: &mut Progress) -> Result<Over, CliError> {
        for event in items.by_ref() {
            let event = match event {
                Ok(Some(event)) => {
                    // Without the word that it is in force it is not known from when on nothing was missed.
                    progress.gap |= !progress.in_force;
                    (progress.in_force, progress.begun) = (true, true);
                    progress.backoff.begun(Instant::now());
                    event
                }
                Ok(None) => {
                    self.tell(progress);
                    continue;
                }
                Err(error) => return Ok(Over::Failed(error)),
            };
            let missed = match event.missed() {
                _ if std::mem::take(&mut progress.gap) => Some("\"unknown\"".to_string()),
                Missed::Nothing => None,
                Missed::Events(count) => Some(count.to_string()),
                _ => Some("\"unknown\"".to_string()),
            };
            let line = Object::new().string("topic", event.topic());
            let line = line.member("payload", event.payload_text().unwrap_or("null"));
            let line = missed.iter().fold(line, |line, missed| line.member("missed", missed));
            if !stdout::stream_line(print::compact(&line.finish()))? {
                return Ok(Over::Enough);
            }
            progress.printed += 1;
            if self.args.count == Some(progress.printed) {
                return Ok(Over::Enough);
            }
        }
        Ok(Over::Ended)
    }

    /// From now on no event is missed.
    fn tell(&self, progress: &mut Progress) {
        let topics = self.topics.join(" ");
        let note = match progress.begun {
            false => format!("watching {topics} at {}", self.endpoint),
            true => format!("watching {topics} again; events may have been missed"),
        };
        if !self.args.json {
            stderr::write_line(&note);
        }
        progress.begun = true;
        (progress.in_force, progress.is_told) = (true, false);
        progress.backoff.begun(Instant::now());
    }

    fn error(&self, connection: &Connection, error: Error) -> CliError {
        if error.is_sessionless() {
            return hints::missing_builtin(&self.endpoint, false, "$/subscribe");
        }
        if error.remote().and_then(RemoteError::code) == Some(code::UNKNOWN_METHOD) {
            return self.no_events();
        }
        let failure = match error.kind() {
            ErrorKind::Timeout => CliError::from(error).with_hint("--connect-timeout allows more time"),
            _ => connection.error(error, false),
        };
        self.assumed.iter().fold(failure, CliError::with_hint)
    }

    fn no_events(&self) -> CliError {
        let message = format!("the server at {} has no events: it has no \"$/subscribe\"", self.endpoint);
        let failure = CliError::new(ExitCode::Remote, "remote", message).with_code(code::UNKNOWN_METHOD);
        failure.with_outcome(procbridge::Outcome::Replied)
    }
}

const USAGE: &str =
    "it is \"procbridge watch ENDPOINT TOPIC...\", as in \"procbridge watch :8000 'build.*'\"";
