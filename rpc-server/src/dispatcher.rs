//! [`Dispatcher`]: from a route to the method that serves it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rpc_core::{Code, Error, Identity, MethodInfo, Service, ServiceId, Status, head::Route};

/// All services of a server. Immutable once the server runs.
#[derive(Default)]
pub(crate) struct Dispatcher {
    services: Vec<Arc<dyn Service>>,
    routes: HashMap<Vec<u8>, Target, foldhash::fast::RandomState>,
}

/// A method of a service.
pub(crate) struct Target {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) method: usize,
    /// Who may call it, where not everybody may.
    allowed: Option<Arc<HashSet<String>>>,
}

/// Who may call a method, or the methods of a service that have no rule of their own.
pub(crate) struct Rule {
    /// `service:version/method` or `service:version`.
    pub(crate) whom: String,
    pub(crate) names: HashSet<String>,
}

impl Dispatcher {
    /// Adds a service.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when one of its routes is served already.
    pub(crate) fn add(&mut self, service: Arc<dyn Service>) -> Result<(), Error> {
        for (method, info) in service.methods().iter().enumerate() {
            let target = Target { service: Arc::clone(&service), method, allowed: None };
            if self.routes.insert(info.route().into(), target).is_some() {
                return Err(Error::not_executed(Code::AlreadyExists, format!("{} is served twice", info.route())));
            }
        }
        self.services.push(service);
        Ok(())
    }

    /// Lets only the callers of the `rules` call what these are for. Names for the same add up.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for what is not served here.
    pub(crate) fn allow(&mut self, rules: Vec<Rule>) -> Result<(), Error> {
        let mut allowed = HashMap::<String, HashSet<String>>::new();
        for Rule { whom, names } in rules {
            let is_known = self.routes.contains_key(whom.as_bytes()) || self.ids().any(|id| id.to_string() == whom);
            if !is_known {
                let message = format!("who may call {whom} is said, but it is neither a service nor a method here");
                return Err(Error::not_executed(Code::InvalidArgument, message));
            }
            allowed.entry(whom).or_default().extend(names);
        }
        let allowed: HashMap<_, _> = allowed.into_iter().map(|(whom, names)| (whom, Arc::new(names))).collect();
        for target in self.routes.values_mut() {
            let (route, service) = (target.info().route(), target.info().service().to_string());
            target.allowed = allowed.get(route).or_else(|| allowed.get(&service)).map(Arc::clone);
        }
        Ok(())
    }

    /// The method that serves `route`.
    ///
    /// # Errors
    ///
    /// `Unimplemented`, naming the route and what of it is unknown; `InvalidArgument` for what is no text.
    pub(crate) fn find(&self, route: &Route) -> Result<&Target, Status> {
        self.routes.get(route.as_bytes()).ok_or_else(|| self.unknown(route))
    }

    fn unknown(&self, route: &Route) -> Status {
        let Ok(route) = std::str::from_utf8(route.as_bytes()) else {
            return Status::new(Code::InvalidArgument, "the route is not UTF-8");
        };
        let service = route.split('/').next().unwrap_or_default();
        let known = self.services.iter().any(|known| known.id().to_string() == service);
        let what = if known { "method" } else { "service" };
        Status::new(Code::Unimplemented, format!("no such {what} here: {route}"))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.iter().map(|service| service.id())
    }
}

impl Target {
    pub(crate) fn info(&self) -> &MethodInfo {
        &self.service.methods()[self.method]
    }

    /// Whether this caller may call it.
    ///
    /// # Errors
    ///
    /// `PermissionDenied`.
    pub(crate) fn check(&self, caller: &Identity) -> Result<(), Status> {
        match &self.allowed {
            Some(allowed) if !caller.names().any(|name| allowed.contains(name)) => {
                Err(Status::new(Code::PermissionDenied, format!("{caller} may not call {}", self.info().route())))
            }
            _ => Ok(()),
        }
    }
}
