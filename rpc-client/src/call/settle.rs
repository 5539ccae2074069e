//! The consequences of an attempt that has ended or is late: the answer, a retry or a hedge.

use std::{future, sync::Arc, task};

use rpc_core::{Delivery, Encode, Error, Hedging, Reply, Status};
use tokio::time::Instant;

use super::{
    acquired::Acquired,
    agreement::{Disagreement, decide},
    attempts::{LiveAttempt, NewestStatus},
    future::{ClientCall, Stage},
    judged_attempt::JudgedAttempt,
    outcome,
    pick::ExcludedChannel,
    retry::{self, Verdict},
    target::Target,
};
use crate::{
    connection::{channel::Channel, in_flight::Outcome},
    discovery::outliers::FailureKind,
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
        let channel = Arc::clone(&attempt.channel);
        self.extras_mut().excluded.push(ExcludedChannel { channel, reason: reason.into() });
        self.attempts.keep_earlier(attempt);
        self.stage = Stage::Picking;
    }

    /// Handles a provider whose contract differs. Returns the error if it ends the call.
    ///
    /// The call waits until the contracts were compared. If they are not compatible, it tries another provider, if it can
    /// pick one at once or another one replaces this one in the subset of the client.
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
        let address = channel.address();
        self.extras_mut().excluded.push(ExcludedChannel { channel, reason: error.message().into() });
        let picked = self.pick();
        let is_replaced = match self.extras.as_ref().and_then(|extras| extras.target.as_ref()) {
            Some(Target::Service(providers)) => providers.report_incompatible(address),
            _ => false,
        };
        match picked {
            Ok(Some(channel)) => {
                self.stage = Stage::Acquiring(Box::pin(future::ready(Ok(Acquired::at_once(channel)))));
                None
            }
            // An attempt in flight may still be answered.
            _ if self.attempts.any_live() => {
                self.stage = Stage::Waiting;
                None
            }
            Ok(None) if is_replaced => {
                self.extras_mut().last_error.get_or_insert(error);
                self.acquire();
                None
            }
            _ => Some(Err(self.last_error_or(error))),
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
        let streams = self.extras.as_mut().and_then(|extras| extras.streams.take());
        let error = match result {
            Ok(mut reply) => {
                let judged = self.judged(&attempt);
                if !streams.is_some_and(|streams| streams.open(&mut reply, judged)) {
                    judged.record_answer(&self.core);
                }
                let rule = self.extras.as_ref().and_then(|extras| extras.rule.as_ref());
                if let Some(rule) = rule.filter(|rule| rule.measures_latency()) {
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
        self.judged(&attempt).record_failure(&self.core, &error);
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
            self.extras_mut().excluded.push(ExcludedChannel { channel: attempt.channel, reason });
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
        self.extras_mut().last_error = Some(error);
        None
    }

    fn judged<'a>(&self, attempt: &'a LiveAttempt) -> JudgedAttempt<'a> {
        let LiveAttempt { channel, sent_at, .. } = attempt;
        JudgedAttempt { service: self.request.method.service(), channel, sent_at: *sent_at }
    }

    /// Restricts the call to the server that may have stored its answer, even while it restarts.
    fn pin(&mut self, channel: &Channel) {
        self.request.options.wait_for_ready = Some(true);
        self.extras_mut().target = Some(Target::Address(channel.address()));
    }
}
