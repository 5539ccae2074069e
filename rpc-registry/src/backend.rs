//! [`Backend`]: everything that a registry does.

use rpc_core::{Discovery, Registry};

use crate::Administration;

/// A registry backend: registration, discovery and administration.
///
/// `Arc<dyn Backend>` coerces to `Arc<dyn Registry>` and to `Arc<dyn Discovery>`.
pub trait Backend: Registry + Discovery + Administration {}

impl<T: Registry + Discovery + Administration + ?Sized> Backend for T {}
