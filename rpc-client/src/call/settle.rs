//! The consequences of an attempt that has ended or is late: the answer, a retry or a hedge.

use std::{future, sync::Arc, task};

use rpc_core::{Delivery, Encode, Error, Hedging, Reply, Status};
use tokio::time::Instant;

use super::{
    acquired::Acquired,
    agreement::{Disagreement, decide},
    attempts::{LiveAttempt, NewestStatus},
    future::{ClientCall, Stage},
    outcome,
    pick::ExcludedChannel,
    provider_failure::is_provider_failure,
    retry::{self, Verdict},
    target::Target,
};
use crate::{
    connection::{channel::Channel, in_flight::Outcome},
    discovery::{balancer::AttemptRecord, outliers::FailureKind},
};

impl<A: Encode> ClientCall<A> {
    /// Polls the attempts in flight. Returns the result if one of them ends the call.
    pub(super) fn poll_attempts(&mut self, cx: &task::Context<'_>) -> Option<Result<Reply, Error>> {
        match self.attempts.poll_newest(cx) {
            NewestStatus::Pending => {}
            NewestStatus::HedgeDue(attempt) => self.hedge(attempt),
            NewestStatus::Ended(attempt, outcome) => {
                if let Some(result) = self.settle(attempt, outcome) {
                    return Some(result);
                }
            }
        }
        let mut index = 0;
        while let Some((attempt, outcome)) = self.attempts.poll_earlier(&mut index, cx) {
            if let Some(result) = self.settle(attempt, outcome) {
                return Some(result);
            }
        }
        None
    }

    /// Handles an attempt that exceeded its hedge time.
    ///
    /// The call probes the peer, and picks another provider if a hedge is permitted.
    fn hedge(&mut self, attempt: LiveAttempt) {
        // The probe requires bytes from the second half of the attempt's time. A peer that stalls under load may have
        // answered other calls just after this one was sent. An unnecessary probe costs one round trip.
        attempt.channel.request_probe(attempt.sent_at + attempt.sent_at.elapsed() / 2);
        let permitted = self.facts().permits_attempt() && self.hedging() != Hedging::Never;
        if !permitted || !self.core.take_retry() {
            self.attempts.keep_newest(attempt);
            return;
        }
        let reason = format!("{} has not answered within {:?}", attempt.channel.address(), attempt.sent_at.elapsed());
        self.excluded.push(ExcludedChannel { channel: Arc::clone(&attempt.channel), reason: reason.into() });
        self.attempts.keep_earlier(attempt);
        self.stage = Stage::Picking;
    }

    /// Handles a provider whose contract differs. Returns the error if it ends the call.
    ///
    /// The call waits until the contracts were compared. If they are not compatible, it tries another provider, if it can
    /// pick one at once.
    #[cold]
    pub(super) fn handle_disagreement(
        &mut self,
        disagreement: Disagreement,
        channel: Arc<Channel>,
    ) -> Option<Result<Reply, Error>> {
        channel.pass_on();
        let (core, method, deadline) = (Arc::clone(&self.core), self.request.method, self.started().deadline);
        let error = match disagreement {
            Disagreement::Undecided(contracts) => {
                self.stage = Stage::Acquiring(Box::pin(decide(core, method, contracts, channel, deadline)));
                return None;
            }
            Disagreement::Incompatible(error) => error,
        };
        self.excluded.push(ExcludedChannel { channel, reason: error.message().into() });
        match self.pick() {
            Ok(Some(channel)) => {
                self.stage = Stage::Acquiring(Box::pin(future::ready(Ok(Acquired::at_once(channel)))));
                None
            }
            // An attempt in flight may still be answered.
            _ if self.attempts.any_live() => {
                self.stage = Stage::Waiting;
                None
            }
            _ => Some(Err(self.last_error.take().unwrap_or(error))),
        }
    }

    /// Handles the attempts that an attempt sent at `sent_at` has overtaken.
    #[cold]
    fn handle_overtaken(&mut self, sent_at: Instant) {
        let (service, deadline) = (self.request.method.service(), self.started().deadline);
        let overtaken = self.attempts.overtaken(sent_at, deadline);
        overtaken
            .for_each(|late| self.core.handle_failure(service, &late.channel, late.sent_at, FailureKind::NoAnswer));
    }

    /// Handles the outcome of an attempt. Returns the result if it ends the call.
    fn settle(&mut self, attempt: LiveAttempt, outcome: Outcome) -> Option<Result<Reply, Error>> {
        let result = outcome::into_result(outcome, &attempt.channel, attempt.sent, self.core.config());
        let started_at = self.started().at;
        self.attempts.log_end(&attempt, started_at, result.as_ref().err());
        if let Some(balancer) = &self.core.config().balancer {
            let is_failure = result.as_ref().is_err_and(is_provider_failure);
            let latency = attempt.sent_at.elapsed();
            balancer.record(&AttemptRecord { address: attempt.channel.address(), latency, is_failure });
        }
        let streams = self.streams.take();
        let error = match result {
            Ok(mut reply) => {
                if let Some(streams) = streams {
                    streams.open(&mut reply);
                }
                self.core.record_answer(&attempt.channel);
                if let Some(rule) = self.started().rule.as_ref().filter(|rule| rule.measures_latency()) {
                    // The time of the call and not of its last attempt: hedges would otherwise shorten the percentile that
                    // delays them.
                    rule.record(started_at.elapsed());
                }
                if self.attempts.has_earlier() {
                    self.handle_overtaken(attempt.sent_at);
                }
                return Some(Ok(reply));
            }
            Err(error) => {
                if streams.is_some() {
                    // Without effect unless the peer may still execute the call, whose deadline has passed.
                    attempt.channel.fail_streams(attempt.sent.id, Status::new(error.code(), ""));
                }
                error
            }
        };
        drop(streams);
        if is_provider_failure(&error) {
            let kind = if error.is_timeout() { FailureKind::NoAnswer } else { FailureKind::Answered };
            self.core.handle_failure(self.request.method.service(), &attempt.channel, attempt.sent_at, kind);
        } else if error.delivery() == Delivery::Answered {
            self.core.record_answer(&attempt.channel);
        }
        self.may_have_executed |= error.delivery() == Delivery::Unknown;
        // A handler's own status concerns its call, and not the other calls of the server.
        if error.delivery() == Delivery::NotExecuted
            && let Some(time) = error.retry_after().filter(|time| !time.is_zero())
        {
            self.core.start_cooldown(&attempt.channel, time);
        }
        let facts = self.facts();
        let verdict = retry::decide(&error, &facts);
        if verdict == Verdict::Fail {
            return Some(Err(error));
        }
        if retry::pins_address(&error, &facts) {
            self.pin(&attempt.channel);
        }
        if retry::excludes_channel(&error) {
            let reason = error.to_string().into();
            self.excluded.push(ExcludedChannel { channel: attempt.channel, reason });
        }
        let retries = match verdict {
            // The call is about to send an attempt already, a hedge.
            Verdict::Retry { .. } if !matches!(self.stage, Stage::Waiting) => true,
            Verdict::Retry { budgeted } if !budgeted || self.core.take_retry() => {
                self.stage = Stage::Picking;
                true
            }
            Verdict::RetryElsewhere if matches!(self.pick(), Ok(Some(_))) => {
                self.stage = Stage::Picking;
                true
            }
            _ => false,
        };
        if !(retries || facts.others_live) {
            return Some(Err(error));
        }
        self.last_error = Some(error);
        None
    }

    /// Restricts the call to the server that may have stored its answer, even while it restarts.
    fn pin(&mut self, channel: &Channel) {
        self.request.options.wait_for_ready = Some(true);
        self.started_mut().target = Some(Target::Address(channel.address()));
    }
}
