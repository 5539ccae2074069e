//! [`Action`], [`Outcome`] and [`Event`]: the input and output of the desired state.

use rpc_core::{Error, Instance, RegisterOutcome};
use tokio::sync::oneshot;

/// Sends the outcome of a request to the caller.
///
/// The outcome of a deregistration is always `Confirmed` or an error.
pub(super) type Reply = oneshot::Sender<Result<RegisterOutcome, Error>>;

/// A request to Nacos for one service.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Register this instance.
    Register(Instance),
    /// Deregister the instance.
    Deregister,
    /// Check whether the address is listed.
    CheckListed,
    /// Check whether this instance is still listed.
    ///
    /// Another instance at the same address belongs to a later process and must not be removed.
    CheckRemoved(Instance),
}

/// The result of an [`Action`].
#[derive(Debug)]
pub(super) enum Outcome {
    /// The result of a registration or deregistration.
    Sent(Result<(), Error>),
    /// The result of a check.
    Checked(Result<Listing, Error>),
}

/// The result of looking for an instance in a list of Nacos.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    /// The listed weight of the instance, or `None` if it is not listed.
    pub(super) weight: Option<f64>,
    /// The number of instances in the list.
    pub(super) len: usize,
}

/// A change of a service's state that the driver logs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    /// Nacos confirmed a pending registration.
    ///
    /// `pending` other services of this address are still unconfirmed.
    Registered { pending: usize },
    /// The instance is not listed and will be registered again.
    Lost,
    /// The instance is still not listed after another confirmed registration.
    ///
    /// An operator may have disabled it.
    Disabled,
    /// The instance is listed again after [`Disabled`](Self::Disabled).
    ListedAgain,
    /// The instance is listed with another weight than the registered one. The listed weight is kept.
    WeightChanged { weight: f64 },
}
