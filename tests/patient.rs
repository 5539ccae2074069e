//! [`patient`]: the config of clients whose deadlines are not under test.

use std::time::Duration;

use rpc_client::ClientConfig;

/// Returns the default config with timeouts that no call reaches on a machine that is busy with other tests.
///
/// The default timeout of 5 s may pass while a test process waits for a processor.
pub fn patient() -> ClientConfig {
    ClientConfig::default().with_timeout(LONG).with_connect_timeout(LONG)
}

/// Shorter than the limit of [`in_time`](crate::in_time), so that an overdue call reports its own error.
const LONG: Duration = Duration::from_secs(50);
