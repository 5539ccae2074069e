//! Outlier ejection: a provider is ejected whose calls fail while those of other providers succeed.
//!
//! The balancer sees the calls in flight only. A provider that fails at once therefore attracts calls, and one whose
//! handlers hang keeps its part of them.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::providers::{ProviderList, ServiceProviders};
use crate::{
    connection::channel::Channel,
    endpoint::{Endpoint, ejection::FailureShare},
};

impl ServiceProviders {
    /// Handles a failed call on `channel`, and ejects its provider if that is an outlier.
    ///
    /// Returns whether the provider was ejected.
    pub(crate) fn handle_failure(&self, channel: &Channel, now: Instant) -> bool {
        // A probe decides about a connection without any answer; ejection is for a peer that answers its pings.
        if channel.is_unresponsive() {
            return false;
        }
        let failures_in_a_row = channel.count_failure();
        let list = self.list();
        let Some(endpoint) = list.endpoints.iter().find(|endpoint| endpoint.address() == channel.address()) else {
            return false;
        };
        let window = endpoint.ejection().count_failure(now, || endpoint.calls());
        let cause = if failures_in_a_row >= FAILURES_IN_A_ROW {
            "failures in a row"
        } else if window.is_some_and(|share| list.is_far_above_others(endpoint, share)) {
            "failure rate"
        } else {
            return false;
        };
        if endpoint.ejection().is_active() || !list.permits_ejection(endpoint) {
            return false;
        }
        let (service, address, duration) = (self.service(), endpoint.address(), endpoint.ejection().begin(now));
        warn!(%service, %address, ?duration, failures_in_a_row, cause, "provider ejected: its calls fail");
        true
    }
}

impl ProviderList {
    /// Returns whether an endpoint's failures exceed those of the other endpoints by far.
    fn is_far_above_others(&self, endpoint: &Arc<Endpoint>, share: FailureShare) -> bool {
        if share.calls < MIN_CALLS || share.ratio() < MIN_FAILURE_SHARE {
            return false;
        }
        let others = self.others(endpoint).map(|other| other.ejection().share(other.calls()).ratio());
        let (count, sum) = others.fold((0, 0.0), |(count, sum), ratio| (count + 1, sum + ratio));
        share.ratio() * f64::from(count) >= MIN_RATIO_TO_OTHERS * sum
    }

    /// Returns whether the list has enough other providers to do without this one.
    ///
    /// At most half of the providers are ejected, so that a fault which all of them share does not overload the last
    /// ones. The last call of another provider must have succeeded, because otherwise the fault is not the provider's.
    fn permits_ejection(&self, endpoint: &Arc<Endpoint>) -> bool {
        let ejected = self.others(endpoint).filter(|other| other.ejection().is_active()).count();
        let answers = |other: &Arc<Endpoint>| {
            !other.ejection().is_active() && other.eligible_channel().is_some_and(|channel| channel.failures() == 0)
        };
        (ejected + 1) * MIN_PROVIDERS_PER_EJECTION <= self.endpoints.len() && self.others(endpoint).any(answers)
    }

    fn others<'a>(&'a self, endpoint: &'a Arc<Endpoint>) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        self.endpoints.iter().filter(|other| !Arc::ptr_eq(other, endpoint))
    }
}

/// The failures in a row after which a provider is ejected.
const FAILURES_IN_A_ROW: usize = 5;
/// The number of providers for each ejected one.
const MIN_PROVIDERS_PER_EJECTION: usize = 2;
/// The calls in a window without which its failures mean nothing.
const MIN_CALLS: u64 = 100;
/// The failed part of a provider's calls below which it is not ejected for its failure rate.
const MIN_FAILURE_SHARE: f64 = 0.3;
/// How many times the mean failure rate of the other providers its rate must be.
const MIN_RATIO_TO_OTHERS: f64 = 3.0;
