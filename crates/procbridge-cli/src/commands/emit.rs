//! `procbridge emit`: a topic and a payload become a call of the method that publishes.

use serde_json::value::RawValue;

use crate::args::EmitArgs;
use crate::args::target::Target;
use crate::args::words;
use crate::client::connect::Reach;
use crate::client::connect::Wishes;
use crate::client::interrupt::Interrupt;
use crate::client::print;
use crate::error::Failure;
use crate::input::payload;
use crate::json::layout::Object;
use crate::terminal::stdout;

/// Publishes an event and prints what the method answers.
pub(crate) fn run(args: &EmitArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::listen(args.shape.json)?;
    let words = args.first.iter().chain(&args.second).chain(&args.rest).cloned().collect();
    let Target { endpoint, words, assumed } = Target::of(words, "topic", USAGE)?;
    let mut words = words.into_iter();
    let Some(topic) = words.next().map(words::text).transpose()? else {
        return Err(Failure::usage(format!("no topic to publish at {endpoint}")).with_help(USAGE));
    };
    let words: Vec<_> = words.collect();
    let payload = payload::read(&words, args.reach.max_body).map_err(|failure| match assumed {
        Some(reason) => failure.with_help(reason),
        None => failure,
    })?;
    let event = Object::new().string("topic", topic.as_str());
    let event = event.member("payload", payload.as_deref().map_or("null", RawValue::get)).finish();
    let event = RawValue::from_string(event)
        .map_err(|error| Failure::usage(format!("the event is not JSON: {error}")))?;

    let reach = Reach::new(&endpoint, &args.reach, Wishes::within(args.timeout), &interrupt)?;
    let asked = reach.ask(&args.method, Some(&event), args.timeout);
    let elapsed = asked.elapsed;
    let answer = asked.or_failure(&reach).map_err(|failure| match failure.code() {
        Some(procbridge::code::UNKNOWN_METHOD) => {
            failure.with_help("--method names the method that publishes there")
        }
        _ => failure,
    })?;
    if args.shape.json {
        return stdout::conclude(print::envelope(answer.get(), elapsed).finish(), 0);
    }
    print::print(&args.shape, answer.get())
}

const USAGE: &str =
    "it is \"procbridge emit ENDPOINT TOPIC [PAYLOAD]\", as in \"procbridge emit :8000 build.done 42\"";
