//! Export to OpenTelemetry: to an exporter in memory, and by OTLP to a real collector.

mod collector;
mod spans;
