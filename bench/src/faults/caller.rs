//! [`Caller`]: the client of any framework, and its time limits.

use std::{pin::Pin, time::Duration};

use crate::failure::Failure;

/// Makes a call with this number, and returns the port of the provider that answered.
pub(super) type Caller = Box<dyn Fn(u64) -> Pin<Box<dyn Future<Output = Result<u16, Failure>> + Send>> + Send + Sync>;

/// The deadline of each call.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
/// The time limit of a connect, and of a pong.
#[cfg(feature = "compare")]
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
