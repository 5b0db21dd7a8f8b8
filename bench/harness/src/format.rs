//! Numbers for people.

use crate::goals::Bound;

/// Returns three digits that count, thousands apart: `0.123`, `1.23`, `12.3`, `123`, `1,234`.
pub(crate) fn number(figure: f64) -> String {
    let size = figure.abs();
    if size >= 1000.0 {
        grouped(figure.round())
    } else if size >= 100.0 {
        format!("{figure:.0}")
    } else if size >= 10.0 {
        format!("{figure:.1}")
    } else if size >= 1.0 || size == 0.0 {
        format!("{figure:.2}")
    } else {
        format!("{figure:.3}")
    }
}

fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if figure < 0.0 { format!("-{text}") } else { text }
}

/// Returns a count in a few signs: `940`, `12 k`, `1.2 M`.
pub(crate) fn short(figure: f64) -> String {
    let (value, unit) = match figure {
        1e6.. => (figure / 1e6, " M"),
        1e4.. => (figure / 1e3, " k"),
        // A round number, as axes have them.
        1e3.. if figure % 1e3 == 0.0 => (figure / 1e3, " k"),
        _ if figure.fract() == 0.0 && figure < 1e3 => return format!("{figure:.0}"),
        _ => return number(figure),
    };
    if value >= 10.0 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}").replace(".0 ", " ") }
}

/// Returns a bound as text: `<= 1.15`.
pub(crate) fn bound(bound: Bound) -> String {
    match bound {
        Bound::AtMost(most) => format!("<= {}", number(most)),
        Bound::AtLeast(least) => format!(">= {}", number(least)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let texts: Vec<_> = [0.0, 0.1234, 1.234, 12.34, 123.4, 1234.6, 1_234_567.0].map(number).into();
        assert_eq!(texts, ["0.00", "0.123", "1.23", "12.3", "123", "1,235", "1,234,567"]);
    }

    #[test]
    fn counts_are_short() {
        assert_eq!(
            [10.0, 12.6, 2000.0, 1845.0, 12_345.0, 1_250_000.0, 898_000.0].map(short),
            ["10", "12.6", "2 k", "1,845", "12 k", "1.2 M", "898 k"]
        );
    }
}
