//! `procbridge call`: arguments become a call, its answer becomes data on standard output.

use std::time::{Duration, Instant};

use procbridge::{ClientConfig, Codec, Error, RequestBuilder, Sessions};
use serde_json::value::RawValue;

use crate::args::call::CallArgs;
use crate::args::compression::Compression;
use crate::args::target::Target;
use crate::args::timeout::Timeout;
use crate::args::utf8::into_utf8;
use crate::client::connect::{ConnectOptions, Connection};
use crate::client::interrupt::Interrupt;
use crate::client::latency::Latency;
use crate::client::print;
use crate::error::CliError;
use crate::input::{pair, payload};
use crate::json::envelope;
use crate::json::layout::{self, Layout};
use crate::json::object::Object;
use crate::terminal::{stderr, stdout};

/// Makes the call and prints its result.
pub(crate) fn run(args: &CallArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.output.json)?;
    // One that waits for a result alone goes on: the method may be called for what it does.
    if args.stream {
        interrupt.watch_reader()?;
    }
    let words = args.first.iter().chain(&args.second).chain(&args.rest).cloned().collect();
    // An error without any words tells what a whole call looks like.
    let next = if args.no_method { "payload" } else { "method" };
    let Target { endpoint, words, assumed } = Target::of(words, next, USAGE)?;
    let mut words = words.into_iter();
    let method = if args.no_method { None } else { words.next().map(into_utf8).transpose()? };
    if method.is_none() && !args.no_method {
        return Err(CliError::usage(format!("no method to call at {endpoint}"))
            .with_hint(USAGE)
            .with_hint("--no-method calls without one"));
    }
    let words: Vec<_> = words.collect();
    let payload = payload::read(&words, args.connect.max_body).map_err(|failure| match assumed {
        // The variable made a method of what may have been meant as an endpoint.
        Some(reason) => failure.with_hint(reason),
        None => failure,
    })?;
    let meta = args.meta.iter().map(|word| pair::entry(word, args.connect.max_body));
    let meta = meta.collect::<Result<_, _>>()?;
    let connection =
        Connection::new(&endpoint, &args.connect, ConnectOptions::from(config(args)), &interrupt)?;
    let calls = Calls { args, connection: &connection, method, payload, meta };
    match args {
        CallArgs { stream: true, .. } => calls.stream(),
        CallArgs { notify: true, .. } => calls.notify(),
        CallArgs { count: Some(count), .. } => calls.repeat(*count, &interrupt),
        _ => calls.once(),
    }
}

fn config(args: &CallArgs) -> ClientConfig {
    let mut config = ClientConfig::new();
    if args.timeout == Some(Timeout::Never) {
        config = config.without_call_timeout();
    }
    if args.classic {
        config = config.with_sessions(Sessions::Never);
    }
    // The call that opens a session cannot be compressed; with a session required it is not this one.
    if args.session || args.compress.is_some() {
        config = config.with_sessions(Sessions::Required);
    }
    config = match args.compress {
        Some(Compression::Lz4) => config.with_compression(Codec::Lz4),
        Some(Compression::Zstd) => config.with_compression(Codec::Zstd),
        None => config,
    };
    if args.old { config.speaking_1_0() } else { config }
}

/// The calls of one command line; they are all alike.
struct Calls<'a> {
    args: &'a CallArgs,
    connection: &'a Connection,
    method: Option<String>,
    payload: Option<Box<RawValue>>,
    meta: Vec<(String, Box<RawValue>)>,
}

impl Calls<'_> {
    fn once(&self) -> Result<(), CliError> {
        let began = Instant::now();
        let answer = self.send(began)?;
        let elapsed = began.elapsed();
        if self.args.output.json {
            return stdout::write_envelope(envelope::success(answer.get(), elapsed).finish(), 0);
        }
        print::print_result(&self.args.output, answer.get())
    }

    fn notify(&self) -> Result<(), CliError> {
        let began = Instant::now();
        let sent = self.request().payload(&self.payload).notify();
        let elapsed = began.elapsed();
        sent.map_err(|error| self.error(error, elapsed))?;
        if self.args.output.json {
            stdout::write_envelope(envelope::success("null", elapsed).finish(), 0)?;
        }
        Ok(())
    }

    fn stream(&self) -> Result<(), CliError> {
        let (began, shape) = (Instant::now(), &self.args.output);
        let failed = |error| self.error(error, began.elapsed());
        let mut items = self.request().payload(&self.payload).stream::<Box<RawValue>>().map_err(failed)?;
        let mut count = 0_u64;
        for item in items.by_ref() {
            let item = item.map_err(failed)?;
            count += 1;
            let is_wanted = if shape.json {
                let item = layout::lay_out(item.get(), Layout::Compact);
                stdout::stream_line(Object::new().member("item", &item).finish())?
            } else {
                print::print_line(shape, item.get())?
            };
            if !is_wanted {
                return Ok(());
            }
        }
        let own: Box<RawValue> = items.finish().map_err(failed)?;
        if shape.json {
            let envelope = envelope::success(own.get(), began.elapsed());
            return stdout::write_envelope(envelope.member("items", &count.to_string()).finish(), 0);
        }
        if own.get() == "null" { Ok(()) } else { print::print_line(shape, own.get()).map(drop) }
    }

    fn repeat(&self, count: u64, interrupt: &Interrupt) -> Result<(), CliError> {
        let mut latency = Latency::start()?;
        let first = Instant::now();
        let mut last = RawValue::NULL.to_owned();
        while latency.calls() < count && interrupt.error().is_none() {
            let began = Instant::now();
            match self.send(began) {
                Ok(answer) => last = answer,
                Err(failure) => {
                    self.summarise(&latency);
                    return Err(failure);
                }
            }
            latency.record(began.elapsed());
        }
        let elapsed = first.elapsed();
        self.summarise(&latency);
        if let Some(failure) = interrupt.error() {
            return Err(failure);
        }
        if self.args.output.json {
            let envelope = envelope::success(last.get(), elapsed)
                .member("calls", &latency.calls().to_string())
                .member("calls_per_second", &format!("{:.1}", latency.rate()));
            return stdout::write_envelope(latency.members(envelope).finish(), 0);
        }
        print::print_result(&self.args.output, last.get())
    }

    /// Tells how the calls went, to who reads it.
    fn summarise(&self, latency: &Latency) {
        if !self.args.output.json && latency.calls() > 0 {
            let (calls, rate, times) = (latency.calls(), latency.rate(), latency.text());
            let word = if calls == 1 { "call" } else { "calls" };
            stderr::write_line(&format!("{calls} {word}, {rate:.0} a second: {times}"));
        }
    }

    fn send(&self, began: Instant) -> Result<Box<RawValue>, CliError> {
        let answer = self.request().payload(&self.payload).send();
        answer.map_err(|error| self.error(error, began.elapsed()))
    }

    fn request(&self) -> RequestBuilder<'_> {
        let mut request = match &self.method {
            Some(method) => self.connection.client().call(method),
            None => self.connection.client().call_without_method(),
        };
        if let Some(Timeout::After(limit)) = self.args.timeout {
            request = request.timeout(limit);
        }
        if self.args.idempotent {
            request = request.idempotent();
        }
        self.meta.iter().fold(request, |request, (key, value)| request.meta(key, value))
    }

    fn error(&self, error: Error, elapsed: Duration) -> CliError {
        let own_timeout = matches!(self.args.timeout, Some(Timeout::After(limit)) if elapsed >= limit);
        self.connection.error(error, own_timeout).with_elapsed(elapsed)
    }
}

const USAGE: &str =
    "it is \"procbridge call ENDPOINT METHOD [PAYLOAD]\", as in \"procbridge call :8000 sum '[1,2]'\"";
