//! Durations, written as a number and a unit.

use std::time::Duration;

/// Parses `200ms`, `1.5s`, `2m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_interval(text)?;
    if duration < Duration::from_millis(1) {
        return Err("too short, the least is 1ms".to_string());
    }
    Ok(duration)
}

/// Parses a duration that may be `0s`.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if number.is_empty() => return Err("expected a number and a unit, as in 200ms or 5s".to_string()),
        "" => return Err(format!("no unit; write {number}ms, {number}s or {number}m")),
        _ => return Err(format!("expected a number with the unit ms, s, m or h, found the unit {unit:?}")),
    };
    scaled(number, seconds)
}

/// Parses a duration that may have microseconds, as in `150us`.
pub(crate) fn parse_threshold(text: &str) -> Result<Duration, String> {
    let duration = match split(text) {
        (number, "us") => scaled(number, 0.000_001)?,
        _ => parse_interval(text)?,
    };
    if duration.is_zero() { Err("too short, the least is 1us".to_string()) } else { Ok(duration) }
}

fn scaled(number: &str, seconds: f64) -> Result<Duration, String> {
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "too long".to_string())
}

/// Splits a text into its number and its unit.
pub(crate) fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::timeout::{Timeout, parse_timeout};

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_timeout("none"), Ok(Timeout::Never));
        assert_eq!(parse_duration("5").unwrap_err(), "no unit; write 5ms, 5s or 5m");
        for wrong in ["", "s", "-1s", "0s", "1.2.3s", "5sec", "99999999999999999999h", "None"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            (parse_interval("0s"), parse_threshold("150us")),
            (Ok(Duration::ZERO), Ok(Duration::from_micros(150)))
        );
        assert!(
            parse_interval("1us").is_err()
                && parse_threshold("0us").is_err()
                && parse_threshold("us").is_err()
        );
    }
}
