//! [`State`]: what all connections of an endpoint share.

use super::{config::GrpcConfig, files::Files, routes::Routes};

/// The endpoint of a server: its options, and its services by their paths.
pub(super) struct State {
    pub(super) config: GrpcConfig,
    pub(super) tokens_without_tls: bool,
    pub(super) routes: Routes,
    pub(super) files: Files,
    /// The longest arguments in bytes.
    pub(super) max_arguments: usize,
}
