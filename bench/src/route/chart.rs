//! A chart of a run, in SVG: the share of each provider, and the latency of all calls.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use loadgen::Latencies;

use super::{record::Run, scenario::Scenario};

/// Draws the share of each provider in the attempts, and below it median and 99th percentile on a logarithmic scale.
pub(super) fn draw(scenario: Scenario, run: &Run) -> String {
    let windows = windows(scenario, run);
    let seconds = scenario.length().as_secs_f64();
    let shares = Panel { top: 40.0, bottom: 190.0, low: 0.0, high: 1.0, seconds };
    let latencies = Panel { top: 225.0, bottom: 375.0, low: 0.0, high: 3.5, seconds };
    let mut body = String::new();
    for share in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
        body += &shares.grid(share, &format!("{:.0} %", share * 100.0));
    }
    for (number, address) in run.providers.iter().enumerate().rev() {
        let share = |window: &Window| window.share(*address);
        let points = windows.iter().map(|window| (window.at, share(window)));
        body += &shares.line(points, color(number), if number == 0 { 2.0 } else { 1.0 });
    }
    for (power, label) in [(0.0, "1 ms"), (1.0, "10 ms"), (2.0, "100 ms"), (3.0, "1 s")] {
        body += &latencies.grid(power, label);
    }
    for (quantile, color) in [(0.5, "#0f766e"), (0.99, "#c2410c")] {
        let log = |window: &Window| (window.latencies.micros_at(quantile) / 1000.0).max(1.0).log10();
        let answered = windows.iter().filter(|window| !window.latencies.is_empty());
        body += &latencies.line(answered.map(|window| (window.at, log(window))), color, 1.5);
    }
    for event in scenario.events() {
        let x = shares.x(event.at.as_secs_f64());
        let _ = writeln!(body, "<path d=\"M{x:.1} 40V375\" stroke=\"#94a3b8\" stroke-dasharray=\"3 3\"/>");
    }
    for second in (0..=scenario.length().as_secs()).step_by(5) {
        let x = shares.x(second as f64);
        let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"393\" text-anchor=\"middle\">{second} s</text>");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"820\" height=\"400\" viewBox=\"0 0 820 400\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"none\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <g fill=\"#0f172a\"><text x=\"{LEFT}\" y=\"22\" font-weight=\"bold\">{}: {}</text>\n\
         <text x=\"{LEFT}\" y=\"218\">latency: p50 green, p99 red</text>\n{body}</g></svg>\n",
        run.name,
        scenario.title()
    )
}

/// The calls in one window of time.
#[derive(Default)]
struct Window {
    at: Duration,
    attempts: Vec<SocketAddr>,
    latencies: Latencies,
}

impl Window {
    /// Returns the part of the attempts that a provider received.
    fn share(&self, address: SocketAddr) -> f64 {
        let own = self.attempts.iter().filter(|at| **at == address).count();
        own as f64 / self.attempts.len().max(1) as f64
    }
}

fn windows(scenario: Scenario, run: &Run) -> Vec<Window> {
    let count = scenario.length().as_millis().div_ceil(WINDOW.as_millis()) as u32;
    let mut windows: Vec<_> = (0..count).map(|number| Window { at: WINDOW * number, ..Window::default() }).collect();
    for record in &run.records {
        let Some(window) = windows.get_mut((record.at.as_millis() / WINDOW.as_millis()) as usize) else { continue };
        window.attempts.extend(&record.attempts);
        if !record.has_failed {
            window.latencies.record(record.latency);
        }
    }
    windows
}

/// Maps times and values to coordinates.
struct Panel {
    top: f64,
    bottom: f64,
    low: f64,
    high: f64,
    seconds: f64,
}

impl Panel {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)
    }

    fn line(&self, points: impl Iterator<Item = (Duration, f64)>, color: &str, width: f64) -> String {
        let points: Vec<_> =
            points.map(|(at, value)| format!("{:.0},{:.0}", self.x(at.as_secs_f64()), self.y(value))).collect();
        format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"/>\n",
            points.join(" ")
        )
    }

    fn grid(&self, value: f64, label: &str) -> String {
        let y = self.y(value);
        format!(
            "<path d=\"M{LEFT} {y:.0}H{RIGHT}\" stroke=\"#e2e8f0\"/><text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>\n",
            LEFT - 6.0,
            y + 4.0
        )
    }
}

/// Returns the color of a provider; the first one, which fails, has one of its own.
fn color(number: usize) -> &'static str {
    match number {
        0 => "#dc2626",
        _ => ["#1d4ed8", "#0891b2", "#7c3aed", "#4d7c0f", "#b45309", "#be185d"][(number - 1) % 6],
    }
}

const LEFT: f64 = 60.0;
const RIGHT: f64 = 800.0;
/// The time over which the chart counts calls.
const WINDOW: Duration = Duration::from_millis(500);
