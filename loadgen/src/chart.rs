//! A chart of latency over time, in SVG.

use std::{fmt::Write, time::Duration};

use crate::timeline::{Interval, Timeline};

/// Draws the median, the 99th percentile and the maximum of each interval on a logarithmic scale.
pub fn draw(title: &str, timeline: &Timeline) -> String {
    let intervals: Vec<Interval> = timeline.intervals().collect();
    let highest = intervals.iter().map(|interval| interval.max_us).fold(1.0, f64::max);
    let lowest = intervals.iter().map(|interval| interval.p50_us).fold(highest, f64::min);
    let scale = Scale {
        low: lowest.max(0.1).log10().floor(),
        high: highest.log10().ceil().max(lowest.max(0.1).log10().floor() + 1.0),
        seconds: intervals.last().map_or(1.0, |interval| interval.at.as_secs_f64()),
    };
    let mut body = scale.grid();
    body += &scale.line(0, ["p50", "#0f766e"], intervals.iter().map(|interval| (interval.at, interval.p50_us)));
    body += &scale.line(1, ["p99", "#c2410c"], intervals.iter().map(|interval| (interval.at, interval.p99_us)));
    body += &scale.line(2, ["max", "#94a3b8"], intervals.iter().map(|interval| (interval.at, interval.max_us)));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-weight=\"bold\">{}: latency over time</text>\n{body}</svg>\n",
        escaped(title)
    )
}

/// Maps time and latency to coordinates.
struct Scale {
    /// The exponents of the lowest and highest power of ten, in microseconds.
    low: f64,
    high: f64,
    seconds: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (RIGHT - LEFT)
    }

    fn y(&self, micros: f64) -> f64 {
        let height = (micros.max(0.1).log10() - self.low) / (self.high - self.low);
        BOTTOM - height * (BOTTOM - TOP)
    }

    /// Draws line `number`, with its name in the legend.
    fn line(&self, number: u8, [name, color]: [&str; 2], values: impl Iterator<Item = (Duration, f64)>) -> String {
        let points: Vec<String> =
            values.map(|(at, micros)| format!("{:.1},{:.1}", self.x(at.as_secs_f64()), self.y(micros))).collect();
        format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>\
             <text x=\"{}\" y=\"22\" fill=\"{color}\">{name}</text>\n",
            points.join(" "),
            RIGHT - 160.0 + f64::from(number) * 60.0
        )
    }

    /// Draws a grid line for each power of ten, and the times at both ends.
    fn grid(&self) -> String {
        let mut out = String::new();
        for power in self.low as i32..=self.high as i32 {
            let (micros, y) = (10f64.powi(power), self.y(10f64.powi(power)));
            let label = if micros >= 1000.0 { format!("{} ms", micros / 1000.0) } else { format!("{micros} µs") };
            // Writing to a String does not fail.
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"#e2e8f0\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{}\">0 s</text><text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">{:.1} s</text>",
            BOTTOM + 18.0,
            BOTTOM + 18.0,
            self.seconds
        );
        out
    }
}

/// Escapes text for XML: a route comes from the command line and may contain any character.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 800.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 325.0;
