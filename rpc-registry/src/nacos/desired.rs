//! [`Desired`]: what one address should be listed for, and what has to be done about it. No I/O: time and answers come in, actions
//! go out.

use std::{collections::BTreeMap, time::Duration};

use rpc_core::{Code, Error, Instance, ServiceId};
use tokio::{sync::oneshot, time::Instant};

use super::{backoff, naming::is_refusal};

/// How often each service is compared with what is listed.
pub(super) const CHECK_ALL: Duration = Duration::from_secs(30);
/// How often one of the services is, in turn: whatever takes all of them off is found after this time.
pub(super) const CHECK_ONE: Duration = Duration::from_secs(5);

/// Where the outcome of a wish is told.
pub(super) type Reply = oneshot::Sender<Result<(), Error>>;

/// The services of one address, each with what is wanted and how far it has come.
#[derive(Default)]
pub(super) struct Desired {
    services: BTreeMap<ServiceId, Entry>,
    /// Whether the last call failed: then the next that succeeds means a new connection, after which all is compared.
    outage: bool,
    last_check: Option<Instant>,
    /// How often something that should have been listed was not.
    unlisted: u64,
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
    /// It was looked up.
    Listed(Result<bool, Error>),
}

impl Desired {
    /// Wants `service` listed as `Some` or gone, from now on.
    pub(super) fn want(&mut self, now: Instant, service: ServiceId, instance: Option<Instance>, reply: Option<Reply>) {
        let known = self.services.remove(&service);
        let (busy, told) = known.as_ref().map_or((false, false), |entry| (entry.busy, entry.told));
        let listed = known.map(|mut entry| {
            let superseded = || Error::new(Code::Aborted, "another registration took its place");
            answer(entry.reply.take(), Err(superseded()));
            entry.instance
        });
        let (want, instance) = match (instance, listed) {
            (Some(instance), _) => (Want::Listed, instance),
            (None, Some(listed)) if told => (Want::Gone, listed),
            // Nacos was never told, so there is nothing to take off.
            (None, _) => return answer(reply, Ok(())),
        };
        let step = Step::Tell(now);
        self.services.insert(service, Entry { instance, want, step, busy, changed: busy, told, failures: 0, reply });
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

    /// How often something that should have been listed was not.
    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted
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
    pub(super) fn handle_outcome(&mut self, now: Instant, service: &ServiceId, outcome: Outcome) {
        let failed = matches!(outcome, Outcome::Told(Err(_)) | Outcome::Listed(Err(_)));
        let reconnected = self.outage && !failed;
        self.outage = failed;
        self.last_check.get_or_insert(now);
        let Some(mut entry) = self.services.remove(service) else { return };
        entry.busy = false;
        let mut lost = false;
        let kept = if std::mem::take(&mut entry.changed) {
            // What is wanted now has not been told yet, and `step` says so.
            Some(entry)
        } else {
            match outcome {
                Outcome::Told(told) => entry.handle_told(now, told),
                Outcome::Listed(Ok(listed)) => {
                    lost = !listed && entry.want == Want::Listed;
                    entry.handle_listed(now, listed)
                }
                Outcome::Listed(Err(_)) => {
                    entry.failures += 1;
                    entry.step = Step::Check(now + backoff::delay(entry.failures));
                    Some(entry)
                }
            }
        };
        self.unlisted += u64::from(lost);
        if lost || reconnected {
            // What took this one off, or the new connection, may have taken off the others.
            for entry in self.services.values_mut() {
                entry.check_now(now);
            }
        }
        if let Some(entry) = kept {
            self.services.insert(service.clone(), entry);
        }
    }

    /// Takes note that there is no connection.
    ///
    /// Who registers is told that all is well, unless Nacos refuses the caller: the attempts go on. Who deregisters is not.
    pub(super) fn handle_no_connection(&mut self, now: Instant, error: impl Fn() -> Error) {
        self.outage = true;
        let refused = is_refusal(&error());
        self.services.retain(|_, entry| {
            let reply = entry.reply.take();
            let (registers, waits) = (entry.want == Want::Listed, reply.is_some());
            answer(reply, if registers && !refused { Ok(()) } else { Err(error()) });
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
        !self.busy && matches!((self.want, self.step), (Want::Listed, Step::Check(_)))
    }

    fn check_now(&mut self, now: Instant) {
        if let Step::Check(at) = &mut self.step {
            *at = now.min(*at);
        }
    }

    fn handle_told(mut self, now: Instant, told: Result<(), Error>) -> Option<Self> {
        let listed = self.want == Want::Listed;
        match told {
            Ok(()) => {
                self.failures = 0;
                // One that is gone is looked for once more soon: the SDK may have listed it anew at the same moment.
                self.step = Step::Check(now + if listed { CHECK_ALL } else { CHECK_ONE });
                answer(self.reply.take(), Ok(()));
            }
            Err(error) => {
                let hopeless = is_refusal(&error) || error.code() == Code::InvalidArgument;
                if listed && hopeless && self.reply.is_some() {
                    answer(self.reply.take(), Err(error));
                    return None;
                }
                answer(self.reply.take(), if listed { Ok(()) } else { Err(error) });
                self.failures += 1;
                self.step = Step::Tell(now + backoff::delay(self.failures));
            }
        }
        Some(self)
    }

    fn handle_listed(mut self, now: Instant, listed: bool) -> Option<Self> {
        self.failures = 0;
        match (self.want, listed) {
            (Want::Gone, false) => return None,
            (Want::Listed, true) => self.step = Step::Check(now + CHECK_ALL),
            (Want::Listed, false) | (Want::Gone, true) => self.step = Step::Tell(now),
        }
        Some(self)
    }
}

fn answer(reply: Option<Reply>, outcome: Result<(), Error>) {
    if let Some(reply) = reply {
        // Who asked may have gone.
        let _ = reply.send(outcome);
    }
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
        Error::new(Code::Unavailable, "away")
    }

    fn refused() -> Error {
        Error::new(Code::PermissionDenied, "no")
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
    ) -> oneshot::Receiver<Result<(), Error>> {
        let (reply, told) = oneshot::channel();
        desired.want(Instant::now(), service, instance, Some(reply));
        told
    }

    #[test]
    fn what_is_lost_is_registered_again_and_the_others_are_checked() {
        let (mut desired, start) = listed(&[A, B]);
        let now = start + CHECK_ONE;
        assert_eq!(desired.next_due(), Some(now));
        assert_eq!(desired.poll_action(now), Some((A, Action::CheckListed)));
        assert_eq!(desired.poll_action(now), None);
        desired.handle_outcome(now, &A, Outcome::Listed(Ok(false)));
        assert_eq!(desired.unlisted(), 1);
        assert_eq!(desired.poll_action(now), Some((A, register())));
        assert_eq!(desired.poll_action(now), Some((B, Action::CheckListed)));
    }

    #[test]
    fn services_take_turns_and_each_is_checked_within_its_period() {
        let (mut desired, start) = listed(&[A, B]);
        let mut seen = Vec::new();
        while let Some(due) = desired.next_due().filter(|due| *due <= start + CHECK_ALL) {
            let (service, action) = desired.poll_action(due).unwrap();
            assert_eq!(action, Action::CheckListed);
            desired.handle_outcome(due, &service, Outcome::Listed(Ok(true)));
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
        desired.handle_outcome(now, &A, Outcome::Listed(Ok(true)));
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
        desired.handle_outcome(now, &A, Outcome::Listed(Ok(true)));
        assert_eq!(desired.poll_action(now), Some((A, Action::Deregister)));
        desired.handle_outcome(now, &A, Outcome::Told(Ok(())));
        let now = desired.next_due().unwrap();
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &A, Outcome::Listed(Ok(false)));
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
