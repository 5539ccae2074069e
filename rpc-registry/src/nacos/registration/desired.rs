//! [`DesiredState`]: the services for which one address should be listed, and the next requests.
//!
//! No I/O: the driver passes in the time and the outcomes, and executes the returned actions.

use std::{collections::BTreeMap, time::Duration};

use rpc_core::{Code, Error, Instance, ServiceId};
use tokio::time::Instant;

use super::{
    action::{Action, Event, Outcome, Reply},
    service::{ROTATION_INTERVAL, ServiceState},
};
use crate::nacos::pace::pause_after;

/// The services of one address with their states.
#[derive(Default)]
pub(super) struct DesiredState {
    services: BTreeMap<ServiceId, ServiceState>,
    /// The last request failed.
    ///
    /// The next success means a new connection, after which every service is checked.
    outage: bool,
    last_check: Option<Instant>,
    /// The earliest time of the next check, unless an event causes it: the last list was long.
    paced_until: Option<Instant>,
    /// The pause after the last list.
    pause: Duration,
}

impl DesiredState {
    /// Sets the target of `service`: listed as `instance`, or removed if `None`.
    pub(super) fn set_target(
        &mut self,
        now: Instant,
        service: ServiceId,
        instance: Option<Instance>,
        reply: Option<Reply>,
    ) {
        let previous = self.services.remove(&service);
        if let Some(state) = ServiceState::new(now, previous, instance, reply) {
            self.services.insert(service, state);
        }
    }

    /// Sets the target of every service to removed.
    pub(super) fn remove_all(&mut self, now: Instant) {
        let services: Vec<_> = self.services.keys().cloned().collect();
        for service in services {
            self.set_target(now, service, None, None);
        }
    }

    /// Returns whether no service is desired and nothing remains to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Returns whether every service is to be removed and its deregistration was sent.
    ///
    /// The checks may be outstanding.
    pub(super) fn is_removal_sent(&self) -> bool {
        self.services.values().all(ServiceState::is_removal_sent)
    }

    /// Returns the next request that is due at `now`. Its outcome must be passed to
    /// [`handle_outcome`](Self::handle_outcome).
    pub(super) fn poll_action(&mut self, now: Instant) -> Option<(ServiceId, Action)> {
        let due = |state: &ServiceState| !state.in_flight && self.due(state) <= now;
        let first = self.services.iter().filter(|(_, state)| due(state)).min_by_key(|(_, state)| state.due());
        let service = match first {
            Some((service, _)) => service.clone(),
            None if self.next_rotation().is_some_and(|at| at <= now) => {
                let listed = self.services.iter().filter(|(_, state)| state.awaits_check());
                listed.min_by_key(|(_, state)| state.due())?.0.clone()
            }
            None => return None,
        };
        let action = self.services.get_mut(&service)?.start_step();
        if action == Action::CheckListed {
            self.last_check = Some(now);
            if let Some(until) = &mut self.paced_until {
                *until = now + self.pause;
            }
        }
        Some((service, action))
    }

    /// Returns when [`poll_action`](Self::poll_action) has the next action, if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.services.values().filter(|state| !state.in_flight).map(|state| self.due(state));
        due.chain(self.next_rotation()).min()
    }

    /// Returns when the rotation checks the next service, ahead of that service's own interval.
    fn next_rotation(&self) -> Option<Instant> {
        let at = Some(self.last_check? + ROTATION_INTERVAL).max(self.paced_until)?;
        self.services.values().any(ServiceState::awaits_check).then_some(at)
    }

    fn due(&self, state: &ServiceState) -> Instant {
        let paced = self.paced_until.filter(|_| state.is_listed_check());
        paced.map_or(state.due(), |paced| paced.max(state.due()))
    }

    /// Handles the outcome of the request for `service`.
    pub(super) fn handle_outcome(&mut self, now: Instant, service: &ServiceId, outcome: Outcome) -> Option<Event> {
        let error = match &outcome {
            Outcome::Sent(result) => result.as_ref().err(),
            Outcome::Checked(result) => result.as_ref().err(),
        };
        // The rejection of one service does not indicate a broken connection.
        let failed = error.is_some_and(|error| error.code() == Code::Unavailable);
        let reconnected = self.outage && !failed;
        self.outage = failed;
        if let Outcome::Checked(Ok(listing)) = &outcome {
            self.pause = pause_after(listing.len);
            self.paced_until = self.paced_until.max(Some(now + self.pause));
        }
        match outcome {
            // A list may be a second old, so it must not be compared with a younger registration.
            Outcome::Sent(Ok(())) => self.last_check = Some(now),
            _ => _ = self.last_check.get_or_insert(now),
        }
        let mut state = self.services.remove(service)?;
        state.in_flight = false;
        if reconnected {
            // A restarted server has lost its registrations, so they are sent at once, also for instances that were
            // disabled before.
            state.unlisted = 0;
            self.services.values_mut().for_each(|state| state.unlisted = 0);
        }
        let (state, mut event) = state.handle_outcome(now, outcome);
        if event == Some(Event::Lost) || reconnected {
            // The cause of this loss, or of the reconnect, may have removed the other services too.
            self.services.values_mut().for_each(|state| state.check_now(now));
            self.paced_until = None;
        }
        if let Some(state) = state {
            self.services.insert(service.clone(), state);
        }
        if let Some(Event::Registered { pending }) = &mut event {
            *pending = self.services.values().filter(|state| state.pending).count();
        }
        event
    }

    /// Handles a failed connection attempt.
    ///
    /// A caller that registers receives `Pending`, or the error if Nacos rejects the user. A caller that deregisters
    /// receives the error.
    pub(super) fn handle_no_connection(&mut self, now: Instant, error: impl Fn() -> Error) {
        self.outage = true;
        self.services.retain(|_, state| state.handle_no_connection(now, &error));
    }
}

#[cfg(test)]
mod tests {
    use rpc_core::RegisterOutcome;
    use tokio::sync::oneshot;

    use super::{
        super::{action::Listing, service::CHECK_INTERVAL},
        *,
    };

    const A: ServiceId = ServiceId::from_static("a", "1");
    const B: ServiceId = ServiceId::from_static("b", "1");

    fn instance() -> Instance {
        Instance::new(([10, 0, 0, 1], 1).into())
    }

    fn register() -> Action {
        Action::Register(instance())
    }

    /// Returns the outcome of a check in a short list.
    fn checked(weight: Option<f64>) -> Outcome {
        Outcome::Checked(Ok(Listing { weight, len: 1 }))
    }

    fn unavailable() -> Error {
        Error::not_executed(Code::Unavailable, "unavailable")
    }

    fn rejected() -> Error {
        Error::not_executed(Code::PermissionDenied, "rejected")
    }

    /// Returns a state whose services are listed, and the time.
    fn listed(services: &[ServiceId]) -> (DesiredState, Instant) {
        let (mut desired, now) = (DesiredState::default(), Instant::now());
        for service in services {
            desired.set_target(now, service.clone(), Some(instance()), None);
            assert_eq!(desired.poll_action(now), Some((service.clone(), register())));
            desired.handle_outcome(now, service, Outcome::Sent(Ok(())));
        }
        assert_eq!(desired.poll_action(now), None);
        (desired, now)
    }

    fn submit(
        desired: &mut DesiredState,
        service: ServiceId,
        instance: Option<Instance>,
    ) -> oneshot::Receiver<Result<RegisterOutcome, Error>> {
        let (reply, outcome) = oneshot::channel();
        desired.set_target(Instant::now(), service, instance, Some(reply));
        outcome
    }

    #[test]
    fn lost_instance_is_registered_and_others_checked() {
        let (mut desired, start) = listed(&[A, B]);
        let now = start + ROTATION_INTERVAL;
        assert_eq!(desired.next_due(), Some(now));
        assert_eq!(desired.poll_action(now), Some((A, Action::CheckListed)));
        assert_eq!(desired.poll_action(now), None);
        assert_eq!(desired.handle_outcome(now, &A, checked(None)), Some(Event::Lost));
        assert_eq!(desired.poll_action(now), Some((A, register())));
        assert_eq!(desired.poll_action(now), Some((B, Action::CheckListed)));
    }

    /// Completes the next check with `weight`, and a registration that follows it.
    ///
    /// Returns the time and the event of the check, and whether a registration followed.
    fn check(desired: &mut DesiredState, weight: Option<f64>) -> (Instant, Option<Event>, bool) {
        let due = desired.next_due().unwrap();
        let (service, action) = desired.poll_action(due).unwrap();
        assert_eq!(action, Action::CheckListed);
        let event = desired.handle_outcome(due, &service, checked(weight));
        let registers = desired.poll_action(due);
        if registers.is_some() {
            assert_eq!(desired.handle_outcome(due, &service, Outcome::Sent(Ok(()))), None);
        }
        (due, event, registers.is_some())
    }

    #[test]
    fn disabled_instance_is_reported_once_and_backs_off() {
        let (mut desired, start) = listed(&[A]);
        let (lost, event, registers) = check(&mut desired, None);
        assert_eq!((event, registers), (Some(Event::Lost), true));
        let (disabled, event, registers) = check(&mut desired, None);
        assert_eq!((event, registers), (Some(Event::Disabled), true));
        assert!(lost <= start + ROTATION_INTERVAL && disabled <= lost + ROTATION_INTERVAL);

        let mut last = disabled;
        let mut attempts = Vec::new();
        for checks in 3..=24 {
            let (due, event, registers) = check(&mut desired, None);
            assert_eq!((due, event), (last + CHECK_INTERVAL, None));
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
        assert_eq!(desired.handle_outcome(due, &A, Outcome::Checked(Err(unavailable()))), None);
        // The event is not reported again.
        let (_, event, registers) = check(&mut desired, None);
        assert_eq!((event, registers), (None, true));
        assert_eq!(check(&mut desired, Some(1.0)).1, Some(Event::ListedAgain));
    }

    #[test]
    fn weight_set_by_an_operator_is_registered_again() {
        let (mut desired, _) = listed(&[A]);
        assert_eq!(check(&mut desired, Some(5.0)).1, Some(Event::WeightChanged { weight: 5.0 }));
        assert_eq!(check(&mut desired, Some(5.0)).1, None);
        let due = desired.next_due().unwrap();
        desired.poll_action(due).unwrap();
        desired.handle_outcome(due, &A, checked(None));
        assert_eq!(desired.poll_action(due), Some((A, Action::Register(instance().with_weight(5.0)))));
    }

    #[test]
    fn late_confirmation_reports_pending_services() {
        let (mut desired, now) = (DesiredState::default(), Instant::now());
        let (mut a, mut b) = (submit(&mut desired, A, Some(instance())), submit(&mut desired, B, Some(instance())));
        desired.handle_no_connection(now, unavailable);
        for reply in [&mut a, &mut b] {
            assert_eq!(reply.try_recv().unwrap().unwrap(), RegisterOutcome::Pending);
        }
        for (service, pending) in [(A, 1), (B, 0)] {
            assert_eq!(desired.poll_action(now), Some((service.clone(), register())));
            let event = desired.handle_outcome(now, &service, Outcome::Sent(Ok(())));
            assert_eq!(event, Some(Event::Registered { pending }));
        }
        // A waiting caller receives the outcome instead of an event.
        let mut c = submit(&mut desired, A, Some(instance()));
        let now = Instant::now();
        desired.poll_action(now).unwrap();
        assert_eq!(desired.handle_outcome(now, &A, Outcome::Sent(Ok(()))), None);
        assert_eq!(c.try_recv().unwrap().unwrap(), RegisterOutcome::Confirmed);
    }

    #[test]
    fn rotation_checks_each_service_within_its_interval() {
        let (mut desired, start) = listed(&[A, B]);
        let mut checks = Vec::new();
        while let Some(due) = desired.next_due().filter(|due| *due <= start + CHECK_INTERVAL) {
            let (service, action) = desired.poll_action(due).unwrap();
            assert_eq!(action, Action::CheckListed);
            desired.handle_outcome(due, &service, checked(Some(1.0)));
            checks.push((service, (due - start).as_secs()));
        }
        let expected = [(A, 5), (B, 10), (A, 15), (B, 20), (A, 25), (B, 30)];
        assert_eq!(checks, expected);
    }

    /// The load of the servers must not grow with the square of the number of providers.
    #[test]
    fn long_list_delays_the_next_check() {
        for (len, pause) in [(100, 5), (101, 6), (1000, 50)] {
            let (mut desired, start) = listed(&[A, B]);
            let now = start + ROTATION_INTERVAL;
            assert_eq!(desired.poll_action(now), Some((A, Action::CheckListed)));
            desired.handle_outcome(now, &A, Outcome::Checked(Ok(Listing { weight: Some(1.0), len })));
            let next = desired.next_due().unwrap();
            assert!(next > now + Duration::from_secs(pause - 1) && next <= now + Duration::from_secs(pause), "{len}");
            assert_eq!(desired.poll_action(next), Some((B, Action::CheckListed)));
            assert_eq!(desired.poll_action(next), None);

            // A loss is followed up at once.
            desired.handle_outcome(next, &B, Outcome::Checked(Ok(Listing { weight: None, len })));
            assert_eq!(desired.poll_action(next), Some((A, Action::CheckListed)));
            assert_eq!(desired.poll_action(next), Some((B, register())));
        }
    }

    #[test]
    fn reconnect_checks_every_service() {
        let (mut desired, start) = listed(&[A, B]);
        let now = start + ROTATION_INTERVAL;
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &A, Outcome::Checked(Err(unavailable())));
        assert_eq!(desired.poll_action(now), None);
        let now = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(now), Some((A, Action::CheckListed)));
        desired.handle_outcome(now, &A, checked(Some(1.0)));
        assert_eq!(desired.poll_action(now), Some((B, Action::CheckListed)));
    }

    #[test]
    fn deregistration_in_an_outage_is_retried_and_checked() {
        let (mut desired, now) = listed(&[A]);
        let mut outcome = submit(&mut desired, A, None);
        assert_eq!(desired.poll_action(Instant::now()), Some((A, Action::Deregister)));
        desired.handle_outcome(now, &A, Outcome::Sent(Err(unavailable())));
        assert_eq!(outcome.try_recv().unwrap().unwrap_err().code(), Code::Unavailable);

        let now = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(now), Some((A, Action::Deregister)));
        desired.handle_outcome(now, &A, Outcome::Sent(Ok(())));
        assert!(desired.is_removal_sent() && !desired.is_empty());

        // The SDK registered it again in the meantime.
        let now = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(now), Some((A, Action::CheckRemoved(instance()))));
        desired.handle_outcome(now, &A, checked(Some(1.0)));
        assert_eq!(desired.poll_action(now), Some((A, Action::Deregister)));
        desired.handle_outcome(now, &A, Outcome::Sent(Ok(())));
        let now = desired.next_due().unwrap();
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &A, checked(None));
        assert!(desired.is_empty());
    }

    #[test]
    fn change_during_a_request_is_sent_after_it() {
        let (mut desired, now) = (DesiredState::default(), Instant::now());
        let mut first = submit(&mut desired, A, Some(instance()));
        let later = now + Duration::from_secs(1);
        desired.poll_action(later).unwrap();
        let mut second = submit(&mut desired, A, None);
        assert_eq!(first.try_recv().unwrap().unwrap_err().code(), Code::Aborted);
        assert_eq!(desired.poll_action(later), None, "one request at a time");
        desired.handle_outcome(later, &A, Outcome::Sent(Ok(())));
        assert!(second.try_recv().is_err());
        assert_eq!(desired.poll_action(later), Some((A, Action::Deregister)));
        desired.handle_outcome(later, &A, Outcome::Sent(Ok(())));
        assert!(second.try_recv().unwrap().is_ok());
    }

    #[test]
    fn caller_receives_rejection_but_not_outage() {
        let (mut desired, now) = (DesiredState::default(), Instant::now() + Duration::from_secs(1));
        let (mut a, mut b) = (submit(&mut desired, A, Some(instance())), submit(&mut desired, B, Some(instance())));
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &A, Outcome::Sent(Err(unavailable())));
        assert!(a.try_recv().unwrap().is_ok());
        desired.poll_action(now).unwrap();
        desired.handle_outcome(now, &B, Outcome::Sent(Err(rejected())));
        assert_eq!(b.try_recv().unwrap().unwrap_err().code(), Code::PermissionDenied);
        assert!(!desired.is_empty());

        // The caller of A received no error, so the driver retries forever.
        let later = desired.next_due().unwrap();
        assert_eq!(desired.poll_action(later), Some((A, register())));
        desired.handle_outcome(later, &A, Outcome::Sent(Err(rejected())));
        assert!(desired.next_due().is_some_and(|due| due > later));
    }

    #[test]
    fn caller_without_connection_receives_rejection_only() {
        let (mut desired, now) = (DesiredState::default(), Instant::now());
        let mut a = submit(&mut desired, A, Some(instance()));
        desired.handle_no_connection(now, unavailable);
        assert!(a.try_recv().unwrap().is_ok());
        let mut b = submit(&mut desired, B, Some(instance()));
        desired.handle_no_connection(now, rejected);
        assert_eq!(b.try_recv().unwrap().unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(desired.poll_action(now), Some((A, register())));
        assert_eq!(desired.poll_action(now), None);
    }

    #[test]
    fn unsent_registration_is_removed_at_once() {
        let mut desired = DesiredState::default();
        let mut registered = submit(&mut desired, A, Some(instance()));
        let mut removed = submit(&mut desired, A, None);
        assert!(registered.try_recv().unwrap().is_err());
        assert!(removed.try_recv().unwrap().is_ok());
        assert!(desired.is_empty());
    }
}
