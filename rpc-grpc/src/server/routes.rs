//! [`Routes`]: the method that a path names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rpc_core::{MethodInfo, Service, ServiceId};

use super::well_known::{HEALTH_SERVICE, REFLECTION_SERVICES};
use crate::schema::{Method, Proto};

/// The methods of a server by their paths.
pub(super) struct Routes {
    by_path: HashMap<String, Target>,
    protos: Vec<Arc<Proto>>,
}

/// The callee of a path.
#[derive(Clone)]
pub(super) enum Target {
    Method(Arc<Route>),
    Health { is_watch: bool },
    Reflection,
}

/// A method of a service.
pub(super) struct Route {
    /// `service:version/method`.
    pub(super) route: String,
    pub(super) info: MethodInfo,
    pub(super) proto: Arc<Proto>,
    method: usize,
}

impl Routes {
    pub(super) fn new(services: &[(ServiceId, Arc<dyn Service>)]) -> Self {
        let mut newest: BTreeMap<&str, &ServiceId> = BTreeMap::new();
        for (id, _) in services {
            let known = newest.entry(id.name()).or_insert(id);
            if is_newer(id.version(), known.version()) {
                *known = id;
            }
        }
        let mut routes = Self { by_path: HashMap::new(), protos: Vec::new() };
        for (id, service) in services {
            // A service without a description has no messages.
            let Some(contract) = service.contract() else { continue };
            let proto = Arc::new(Proto::new(id, contract));
            for (index, method) in proto.methods.iter().enumerate() {
                let Some(info) = service.methods().iter().find(|info| info.name() == method.name) else { continue };
                let route = format!("{id}/{}", method.name);
                let target = Route { route, info: info.clone(), proto: Arc::clone(&proto), method: index };
                let target = Target::Method(Arc::new(target));
                let mut add = |service: &str, method: &str| {
                    routes.by_path.entry(format!("/{service}/{method}")).or_insert_with(|| target.clone());
                };
                add(&proto.service, &method.proto_name);
                if newest.get(id.name()) == Some(&id) {
                    add(id.name(), &method.proto_name);
                    add(id.name(), &method.name);
                }
            }
            routes.protos.push(proto);
        }
        for (path, is_watch) in [("Check", false), ("Watch", true)] {
            routes.by_path.insert(format!("/{HEALTH_SERVICE}/{path}"), Target::Health { is_watch });
        }
        for service in REFLECTION_SERVICES {
            routes.by_path.insert(format!("/{service}/ServerReflectionInfo"), Target::Reflection);
        }
        routes
    }

    pub(super) fn find(&self, path: &str) -> Option<&Target> {
        self.by_path.get(path)
    }

    pub(super) fn protos(&self) -> &[Arc<Proto>] {
        &self.protos
    }

    /// Returns whether the server has a service with this name in protobuf.
    pub(super) fn has_service(&self, name: &str) -> bool {
        let mut own = [HEALTH_SERVICE].into_iter().chain(REFLECTION_SERVICES);
        own.any(|own| own == name) || self.protos.iter().any(|proto| proto.service == name)
    }
}

impl Route {
    pub(super) fn method(&self) -> &Method {
        &self.proto.methods[self.method]
    }
}

/// Returns whether a version is newer than another one: by its numbers, otherwise by its text.
fn is_newer(one: &str, other: &str) -> bool {
    let numbers = |version: &str| version.split('.').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    match (numbers(one), numbers(other)) {
        (Some(one), Some(other)) => one > other,
        (one, other) => (one.is_some(), one) > (other.is_some(), other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_have_greater_numbers() {
        assert!(is_newer("1.10", "1.9") && is_newer("2", "1.9") && is_newer("1.0.1", "1.0"));
        assert!(!is_newer("1.0", "1.0") && !is_newer("beta", "1.0") && is_newer("1.0", "beta"));
    }
}
