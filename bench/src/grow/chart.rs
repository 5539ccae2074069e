//! [`Curve`]: the measurements along an axis, as a table in Markdown and as a chart in SVG.

use std::fmt::Write;

use super::axis::Axis;
use crate::compare::measurement::Measurement;

/// The measurements along an axis.
pub(crate) struct Curve {
    pub(crate) axis: Axis,
    pub(crate) points: Vec<(usize, Measurement)>,
}

impl Curve {
    /// Formats a table with a row for each point.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "\n| {} | calls/s | p50 µs | p99 µs | server µs/call | client µs/call | errors |\n",
            self.axis.title()
        );
        text += "|--:|--:|--:|--:|--:|--:|--:|\n";
        for (value, measurement) in &self.points {
            let Measurement { rate, p50_us, p99_us, server_us, client_us, errors, .. } = measurement;
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "| {value} | {rate:.0} | {p50_us:.1} | {p99_us:.1} | {server_us:.2} | {client_us:.2} | {errors} |"
            );
        }
        text
    }

    /// Draws one panel with logarithmic scales.
    fn panel(&self, out: &mut String, left: f64, top: f64) {
        let rates = || self.points.iter().map(|(_, measurement)| measurement.rate.max(1.0));
        let (low, high) =
            (rates().fold(f64::MAX, f64::min).log10().floor(), rates().fold(1.0, f64::max).log10().ceil());
        // Zero is drawn to the left of one.
        let position = |value: usize| (value as f64).max(0.5).log10();
        let [first, last] =
            [self.points.first(), self.points.last()].map(|point| point.map_or(0.0, |(value, _)| position(*value)));
        let x = |value: usize| left + (position(value) - first) / (last - first).max(f64::EPSILON) * WIDTH;
        let y = |rate: f64| top + HEIGHT - (rate.max(1.0).log10() - low) / (high - low).max(1.0) * HEIGHT;
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">calls/s by {}</text>",
            top - 8.0,
            self.axis.title()
        );
        for power in low as i32..=high as i32 {
            let at = y(10f64.powi(power));
            let _ = writeln!(
                out,
                "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" stroke=\"#e2e8f0\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">10^{power}</text>",
                left + WIDTH,
                left - 6.0,
                at + 4.0
            );
        }
        let line: Vec<String> = self
            .points
            .iter()
            .map(|(value, measurement)| format!("{:.1},{:.1}", x(*value), y(measurement.rate)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#c2410c\" stroke-width=\"1.5\"/>",
            line.join(" ")
        );
        for (value, measurement) in &self.points {
            let (x, y) = (x(*value), y(measurement.rate));
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"#c2410c\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"9\">{value}</text>",
                top + HEIGHT + 14.0
            );
        }
    }
}

/// Draws a panel for each curve, in two columns.
pub(crate) fn draw(curves: &[Curve]) -> String {
    let mut body = String::new();
    for (number, curve) in curves.iter().enumerate() {
        let (column, row) = (number % 2, number / 2);
        curve.panel(&mut body, MARGIN + column as f64 * (WIDTH + MARGIN), TOP + row as f64 * (HEIGHT + TOP + BELOW));
    }
    let width = 2.0 * (WIDTH + MARGIN) + 24.0;
    let height = curves.len().div_ceil(2) as f64 * (HEIGHT + TOP + BELOW);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 150.0;
const MARGIN: f64 = 56.0;
const TOP: f64 = 34.0;
const BELOW: f64 = 20.0;
