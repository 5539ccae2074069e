//! The major version of a service: `1` for `1.0` and `1.10`.

use std::{collections::HashMap, sync::Arc};

use rpc_core::{Service, ServiceId};

/// Returns for each name and major version the service with the highest version.
///
/// Versions of numbers and dots have a major version, unless they are one. A service whose version is a major version
/// takes precedence.
pub(super) fn major_versions(services: &[Arc<dyn Service>]) -> Vec<(ServiceId, Arc<dyn Service>)> {
    let mut highest: HashMap<ServiceId, (Vec<u64>, &Arc<dyn Service>)> = HashMap::new();
    for service in services {
        let Some(version) = numbers(service.id().version()) else { continue };
        let Ok(major) = ServiceId::new(service.id().name(), version[0].to_string()) else { continue };
        if services.iter().any(|service| *service.id() == major) {
            continue;
        }
        let known = highest.entry(major).or_insert_with(|| (version.clone(), service));
        if known.0 < version {
            *known = (version, service);
        }
    }
    let mut found: Vec<_> = highest.into_iter().map(|(major, (_, service))| (major, Arc::clone(service))).collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Returns the numbers of a version such as `1.10`; `None` for one without a dot.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let numbers: Vec<u64> = version.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    (numbers.len() > 1).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(numbers("1.10"), Some(vec![1, 10]));
        assert!(numbers("1.10") > numbers("1.9") && numbers("1.0.1") > numbers("1.0"));
        assert_eq!([numbers("1"), numbers("1.x"), numbers("beta"), numbers("1.")], [None, None, None, None]);
    }
}
