//! The comparison as bars, in SVG.

use std::{collections::BTreeMap, fmt::Write};

use super::{Results, child::name, figures::Figures, shape::Shape, table::title};
use crate::peers::Peer;

/// A group of bars for each job. Memory and latency are better short, rates are better long; the title says which.
pub(crate) fn draw(results: &Results) -> String {
    let (mut body, mut y) = (String::new(), MARGIN);
    for (shape, figures) in results {
        y = group(&mut body, y, *shape, figures);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Draws one job from `y` down; says where it ends.
fn group(out: &mut String, mut y: usize, shape: Shape, figures: &BTreeMap<Peer, Figures>) -> usize {
    let (what, value) = measure(shape);
    let longest = figures.values().map(value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    // Writing to a String does not fail.
    let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{}: {what}</text>", y + 13, title(shape));
    y += LINE;
    for (peer, its) in figures {
        let value = value(its);
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

/// What of a job is drawn.
fn measure(shape: Shape) -> (&'static str, fn(&Figures) -> f64) {
    match shape {
        Shape::Closed { inflight: 1, .. } => ("p50 in µs (short is good)", |figures| figures.p50_us),
        Shape::Closed { .. } => ("calls/s (long is good)", |figures| figures.rate),
        Shape::Beside { .. } => ("p99 in µs (short is good)", |figures| figures.p99_us),
        Shape::Half | Shape::Same => ("p99.9 in µs (short is good)", |figures| figures.p999_us),
        Shape::Idle { .. } => ("bytes each at the server (short is good)", |figures| figures.server_bytes),
    }
}

/// 1234567 as 1 234 567.
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
    fn digits_come_in_threes() {
        assert_eq!([0.4, 12.0, 999.6, 1234567.0].map(grouped), ["0", "12", "1 000", "1 234 567"]);
    }
}
