//! The methods of `procbridge serve --demo`, to try clients with.

use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Call, Refusal, Router, code};
use serde_json::value::RawValue;

use crate::logger;

pub(crate) fn router() -> Router {
    Router::new()
        .method("echo", reported(|_, payload| Ok(payload)))
        .method("sum", reported(|_, payload| sum(payload.get())))
        .method("err", reported(|_, _| Err(Refusal::new("generated error"))))
        .method("sleep", reported(|call, payload| sleep(call, payload.get())))
        .fallback(reported(|_, _| null()))
}

type Answer = Result<Box<RawValue>, Refusal>;

/// A handler whose calls are reported.
fn reported(
    handler: impl Fn(&Call, Box<RawValue>) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Call, Box<RawValue>) -> Answer + Send + Sync + 'static {
    move |call, payload| {
        logger::call(call);
        handler(call, payload)
    }
}

fn null() -> Answer {
    Ok(RawValue::NULL.to_owned())
}

/// The sum of whole numbers exactly, as far as 128 bits go; with any other number among them, as a float.
fn sum(payload: &str) -> Answer {
    let numbers: Vec<&RawValue> =
        serde_json::from_str(payload).map_err(|_| invalid("expected an array of numbers".to_string()))?;
    let numbers = numbers.iter().map(|number| number.get());
    let whole = numbers.clone().try_fold(0_i128, |sum, number| sum.checked_add(number.parse().ok()?));
    if let Some(sum) = whole {
        return Ok(RawValue::from_string(sum.to_string())?);
    }
    let mut sum = 0.0_f64;
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

/// Waits a number of seconds, unless nobody waits for the answer any more.
fn sleep(call: &Call, payload: &str) -> Answer {
    let seconds = serde_json::from_str(payload).ok();
    let length = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| invalid("expected a number of seconds, 0 or more".to_string()))?;
    let started = Instant::now();
    while let Some(left) = length.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        if call.is_cancelled() {
            return Err(Refusal::new("nobody waits any more").with_code(code::CANCELLED));
        }
        thread::sleep(left.min(LOOK));
    }
    null()
}

fn invalid(reason: String) -> Refusal {
    Refusal::new(reason).with_code(code::INVALID_PAYLOAD)
}

/// How often a sleeping call looks whether it is still waited for.
const LOOK: Duration = Duration::from_millis(10);

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
