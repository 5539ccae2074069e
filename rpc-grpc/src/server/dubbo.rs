//! [`dubbo_entries`]: the entries of a registry with which consumers of Dubbo find services.

use std::sync::Arc;

use rpc_core::{Error, ServiceId};
use rpc_server::EndpointEntry;

use crate::schema::Proto;

/// Returns an entry for each service, in the form in which a provider of Dubbo 3 registers an interface.
///
/// Dubbo's `NacosRegistry` makes a URL of each instance: the scheme and the path from `protocol` and `path`, the parameters
/// from the other metadata. It then compares `interface`, `category`, `version` and `group` with those of the consumer.
pub(super) fn dubbo_entries(protos: &[Arc<Proto>]) -> Result<Vec<EndpointEntry>, Error> {
    let entry = |proto: &Arc<Proto>| {
        let methods: Vec<_> = proto.methods.iter().map(|method| &*method.proto_name).collect();
        let entry = EndpointEntry::new(ServiceId::unversioned(format!("providers:{}::", proto.service))?);
        let metadata = [
            ("protocol", "tri"),
            ("path", &*proto.service),
            ("interface", &*proto.service),
            ("methods", &methods.join(",")),
            ("category", "providers"),
            ("side", "provider"),
            ("application", "msnb"),
            ("dynamic", "true"),
        ];
        Ok(metadata.into_iter().fold(entry, |entry, (key, value)| entry.metadata(key, value)))
    };
    protos.iter().map(entry).collect()
}
