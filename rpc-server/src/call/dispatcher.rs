//! [`Dispatcher`]: resolves a route to the method that serves it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rpc_core::{Code, Error, Identity, MethodInfo, Service, ServiceId, Status, head::Route};

/// The routing table of a server. Immutable once the server runs.
#[derive(Default)]
pub(crate) struct Dispatcher {
    services: Vec<Arc<dyn Service>>,
    routes: HashMap<Vec<u8>, Target, foldhash::fast::RandomState>,
}

/// A method of a service, with the callers that it accepts.
pub(crate) struct Target {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) method: usize,
    /// The names of the permitted callers; `None` permits every caller.
    allowed: Option<Arc<HashSet<String>>>,
}

/// The callers that may call a method, or the methods of a service that have no rule of their own.
pub(crate) struct AccessRule {
    /// `service:version/method` or `service:version`.
    pub(crate) target: String,
    pub(crate) names: HashSet<String>,
}

impl Dispatcher {
    /// Adds a service.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when another service has one of its routes.
    pub(crate) fn add(&mut self, service: Arc<dyn Service>) -> Result<(), Error> {
        for (method, info) in service.methods().iter().enumerate() {
            let target = Target { service: Arc::clone(&service), method, allowed: None };
            if self.routes.insert(info.route().into(), target).is_some() {
                let message = format!("two services have the route {}", info.route());
                return Err(Error::not_executed(Code::AlreadyExists, message));
            }
        }
        self.services.push(service);
        Ok(())
    }

    /// Applies access rules. The names of several rules for the same target add up.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a target that this server does not serve.
    pub(crate) fn allow(&mut self, rules: Vec<AccessRule>) -> Result<(), Error> {
        let mut allowed = HashMap::<String, HashSet<String>>::new();
        for AccessRule { target, names } in rules {
            let is_known = self.routes.contains_key(target.as_bytes()) || self.ids().any(|id| id.to_string() == target);
            if !is_known {
                let message = format!("access rule for {target}: this server has no such service or method");
                return Err(Error::not_executed(Code::InvalidArgument, message));
            }
            allowed.entry(target).or_default().extend(names);
        }
        let allowed: HashMap<_, _> = allowed.into_iter().map(|(target, names)| (target, Arc::new(names))).collect();
        for target in self.routes.values_mut() {
            let (route, service) = (target.info().route(), target.info().service().to_string());
            target.allowed = allowed.get(route).or_else(|| allowed.get(&service)).map(Arc::clone);
        }
        Ok(())
    }

    /// Returns the method that serves `route`.
    ///
    /// # Errors
    ///
    /// `Unimplemented` for an unknown service or method, with the route; `InvalidArgument` for a route that is not
    /// UTF-8.
    pub(crate) fn find(&self, route: &Route) -> Result<&Target, Status> {
        self.routes.get(route.as_bytes()).ok_or_else(|| self.unknown(route))
    }

    fn unknown(&self, route: &Route) -> Status {
        let Ok(route) = std::str::from_utf8(route.as_bytes()) else {
            return Status::new(Code::InvalidArgument, "the route is not UTF-8");
        };
        let service = route.split('/').next().unwrap_or_default();
        let is_served = self.services.iter().any(|served| served.id().to_string() == service);
        let unknown = if is_served { "method" } else { "service" };
        Status::new(Code::Unimplemented, format!("no such {unknown} here: {route}"))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.iter().map(|service| service.id())
    }
}

impl Target {
    pub(crate) fn info(&self) -> &MethodInfo {
        &self.service.methods()[self.method]
    }

    /// Checks that `caller` may call this method.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when no name of the caller is permitted.
    pub(crate) fn check(&self, caller: &Identity) -> Result<(), Status> {
        match &self.allowed {
            Some(allowed) if !caller.names().any(|name| allowed.contains(name)) => {
                Err(Status::new(Code::PermissionDenied, format!("{caller} may not call {}", self.info().route())))
            }
            _ => Ok(()),
        }
    }
}
