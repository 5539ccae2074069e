//! [`Desired`]: what one address should be listed for, and what has to be done about it. No I/O: time and answers come in, actions
//! go out.

use std::{collections::BTreeMap, time::Duration};

use rpc_core::{Code, Error, Instance, RegisterOutcome, ServiceId};
use tokio::{sync::oneshot, time::Instant};

use super::{backoff, naming::is_refusal};

/// How often each service is compared with what is listed.
pub(super) const CHECK_ALL: Duration = Duration::from_secs(30);
/// How often one of the services is, in turn: whatever takes all of them off is found after this time.
pub(super) const CHECK_ONE: Duration = Duration::from_secs(5);

/// After how many checks in a row that do not find a registered instance an operator is assumed to have disabled it.
const DISABLED: u32 = 2;
/// How many checks pass at most between two attempts to register such an instance again.
const MAX_CHECKS: u32 = 8;

/// Where the outcome of a wish is sent. A deregistration is always confirmed.
pub(super) type Reply = oneshot::Sender<Result<RegisterOutcome, Error>>;

/// The services of one address, each with what is wanted and how far it has come.
#[derive(Default)]
pub(super) struct Desired {
    services: BTreeMap<ServiceId, Entry>,
    /// Whether the last call failed: then the next that succeeds means a new connection, after which all is compared.
    outage: bool,
    last_check: Option<Instant>,
}

struct Entry {
    /// As it is to be listed, or as it was listed last.
    instance: Instance,
    want: Want,
    step: Step,
    /// A call is under way. Never two for one service, so that they cannot overtake each other.
    busy: bool,
    /// What was wanted has changed while a call was under way: what it says is about the past.
    changed: bool,
    /// Nacos may know of this instance.
    told: bool,
    failures: u32,
    /// How many checks in a row have not found it, although Nacos has confirmed its registration.
    unlisted: u32,
    /// It was reported that an operator may have disabled it, and it has not been listed since.
    suspected: bool,
    /// The caller has been told that the registration is pending.
    pending: bool,
    reply: Option<Reply>,
}

#[derive(Clone, Copy, PartialEq)]
enum Want {
    Listed,
    Gone,
}

/// What is next, and when.
#[derive(Clone, Copy)]
enum Step {
    Tell(Instant),
    Check(Instant),
}

/// A call to make for a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// List this instance.
    Register(Instance),
    /// Take the instance off.
    Deregister,
    /// See whether the address is listed.
    CheckListed,
    /// See whether this very instance is listed. Another at the same address is another process's, which may have followed this one,
    /// and must stay.
    CheckGone(Instance),
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was told.
    Told(Result<(), Error>),
    /// It was looked up: the weight under which it is listed, or `None` when it is not.
    Listed(Result<Option<f64>, Error>),
}

/// A change of a service's state that is logged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    /// A registration that was pending has been confirmed; `pending` services of this address are not yet.
    Registered { pending: usize },
    /// It is not listed, and is registered again.
    Lost,
    /// It is still not listed although Nacos has confirmed its registration again: an operator may have disabled it.
    Disabled,
    /// It is listed again after [`Disabled`](Self::Disabled).
    ListedAgain,
    /// It is listed with another weight than it was registered with. That weight is kept.
    Reweighted { weight: f64 },
}

impl Desired {
    /// Wants `service` listed as `Some` or gone, from now on.
    pub(super) fn want(&mut self, now: Instant, service: ServiceId, instance: Option<Instance>, reply: Option<Reply>) {
        let known = self.services.remove(&service);
        let (busy, told) = known.as_ref().map_or((false, false), |entry| (entry.busy, entry.told));
        let listed = known.map(|mut entry| {
            let superseded = || Error::not_executed(Code::Aborted, "another registration took its place");
            answer(entry.reply.take(), Err(superseded()));
            entry.instance
        });
        let (want, instance) = match (instance, listed) {
            (Some(instance), _) => (Want::Listed, instance),
            (None, Some(listed)) if told => (Want::Gone, listed),
            // Nacos was never told, so there is nothing to take off.
            (None, _) => {
                answer(reply, Ok(RegisterOutcome::Confirmed));
                return;
            }
        };
        let step = Step::Tell(now);
        let entry = Entry {
            instance,
            want,
            step,
            busy,
            changed: busy,
            told,
            failures: 0,
            unlisted: 0,
            suspected: false,
            pending: false,
            reply,
        };
        self.services.insert(service, entry);
    }

    /// Wants everything gone. Returns whether there is anything.
    pub(super) fn want_nothing(&mut self, now: Instant) -> bool {
        let services: Vec<_> = self.services.keys().cloned().collect();
        for service in services {
            self.want(now, service, None, None);
        }
        !self.is_empty()
    }

    /// Whether nothing is wanted and nothing has to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether everything that is to go has been told to, although not yet verified.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.services.values().all(|entry| matches!((entry.want, entry.step), (Want::Gone, Step::Check(_))))
    }

    /// The next call that is due at `now`. Its outcome must come back through [`handle_outcome`](Self::handle_outcome).
    pub(super) fn poll_action(&mut self, now: Instant) -> Option<(ServiceId, Action)> {
        let due = |entry: &Entry| !entry.busy && entry.due() <= now;
        let service = match self.services.iter().find(|(_, entry)| due(entry)) {
            Some((service, _)) => service.clone(),
            None if self.next_turn().is_some_and(|turn| turn <= now) => {
                let listed = self.services.iter().filter(|(_, entry)| entry.rests());
                listed.min_by_key(|(_, entry)| entry.due())?.0.clone()
            }
            None => return None,
        };
        let entry = self.services.get_mut(&service)?;
        entry.busy = true;
        let action = match (entry.step, entry.want) {
            (Step::Check(_), Want::Listed) => {
                self.last_check = Some(now);
                Action::CheckListed
            }
            (Step::Check(_), Want::Gone) => Action::CheckGone(entry.instance.clone()),
            (Step::Tell(_), Want::Listed) => {
                entry.told = true;
                Action::Register(entry.instance.clone())
            }
            (Step::Tell(_), Want::Gone) => Action::Deregister,
        };
        Some((service, action))
    }

    /// When [`poll_action`](Self::poll_action) has something next, if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.services.values().filter(|entry| !entry.busy).map(Entry::due);
        due.chain(self.next_turn()).min()
    }

    /// When the next service is compared out of its turn.
    fn next_turn(&self) -> Option<Instant> {
        let turn = self.last_check? + CHECK_ONE;
        self.services.values().any(Entry::rests).then_some(turn)
    }

    /// Takes note of how the call for `service` ended.
    pub(super) fn handle_outcome(&mut self, now: Instant, service: &ServiceId, outcome: Outcome) -> Option<Event> {
        let error = match &outcome {
            Outcome::Told(told) => told.as_ref().err(),
            Outcome::Listed(listed) => listed.as_ref().err(),
        };
        // A refusal of one service says nothing of the connection.
        let failed = error.is_some_and(|error| error.code() == Code::Unavailable);
        let reconnected = self.outage && !failed;
        self.outage = failed;
        match outcome {
            // A list may be as old as a second, so it is not compared with a registration that is younger.
            Outcome::Told(Ok(())) => self.last_check = Some(now),
            _ => _ = self.last_check.get_or_insert(now),
        }
        let mut entry = self.services.remove(service)?;
        entry.busy = false;
        if reconnected {
            // A restarted server has forgotten its registrations, so they are made at once, also of instances that were disabled before.
            entry.unlisted = 0;
            self.services.values_mut().for_each(|entry| entry.unlisted = 0);
        }
        let (kept, mut event) = if std::mem::take(&mut entry.changed) {
            // What is wanted now has not been told yet, and `step` says so.
            (Some(entry), None)
        } else {
            match outcome {
                Outcome::Told(told) => entry.handle_told(now, told),
                Outcome::Listed(Ok(weight)) => entry.handle_listed(now, weight),
                Outcome::Listed(Err(_)) => {
                    entry.failures += 1;
                    entry.step = Step::Check(now + backoff::delay(entry.failures));
                    (Some(entry), None)
                }
            }
        };
        if event == Some(Event::Lost) || reconnected {
            // The cause of this loss, or the new connection, may have removed the others.
            for entry in self.services.values_mut() {
                entry.check_now(now);
            }
        }
        if let Some(entry) = kept {
            self.services.insert(service.clone(), entry);
        }
        if let Some(Event::Registered { pending }) = &mut event {
            *pending = self.services.values().filter(|entry| entry.pending).count();
        }
        event
    }

    /// Takes note that there is no connection.
    ///
    /// A caller that registers is told that the registration is pending, unless Nacos refuses the caller. One that deregisters gets the
    /// error.
    pub(super) fn handle_no_connection(&mut self, now: Instant, error: impl Fn() -> Error) {
        self.outage = true;
        let refused = is_refusal(&error());
        self.services.retain(|_, entry| {
            let reply = entry.reply.take();
            let (registers, waits) = (entry.want == Want::Listed, reply.is_some());
            entry.pending |= registers;
            answer(reply, if registers && !refused { Ok(RegisterOutcome::Pending) } else { Err(error()) });
            entry.step = Step::Tell(now);
            // An error means that it is not registered. Without a connection nothing is listed that could have to go.
            registers && !(refused && waits)
        });
    }
}

impl Entry {
    fn due(&self) -> Instant {
        match self.step {
            Step::Tell(at) | Step::Check(at) => at,
        }
    }

    /// Whether it is listed as far as is known, and waits for its next check.
    fn rests(&self) -> bool {
        !self.busy && self.unlisted < DISABLED && matches!((self.want, self.step), (Want::Listed, Step::Check(_)))
    }

    fn check_now(&mut self, now: Instant) {
        if let Step::Check(at) = &mut self.step {
            *at = now.min(*at);
        }
    }

    fn handle_told(mut self, now: Instant, told: Result<(), Error>) -> (Option<Self>, Option<Event>) {
        let listed = self.want == Want::Listed;
        match told {
            Ok(()) => {
                self.failures = 0;
                // One that is gone is looked for once more soon: the SDK may have listed it anew at the same moment.
                self.step = Step::Check(now + if listed { CHECK_ALL } else { CHECK_ONE });
                let waited = self.reply.is_some();
                let heard = answer(self.reply.take(), Ok(RegisterOutcome::Confirmed));
                let late = std::mem::take(&mut self.pending) || waited && !heard;
                (Some(self), (listed && late).then_some(Event::Registered { pending: 0 }))
            }
            Err(error) => {
                let hopeless = is_refusal(&error) || error.code() == Code::InvalidArgument;
                if listed && hopeless && self.reply.is_some() {
                    answer(self.reply.take(), Err(error));
                    return (None, None);
                }
                self.pending |= listed && self.reply.is_some();
                answer(self.reply.take(), if listed { Ok(RegisterOutcome::Pending) } else { Err(error) });
                self.failures += 1;
                self.step = Step::Tell(now + backoff::delay(self.failures));
                (Some(self), None)
            }
        }
    }

    fn handle_listed(mut self, now: Instant, weight: Option<f64>) -> (Option<Self>, Option<Event>) {
        self.failures = 0;
        let mut event = None;
        match (self.want, weight) {
            (Want::Gone, None) => return (None, None),
            (Want::Gone, Some(_)) => self.step = Step::Tell(now),
            (Want::Listed, Some(weight)) => {
                self.step = Step::Check(now + CHECK_ALL);
                self.unlisted = 0;
                if std::mem::take(&mut self.suspected) {
                    event = Some(Event::ListedAgain);
                }
                // An operator's weight outlives a new registration.
                let known = self.instance.weight();
                self.instance = self.instance.with_weight(weight);
                if event.is_none() && self.instance.weight() != known {
                    event = Some(Event::Reweighted { weight });
                }
            }
            (Want::Listed, None) => {
                self.unlisted += 1;
                event = match self.unlisted {
                    _ if self.suspected => None,
                    1 => Some(Event::Lost),
                    _ => Some(Event::Disabled),
                };
                self.suspected |= self.unlisted >= DISABLED;
                let again = self.unlisted.is_power_of_two() && self.unlisted < MAX_CHECKS
                    || self.unlisted.is_multiple_of(MAX_CHECKS);
                self.step = if again { Step::Tell(now) } else { Step::Check(now + CHECK_ALL) };
            }
        }
        (Some(self), event)
    }
}

/// Returns whether the caller still waits.
fn answer(reply: Option<Reply>, outcome: Result<RegisterOutcome, Error>) -> bool {
    reply.is_some_and(|reply| reply.send(outcome).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServiceId = ServiceId::from_static("a", "1");
    const B: ServiceId = ServiceId::from_static("b", "1");

    fn instance() -> Instance {
        Instance::new(([10, 0, 0, 1], 1).into())
    }

    fn register() -> Action {
        Action::Register(instance())
    }

    fn away() -> Error {
        Error::not_executed(Code::Unavailable, "away")
    }

    fn refused() -> Error {
        Error::not_executed(Code::PermissionDenied, "no")
    }

    /// A `Desired` whose services are listed, and the time.
    fn listed(services: &[ServiceId]) -> (Desired, Instant) {
        let (mut desired, now) = (Desired::default(), Instant::now());
        for service in services {
            desired.want(now, service.clone(), Some(instance()), None);
            assert_eq!(desired.poll_action(now), Some((service.clone(), register())));
            desired.handle_outcome(now, service, Outcome::Told(Ok(())));
        }
        assert_eq!(desired.poll_action(now), None);
        (desired, now)
    }

    fn wait(
        desired: &mut Desired,
        service: ServiceId,
        instance: Option<Instance>,
    ) -> oneshot::Receiver<Result<RegisterOutcome, Error>> {
        let (reply, told) = oneshot::channel();
        desired.want(Instant::now(), service, instance, Some(reply));
        told
    }

    #[test]
    fn lost_instance_is_registered_again_and_others_are_checked() {
        let (mut desired, start) = listed(&[A, B]);
        let now = start + CHECK_ONE;
        assert_eq!(desired.next_due(), Some(now));
        assert_eq!(desired.poll_action(now), Some((A, Action::CheckListed)));
        assert_eq!(desired.poll_action(now), None);
        assert_eq!(desired.handle_outcome(now, &A, Outcome::Listed(Ok(None))), Some(Event::Lost));
        assert_eq!(desired.poll_action(now), Some((A, register())));
        assert_eq!(desired.poll_action(now), Some((B, Action::CheckListed)));
    }

    /// Lets the next check find `weight`, and answers what follows it; returns when it was, its event, and whether it registered again.
    fn check(desired: &mut Desired, weight: Option<f64>) -> (Instant, Option<Event>, bool) {
        let due = desired.next_due().unwrap();
        let (service, action) = desired.poll_action(due).unwrap();
        assert_eq!(action, Action::CheckListed);
        let event = desired.handle_outcome(due, &service, Outcome::Listed(Ok(weight)));
        let registers = desired.poll_action(due);
        if registers.is_some() {
            assert_eq!(desired.handle_outcome(due, &service, Outcome::Told(Ok(()))), None);
        }
        (due, event, registers.is_some())
    }

    #[test]
    fn disabled_instance_is_reported_once_and_attempts_back_off() {
        let (mut desired, start) = listed(&[A]);
        let (found, event, registers) = check(&mut desired, None);
        assert_eq!((event, registers), (Some(Event::Lost), true));
        let (suspected, event, registers) = check(&mut desired, None);
        assert_eq!((event, registers), (Some(Event::Disabled), true));
        assert!(found <= start + CHECK_ONE && suspected <= found + CHECK_ONE);

        let mut last = suspected;
        let mut attempts = Vec::new();
        for checks in 3..=24 {
            let (due, event, registers) = check(&mut desired, None);
            assert_eq!((due, event), (last + CHECK_ALL, None));
            attempts.extend(registers.then_some(checks));
            last = due;
        }
        assert_eq!(attempts, [4, 8, 16, 24]);

        let (_, event, registers) = check(&mut desired, Some(1.0));
        assert_eq!((event, registers), (Some(Event::ListedAgain), false));
        assert_eq!(check(&mut desired, None).1, Some(Event::Lost));
    }

    #[test]
    fn disabled_instance_is_registered_again_after_an_outage() {
        let (mut desired, _) = listed(&[A]);
        check(&mut desired, None);
        check(&mut desired, None);
        check(&mut desired, None);
        let due = desired.next_due().unwrap();
        desired.poll_action(due).unwrap();
        assert_eq!(desired.handle_outcome(due, &A, Outcome::Listed(Err(away()))), None);
        // It is not reported anew.
        let (_, event, registers) = check(&mut desired, None);
        assert_eq!((event, registers), (None, true));
        assert_eq!(check(&mut desired, Some(1.0)).1, Some(Event::ListedAgain));
    }

    #[test]
    fn weight_set_by_an_operator_is_registered_again() {
        let (mut desired, _) = listed(&[A]);
        assert_eq!(check(&mut desired, Some(5.0)).1, Some(Event::Reweighted { weight: 5.0 }));
        assert_eq!(check(&mut desired, Some(5.0)).1, None);
        let due = desired.next_due().unwrap();
        desired.poll_action(due).unwrap();
        desired.handle_outcome(due, &A, Outcome::Listed(Ok(None)));
        assert_eq!(desired.poll_action(due), Some((A, Action::Register(instance().with_weight(5.0)))));
    }

    #[test]
    fn late_confirmations_are_reported_with_those_still_pending() {
        let (mut desired, now) = (Desired::default(), Instant::now());
        let (mut a, mut b) = (wait(&mut desired, A, Some(instance())), wait(&mut desired, B, Some(instance())));
        desired.handle_no_connection(now, away);
        for reply in [&mut a, &mut b] {
            assert_eq!(reply.try_recv().unwrap().unwrap(), RegisterOutcome::Pending);
        }
        for (service, pending) in [(A, 1), (B, 0)] {
            assert_eq!(desired.poll_action(now), Some((service.clone(), register())));
            let event = desired.handle_outcome(now, &service, Outcome::Told(Ok(())));
            assert_eq!(event, Some(Event::Registered { pending }));
        }
        // A caller that waits hears of it itself.
        let mut c = wait(&mut desired, A, Some(instance()));
        let now = Instant::now();
        desired.poll_action(now).unwrap();
        assert_eq!(desired.handle_outcome(now, &A, Outcome::Told(Ok(()))), None);
        assert_eq!(c.try_recv().unwrap().unwrap(), RegisterOutcome::Confirmed);
    }

    #[test]
    fn services_take_turns_and_each_is_checked_within_its_period() {
        let (mut desired, start) = listed(&[A, B]);
        let mut seen = Vec::new();
        while let Some(due) = desired.next_due().filter(|due| *due <= start + CHECK_ALL) {
            let (service, action) = desired.poll_action(due).unwrap();
            assert_eq!(action, Action::CheckListed);
            desired.handle_outcome(due, &service, Outcome::Listed(Ok(Some(1.0))));
            seen.push((service, (due - start).as_secs()));
        }
        let expected = [(A, 5), (B, 10), (A, 15), (B, 20), (A, 25), (B, 30)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_new_connection_has_everything_checked() {
        let (mut desired, start) = listed(&[A, B]);
        let now = start + CHECK_ONE;
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &A, Outcome::Listed(Err(away())));
        assert_eq!(desired.poll_action(now), None);
        let now = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(now), Some((A, Action::CheckListed)));
        desired.handle_outcome(now, &A, Outcome::Listed(Ok(Some(1.0))));
        assert_eq!(desired.poll_action(now), Some((B, Action::CheckListed)));
    }

    #[test]
    fn a_deregistration_in_an_outage_is_remembered_and_verified() {
        let (mut desired, now) = listed(&[A]);
        let mut told = wait(&mut desired, A, None);
        assert_eq!(desired.poll_action(Instant::now()), Some((A, Action::Deregister)));
        desired.handle_outcome(now, &A, Outcome::Told(Err(away())));
        assert_eq!(told.try_recv().unwrap().unwrap_err().code(), Code::Unavailable);

        let now = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(now), Some((A, Action::Deregister)));
        desired.handle_outcome(now, &A, Outcome::Told(Ok(())));
        assert!(desired.is_withdrawn() && !desired.is_empty());

        // The SDK had listed it again meanwhile.
        let now = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(now), Some((A, Action::CheckGone(instance()))));
        desired.handle_outcome(now, &A, Outcome::Listed(Ok(Some(1.0))));
        assert_eq!(desired.poll_action(now), Some((A, Action::Deregister)));
        desired.handle_outcome(now, &A, Outcome::Told(Ok(())));
        let now = desired.next_due().unwrap();
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &A, Outcome::Listed(Ok(None)));
        assert!(desired.is_empty());
    }

    #[test]
    fn what_changes_during_a_call_is_told_after_it() {
        let (mut desired, now) = (Desired::default(), Instant::now());
        let mut first = wait(&mut desired, A, Some(instance()));
        let later = now + Duration::from_secs(1);
        desired.poll_action(later).unwrap();
        let mut second = wait(&mut desired, A, None);
        assert_eq!(first.try_recv().unwrap().unwrap_err().code(), Code::Aborted);
        assert_eq!(desired.poll_action(later), None, "one call at a time");
        desired.handle_outcome(later, &A, Outcome::Told(Ok(())));
        assert!(second.try_recv().is_err());
        assert_eq!(desired.poll_action(later), Some((A, Action::Deregister)));
        desired.handle_outcome(later, &A, Outcome::Told(Ok(())));
        assert!(second.try_recv().unwrap().is_ok());
    }

    #[test]
    fn who_registers_hears_of_a_refusal_but_not_of_an_outage() {
        let (mut desired, now) = (Desired::default(), Instant::now() + Duration::from_secs(1));
        let (mut a, mut b) = (wait(&mut desired, A, Some(instance())), wait(&mut desired, B, Some(instance())));
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &A, Outcome::Told(Err(away())));
        assert!(a.try_recv().unwrap().is_ok());
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &B, Outcome::Told(Err(refused())));
        assert_eq!(b.try_recv().unwrap().unwrap_err().code(), Code::PermissionDenied);
        assert!(!desired.is_empty());

        // A was accepted once, so it is tried for ever.
        let later = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(later), Some((A, register())));
        desired.handle_outcome(later, &A, Outcome::Told(Err(refused())));
        assert!(desired.next_due().is_some_and(|due| due > later));
    }

    #[test]
    fn without_a_connection_it_is_the_same() {
        let (mut desired, now) = (Desired::default(), Instant::now());
        let mut a = wait(&mut desired, A, Some(instance()));
        desired.handle_no_connection(now, away);
        assert!(a.try_recv().unwrap().is_ok());
        let mut b = wait(&mut desired, B, Some(instance()));
        desired.handle_no_connection(now, refused);
        assert_eq!(b.try_recv().unwrap().unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(desired.poll_action(now), Some((A, register())));
        assert_eq!(desired.poll_action(now), None);
    }

    #[test]
    fn what_nacos_never_heard_of_is_gone_at_once() {
        let mut desired = Desired::default();
        let mut registered = wait(&mut desired, A, Some(instance()));
        let mut gone = wait(&mut desired, A, None);
        assert!(registered.try_recv().unwrap().is_err());
        assert!(gone.try_recv().unwrap().is_ok());
        assert!(desired.is_empty());
    }
}
