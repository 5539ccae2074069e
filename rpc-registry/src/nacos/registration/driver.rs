//! [`Driver`]: reconciles the desired state of one address with Nacos.

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rpc_core::{Code, Error, Instance, ServiceId};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    action::{Action, Event, Listing, Outcome, Reply},
    desired::DesiredState,
};
use crate::{
    nacos::{backoff, listing, naming::Naming, shared::Shared},
    supervision::{completes, log},
    throttle::Throttle,
};

/// A request of a caller to register the address for a service.
///
/// Without an `instance`, it is a request to deregister the address.
pub(super) struct Request {
    pub(super) service: ServiceId,
    pub(super) instance: Option<Instance>,
    pub(super) reply: Reply,
}

/// Executes the actions of [`DesiredState`] over one connection to Nacos.
pub(super) struct Driver {
    address: SocketAddr,
    requests: mpsc::Receiver<Request>,
    desired: DesiredState,
    connection: Connection,
    /// The operations in progress: a connection attempt, or at most one action per service.
    operations: FuturesUnordered<BoxFuture<'static, Completion>>,
    warnings: Throttle,
    shared: Arc<Shared>,
}

enum Connection {
    /// Not needed, or the next attempt is due at `retry_at`.
    Closed {
        retry_at: Instant,
        failures: u32,
    },
    Connecting {
        failures: u32,
    },
    Open(Naming),
}

/// The name of this task in logs.
const TASK: &str = "nacos registration";

/// The result of an operation.
enum Completion {
    Connected(Result<Naming, Error>),
    Executed(ServiceId, Outcome),
}

impl Driver {
    pub(super) fn new(address: SocketAddr, requests: mpsc::Receiver<Request>, shared: Arc<Shared>) -> Self {
        Self {
            address,
            requests,
            desired: DesiredState::default(),
            connection: Connection::Closed { retry_at: Instant::now(), failures: 0 },
            operations: FuturesUnordered::new(),
            warnings: Throttle::default(),
            shared,
        }
    }

    /// Runs until the handle is dropped, then deregisters every service, for at most `shutdown_timeout`.
    pub(super) async fn run(mut self, shutdown_timeout: Duration) {
        while !completes(TASK, self.reconcile()).await {}
        // Otherwise the SDK would keep the registrations until the process ends.
        let _ = timeout(shutdown_timeout, async { while !completes(TASK, self.deregister_all()).await {} }).await;
        self.desired = DesiredState::default();
    }

    async fn reconcile(&mut self) {
        let stop = self.shared.tasks.stop().clone();
        loop {
            self.start_due_operations();
            let due = self.next_due();
            // All branches are cancel-safe: an unreceived request stays in the queue, an unfinished operation in the
            // set.
            tokio::select! {
                () = stop.cancelled() => break,
                request = self.requests.recv() => match request {
                    Some(Request { service, instance, reply }) => {
                        self.desired.set_target(Instant::now(), service, instance, Some(reply));
                    }
                    None => break,
                },
                Some(completion) = self.operations.next(), if !self.operations.is_empty() => {
                    self.handle_completion(completion);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    async fn deregister_all(&mut self) {
        self.desired.remove_all(Instant::now());
        while !self.desired.is_removal_sent() {
            self.start_due_operations();
            match self.operations.next().await {
                Some(completion) => self.handle_completion(completion),
                // The remaining actions have failed once and are due later.
                None => return,
            }
        }
    }

    fn start_due_operations(&mut self) {
        let now = Instant::now();
        match &self.connection {
            Connection::Connecting { .. } => {}
            Connection::Closed { .. } if self.desired.is_empty() => {}
            Connection::Closed { retry_at, failures } => {
                if let Some(naming) = self.shared.take_idle() {
                    self.connection = Connection::Open(naming);
                    return self.start_due_operations();
                }
                if *retry_at <= now {
                    let shared = Arc::clone(&self.shared);
                    let connect = async move { Completion::Connected(shared.connect().await) };
                    self.operations.push(contained(connect, Completion::Connected(Err(panicked()))));
                    self.connection = Connection::Connecting { failures: *failures };
                }
            }
            Connection::Open(naming) if self.desired.is_empty() => {
                // The server has confirmed that this connection has no registrations left.
                self.shared.add_idle(naming.clone());
                self.connection = Connection::Closed { retry_at: now, failures: 0 };
            }
            Connection::Open(naming) => {
                while let Some((service, action)) = self.desired.poll_action(now) {
                    let failed = match action {
                        Action::Register(_) | Action::Deregister => Outcome::Sent(Err(panicked())),
                        Action::CheckListed | Action::CheckRemoved(_) => Outcome::Checked(Err(panicked())),
                    };
                    let failed = Completion::Executed(service.clone(), failed);
                    self.operations.push(contained(execute(naming.clone(), self.address, service, action), failed));
                }
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        match &self.connection {
            Connection::Connecting { .. } => None,
            Connection::Closed { retry_at, .. } => (!self.desired.is_empty()).then_some(*retry_at),
            Connection::Open(_) => self.desired.next_due(),
        }
    }

    fn handle_completion(&mut self, completion: Completion) {
        let now = Instant::now();
        match completion {
            Completion::Connected(Ok(naming)) => self.connection = Connection::Open(naming),
            Completion::Connected(Err(error)) => {
                self.warn(&error);
                let copy = || Error::not_executed(error.code(), error.message().to_owned());
                self.desired.handle_no_connection(now, copy);
                let failures = match self.connection {
                    Connection::Connecting { failures } => failures.saturating_add(1),
                    _ => 1,
                };
                self.connection = Connection::Closed { retry_at: now + backoff::delay(failures), failures };
            }
            Completion::Executed(service, outcome) => {
                if let Outcome::Sent(Err(error)) | Outcome::Checked(Err(error)) = &outcome {
                    self.warn(error);
                }
                if let Some(event) = self.desired.handle_outcome(now, &service, outcome) {
                    self.log(&service, event);
                }
            }
        }
    }

    fn log(&self, service: &ServiceId, event: Event) {
        let (address, registry) = (self.address, &self.shared.config);
        if event == Event::Lost {
            self.shared.count_unlisted();
        }
        log(|| match event {
            Event::Registered { pending } => tracing::info!(%service, %address, pending, "registered"),
            Event::Lost => {
                tracing::warn!(%service, %address, %registry, "registered but not listed; registering again")
            }
            Event::Disabled => tracing::warn!(
                %service, %address, %registry,
                "registered again but still not listed: an operator may have disabled this instance"
            ),
            Event::ListedAgain => tracing::info!(%service, %address, %registry, "listed again"),
            Event::WeightChanged { weight } => {
                tracing::info!(%service, %address, %registry, weight, "listed with another weight, which is kept");
            }
        });
    }

    fn warn(&self, error: &Error) {
        if self.warnings.allow(std::time::Instant::now()) {
            let cause = std::error::Error::source(error);
            log(
                || tracing::warn!(address = %self.address, %error, cause, "cannot keep the registration; trying again"),
            );
        }
    }
}

impl Drop for Driver {
    /// Reports registrations that end without the handle: their runtime has ended.
    fn drop(&mut self) {
        if !self.desired.is_empty() && !self.shared.tasks.stop().is_cancelled() {
            let (address, registry) = (self.address, &self.shared.config);
            log(|| {
                tracing::error!(
                    %address, %registry,
                    "the runtime of the registry has ended: the address is no longer registered"
                );
            });
        }
    }
}

/// Executes an operation; its panic results in `failed`, so that the operation ends and is tried again.
fn contained(
    operation: impl Future<Output = Completion> + Send + 'static,
    failed: Completion,
) -> BoxFuture<'static, Completion> {
    AssertUnwindSafe(operation).catch_unwind().map(|completed| completed.unwrap_or(failed)).boxed()
}

fn panicked() -> Error {
    Error::not_executed(Code::Internal, "a request to Nacos panicked")
}

/// Executes `action` with one request to Nacos, or two if a new login is necessary.
async fn execute(naming: Naming, address: SocketAddr, service: ServiceId, action: Action) -> Completion {
    let outcome = match action {
        Action::Register(instance) => Outcome::Sent(naming.register(&service, &instance).await),
        Action::Deregister => Outcome::Sent(naming.deregister(&service, address).await),
        Action::CheckListed => {
            let weight = |listed: &[_]| listing::weight(listed, address);
            Outcome::Checked(
                naming.list(&service).await.map(|listed| Listing { weight: weight(&listed), len: listed.len() }),
            )
        }
        Action::CheckRemoved(instance) => {
            let weight = |listed: &[_]| listing::contains(listed, &instance).then_some(instance.weight());
            Outcome::Checked(
                naming.list(&service).await.map(|listed| Listing { weight: weight(&listed), len: listed.len() }),
            )
        }
    };
    Completion::Executed(service, outcome)
}
