//! [`Metrics`]: the counters and gauges of an edge, in Prometheus's text format.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The counters and gauges of an edge since its start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) connections: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) connections_displaced: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) logins: AtomicU64,
    pub(super) logins_refused: AtomicU64,
    pub(super) sessions: AtomicU64,
    pub(super) rooms: AtomicU64,
    pub(super) frames_in: AtomicU64,
    pub(super) frames_out: AtomicU64,
    pub(super) frames_bad: AtomicU64,
    pub(super) frames_too_many: AtomicU64,
    pub(super) closed_idle: AtomicU64,
    pub(super) closed_stuck: AtomicU64,
    pub(super) closed_login: AtomicU64,
    pub(super) closed_flood: AtomicU64,
}

/// Increments a gauge, and decrements it on drop.
pub(super) struct GaugeGuard<'a>(&'a AtomicU64);

impl Metrics {
    /// Formats the metrics in the text format, version 0.0.4.
    pub(super) fn to_text(&self, node: &str) -> String {
        let rows = [
            ("im_connections", GAUGE, "open TCP connections", &self.connections),
            ("im_sessions", GAUGE, "logged-in clients", &self.sessions),
            ("im_rooms", GAUGE, "open sides of pairing rooms", &self.rooms),
            ("im_connections_refused_total", COUNTER, "connections rejected over a limit", &self.connections_refused),
            (
                "im_connections_displaced_total",
                COUNTER,
                "connections that were closed before their login for newer ones",
                &self.connections_displaced,
            ),
            ("im_handshakes_failed_total", COUNTER, "failed TLS handshakes", &self.handshakes_failed),
            ("im_logins_total", COUNTER, "logins with a correct password", &self.logins),
            ("im_logins_refused_total", COUNTER, "logins with a wrong or unchecked password", &self.logins_refused),
            ("im_frames_in_total", COUNTER, "frames received from clients", &self.frames_in),
            ("im_frames_out_total", COUNTER, "frames sent to clients", &self.frames_out),
            ("im_frames_bad_total", COUNTER, "invalid frames", &self.frames_bad),
            ("im_frames_too_many_total", COUNTER, "frames rejected over the rate", &self.frames_too_many),
            ("im_closed_idle_total", COUNTER, "sessions closed by the idle timeout", &self.closed_idle),
            ("im_closed_stuck_total", COUNTER, "sessions closed by the write timeout", &self.closed_stuck),
            ("im_closed_login_total", COUNTER, "connections closed by the login timeout", &self.closed_login),
            ("im_closed_flood_total", COUNTER, "sessions closed after too many rejections", &self.closed_flood),
        ];
        let mut text = String::with_capacity(rows.len() * 128);
        for (name, kind, help, value) in rows {
            let value = value.load(Relaxed);
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{node=\"{node}\"}} {value}")
                .expect("writing to a string never fails");
        }
        text
    }
}

impl<'a> GaugeGuard<'a> {
    pub(super) fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_help_type_and_value_per_metric() {
        let metrics = Metrics::default();
        let guard = GaugeGuard::new(&metrics.sessions);
        metrics.frames_in.fetch_add(3, Relaxed);
        let text = metrics.to_text("7");
        assert!(text.contains("# TYPE im_sessions gauge\nim_sessions{node=\"7\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE im_frames_in_total counter\nim_frames_in_total{node=\"7\"} 3\n"), "{text}");
        drop(guard);
        assert!(metrics.to_text("7").contains("im_sessions{node=\"7\"} 0\n"));
    }
}
