//! The comparison as tables in Markdown.

use std::{collections::BTreeMap, fmt::Write};

use super::{Results, child::name, figures::Figures, shape::Shape};
use crate::peers::Peer;

/// A table for each job.
pub(crate) fn render(results: &Results) -> String {
    results
        .iter()
        .map(|(shape, figures)| match shape {
            Shape::Idle { .. } => idle(*shape, figures),
            _ => calls(*shape, figures),
        })
        .collect()
}

/// What the job is, in words.
pub(crate) fn title(shape: Shape) -> String {
    match shape {
        Shape::Closed { conns, inflight, payload } => {
            format!("{conns} connection{}, {inflight} in flight, {}", if conns == 1 { "" } else { "s" }, bytes(payload))
        }
        Shape::Beside { bulk } => format!("1 connection, 8 in flight, 32 B, beside {bulk} callers with 1 MiB each"),
        Shape::Half => "calls begun at half of each program's own peak rate".to_owned(),
        Shape::Same => "calls begun at half of the lowest peak rate".to_owned(),
        Shape::Idle { conns } => format!("{conns} idle connections"),
    }
}

fn calls(shape: Shape, figures: &BTreeMap<Peer, Figures>) -> String {
    let mut text = format!("\n### {}\n\n", title(shape));
    text += "| | calls/s | msnb has | p50 µs | p99 µs | p99.9 µs | server µs/call | client µs/call | errors |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    let ours = figures.get(&Peer::Msnb).map_or(f64::NAN, |ours| ours.rate);
    for (peer, its) in figures {
        let Figures { rate, errors, p50_us, p99_us, p999_us, server_us, client_us, .. } = its;
        let ratio = number(ours / rate, 2) + " ×";
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

fn idle(shape: Shape, figures: &BTreeMap<Peer, Figures>) -> String {
    let mut text = format!("\n### {}\n\n| | bytes each at the server | at the client |\n|---|--:|--:|\n", title(shape));
    for (peer, its) in figures {
        let _ = writeln!(text, "| {} | {:.0} | {:.0} |", name(*peer), its.server_bytes, its.client_bytes);
    }
    text
}

fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "–".to_owned() }
}

fn bytes(count: usize) -> String {
    if count >= 1024 && count.is_multiple_of(1024) { format!("{} KiB", count / 1024) } else { format!("{count} B") }
}
