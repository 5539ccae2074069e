//! [`JudgedAttempt`]: the consequences of an attempt's end for its provider.

use std::sync::Arc;

use rpc_core::{Delivery, Error, ServiceId};
use tokio::time::Instant;

use super::provider_failure::is_provider_failure;
use crate::{
    client_core::ClientCore,
    connection::channel::Channel,
    discovery::{balancer::AttemptRecord, outliers::FailureKind},
};

/// An attempt whose end shows whether its provider works.
#[derive(Clone, Copy)]
pub(super) struct JudgedAttempt<'a> {
    pub(super) service: &'static ServiceId,
    pub(super) channel: &'a Arc<Channel>,
    pub(super) sent_at: Instant,
}

impl JudgedAttempt<'_> {
    /// Records that the provider has answered the call.
    pub(super) fn record_answer(&self, core: &ClientCore) {
        self.record_end(core, false);
        core.record_answer(self.channel);
    }

    /// Records the error with which the attempt has ended. It may be an answer of the service.
    pub(super) fn record_failure(&self, core: &ClientCore, error: &Error) {
        let is_failure = is_provider_failure(error);
        self.record_end(core, is_failure);
        if is_failure {
            let kind = if error.is_timeout() { FailureKind::NoAnswer } else { FailureKind::Answered };
            core.handle_failure(self.service, self.channel, self.sent_at, kind);
        } else if error.delivery() == Delivery::Answered {
            core.record_answer(self.channel);
        }
    }

    /// Reports the end of the attempt to the policy of the program.
    pub(super) fn record_end(&self, core: &ClientCore, is_failure: bool) {
        if let Some(balancer) = &core.config().balancer {
            let (address, latency) = (self.channel.address(), self.sent_at.elapsed());
            balancer.record(&AttemptRecord { address, latency, is_failure });
        }
    }
}
