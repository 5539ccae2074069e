//! Outlier ejection: a provider is ejected whose calls fail while those of other providers succeed.
//!
//! The balancer sees the calls in flight only. A provider that fails at once therefore attracts calls, and one whose
//! handlers hang keeps its part of them.

use std::sync::Arc;

use rpc_core::contained;
use tokio::time::Instant;
use tracing::warn;

use super::{
    comparison::{Comparison, FailureShare},
    detectors::deviating_in_groups,
    providers::{ProviderList, ServiceProviders},
};
use crate::{
    connection::channel::Channel,
    endpoint::{
        Endpoint,
        ejection::{EjectionCause, Phase},
    },
};

/// How an attempt failed because of its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The provider answered with a status that is its own failure.
    Answered,
    /// The provider did not answer in time.
    NoAnswer,
}

impl ServiceProviders {
    /// Handles the failure of an attempt that was sent on `channel` at `sent_at`.
    ///
    /// Ejects the provider if it is an outlier, and returns whether it did.
    pub(crate) fn handle_failure(&self, channel: &Channel, sent_at: Instant, kind: FailureKind, now: Instant) -> bool {
        // A probe decides about a connection without any answer; ejection is for a peer that answers its pings.
        if channel.is_unresponsive() {
            return false;
        }
        let list = self.list();
        let Some(endpoint) = list.endpoints.iter().find(|endpoint| endpoint.address() == channel.address()) else {
            return false;
        };
        if endpoint.ejection().is_after(sent_at) {
            return false;
        }
        let failures_in_a_row = channel.count_failure();
        let mut comparison = self.comparison();
        comparison.update(&list.endpoints, now);
        endpoint.ejection().count_failure();
        let share = comparison.share(endpoint);
        let is_outlier = || list.is_outlier(endpoint, share, &comparison);
        let has_no_answer = kind == FailureKind::NoAnswer && channel.last_answer().is_none_or(|last| last < sent_at);
        let cause = if endpoint.ejection().phase() == Phase::Probation {
            Some(EjectionCause::Probe)
        } else if has_no_answer && failures_in_a_row >= LATE_IN_A_ROW && list.others_answer(endpoint, sent_at, now) {
            Some(EjectionCause::NoAnswer)
        } else if failures_in_a_row.is_multiple_of(FAILURES_IN_A_ROW) && is_outlier() {
            Some(EjectionCause::Failures(u32::try_from(failures_in_a_row).unwrap_or(u32::MAX)))
        } else if share.failures.is_multiple_of(MIN_FAILURES)
            && share.calls >= MIN_CALLS
            && share.ratio() >= MIN_FAILURE_SHARE
            && is_outlier()
        {
            Some(EjectionCause::FailureRate)
        } else {
            None
        };
        let Some(cause) = cause.filter(|_| list.permits_ejection(endpoint)) else { return false };
        comparison.forget(endpoint);
        drop(comparison);
        self.eject(endpoint, cause, now);
        true
    }

    /// Ejects the providers whose calls since the last time deviate from those of others with the same tags and zone. Returns their number.
    pub(super) fn eject_deviating(&self, now: Instant) -> usize {
        let list = self.list();
        let stats = self.comparison().take_interval(&list.endpoints);
        let mut ejected = 0;
        let group = |index: usize| list.traits.get(index).map(|traits| (&traits.tags, &traits.zone));
        let grouped = stats.into_iter().enumerate().map(|(index, stats)| (group(index), stats));
        for (index, cause) in deviating_in_groups(grouped) {
            let endpoint = &list.endpoints[index];
            if endpoint.ejection().phase() == Phase::InUse && list.permits_ejection(endpoint) {
                self.eject(endpoint, cause, now);
                ejected += 1;
            }
        }
        ejected
    }

    fn eject(&self, endpoint: &Endpoint, cause: EjectionCause, now: Instant) {
        let duration = endpoint.ejection().begin(cause, now);
        let (service, address) = (self.service(), endpoint.address());
        contained(|| warn!(%service, %address, ?duration, %cause, "provider ejected"));
    }
}

impl ProviderList {
    /// Returns whether the other providers show that a fault is this one's.
    ///
    /// Only a provider that has answered calls in the window shows anything. The failure share of this one must exceed
    /// the mean of theirs by far, and the last calls of most of them must have succeeded. The second condition tells a
    /// fault of all providers from a fault of this one before their shares do.
    fn is_outlier(&self, endpoint: &Arc<Endpoint>, share: FailureShare, comparison: &Comparison) -> bool {
        let (mut count, mut failing, mut answered, mut sum) = (0_u32, 0, 0, 0.0);
        for other in self.others(endpoint).filter(|other| !other.ejection().is_active()) {
            let theirs = comparison.share(other);
            let Some(channel) = other.eligible_channel().filter(|_| theirs.answered > 0) else { continue };
            count += 1;
            failing += u32::from(channel.failures() > 0);
            answered += theirs.answered;
            sum += theirs.ratio();
        }
        answered >= MIN_ANSWERS_OF_OTHERS
            && failing * 2 < count
            && share.ratio() * f64::from(count) >= MIN_RATIO_TO_OTHERS * sum
    }

    /// Returns whether other providers have answered calls in the second half of the time since `sent_at`, and more of
    /// them than have failed since their last answer.
    fn others_answer(&self, endpoint: &Arc<Endpoint>, sent_at: Instant, now: Instant) -> bool {
        let since = sent_at + now.saturating_duration_since(sent_at) / 2;
        let (mut answering, mut failing) = (0, 0);
        for channel in self.others(endpoint).filter_map(|other| other.eligible_channel()) {
            if channel.failures() > 0 {
                failing += 1;
            } else if channel.last_answer().is_some_and(|last| last >= since) {
                answering += 1;
            }
        }
        answering > failing
    }

    /// Returns whether at most half of the providers are ejected together with this one.
    fn permits_ejection(&self, endpoint: &Arc<Endpoint>) -> bool {
        let ejected = self.others(endpoint).filter(|other| other.ejection().is_active()).count();
        self.permits_ejections(ejected + 1)
    }

    /// Returns whether `count` ejections leave at least half of the providers.
    ///
    /// Otherwise the last ones would be overloaded.
    pub(super) fn permits_ejections(&self, count: usize) -> bool {
        count * MIN_PROVIDERS_PER_EJECTION <= self.endpoints.len()
    }

    fn others<'a>(&'a self, endpoint: &'a Arc<Endpoint>) -> impl Iterator<Item = &'a Arc<Endpoint>> {
        self.endpoints.iter().filter(|other| !Arc::ptr_eq(other, endpoint))
    }
}

/// The failures in a row after which a provider is compared with the others, and after as many more again.
const FAILURES_IN_A_ROW: usize = 5;
/// The calls in a row without an answer in time after which a provider is compared that has answered none since.
const LATE_IN_A_ROW: usize = 2;
/// The number of providers for each ejected one.
const MIN_PROVIDERS_PER_EJECTION: usize = 2;
/// The calls in a window without which its failure rate means nothing.
const MIN_CALLS: u64 = 100;
/// The failures in a window after which its failure rate is compared, and after as many more again.
const MIN_FAILURES: u64 = 30;
/// The answers of the other providers in a window without which they show nothing.
const MIN_ANSWERS_OF_OTHERS: u64 = 20;
/// The failed part of a provider's calls below which it is not ejected for its failure rate.
const MIN_FAILURE_SHARE: f64 = 0.3;
/// How many times the mean failed part of the other providers' calls its failed part must be.
const MIN_RATIO_TO_OTHERS: f64 = 3.0;

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use bytes::Bytes;
    use rpc_core::{
        ServiceId,
        frame::{Frame, FrameType, Header},
        transport::Outbox,
    };

    use super::*;
    use crate::{
        changes::Subscribers,
        connection::in_flight::{NewCall, Outcome},
        endpoint::{Reconnect, connection_state::ConnectionState},
    };

    /// A connected provider.
    struct Provider {
        endpoint: Arc<Endpoint>,
        channel: Arc<Channel>,
    }

    impl Provider {
        fn new(port: u16) -> Self {
            let address = ([127, 0, 0, 1], port).into();
            let endpoint = Arc::new(Endpoint::new(address, 1, Reconnect::Normally, Subscribers::default()));
            let channel =
                Arc::new(Channel::new(address, Arc::new(Outbox::new(1000)), 1, Arc::default(), &Default::default()));
            assert!(channel.prove());
            endpoint.set_connection(0, ConnectionState::Connected(Arc::clone(&channel)));
            Self { endpoint, channel }
        }

        /// Makes `count` calls that end with a response.
        fn answer(&self, count: usize) {
            for _ in 0..count {
                let deadline = Instant::now() + Duration::from_secs(60);
                let call = NewCall::until(deadline);
                let sent = self.channel.start(call, None, 0, |_, _| Ok(())).unwrap();
                let header = Header::empty(FrameType::Response, 0);
                let response = Outcome::Response(Frame { header, body: Bytes::new() });
                self.channel.deliver(vec![(sent.id.as_u32(), response)], Instant::now());
                drop(self.channel.poll(sent.id, Waker::noop()));
            }
        }
    }

    fn service(listed: &[&Provider]) -> ServiceProviders {
        let providers = ServiceProviders::new(ServiceId::from_static("demo.Greeter", "1.0"));
        let endpoints = listed.iter().map(|provider| Arc::clone(&provider.endpoint)).collect();
        providers.publish(ProviderList { endpoints, ..Default::default() });
        providers
    }

    /// The calls that hung when the provider was ejected fail one after another, also after its ejection.
    #[test]
    fn calls_before_an_ejection_do_not_extend_it() {
        let (faulty, healthy) = (Provider::new(1), Provider::new(2));
        let (service, start) = (service(&[&faulty, &healthy]), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let fail = |sent_at, now| {
            faulty.answer(1);
            service.handle_failure(&faulty.channel, sent_at, FailureKind::Answered, now)
        };
        assert!(!fail(at(0), at(1)), "the window begins");
        healthy.answer(100);
        assert_eq!([(); 4].map(|()| fail(at(0), at(1))), [false, false, false, true]);

        faulty.endpoint.advance_ejection(at(4));
        assert!(!faulty.endpoint.ejection().is_active());
        healthy.answer(100);
        assert!((0..50).all(|_| !fail(at(0), at(4))), "the calls were sent before the ejection");
        assert!(fail(at(3), at(4)), "the first call after the ejection");
        assert_eq!(faulty.endpoint.ejection().remaining(at(4)).unwrap().1, Duration::from_secs(4));
    }

    /// Two late calls show that a provider hangs, if others answer meanwhile and this one has answered none since.
    #[test]
    fn provider_without_answers_is_ejected_early() {
        let late = |answers_since: bool, others_answer: bool| {
            let providers = [1, 2, 3].map(Provider::new);
            let service = service(&providers.each_ref());
            let sent_at = Instant::now();
            while Instant::now() == sent_at {}
            if answers_since {
                providers[0].answer(1);
            }
            if others_answer {
                providers[1].answer(1);
            }
            let now = providers[1].channel.last_answer().unwrap_or(sent_at);
            let late = || service.handle_failure(&providers[0].channel, sent_at, FailureKind::NoAnswer, now);
            [late(), late()]
        };
        assert_eq!(late(false, true), [false, true]);
        assert_eq!(late(true, true), [false, false], "it has answered since");
        assert_eq!(late(false, false), [false, false], "no provider answers");
    }

    #[test]
    fn deviating_provider_is_ejected_after_an_interval() {
        let providers = [1, 2, 3, 4, 5].map(Provider::new);
        let (service, now) = (service(&providers.each_ref()), Instant::now());
        assert_eq!(service.eject_deviating(now), 0, "the interval begins");
        for provider in &providers {
            provider.answer(200);
        }
        (0..40).for_each(|_| providers[2].endpoint.ejection().count_failure());
        assert_eq!(service.eject_deviating(now), 1);
        let (cause, _) = providers[2].endpoint.ejection().remaining(now).unwrap();
        assert_eq!(cause, EjectionCause::SuccessRate);
        assert_eq!(service.eject_deviating(now), 0, "no calls since");
    }

    /// Two services that share endpoints eject different ones.
    #[test]
    fn at_most_half_are_ejected_by_one_service() {
        let providers = [1, 2, 3, 4].map(Provider::new);
        let all = service(&providers.each_ref());
        let (start, now) = (Instant::now(), Instant::now());
        let mut ejected = 0;
        for faulty in &providers[..3] {
            for failure in 0..5 {
                faulty.answer(1);
                ejected += usize::from(all.handle_failure(&faulty.channel, start, FailureKind::Answered, now));
                if failure == 0 {
                    providers[3].answer(100);
                }
            }
        }
        assert_eq!(ejected, 2);
    }
}
