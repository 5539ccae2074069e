//! The decision to retry or to hedge a call: pure functions.

use rpc_core::{Code, Delivery, Error, MethodInfo, Once, Phase};

/// The facts about a call on which the decision depends.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallFacts {
    pub(super) idempotent: bool,
    pub(super) once: Option<Once>,
    /// The number of attempts sent so far.
    pub(super) sent: usize,
    /// The attempts that may follow the first one.
    pub(super) max_retries: u32,
    /// Whether the caller named one address, which allows a single attempt.
    pub(super) pinned: bool,
    /// Whether other attempts of the call are in flight.
    pub(super) others_live: bool,
    /// Whether the newest attempt is one of them. Its hedge time leads to the next attempt.
    pub(super) newest_live: bool,
    /// Whether items of the caller's stream were sent, which another attempt would lack.
    pub(super) items_sent: bool,
}

/// The consequence of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The call fails with the attempt's error.
    Fail,
    /// The call waits for its other attempts.
    AwaitOthers,
    /// The call makes another attempt; a budgeted one only if the retry budget permits it.
    Retry { budgeted: bool },
    /// The call makes another attempt if another channel can be picked now, and fails otherwise.
    RetryElsewhere,
}

impl CallFacts {
    /// Returns the facts of a call of `method` of which no attempt was sent.
    pub(super) fn new(method: &MethodInfo) -> Self {
        Self {
            idempotent: method.is_idempotent(),
            once: method.once_scope(),
            sent: 0,
            max_retries: 0,
            pinned: false,
            others_live: false,
            newest_live: false,
            items_sent: false,
        }
    }

    /// Returns whether the limits permit another attempt.
    pub(super) fn permits_attempt(&self) -> bool {
        self.has_retries() && !self.pinned && !self.items_sent
    }

    fn has_retries(&self) -> bool {
        self.sent <= self.max_retries as usize
    }

    /// Returns whether another provider may receive the call although the first one may have executed it.
    pub(super) fn may_repeat(&self) -> bool {
        self.idempotent || self.once == Some(Once::Cluster)
    }
}

/// Decides what follows from the error of an attempt.
///
/// - A method that the peer does not implement did not execute: another program took the port of a provider, or the
///   provider has another version. The retry adds no load, so it is not budgeted.
/// - While other attempts are in flight, only an answer of the handler and the call's own deadline end the call. If they
///   have exceeded their hedge times, the call makes another attempt where it would without them.
/// - An answer of the handler and a passed deadline are final.
/// - A handler that did not execute is retried if the error is retryable. An attempt that never reached a server is not
///   budgeted.
/// - A handler that may have executed is retried only after a lost connection, and only if the method is idempotent or
///   executes once.
pub(super) fn decide(error: &Error, call: &CallFacts) -> Verdict {
    let awaits_others = call.others_live && !ends_others(error, call);
    let without_retry = if awaits_others { Verdict::AwaitOthers } else { Verdict::Fail };
    if awaits_others && call.newest_live {
        return without_retry;
    }
    if is_unimplemented(error) {
        return if call.permits_attempt() { Verdict::RetryElsewhere } else { without_retry };
    }
    if error.delivery() == Delivery::Answered || error.is_timeout() {
        return without_retry;
    }
    let safe = match error.delivery() {
        Delivery::NotExecuted => error.is_retryable(),
        Delivery::Unknown => error.code() == Code::Unavailable && (call.may_repeat() || call.once.is_some()),
        Delivery::Answered => false,
    };
    let unsent = is_unsent(error);
    // The limit of one attempt at a named address does not count an attempt that sent nothing.
    let permitted = call.permits_attempt() || unsent && call.has_retries() && !call.items_sent;
    if !(safe && permitted) {
        return without_retry;
    }
    Verdict::Retry { budgeted: !unsent }
}

/// Returns whether later attempts must not use the channel of a failed attempt.
///
/// A peer that requested a cooldown may be called again after it. A cooldown of 0 concerns this call only: the peer has
/// reached a limit of the method.
pub(super) fn excludes_channel(error: &Error) -> bool {
    is_unimplemented(error) || error.retry_after().is_none_or(|time| time.is_zero())
}

/// Returns whether later attempts must use the same address.
///
/// Only the server that may have executed the call of a `once` method has the stored answer.
pub(super) fn pins_address(error: &Error, call: &CallFacts) -> bool {
    error.delivery() == Delivery::Unknown && call.once == Some(Once::Server)
}

/// Returns whether no byte of the request was passed to a socket.
fn is_unsent(error: &Error) -> bool {
    error.delivery() == Delivery::NotExecuted && error.phase() == Some(Phase::Send)
}

/// Returns whether the error of one attempt ends the attempts in flight too.
///
/// Another attempt may still succeed after a rejection, after a head that this client cannot read, after a deadline that
/// one server applied, and after a server without a record of a `once` call that another server executes.
fn ends_others(error: &Error, call: &CallFacts) -> bool {
    match error.delivery() {
        Delivery::NotExecuted => false,
        Delivery::Unknown => error.is_timeout(),
        Delivery::Answered => {
            let has_no_record = error.code() == Code::Aborted && call.once.is_some();
            error.phase() != Some(Phase::Decode) && !error.is_timeout() && !has_no_record
        }
    }
}

fn is_unimplemented(error: &Error) -> bool {
    error.code() == Code::Unimplemented && error.delivery() == Delivery::NotExecuted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FACTS: CallFacts = CallFacts {
        idempotent: false,
        once: None,
        sent: 1,
        max_retries: 2,
        pinned: false,
        others_live: false,
        newest_live: false,
        items_sent: false,
    };

    fn not_executed(code: Code) -> Error {
        Error::not_executed(code, "")
    }

    fn unknown(code: Code) -> Error {
        Error::unknown(code, "")
    }

    /// Calls `check` with every combination of the inputs.
    fn for_all(mut check: impl FnMut(&Error, &CallFacts)) {
        let codes: Vec<Code> = (0..=32).map(Code::from_u8).collect();
        let phases = [
            None,
            Some(Phase::Resolve),
            Some(Phase::Connect),
            Some(Phase::Send),
            Some(Phase::Wait),
            Some(Phase::Decode),
        ];
        let mut errors = Vec::new();
        for code in codes {
            for create in [not_executed, unknown, |code| Error::answered(code, "")] {
                for phase in phases {
                    for retry_after in [false, true] {
                        let mut error = create(code);
                        error = phase.into_iter().fold(error, Error::with_phase);
                        errors.push(if retry_after { error.with_retry_after(Duration::from_millis(1)) } else { error });
                    }
                }
            }
        }
        let mut calls = Vec::new();
        for idempotent in [false, true] {
            for once in [None, Some(Once::Server), Some(Once::Cluster)] {
                for sent in 1..=4 {
                    for pinned in [false, true] {
                        for (others_live, newest_live) in [(false, false), (true, false), (true, true)] {
                            calls.push(CallFacts { idempotent, once, sent, pinned, others_live, newest_live, ..FACTS });
                        }
                    }
                }
            }
        }
        errors.iter().for_each(|error| calls.iter().for_each(|call| check(error, call)));
    }

    #[test]
    fn answers_and_deadlines_are_final() {
        for_all(|error, call| {
            if !call.others_live && (error.delivery() == Delivery::Answered || error.is_timeout()) {
                let unimplemented = is_unimplemented(error);
                assert!(unimplemented || decide(error, call) == Verdict::Fail, "{error:?} {call:?}");
            }
        });
    }

    #[test]
    fn only_answers_and_the_deadline_end_live_attempts() {
        for_all(|error, call| {
            let own_deadline = error.is_timeout() && error.delivery() == Delivery::Unknown;
            let answered = error.delivery() == Delivery::Answered && !error.is_timeout();
            let answer = answered && error.phase() != Some(Phase::Decode);
            let unknown_key = error.code() == Code::Aborted && call.once.is_some();
            let fails = decide(error, call) == Verdict::Fail;
            if call.others_live {
                assert_eq!(fails, own_deadline || answer && !unknown_key, "{error:?} {call:?}");
            }
        });
    }

    /// An attempt that has exceeded its hedge time delays no retry, and one that has not leads to the next attempt.
    #[test]
    fn late_attempts_delay_no_retry() {
        for_all(|error, call| {
            let alone = CallFacts { others_live: false, newest_live: false, ..*call };
            let expected = match decide(error, &alone) {
                Verdict::Fail if call.others_live && !ends_others(error, call) => Verdict::AwaitOthers,
                Verdict::Retry { .. } | Verdict::RetryElsewhere if call.newest_live => Verdict::AwaitOthers,
                verdict => verdict,
            };
            assert_eq!(decide(error, call), expected, "{error:?} {call:?}");
        });
    }

    #[test]
    fn rejection_never_ends_a_live_attempt() {
        for_all(|error, call| {
            if call.others_live && error.delivery() == Delivery::NotExecuted {
                assert_ne!(decide(error, call), Verdict::Fail, "{error:?} {call:?}");
            }
        });
    }

    #[test]
    fn attempts_are_limited_to_three_and_to_one_for_an_address() {
        for_all(|error, call| {
            let retries = matches!(decide(error, call), Verdict::Retry { .. } | Verdict::RetryElsewhere);
            assert!(!retries || call.sent <= 2 && (!call.pinned || is_unsent(error)), "{error:?} {call:?}");
        });
    }

    #[test]
    fn calls_that_may_have_executed_repeat_only_if_declared() {
        for_all(|error, call| {
            if error.delivery() == Delivery::Unknown && !call.others_live {
                let permitted = call.idempotent || call.once.is_some();
                let retries = permitted && error.code() == Code::Unavailable && call.permits_attempt();
                let expected = if retries { Verdict::Retry { budgeted: true } } else { Verdict::Fail };
                assert_eq!(decide(error, call), expected, "{error:?} {call:?}");
            }
        });
    }

    #[test]
    fn calls_that_did_not_execute_repeat_if_retryable() {
        for_all(|error, call| {
            if error.delivery() == Delivery::NotExecuted && !error.is_timeout() && !call.others_live {
                let overloaded = error.code() == Code::ResourceExhausted && error.retry_after().is_some();
                let permitted = call.permits_attempt() || is_unsent(error) && call.has_retries();
                let expected = match error.code() {
                    Code::Unimplemented if call.permits_attempt() => Verdict::RetryElsewhere,
                    Code::Unimplemented => Verdict::Fail,
                    _ if !permitted => Verdict::Fail,
                    Code::Unavailable => Verdict::Retry { budgeted: error.phase() != Some(Phase::Send) },
                    _ if overloaded => Verdict::Retry { budgeted: error.phase() != Some(Phase::Send) },
                    _ => Verdict::Fail,
                };
                assert_eq!(decide(error, call), expected, "{error:?} {call:?}");
            }
        });
    }

    #[test]
    fn only_a_cooldown_keeps_the_channel_eligible() {
        for_all(|error, _| {
            let unimplemented = error.code() == Code::Unimplemented && error.delivery() == Delivery::NotExecuted;
            assert_eq!(excludes_channel(error), unimplemented || error.retry_after().is_none(), "{error:?}");
        });
    }

    #[test]
    fn only_a_server_that_stores_answers_pins_the_call() {
        let server = CallFacts { once: Some(Once::Server), ..FACTS };
        for_all(|error, call| {
            let expected = error.delivery() == Delivery::Unknown && call.once == Some(Once::Server);
            assert_eq!(pins_address(error, call), expected, "{error:?} {call:?}");
        });
        assert!(!server.may_repeat(), "a hedge would reach another server");
        assert!(CallFacts { once: Some(Once::Cluster), ..FACTS }.may_repeat());
    }

    /// The rows of the table of retries in the protocol's terms.
    #[test]
    fn verdicts_of_typical_failures() {
        let idempotent = CallFacts { idempotent: true, ..FACTS };
        let lost_unsent = not_executed(Code::Unavailable).with_phase(Phase::Send);
        let overloaded =
            not_executed(Code::ResourceExhausted).with_retry_after(Duration::from_millis(1)).with_phase(Phase::Wait);
        let rows = [
            (decide(&lost_unsent, &FACTS), Verdict::Retry { budgeted: false }),
            (decide(&overloaded, &FACTS), Verdict::Retry { budgeted: true }),
            (decide(&unknown(Code::Unavailable), &FACTS), Verdict::Fail),
            (decide(&unknown(Code::Unavailable), &idempotent), Verdict::Retry { budgeted: true }),
            (decide(&unknown(Code::Unavailable), &CallFacts { sent: 3, ..idempotent }), Verdict::Fail),
            (decide(&not_executed(Code::Unimplemented), &FACTS), Verdict::RetryElsewhere),
            (decide(&not_executed(Code::Unauthenticated), &FACTS), Verdict::Fail),
            (decide(&not_executed(Code::PermissionDenied), &FACTS), Verdict::Fail),
        ];
        for (number, (verdict, expected)) in rows.into_iter().enumerate() {
            assert_eq!(verdict, expected, "row {number}");
        }
    }
}
