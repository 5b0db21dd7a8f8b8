//! `procbridge emit`: a topic and a payload become a call of the method that publishes.

use serde_json::value::RawValue;

use crate::args::emit::EmitArgs;
use crate::args::target::Target;
use crate::args::utf8::into_utf8;
use crate::client::connect::{ConnectOptions, Connection};
use crate::client::interrupt::Interrupt;
use crate::client::print;
use crate::error::CliError;
use crate::input::payload;
use crate::json::envelope;
use crate::json::object::Object;
use crate::terminal::stdout;

/// Publishes an event and prints what the method answers.
pub(crate) fn run(args: &EmitArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.output.json)?;
    let words = args.first.iter().chain(&args.second).chain(&args.rest).cloned().collect();
    let Target { endpoint, words, assumed } = Target::of(words, "topic", USAGE)?;
    let mut words = words.into_iter();
    let Some(topic) = words.next().map(into_utf8).transpose()? else {
        return Err(CliError::usage(format!("no topic to publish at {endpoint}")).with_hint(USAGE));
    };
    let words: Vec<_> = words.collect();
    let payload = payload::read(&words, args.connect.max_body).map_err(|failure| match assumed {
        Some(reason) => failure.with_hint(reason),
        None => failure,
    })?;
    let event = Object::new().string("topic", topic.as_str());
    let event = event.member("payload", payload.as_deref().map_or("null", RawValue::get)).finish();
    let event = RawValue::from_string(event)
        .map_err(|error| CliError::usage(format!("the event is not JSON: {error}")))?;

    let connection =
        Connection::new(&endpoint, &args.connect, ConnectOptions::with_timeout(args.timeout), &interrupt)?;
    let asked = connection.ask(&args.method, Some(&event), args.timeout);
    let elapsed = asked.elapsed;
    let answer = asked.or_error(&connection).map_err(|failure| match failure.code() {
        Some(procbridge::code::UNKNOWN_METHOD) => {
            failure.with_hint("--method names the method that publishes there")
        }
        _ => failure,
    })?;
    if args.output.json {
        return stdout::write_envelope(envelope::success(answer.get(), elapsed).finish(), 0);
    }
    print::print_result(&args.output, answer.get())
}

const USAGE: &str =
    "it is \"procbridge emit ENDPOINT TOPIC [PAYLOAD]\", as in \"procbridge emit :8000 build.done 42\"";
