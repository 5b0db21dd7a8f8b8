//! The demo methods of `procbridge serve --demo`.

use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Call, Hub, ItemSink, ReplyError, Router, code};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::serve::logger;

/// The payload of `count`.
#[derive(Debug, Deserialize, JsonSchema)]
struct CountPayload {
    /// The number of items.
    n: u64,
    /// The pause before each item.
    #[serde(default)]
    interval_ms: u64,
}

/// The payload of `call_me`.
#[derive(Debug, Deserialize, JsonSchema)]
struct CallMePayload {
    /// The method of the caller.
    method: String,
    /// The payload of the method.
    #[serde(default)]
    #[schemars(with = "Value")]
    payload: Option<Box<RawValue>>,
}

/// The payload of `publish`.
#[derive(Debug, Deserialize, JsonSchema)]
struct PublishPayload {
    /// The topic: segments separated by dots.
    topic: String,
    /// The payload of the event.
    #[serde(default)]
    #[schemars(with = "Value")]
    payload: Option<Box<RawValue>>,
}

/// Returns the router of the demo methods.
pub(crate) fn router() -> Router {
    let hub = Hub::new();
    let publisher = hub.clone();
    Router::new()
        .layer(|call, next| {
            logger::log_call(call);
            next.run()
        })
        .method("echo", |payload: Box<RawValue>| payload)
        .describe("echo", "Answers the payload, unchanged.")
        .schema::<Value, Value>("echo")
        .method("sum", |payload: Box<RawValue>| sum(payload.get()))
        .describe("sum", "Adds the numbers of an array. Whole numbers are added exactly.")
        .schema::<Vec<f64>, f64>("sum")
        .method("err", || -> Answer { Err(ReplyError::new("generated error")) })
        .describe("err", "Always answers the error \"generated error\".")
        .method("sleep", |call: &Call, payload: Box<RawValue>| sleep(call, payload.get()))
        .describe("sleep", "Answers null after a number of seconds.")
        .schema::<f64, ()>("sleep")
        .stream("count", count)
        .describe("count", "Streams the numbers from 0 to n-1, interval_ms apart.")
        .schema::<CountPayload, u64>("count")
        .method("call_me", call_me)
        .describe("call_me", "Calls a method of the caller, and answers its result.")
        .schema::<CallMePayload, Value>("call_me")
        .method("publish", move |event: PublishPayload| -> Result<usize, ReplyError> {
            let payload = event.payload.as_deref().unwrap_or(RawValue::NULL);
            Ok(publisher.publish(&event.topic, payload)?)
        })
        .describe("publish", "Publishes an event, and answers the number of subscribers of its topic.")
        .schema::<PublishPayload, usize>("publish")
        .events(&hub)
        .fallback(|_, _: Box<RawValue>| null())
}

type Answer = Result<Box<RawValue>, ReplyError>;

fn null() -> Answer {
    Ok(RawValue::NULL.to_owned())
}

/// Streams numbers. Sending fails when the caller has cancelled or gone, which ends the stream.
fn count(
    call: &Call,
    CountPayload { n, interval_ms }: CountPayload,
    items: &mut ItemSink,
) -> Result<(), ReplyError> {
    for number in 0..n {
        pause(call, Duration::from_millis(interval_ms))?;
        items.send(&number)?;
    }
    Ok(())
}

fn call_me(call: &Call, CallMePayload { method, payload }: CallMePayload) -> Answer {
    Ok(call.session()?.request(&method, &payload)?)
}

/// Adds whole numbers exactly, as far as 128 bits go. With any other number the sum is a float.
fn sum(payload: &str) -> Answer {
    let numbers: Vec<&RawValue> =
        serde_json::from_str(payload).map_err(|_| invalid("expected an array of numbers".to_string()))?;
    let numbers = numbers.iter().map(|number| number.get());
    let whole = numbers.clone().try_fold(0_i128, |sum, number| sum.checked_add(number.parse().ok()?));
    if let Some(sum) = whole {
        return Ok(RawValue::from_string(sum.to_string())?);
    }
    // Starting at 0.0 would lose the sign of -0.0.
    let mut sum = -0.0_f64;
    for (at, number) in numbers.enumerate() {
        let number: f64 = serde_json::from_str(number)
            .map_err(|_| invalid(format!("element {at} is not a number that a float can hold")))?;
        sum += number;
    }
    if !sum.is_finite() {
        return Err(invalid("the sum is too large for a float".to_string()));
    }
    Ok(serde_json::value::to_raw_value(&sum)?)
}

/// Sleeps for a number of seconds, or until the call is cancelled.
fn sleep(call: &Call, payload: &str) -> Answer {
    let seconds = serde_json::from_str(payload).ok();
    let length = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| invalid("expected a number of seconds, 0 or more".to_string()))?;
    pause(call, length)?;
    null()
}

fn pause(call: &Call, length: Duration) -> Result<(), ReplyError> {
    let started = Instant::now();
    while let Some(left) = length.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        if call.is_cancelled() {
            return Err(ReplyError::new("the call was cancelled").with_code(code::CANCELLED));
        }
        thread::sleep(left.min(CANCEL_CHECK_INTERVAL));
    }
    Ok(())
}

fn invalid(reason: String) -> ReplyError {
    ReplyError::new(reason).with_code(code::INVALID_PAYLOAD)
}

/// The interval in which a sleeping call checks for a cancel.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_added_exactly() {
        let added = |payload: &str| {
            sum(payload).map(|sum| sum.get().to_string()).map_err(|error| error.code().map(str::to_string))
        };
        assert_eq!(added("[]").unwrap(), "0");
        assert_eq!(added("[1,2,-4]").unwrap(), "-1");
        assert_eq!(added("[9007199254740993,18446744073709551616]").unwrap(), "18455751272964292609");
        assert_eq!(added("[1,2.5]").unwrap(), "3.5");
        assert_eq!(added("[1e2]").unwrap(), "100.0");
        let two_to_the_128 = "340282366920938463463374607431768211456";
        assert_eq!(added(&format!("[{two_to_the_128}]")).unwrap(), "3.402823669209385e+38");
        for wrong in ["null", "{}", "3", "[\"1\"]", "[null]", "[1,[]]", "[1e308,1e308]", "[1e999]"] {
            assert_eq!(added(wrong).unwrap_err().as_deref(), Some(code::INVALID_PAYLOAD), "{wrong}");
        }
    }
}
