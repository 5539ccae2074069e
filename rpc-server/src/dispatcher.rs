//! [`Dispatcher`]: from a route to the method that serves it.

use std::{collections::HashMap, sync::Arc};

use rpc_core::{Code, Error, MethodInfo, Service, ServiceId, Status, head::Route};

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
}

impl Dispatcher {
    /// Adds a service.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when one of its routes is served already.
    pub(crate) fn add(&mut self, service: Arc<dyn Service>) -> Result<(), Error> {
        for (method, info) in service.methods().iter().enumerate() {
            let target = Target { service: Arc::clone(&service), method };
            if self.routes.insert(info.route().into(), target).is_some() {
                return Err(Error::new(Code::AlreadyExists, format!("{} is served twice", info.route())));
            }
        }
        self.services.push(service);
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
}
