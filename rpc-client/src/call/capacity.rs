//! [`until_capacity`]: waiting for a channel that is below its limits.

use std::{sync::Arc, time::Duration};

use futures_util::future::select_all;
use rpc_core::{Code, Error, Phase};
use tokio::time::{Instant, timeout_at};

use super::{acquired::Acquired, error::join_parts};
use crate::{
    client_core::ClientCore,
    config::ClientConfig,
    connection::{channel::Channel, sending::Limit},
};

/// A channel that rejected the call because of a limit.
#[derive(Debug)]
pub(super) struct FullChannel {
    pub(super) channel: Arc<Channel>,
    pub(super) limit: Limit,
}

/// Waits until the first of these channels is below its limits.
///
/// Waiting for all of them keeps one peer that reads nothing from delaying a call that others could take.
///
/// # Errors
///
/// `ResourceExhausted` when the deadline passes; the message names the limits and their settings.
pub(super) async fn until_capacity(
    core: Arc<ClientCore>,
    full: Vec<FullChannel>,
    deadline: Instant,
) -> Result<Acquired, Error> {
    let waited = match &full[..] {
        [only] => timeout_at(deadline, only.channel.capacity(only.limit)).await.map(|turn| (turn, 0)),
        _ => {
            let capacities = full.iter().map(|full| Box::pin(full.channel.capacity(full.limit)));
            timeout_at(deadline, select_all(capacities)).await.map(|(turn, first, _)| (turn, first))
        }
    };
    match waited {
        Ok((turn, first)) => Ok(Acquired { turn, ..Acquired::at_once(Arc::clone(&full[first].channel)) }),
        Err(_) => Err(no_capacity(&full, core.config())),
    }
}

fn no_capacity(full: &[FullChannel], config: &ClientConfig) -> Error {
    let reasons = full.iter().map(|full| full.reason(config));
    let message = format!("no connection had capacity before the deadline: {}", join_parts(reasons));
    let error = Error::not_executed(Code::ResourceExhausted, message).with_phase(Phase::Send);
    let error = error.with_retry_after(Duration::ZERO);
    match full {
        [only] => error.with_peer(only.channel.address()),
        _ => error,
    }
}

impl FullChannel {
    fn reason(&self, config: &ClientConfig) -> String {
        let address = self.channel.address();
        match self.limit {
            Limit::InFlight => {
                let (in_flight, limit) = (self.channel.in_flight(), config.max_in_flight);
                format!("{address} has {in_flight} calls in flight, limit is {limit} (ClientConfig::max_in_flight)")
            }
            Limit::Outbox(_) => {
                let limit = config.transport.outbox;
                format!("outbox of {address} has {limit} bytes or more, limit is {limit} (TransportConfig::outbox)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rpc_core::transport::{Outbox, Priority};

    use super::*;

    #[test]
    fn error_names_each_limit_and_its_setting() {
        let config = ClientConfig::default();
        let full = |port, limit| {
            let outbox = Arc::new(Outbox::new(1));
            let channel = Channel::new(([127, 0, 0, 1], port).into(), outbox, 1, Arc::default(), &Default::default());
            FullChannel { channel: Arc::new(channel), limit }
        };
        let error = no_capacity(&[full(1, Limit::InFlight), full(2, Limit::Outbox(Priority::Interactive))], &config);
        assert_eq!(
            error.message(),
            "no connection had capacity before the deadline: 127.0.0.1:1 has 0 calls in flight, limit is 1024 \
             (ClientConfig::max_in_flight); outbox of 127.0.0.1:2 has 1048576 bytes or more, limit is 1048576 \
             (TransportConfig::outbox)"
        );
        assert_eq!((error.code(), error.retry_after()), (Code::ResourceExhausted, Some(Duration::ZERO)));
        assert!(error.is_retryable() && error.peer().is_none());
        let only = no_capacity(&[full(1, Limit::Outbox(Priority::Bulk))], &config);
        assert_eq!(only.peer(), Some(([127, 0, 0, 1], 1).into()));
    }
}
