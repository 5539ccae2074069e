//! [`ServiceState`]: the desired and the reported state of one service at one address. No I/O.

use std::time::Duration;

use rpc_core::{Code, Error, Instance, RegisterOutcome};
use tokio::time::Instant;

use super::action::{Action, Event, Outcome, Reply};
use crate::nacos::{backoff, naming::is_auth_rejection};

/// The state of one service: the target, and the next step towards it.
pub(super) struct ServiceState {
    /// The instance to list, or the last listed instance.
    instance: Instance,
    target: Target,
    step: Step,
    /// A request is in flight. At most one per service, so that requests cannot overtake each other.
    pub(super) in_flight: bool,
    /// The target changed while a request was in flight: the outcome of that request is obsolete.
    changed: bool,
    /// Nacos may have a registration of this instance.
    registration_sent: bool,
    failures: u32,
    /// The number of consecutive checks without the instance, although Nacos confirmed its registration.
    pub(super) unlisted: u32,
    /// [`Event::Disabled`] was reported, and the instance has not been listed since.
    disabled_reported: bool,
    /// The caller received `Pending` for the registration.
    pub(super) pending: bool,
    reply: Option<Reply>,
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    Listed,
    Removed,
}

/// The next step and its time.
#[derive(Clone, Copy)]
enum Step {
    /// Send a registration or deregistration.
    Send(Instant),
    /// Compare the target with the list of Nacos.
    Check(Instant),
}

impl ServiceState {
    /// Returns the state after a new request, or `None` if nothing remains to be done.
    ///
    /// The request supersedes the one of `previous`, whose caller receives `Aborted`.
    pub(super) fn new(
        now: Instant,
        previous: Option<Self>,
        instance: Option<Instance>,
        reply: Option<Reply>,
    ) -> Option<Self> {
        let (in_flight, registration_sent) =
            previous.as_ref().map_or((false, false), |state| (state.in_flight, state.registration_sent));
        let previous = previous.map(|mut state| {
            let superseded = Error::not_executed(Code::Aborted, "superseded by another request for the same address");
            answer(state.reply.take(), Err(superseded));
            state.instance
        });
        let (target, instance) = match (instance, previous) {
            (Some(instance), _) => (Target::Listed, instance),
            (None, Some(previous)) if registration_sent => (Target::Removed, previous),
            // No registration was sent to Nacos, so there is nothing to remove.
            (None, _) => {
                answer(reply, Ok(RegisterOutcome::Confirmed));
                return None;
            }
        };
        Some(Self {
            instance,
            target,
            step: Step::Send(now),
            in_flight,
            changed: in_flight,
            registration_sent,
            failures: 0,
            unlisted: 0,
            disabled_reported: false,
            pending: false,
            reply,
        })
    }

    /// Returns the time of the next step.
    pub(super) fn due(&self) -> Instant {
        match self.step {
            Step::Send(at) | Step::Check(at) => at,
        }
    }

    /// Returns whether the instance is assumed to be listed and waits for its next check.
    pub(super) fn awaits_check(&self) -> bool {
        !self.in_flight && self.unlisted < DISABLED_AFTER_CHECKS && self.is_listed_check()
    }

    /// Returns whether the next step reads a list that the instance should be in.
    pub(super) fn is_listed_check(&self) -> bool {
        matches!((self.target, self.step), (Target::Listed, Step::Check(_)))
    }

    /// Returns whether the deregistration was sent; its check may be outstanding.
    pub(super) fn is_removal_sent(&self) -> bool {
        matches!((self.target, self.step), (Target::Removed, Step::Check(_)))
    }

    /// Starts the next step and returns its request.
    pub(super) fn start_step(&mut self) -> Action {
        self.in_flight = true;
        match (self.step, self.target) {
            (Step::Check(_), Target::Listed) => Action::CheckListed,
            (Step::Check(_), Target::Removed) => Action::CheckRemoved(self.instance.clone()),
            (Step::Send(_), Target::Listed) => {
                self.registration_sent = true;
                Action::Register(self.instance.clone())
            }
            (Step::Send(_), Target::Removed) => Action::Deregister,
        }
    }

    /// Moves a scheduled check to `now`.
    pub(super) fn check_now(&mut self, now: Instant) {
        if let Step::Check(at) = &mut self.step {
            *at = now.min(*at);
        }
    }

    /// Handles the outcome of the request in flight.
    ///
    /// Returns `None` for the state if nothing remains to be done.
    pub(super) fn handle_outcome(mut self, now: Instant, outcome: Outcome) -> (Option<Self>, Option<Event>) {
        if std::mem::take(&mut self.changed) {
            // `step` already sends the new target.
            return (Some(self), None);
        }
        match outcome {
            Outcome::Sent(result) => self.handle_sent(now, result),
            Outcome::Checked(Ok(listing)) => self.handle_checked(now, listing.weight),
            Outcome::Checked(Err(_)) => {
                self.failures += 1;
                self.step = Step::Check(now + backoff::delay(self.failures));
                (Some(self), None)
            }
        }
    }

    /// Handles a failed connection attempt. Returns whether something remains to be done.
    pub(super) fn handle_no_connection(&mut self, now: Instant, error: impl Fn() -> Error) -> bool {
        let rejected = is_auth_rejection(&error());
        let reply = self.reply.take();
        let (registers, has_caller) = (self.target == Target::Listed, reply.is_some());
        self.pending |= registers;
        answer(reply, if registers && !rejected { Ok(RegisterOutcome::Pending) } else { Err(error()) });
        self.step = Step::Send(now);
        // The caller treats an error as "not registered". Without a connection Nacos lists nothing that would have to
        // be removed.
        registers && !(rejected && has_caller)
    }

    fn handle_sent(mut self, now: Instant, result: Result<(), Error>) -> (Option<Self>, Option<Event>) {
        let listed = self.target == Target::Listed;
        match result {
            Ok(()) => {
                self.failures = 0;
                // A removed instance is checked soon: the SDK may have registered it again at the same moment.
                self.step = Step::Check(now + if listed { CHECK_INTERVAL } else { ROTATION_INTERVAL });
                let had_caller = self.reply.is_some();
                let received = answer(self.reply.take(), Ok(RegisterOutcome::Confirmed));
                let late = std::mem::take(&mut self.pending) || had_caller && !received;
                (Some(self), (listed && late).then_some(Event::Registered { pending: 0 }))
            }
            Err(error) => {
                let permanent = is_auth_rejection(&error) || error.code() == Code::InvalidArgument;
                if listed && permanent && self.reply.is_some() {
                    answer(self.reply.take(), Err(error));
                    return (None, None);
                }
                self.pending |= listed && self.reply.is_some();
                answer(self.reply.take(), if listed { Ok(RegisterOutcome::Pending) } else { Err(error) });
                self.failures += 1;
                self.step = Step::Send(now + backoff::delay(self.failures));
                (Some(self), None)
            }
        }
    }

    fn handle_checked(mut self, now: Instant, weight: Option<f64>) -> (Option<Self>, Option<Event>) {
        self.failures = 0;
        let mut event = None;
        match (self.target, weight) {
            (Target::Removed, None) => return (None, None),
            (Target::Removed, Some(_)) => self.step = Step::Send(now),
            (Target::Listed, Some(weight)) => {
                self.step = Step::Check(now + CHECK_INTERVAL);
                self.unlisted = 0;
                if std::mem::take(&mut self.disabled_reported) {
                    event = Some(Event::ListedAgain);
                }
                // Later registrations must keep a weight that an operator set.
                let registered = self.instance.weight();
                self.instance = self.instance.with_weight(weight);
                if event.is_none() && self.instance.weight() != registered {
                    event = Some(Event::WeightChanged { weight });
                }
            }
            (Target::Listed, None) => {
                self.unlisted += 1;
                event = match self.unlisted {
                    _ if self.disabled_reported => None,
                    1 => Some(Event::Lost),
                    _ => Some(Event::Disabled),
                };
                self.disabled_reported |= self.unlisted >= DISABLED_AFTER_CHECKS;
                let registers = self.unlisted.is_power_of_two() && self.unlisted < MAX_CHECKS_PER_ATTEMPT
                    || self.unlisted.is_multiple_of(MAX_CHECKS_PER_ATTEMPT);
                self.step = if registers { Step::Send(now) } else { Step::Check(now + CHECK_INTERVAL) };
            }
        }
        (Some(self), event)
    }
}

/// Sends the outcome and returns whether the caller received it.
fn answer(reply: Option<Reply>, outcome: Result<RegisterOutcome, Error>) -> bool {
    reply.is_some_and(|reply| reply.send(outcome).is_ok())
}

/// The time between two checks of one service.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The time between two checks of an address, which rotate over its services.
///
/// The loss of all services is detected after this time.
pub(super) const ROTATION_INTERVAL: Duration = Duration::from_secs(5);
/// The number of consecutive checks without a registered instance that counts as a disabled instance.
const DISABLED_AFTER_CHECKS: u32 = 2;
/// The maximum number of checks between two attempts to register such an instance again.
const MAX_CHECKS_PER_ATTEMPT: u32 = 8;
