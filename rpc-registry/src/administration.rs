//! [`Administration`]: what a registry contains, and changes of an operator.

use std::net::SocketAddr;

use rpc_core::{BoxFuture, Code, Error, Instance};

/// Lists what a registry contains, and changes instances, for the tools of operators.
///
/// Clients and servers do not use it. The default implementations answer `Unimplemented`, for registries that cannot list
/// their services.
pub trait Administration: Send + Sync + 'static {
    /// Returns the names of all services, sorted, including those of other frameworks.
    ///
    /// The name of a service of msnb is the text of a [`ServiceId`](rpc_core::ServiceId).
    ///
    /// # Errors
    ///
    /// `Unimplemented` if the registry cannot list its services, `Unavailable` if it does not answer, `PermissionDenied`
    /// if this user may not read them.
    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async { Err(unsupported("list its services")) })
    }

    /// Returns the instances of a service, sorted by address, including disabled ones and those of other frameworks.
    ///
    /// The list is empty for a service that the registry does not contain.
    ///
    /// # Errors
    ///
    /// As [`services`](Self::services).
    fn instances<'a>(&'a self, _service: &'a str) -> BoxFuture<'a, Result<Vec<Instance>, Error>> {
        Box::pin(async { Err(unsupported("list all instances")) })
    }

    /// Changes the instance of a service at `address`, and returns the changed instance; `None` if it does not exist.
    ///
    /// The change applies until an operator makes another one, or as long as the registry keeps it. The result has the
    /// properties that the registry lists after the change, or after its time limit.
    ///
    /// # Errors
    ///
    /// As [`services`](Self::services).
    ///
    /// # Cancel safety
    ///
    /// After the future is dropped, the instance may or may not be changed.
    fn change<'a>(
        &'a self,
        _service: &'a str,
        _address: SocketAddr,
        _change: InstanceChange,
    ) -> BoxFuture<'a, Result<Option<Instance>, Error>> {
        Box::pin(async { Err(unsupported("change instances")) })
    }
}

/// A change of an instance by an operator; `None` leaves a property unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct InstanceChange {
    /// Whether clients may call the instance.
    pub enabled: Option<bool>,
    /// The weight, from 0 to [`Instance::MAX_WEIGHT`].
    pub weight: Option<f64>,
}

impl InstanceChange {
    /// Returns the instance with the changed properties.
    #[must_use]
    pub fn apply(self, instance: Instance) -> Instance {
        let enabled = self.enabled.unwrap_or(instance.is_enabled());
        let weight = self.weight.unwrap_or(instance.weight());
        instance.with_enabled(enabled).with_weight(weight)
    }
}

fn unsupported(what: &str) -> Error {
    Error::not_executed(Code::Unimplemented, format!("this registry cannot {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_leaves_other_properties() {
        let instance = || Instance::new(([10, 0, 0, 1], 1).into()).with_weight(2.0).with_metadata("a", "b");
        let offline = InstanceChange { enabled: Some(false), weight: None };
        assert_eq!(offline.apply(instance()), instance().with_enabled(false));
        let heavier = InstanceChange { enabled: None, weight: Some(5.0) };
        assert_eq!(heavier.apply(instance().with_enabled(false)), instance().with_weight(5.0).with_enabled(false));
    }
}
