//! Two kinds of drawings as SVG: bars, and lines over logarithmic axes. They follow the reader's light or dark theme.

use std::fmt::Write;

use crate::format::short;

/// The kind of system that a row or a line belongs to; it decides the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Limit,
    Ours,
    Neighbour,
}

/// One bar with its spread.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// The 99th percentile or another figure that is marked behind the bar's end.
    pub(crate) mark: Option<f64>,
    pub(crate) whose: Whose,
}

/// One line, its points from left to right.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) whose: Whose,
}

/// An axis with logarithmic steps.
pub(crate) struct Axis {
    pub(crate) title: String,
    pub(crate) ticks: Vec<(f64, String)>,
}

const WIDTH: f64 = 780.0;
const STYLE: &str = "
    .paper { fill: #ffffff } .grid { stroke: #e3e8ef } .axis { stroke: #9aa7b8 }
    text { font: 13px ui-sans-serif, system-ui, \"Segoe UI\", \"Helvetica Neue\", Arial, sans-serif; fill: #1b2430 }
    .title { font-size: 16px; font-weight: 600 } .small { font-size: 12px; fill: #5b6675 } .mine { font-weight: 600 }
    .ours { fill: #1f5fbf } .limit { fill: #8a94a3 } .neighbour { fill: #d9a25f } .mark { stroke: #1b2430; stroke-width: 1.5 }
    .line { fill: none; stroke-width: 2 } .s0 { stroke: #1f5fbf; stroke-width: 3 } .s1 { stroke: #2a9d8f; stroke-width: 3 }
    .s2 { stroke: #7b4fc9; stroke-width: 3 } .s3 { stroke: #8a94a3; stroke-dasharray: 6 4 } .s4 { stroke: #c8553d }
    .s5 { stroke: #d9a25f } .s6 { stroke: #a3527a } .s7 { stroke: #6b8e23 } .s8 { stroke: #b08968 }
    .d0 { fill: #1f5fbf } .d1 { fill: #2a9d8f } .d2 { fill: #7b4fc9 } .d3 { fill: #8a94a3 } .d4 { fill: #c8553d }
    .d5 { fill: #d9a25f } .d6 { fill: #a3527a } .d7 { fill: #6b8e23 } .d8 { fill: #b08968 }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #12171e } .grid { stroke: #28313d } .axis { stroke: #5d6b7d } .mark { stroke: #e4eaf2 }
      text { fill: #e4eaf2 } .small { fill: #a3afbf } .ours, .d0 { fill: #74aaff } .s0 { stroke: #74aaff }
      .s1 { stroke: #5fd0c2 } .d1 { fill: #5fd0c2 } .s2 { stroke: #b08cff } .d2 { fill: #b08cff }
    }
";

/// Panels of bars, each with a title and a scale of its own.
pub(crate) fn bars(title: &str, under: &str, panels: &[(String, Vec<Bar>)]) -> String {
    const LEFT: f64 = 190.0;
    const RIGHT: f64 = 110.0;
    const STEP: f64 = 24.0;
    let rows: usize = panels.iter().map(|(_, bars)| bars.len()).sum();
    let height = 78.0 + rows as f64 * STEP + panels.len() as f64 * 44.0;
    let mut body = String::new();
    let mut y = 64.0;
    for (name, bars) in panels {
        text(&mut body, 20.0, y + 16.0, "mine", "start", name);
        y += 28.0;
        // The bars have the room; a mark far behind them stands at the edge.
        let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max) * 1.25;
        let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * (value / longest).min(1.0);
        for bar in bars {
            let kind = match bar.whose {
                Whose::Ours => "ours",
                Whose::Limit => "limit",
                Whose::Neighbour => "neighbour",
            };
            let mine = if bar.whose == Whose::Ours { "mine" } else { "" };
            text(&mut body, LEFT - 10.0, y + 14.0, mine, "end", &bar.label);
            let width = x(bar.value) - LEFT;
            let _ = writeln!(
                body,
                r#"  <rect class="{kind}" x="{LEFT}" y="{:.1}" width="{width:.1}" height="{:.1}" rx="2"/>"#,
                y + 3.0,
                STEP - 8.0
            );
            let mut end = x(bar.value);
            if let Some(mark) = bar.mark {
                let _ = writeln!(
                    body,
                    r#"  <path class="mark" d="M{:.1} {:.1}H{:.1}M{:.1} {:.1}v8"/>"#,
                    end,
                    y + 11.0,
                    x(mark),
                    x(mark),
                    y + 7.0
                );
                end = end.max(x(mark));
            }
            let value = match bar.mark {
                Some(mark) => format!("{} / {}", short(bar.value), short(mark)),
                None => short(bar.value),
            };
            text(&mut body, end + 8.0, y + 15.0, "small", "start", &value);
            y += STEP;
        }
        y += 16.0;
    }
    document(title, under, height, &body)
}

/// Lines over two logarithmic axes, each named at its right end.
pub(crate) fn lines(title: &str, under: &str, across: &Axis, up: &Axis, lines: &[Line]) -> String {
    const LEFT: f64 = 76.0;
    const RIGHT: f64 = 236.0;
    const TOP: f64 = 98.0;
    const HEIGHT: f64 = 480.0;
    const BOTTOM: f64 = HEIGHT - 56.0;
    let place = |axis: &Axis, value: f64| {
        let (least, most) = ends(axis);
        ((value / least).ln() / (most / least).ln()).clamp(0.0, 1.0)
    };
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * place(across, value);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * place(up, value);
    let mut body = String::new();
    for (value, label) in &up.ticks {
        let at = y(*value);
        let _ = writeln!(
            body,
            r#"  <line class="grid" x1="{LEFT}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}"/>"#,
            WIDTH - RIGHT
        );
        text(&mut body, LEFT - 8.0, at + 4.0, "small", "end", label);
    }
    for (value, label) in &across.ticks {
        let at = x(*value);
        let _ =
            writeln!(body, r#"  <line class="grid" x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{BOTTOM}"/>"#);
        text(&mut body, at, BOTTOM + 18.0, "small", "middle", label);
    }
    let _ = writeln!(
        body,
        r#"  <path class="axis" fill="none" d="M{LEFT} {TOP}V{BOTTOM}H{:.1}"/>"#,
        WIDTH - RIGHT
    );
    text(&mut body, (LEFT + WIDTH - RIGHT) / 2.0, BOTTOM + 40.0, "small", "middle", &across.title);
    text(&mut body, 20.0, TOP - 12.0, "small", "start", &up.title);

    let mut names: Vec<(f64, usize)> = Vec::new();
    let mut colours: Vec<usize> = Vec::new();
    let mut others = 0;
    for (at, line) in lines.iter().enumerate() {
        let colour = match line.whose {
            Whose::Limit => 3,
            // The same in all drawings.
            Whose::Ours if line.label.ends_with("tokio") => 0,
            Whose::Ours if line.label.ends_with("blocking") => 1,
            Whose::Ours => 2,
            Whose::Neighbour => 4 + (others, others += 1).0 % 5,
        };
        colours.push(colour);
        let points: Vec<String> =
            line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        let _ = writeln!(body, r#"  <polyline class="line s{colour}" points="{}"/>"#, points.join(" "));
        for (px, py) in &line.points {
            let _ = writeln!(
                body,
                r#"  <circle class="d{colour}" cx="{:.1}" cy="{:.1}" r="3"/>"#,
                x(*px),
                y(*py)
            );
        }
        if let Some((_, last)) = line.points.last() {
            names.push((y(*last), at));
        }
    }
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let wanted: Vec<f64> = names.iter().map(|(at, _)| *at).collect();
    for ((wanted, at), name_y) in names.iter().zip(apart(&wanted, 17.0, BOTTOM)) {
        let (line, colour) = (&lines[*at], colours[*at]);
        let from = line.points.last().map_or(0.0, |(px, _)| x(*px));
        let _ = writeln!(
            body,
            r#"  <path class="axis" fill="none" d="M{:.1} {wanted:.1}L{:.1} {name_y:.1}"/>"#,
            from + 5.0,
            WIDTH - RIGHT + 16.0
        );
        let _ = writeln!(
            body,
            r#"  <circle class="d{colour}" cx="{:.1}" cy="{name_y:.1}" r="4"/>"#,
            WIDTH - RIGHT + 20.0
        );
        let mine = if line.whose == Whose::Ours { "mine" } else { "" };
        text(&mut body, WIDTH - RIGHT + 30.0, name_y + 4.0, mine, "start", &line.label);
    }
    document(title, under, HEIGHT, &body)
}

/// Places at least `step` from each other, near those wanted, none below `bottom`. `wanted` is sorted.
fn apart(wanted: &[f64], step: f64, bottom: f64) -> Vec<f64> {
    let mut places: Vec<f64> = wanted.to_vec();
    for at in 1..places.len() {
        places[at] = places[at].max(places[at - 1] + step);
    }
    let mut lowest = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(lowest);
        lowest = *place - step;
    }
    places
}

fn ends(axis: &Axis) -> (f64, f64) {
    let values = || axis.ticks.iter().map(|(value, _)| *value);
    (values().fold(f64::MAX, f64::min), values().fold(f64::MIN_POSITIVE, f64::max))
}

/// Powers of ten, and where there are few of them their doubles and fives, around all figures.
pub(crate) fn ticks(figures: impl Iterator<Item = f64>, label: fn(f64) -> String) -> Vec<(f64, String)> {
    let (mut least, mut most) = (f64::MAX, f64::MIN_POSITIVE);
    for figure in figures.filter(|figure| *figure > 0.0) {
        (least, most) = (least.min(figure), most.max(figure));
    }
    if least > most {
        (least, most) = (1.0, 10.0);
    }
    let steps: &[f64] = if (most / least).log10() > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> =
        (-3..12).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power))).collect();
    let first = all.iter().rposition(|tick| *tick <= least).unwrap_or(0);
    let last = all.iter().position(|tick| *tick >= most).unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1)].iter().map(|tick| (*tick, label(*tick))).collect()
}

fn text(body: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(r#" class="{class}""#) };
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, r#"  <text{class} x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

fn document(title: &str, under: &str, height: f64, body: &str) -> String {
    let mut head = String::new();
    text(&mut head, 20.0, 30.0, "title", "start", title);
    text(&mut head, 20.0, 50.0, "small", "start", under);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n  <!-- made by scripts/bench -->\n  <style>{STYLE}  </style>\n  \
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{head}{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_around_the_figures() {
        let values = |figures: &[f64]| -> Vec<f64> {
            ticks(figures.iter().copied(), short).into_iter().map(|(value, _)| value).collect()
        };
        assert_eq!(values(&[12.0, 90.0]), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(values(&[9.0, 90_000.0]), [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0]);
        assert_eq!(values(&[]), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn names_do_not_cover_each_other() {
        assert_eq!(apart(&[10.0, 12.0, 50.0], 10.0, 100.0), [10.0, 20.0, 50.0]);
        assert_eq!(apart(&[95.0, 99.0], 10.0, 100.0), [90.0, 100.0]);
    }
}
