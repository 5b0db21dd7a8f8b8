//! Formats durations.

use std::time::Duration;

/// Formats `time` with three significant digits and a unit, such as `1.23 ms`.
pub(crate) fn format_duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (number, unit) = match seconds {
        ..0.001 => (seconds * 1e6, "us"),
        ..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let digits = match number {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_few_digits() {
        for (nanos, text) in [
            (1, "0.00 us"),
            (83_400, "83.4 us"),
            (183_000, "183 us"),
            (1_234_000, "1.23 ms"),
            (999_000_000, "999 ms"),
            (12_345_000_000, "12.3 s"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
        }
    }
}
