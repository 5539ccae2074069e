//! Tables of the comparison, in Markdown.

use std::{collections::BTreeMap, fmt::Write};

use super::{child::name, measurement::Measurement, results::Results, workload::Workload};
use crate::peers::Peer;

/// Formats a table for each workload.
pub(crate) fn render(results: &Results) -> String {
    results
        .iter()
        .map(|(workload, measurements)| match workload {
            Workload::Idle { .. } => idle(*workload, measurements),
            _ => calls(*workload, measurements),
        })
        .collect()
}

fn calls(workload: Workload, measurements: &BTreeMap<Peer, Measurement>) -> String {
    let mut text = format!("\n### {}\n\n", workload.title());
    text += "| | calls/s | msnb has | p50 µs | p99 µs | p99.9 µs | server µs/call | client µs/call | errors |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    let msnb_rate = measurements.get(&Peer::Msnb).map_or(f64::NAN, |msnb| msnb.rate);
    for (peer, measurement) in measurements {
        let Measurement { rate, errors, p50_us, p99_us, p999_us, server_us, client_us, .. } = measurement;
        let ratio = number(msnb_rate / rate, 2) + " ×";
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| {} | {rate:.0} | {ratio} | {p50_us:.1} | {p99_us:.1} | {p999_us:.1} | {} | {} | {errors} |",
            name(*peer),
            number(*server_us, 2),
            number(*client_us, 2),
        );
    }
    text
}

fn idle(workload: Workload, measurements: &BTreeMap<Peer, Measurement>) -> String {
    let mut text = format!(
        "\n### {}\n\n| | bytes per connection at the server | at the client |\n|---|--:|--:|\n",
        workload.title()
    );
    for (peer, measurement) in measurements {
        let _ =
            writeln!(text, "| {} | {:.0} | {:.0} |", name(*peer), measurement.server_bytes, measurement.client_bytes);
    }
    text
}

fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "–".to_owned() }
}
