//! A bar chart of the comparison, in SVG.

use std::{collections::BTreeMap, fmt::Write};

use super::{child::name, measurement::Measurement, results::Results, workload::Workload};
use crate::peers::Peer;

/// Draws a group of bars for each workload. The title states whether lower or higher values are better.
pub(crate) fn draw(results: &Results) -> String {
    let (mut body, mut y) = (String::new(), MARGIN);
    for (workload, measurements) in results {
        y = group(&mut body, y, *workload, measurements);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Draws one workload from `y` downwards and returns the y coordinate of its end.
fn group(out: &mut String, mut y: usize, workload: Workload, measurements: &BTreeMap<Peer, Measurement>) -> usize {
    let (unit, value) = selected_value(workload);
    let longest = measurements.values().map(value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    // Writing to a String does not fail.
    let _ =
        writeln!(out, "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{}: {unit}</text>", y + 13, workload.title());
    y += LINE;
    for (peer, measurement) in measurements {
        let value = value(measurement);
        if !value.is_finite() {
            continue;
        }
        let (length, baseline) = (value / longest * BAR as f64, y + 13);
        let color = if *peer == Peer::Msnb { "#c2410c" } else { "#94a3b8" };
        let _ = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"{baseline}\">{}</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" \
             fill=\"{color}\"/><text x=\"{:.1}\" y=\"{baseline}\">{}</text>",
            name(*peer),
            y + 2,
            LINE - 6,
            LEFT as f64 + length + 6.0,
            grouped(value),
        );
        y += LINE;
    }
    y + LINE / 2
}

/// Returns the drawn value of a workload, with its unit.
fn selected_value(workload: Workload) -> (&'static str, fn(&Measurement) -> f64) {
    match workload {
        Workload::Closed { inflight: 1, .. } => ("p50 in µs (lower is better)", |measurement| measurement.p50_us),
        Workload::Closed { .. } => ("calls/s (higher is better)", |measurement| measurement.rate),
        Workload::Beside { .. } => ("p99 in µs (lower is better)", |measurement| measurement.p99_us),
        Workload::Half | Workload::Same => ("p99.9 in µs (lower is better)", |measurement| measurement.p999_us),
        Workload::Idle { .. } => {
            ("bytes per connection at the server (lower is better)", |measurement| measurement.server_bytes)
        }
    }
}

/// Formats 1234567 as `1 234 567`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

const WIDTH: usize = 820;
const MARGIN: usize = 16;
const LEFT: usize = 110;
const BAR: usize = 580;
const LINE: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouped_separates_thousands() {
        assert_eq!([0.4, 12.0, 999.6, 1234567.0].map(grouped), ["0", "12", "1 000", "1 234 567"]);
    }
}
