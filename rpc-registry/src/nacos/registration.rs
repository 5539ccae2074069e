//! [`Registration`]: keeps one address listed for its services.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rpc_core::{Code, Error, Instance, RegisterOutcome, ServiceId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Shared, backoff,
    desired::{Action, Desired, Event, Outcome, Reply},
    listing,
    naming::{self, Naming},
};
use crate::throttle::Throttle;

/// How many wishes may wait for their turn; more make callers wait.
const QUEUE: usize = 64;

/// How long a caller waits for Nacos. Longer than one call, so that the call's own error is told.
const ANSWER: Duration = naming::CALL.saturating_add(Duration::from_secs(1));

/// The handle to the task which keeps one address listed.
///
/// Each address has its own connection to Nacos, because the SDK remembers one instance for each service of a connection: a second
/// port of the same service would take the first one's place when the connection is made anew.
#[derive(Clone)]
pub(super) struct Registration(mpsc::Sender<Wish>);

struct Wish {
    service: ServiceId,
    instance: Option<Instance>,
    reply: Reply,
}

impl Registration {
    /// The handle, and the task to run for it.
    pub(super) fn new(address: SocketAddr, shared: Arc<Shared>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, wishes) = mpsc::channel(QUEUE);
        let driver = Driver {
            address,
            wishes,
            desired: Desired::default(),
            connection: Connection::None { at: Instant::now(), failures: 0 },
            calls: FuturesUnordered::new(),
            warnings: Throttle::default(),
            shared,
        };
        (Self(sender), driver.run())
    }

    /// Lists the address for `service`, and keeps it listed.
    pub(super) async fn register(&self, service: ServiceId, instance: Instance) -> Result<RegisterOutcome, Error> {
        match timeout(ANSWER, self.ask(service, Some(instance))).await {
            Ok(answer) => answer,
            // The wish is with the task.
            Err(_) => Ok(RegisterOutcome::Pending),
        }
    }

    /// Takes the address off the list of `service`.
    pub(super) async fn deregister(&self, service: ServiceId) -> Result<(), Error> {
        match timeout(ANSWER, self.ask(service, None)).await {
            Ok(answer) => answer.map(|_| ()),
            Err(_) => {
                Err(Error::not_executed(Code::Unavailable, "Nacos could not be told; it will be when it answers again"))
            }
        }
    }

    async fn ask(&self, service: ServiceId, instance: Option<Instance>) -> Result<RegisterOutcome, Error> {
        let (reply, answer) = oneshot::channel();
        let ended = |_| Error::not_executed(Code::Unavailable, "the registry was closed");
        self.0.send(Wish { service, instance, reply }).await.map_err(|_| ended(()))?;
        answer.await.unwrap_or_else(|_| Err(ended(())))
    }
}

struct Driver {
    address: SocketAddr,
    wishes: mpsc::Receiver<Wish>,
    desired: Desired,
    connection: Connection,
    /// What is under way: a connection, or at most one call for each service.
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    warnings: Throttle,
    shared: Arc<Shared>,
}

enum Connection {
    /// None is needed now, or the next attempt is made at this time.
    None {
        at: Instant,
        failures: u32,
    },
    /// An attempt is under way.
    Pending {
        failures: u32,
    },
    Open(Naming),
}

enum Done {
    Connected(Result<Naming, Error>),
    Called(ServiceId, Outcome),
}

impl Driver {
    async fn run(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            self.start_what_is_due();
            let due = self.next_due();
            // All are cancel-safe: a wish that is not received stays in the queue, a call that is not ready in the set.
            tokio::select! {
                () = stop.cancelled() => break,
                wish = self.wishes.recv() => match wish {
                    Some(Wish { service, instance, reply }) => {
                        self.desired.want(Instant::now(), service, instance, Some(reply));
                    }
                    None => break,
                },
                Some(done) = self.calls.next(), if !self.calls.is_empty() => self.handle_done(done),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
        // The SDK would go on to register for as long as the process lives.
        let _ = timeout(ANSWER, self.take_all_off()).await;
    }

    async fn take_all_off(&mut self) {
        self.desired.want_nothing(Instant::now());
        while !self.desired.is_withdrawn() {
            self.start_what_is_due();
            match self.calls.next().await {
                Some(done) => self.handle_done(done),
                // What is due later was tried and failed.
                None => return,
            }
        }
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        match &self.connection {
            Connection::Pending { .. } => {}
            Connection::None { .. } if self.desired.is_empty() => {}
            Connection::None { at, failures } => {
                if let Some(naming) = self.shared.take_idle() {
                    self.connection = Connection::Open(naming);
                    return self.start_what_is_due();
                }
                if *at <= now {
                    let shared = Arc::clone(&self.shared);
                    self.calls.push(async move { Done::Connected(shared.connect().await) }.boxed());
                    self.connection = Connection::Pending { failures: *failures };
                }
            }
            Connection::Open(naming) if self.desired.is_empty() => {
                // Nothing is registered through it, as the server itself has said.
                self.shared.add_idle(naming.clone());
                self.connection = Connection::None { at: now, failures: 0 };
            }
            Connection::Open(naming) => {
                while let Some((service, action)) = self.desired.poll_action(now) {
                    self.calls.push(call(naming.clone(), self.address, service, action).boxed());
                }
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        match &self.connection {
            Connection::Pending { .. } => None,
            Connection::None { at, .. } => (!self.desired.is_empty()).then_some(*at),
            Connection::Open(_) => self.desired.next_due(),
        }
    }

    fn handle_done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Connected(Ok(naming)) => self.connection = Connection::Open(naming),
            Done::Connected(Err(error)) => {
                self.warn(&error);
                let again = || Error::not_executed(error.code(), error.message().to_owned());
                self.desired.handle_no_connection(now, again);
                let failures = match self.connection {
                    Connection::Pending { failures } => failures.saturating_add(1),
                    _ => 1,
                };
                self.connection = Connection::None { at: now + backoff::delay(failures), failures };
            }
            Done::Called(service, outcome) => {
                if let Outcome::Told(Err(error)) | Outcome::Listed(Err(error)) = &outcome {
                    self.warn(error);
                }
                if let Some(event) = self.desired.handle_outcome(now, &service, outcome) {
                    self.report(&service, event);
                }
            }
        }
    }

    fn report(&self, service: &ServiceId, event: Event) {
        let (address, registry) = (self.address, &self.shared.config);
        match event {
            Event::Registered { pending } => tracing::info!(%service, %address, pending, "registered"),
            Event::Lost => {
                self.shared.count_unlisted();
                tracing::warn!(%service, %address, %registry, "registered but not listed; registering again");
            }
            Event::Disabled => tracing::warn!(
                %service, %address, %registry,
                "registered again but still not listed: an operator may have disabled this instance"
            ),
            Event::ListedAgain => tracing::info!(%service, %address, %registry, "listed again"),
            Event::Reweighted { weight } => {
                tracing::info!(%service, %address, %registry, weight, "listed with another weight, which is kept");
            }
        }
    }

    fn warn(&self, error: &Error) {
        if self.warnings.pass(std::time::Instant::now()) {
            let cause = std::error::Error::source(error);
            tracing::warn!(address = %self.address, %error, cause, "cannot keep the registration; trying again");
        }
    }
}

async fn call(naming: Naming, address: SocketAddr, service: ServiceId, action: Action) -> Done {
    let outcome = match action {
        Action::Register(instance) => Outcome::Told(naming.register(&service, &instance).await),
        Action::Deregister => Outcome::Told(naming.deregister(&service, address).await),
        Action::CheckListed => {
            Outcome::Listed(naming.list(&service).await.map(|listed| listing::weight(&listed, address)))
        }
        Action::CheckGone(instance) => {
            let listed = naming.list(&service).await;
            Outcome::Listed(listed.map(|listed| listing::contains(&listed, &instance).then_some(instance.weight())))
        }
    };
    Done::Called(service, outcome)
}
