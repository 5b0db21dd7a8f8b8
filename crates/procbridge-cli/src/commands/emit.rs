//! `procbridge emit`: publishes an event through a method of the server.

use procbridge::code;
use serde_json::value::RawValue;

use crate::args::emit::EmitArgs;
use crate::args::target::Target;
use crate::args::utf8::into_utf8;
use crate::client::connect::{Connection, config_for};
use crate::client::interrupt::Interrupt;
use crate::client::print::print_result;
use crate::error::CliError;
use crate::input::json_text::parse_json;
use crate::input::payload::read_payload;
use crate::json::envelope;
use crate::json::object::Object;
use crate::terminal::stdout;

/// Publishes an event, and prints the method's answer.
pub(crate) fn run(args: &EmitArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.output.json)?;
    let words = args.first.iter().chain(&args.second).chain(&args.rest).cloned().collect();
    let target = Target::parse(words, "topic", USAGE)?;
    let Some((topic, words)) = target.words.split_first() else {
        return Err(CliError::usage(format!("no topic to publish at {}", target.endpoint)).with_hint(USAGE));
    };
    let topic = into_utf8(topic.clone())?;
    let payload = read_payload(words, args.connect.max_body).map_err(|error| target.explain(error))?;
    let event = Object::new().string("topic", topic.as_str());
    let event = event.member("payload", payload.as_deref().map_or("null", RawValue::get)).finish();
    let event = parse_json("the event", &event)?;

    let config = config_for(args.timeout);
    let connection = Connection::new(&target.endpoint, &args.connect, config, &interrupt)?;
    let (result, elapsed) = connection.call(&args.method, Some(&event), args.timeout);
    let answer = result.map_err(|error| {
        let error = connection.explain(error, elapsed, Some(args.timeout));
        match error.code() {
            Some(code::UNKNOWN_METHOD) => error.with_hint("name the method that publishes with --method"),
            _ => error,
        }
    })?;
    if args.output.json {
        return stdout::write_envelope(envelope::success(answer.get(), elapsed).finish(), 0);
    }
    print_result(&args.output, answer.get())
}

const USAGE: &str =
    "it is \"procbridge emit ENDPOINT TOPIC [PAYLOAD]\", as in \"procbridge emit :8000 build.done 42\"";
