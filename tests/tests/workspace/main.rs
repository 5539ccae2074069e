//! Checks of the workspace itself: its architecture and its documents.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

mod architecture;
mod book;
mod build_weight;
mod constants;
mod cycles;
mod documents;
mod limits;
mod logs;
mod modules;
mod prose;
mod public_api;
mod security;
mod sources;
mod symbols;
mod tokens;
