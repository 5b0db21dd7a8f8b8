//! `procbridge call`: makes a call and prints its result.

use std::time::{Duration, Instant};

use procbridge::{CallBuilder, ClientConfig, Codec, Error, SessionMode};
use serde_json::value::RawValue;

use crate::args::call::CallArgs;
use crate::args::compression::Compression;
use crate::args::target::Target;
use crate::args::timeout::Timeout;
use crate::args::utf8::into_utf8;
use crate::client::connect::{Connection, config_for};
use crate::client::interrupt::Interrupt;
use crate::client::latency::Latency;
use crate::client::print::{print_line, print_result};
use crate::error::CliError;
use crate::input::pair::meta_entry;
use crate::input::payload::read_payload;
use crate::json::envelope;
use crate::json::layout::{Layout, lay_out};
use crate::json::object::Object;
use crate::terminal::{stderr, stdout};

/// Makes the call and prints its result.
pub(crate) fn run(args: &CallArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.output.json)?;
    // A call for one result continues without its reader, as the method may have effects.
    if args.stream {
        interrupt.watch_reader()?;
    }
    let words = args.first.iter().chain(&args.second).chain(&args.rest).cloned().collect();
    let target = Target::parse(words, if args.no_method { "payload" } else { "method" }, USAGE)?;
    let (method, words) = match target.words.split_first() {
        _ if args.no_method => (None, &*target.words),
        Some((method, words)) => (Some(into_utf8(method.clone())?), words),
        None => {
            return Err(CliError::usage(format!("no method to call at {}", target.endpoint))
                .with_hint(USAGE)
                .with_hint("--no-method calls without one"));
        }
    };
    let max_body = args.connect.max_body;
    let payload = read_payload(words, max_body).map_err(|error| target.explain(error))?;
    let meta = args.meta.iter().map(|word| meta_entry(word, max_body)).collect::<Result<_, _>>()?;
    let connection = Connection::new(&target.endpoint, &args.connect, config(args), &interrupt)?;
    let calls = Calls { args, connection: &connection, method, payload, meta };
    match args {
        CallArgs { stream: true, .. } => calls.stream(),
        CallArgs { notify: true, .. } => calls.notify(),
        CallArgs { count: Some(count), .. } => calls.repeat(*count, &interrupt),
        _ => calls.once(),
    }
}

fn config(args: &CallArgs) -> ClientConfig {
    let mut config = args.timeout.map_or_else(ClientConfig::new, config_for);
    if args.classic {
        config = config.with_sessions(SessionMode::Off);
    }
    // The call that opens a session cannot be compressed. With a required session another call opens it.
    if args.session || args.compress.is_some() {
        config = config.with_sessions(SessionMode::Required);
    }
    config = match args.compress {
        Some(Compression::Lz4) => config.with_compression(Codec::Lz4),
        Some(Compression::Zstd) => config.with_compression(Codec::Zstd),
        None => config,
    };
    if args.old { config.speaking_1_0() } else { config }
}

/// The calls of one command line, which are all alike.
struct Calls<'a> {
    args: &'a CallArgs,
    connection: &'a Connection,
    method: Option<String>,
    payload: Option<Box<RawValue>>,
    meta: Vec<(String, Box<RawValue>)>,
}

impl Calls<'_> {
    fn once(&self) -> Result<(), CliError> {
        let (answer, elapsed) = self.send()?;
        if self.args.output.json {
            return stdout::write_envelope(envelope::success(answer.get(), elapsed).finish(), 0);
        }
        print_result(&self.args.output, answer.get())
    }

    fn notify(&self) -> Result<(), CliError> {
        let started = Instant::now();
        let sent = self.request().payload(&self.payload).notify();
        let elapsed = started.elapsed();
        sent.map_err(|error| self.explain(error, elapsed))?;
        if self.args.output.json {
            stdout::write_envelope(envelope::success("null", elapsed).finish(), 0)?;
        }
        Ok(())
    }

    fn stream(&self) -> Result<(), CliError> {
        let (started, output) = (Instant::now(), &self.args.output);
        let failed = |error| self.explain(error, started.elapsed());
        let mut items = self.request().payload(&self.payload).stream::<Box<RawValue>>().map_err(failed)?;
        let mut count = 0_u64;
        for item in items.by_ref() {
            let item = item.map_err(failed)?;
            count += 1;
            let has_reader = if output.json {
                let item = lay_out(item.get(), Layout::Compact);
                stdout::stream_line(Object::new().member("item", &item).finish())?
            } else {
                print_line(output, item.get())?
            };
            if !has_reader {
                return Ok(());
            }
        }
        let result: Box<RawValue> = items.finish().map_err(failed)?;
        if output.json {
            let envelope = envelope::success(result.get(), started.elapsed());
            return stdout::write_envelope(envelope.member("items", count).finish(), 0);
        }
        if result.get() == "null" { Ok(()) } else { print_line(output, result.get()).map(drop) }
    }

    fn repeat(&self, count: u64, interrupt: &Interrupt) -> Result<(), CliError> {
        let mut latency = Latency::start()?;
        let started = Instant::now();
        let mut last = RawValue::NULL.to_owned();
        while latency.calls() < count && interrupt.error().is_none() {
            let (answer, elapsed) = self.send().inspect_err(|_| self.summarise(&latency))?;
            last = answer;
            latency.record(elapsed);
        }
        let elapsed = started.elapsed();
        self.summarise(&latency);
        if let Some(error) = interrupt.error() {
            return Err(error);
        }
        if self.args.output.json {
            let envelope = envelope::success(last.get(), elapsed)
                .member("calls", latency.calls())
                .member("calls_per_second", format!("{:.1}", latency.rate()));
            return stdout::write_envelope(latency.members(envelope).finish(), 0);
        }
        print_result(&self.args.output, last.get())
    }

    /// Reports rate and latency to a person.
    fn summarise(&self, latency: &Latency) {
        if !self.args.output.json && latency.calls() > 0 {
            let (calls, rate, times) = (latency.calls(), latency.rate(), latency.text());
            let word = if calls == 1 { "call" } else { "calls" };
            stderr::write_line(&format!("{calls} {word}, {rate:.0} a second: {times}"));
        }
    }

    /// Makes one call. Returns its result and how long it took.
    fn send(&self) -> Result<(Box<RawValue>, Duration), CliError> {
        let started = Instant::now();
        let answer = self.request().payload(&self.payload).send();
        let elapsed = started.elapsed();
        answer.map(|answer| (answer, elapsed)).map_err(|error| self.explain(error, elapsed))
    }

    fn request(&self) -> CallBuilder<'_> {
        let mut request = match &self.method {
            Some(method) => self.connection.client().call(method),
            None => self.connection.client().call_without_method(),
        };
        if let Some(Timeout::After(timeout)) = self.args.timeout {
            request = request.timeout(timeout);
        }
        if self.args.idempotent {
            request = request.idempotent();
        }
        self.meta.iter().fold(request, |request, (key, value)| request.meta(key, value))
    }

    fn explain(&self, error: Error, elapsed: Duration) -> CliError {
        self.connection.explain(error, elapsed, self.args.timeout)
    }
}

const USAGE: &str =
    "it is \"procbridge call ENDPOINT METHOD [PAYLOAD]\", as in \"procbridge call :8000 sum '[1,2]'\"";
