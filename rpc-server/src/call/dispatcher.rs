//! [`Dispatcher`]: resolves a route to the method that serves it.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use rpc_core::{
    Code, Error, Identity, MethodInfo, Service, ServiceId, Status,
    descriptor::MethodDigest,
    head::{CallFlags, Route},
    stable_hash,
};

use super::{
    access::{Access, AccessRule, Targets},
    method_limit::MethodLimits,
};

/// The routing table of a server. Immutable once the server runs.
#[derive(Default)]
pub(crate) struct Dispatcher {
    services: Vec<Arc<dyn Service>>,
    /// The index of the target of each route.
    routes: HashMap<Vec<u8>, usize, foldhash::fast::RandomState>,
    targets: Vec<Target>,
    access: Access,
}

/// A method of a service.
pub(crate) struct Target {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) method: usize,
    pub(crate) route: Route,
    /// The number of the route, under which the access rules have its callers.
    number: usize,
}

impl Dispatcher {
    /// Adds a service.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when another service has one of its routes.
    pub(crate) fn add(&mut self, service: Arc<dyn Service>) -> Result<(), Error> {
        let service = MethodLimits::around(service);
        for (method, info) in service.methods().iter().enumerate() {
            let number = self.targets.len();
            if self.routes.insert(info.route().into(), number).is_some() {
                let message = format!("two services have the route {}", info.route());
                return Err(Error::not_executed(Code::AlreadyExists, message));
            }
            self.targets.push(Target { service: Arc::clone(&service), method, route: Route::of(info), number });
        }
        self.services.push(service);
        Ok(())
    }

    /// Restricts the added services by access rules and those of a file.
    ///
    /// # Errors
    ///
    /// As [`Access::new`].
    pub(crate) fn allow(&mut self, rules: Vec<AccessRule>, file: Option<PathBuf>) -> Result<(), Error> {
        let names = |target: &Target| (target.info().route().to_owned(), target.info().service().to_string());
        self.access = Access::new(Targets(self.targets.iter().map(names).collect()), rules, file)?;
        Ok(())
    }

    /// Returns the index of the method that serves `route`.
    pub(crate) fn find(&self, route: &Route) -> Option<usize> {
        self.routes.get(route.as_bytes()).copied()
    }

    /// Returns the method with an index that [`find`](Self::find) returned.
    pub(crate) fn target(&self, index: usize) -> &Target {
        &self.targets[index]
    }

    /// Checks that `caller` may call the method.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when no name of the caller is permitted.
    pub(crate) fn check(&self, target: &Target, caller: &Identity) -> Result<(), Status> {
        if self.access.permits(target.number, caller) {
            return Ok(());
        }
        Err(Status::new(Code::PermissionDenied, format!("{caller} may not call {}", target.info().route())))
    }

    /// Returns the access rules.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the status of a route that [`find`](Self::find) does not find: `Unimplemented` for an unknown service or
    /// method, with the route; `InvalidArgument` for a route that is not UTF-8.
    #[cold]
    pub(crate) fn unknown(&self, route: &Route) -> Status {
        let Ok(route) = std::str::from_utf8(route.as_bytes()) else {
            return Status::new(Code::InvalidArgument, "the route is not UTF-8");
        };
        let service = route.split('/').next().unwrap_or_default();
        let is_served = self.services.iter().any(|served| served.id().to_string() == service);
        if is_served {
            return Status::new(Code::Unimplemented, format!("no such method here: {route}"));
        }
        let mut message = format!("no such service here: {route}");
        let name = service.split(':').next().unwrap_or_default();
        let ids = self.services.iter().map(|served| served.id());
        let versions: Vec<_> = ids.filter(|id| id.name() == name).map(ServiceId::version).collect();
        if !versions.is_empty() {
            message += &format!("; versions of {name} here: {}", versions.join(", "));
        }
        Status::new(Code::Unimplemented, message)
    }

    /// Serves `services` also under their major versions. Must follow [`allow`](Self::allow), whose rules apply to both.
    pub(crate) fn add_major_versions(&mut self, services: &[(ServiceId, Arc<dyn Service>)]) {
        for (major, service) in services {
            for info in service.methods() {
                let Some(target) = self.routes.get(info.route().as_bytes()).copied() else { continue };
                let alias = MethodInfo::new(major.clone(), info.name());
                // A service with this version of its own takes precedence.
                self.routes.entry(alias.route().into()).or_insert(target);
            }
        }
    }

    /// Returns the digests of all routes.
    pub(crate) fn digests(&self) -> impl Iterator<Item = MethodDigest> {
        self.routes.iter().filter_map(|(route, target)| {
            let digest = self.targets[*target].info().digest()?;
            Some(MethodDigest { route: stable_hash(route), ..digest })
        })
    }
}

impl Target {
    pub(crate) fn info(&self) -> &MethodInfo {
        &self.service.methods()[self.method]
    }

    /// Returns whether the method executes each call at most once.
    pub(crate) fn is_once(&self) -> bool {
        self.info().once_scope().is_some()
    }

    /// Checks that the caller and the method agree which of them sends items.
    ///
    /// # Errors
    ///
    /// `Unimplemented`, with the streams of the method.
    pub(crate) fn check_streams(&self, flags: CallFlags) -> Result<(), Status> {
        let method = self.info();
        if flags.has_streams() && flags.contains(CallFlags::ONE_WAY) {
            return Err(Status::new(Code::InvalidArgument, "a one-way call has no streams"));
        }
        let agrees = |flag, declared| flags.contains(flag) == declared;
        if agrees(CallFlags::SENDS_ITEMS, method.is_sending_items())
            && agrees(CallFlags::EXPECTS_ITEMS, method.is_returning_items())
        {
            return Ok(());
        }
        let streams = match (method.is_sending_items(), method.is_returning_items()) {
            (false, false) => "no streams",
            (true, false) => "a stream as its argument",
            (false, true) => "a stream as its result",
            (true, true) => "streams as its argument and as its result",
        };
        let message = format!("{} has {streams} here, and the caller expects otherwise", method.route());
        Err(Status::new(Code::Unimplemented, message))
    }
}
