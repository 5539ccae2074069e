//! The tags of head entries.
//!
//! A receiver skips an unknown even tag, and fails the call for an unknown odd one.

pub(super) const ROUTE: u8 = 1;
pub(super) const TIMEOUT: u8 = 2;
pub(super) const CALL_FLAGS: u8 = 3;
pub(super) const METADATA: u8 = 4;
pub(super) const STATUS: u8 = 5;
pub(super) const RETRY_AFTER: u8 = 6;
pub(super) const ONCE_KEY: u8 = 7;
pub(super) const IDEMPOTENCY_KEY: u8 = 8;
pub(super) const REPEAT: u8 = 10;
pub(super) const NOT_EXECUTED: u8 = 12;
pub(super) const RESPONSE_COMPRESSION: u8 = 14;
pub(super) const STREAM_TIMEOUT: u8 = 16;
