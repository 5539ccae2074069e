//! [`ServerReflection`]: the service that describes the others.

use std::sync::Arc;

use rpc_core::{
    Code, Service, ServiceId, Status,
    descriptor::Contract,
    reflection::{Reflection, ReflectionServer, ServiceSummary},
};

/// Describes the services of a server.
pub(super) struct ServerReflection {
    services: Vec<Arc<dyn Service>>,
    /// The services under their major versions, which the list does not contain.
    majors: Vec<(ServiceId, Arc<dyn Service>)>,
}

impl ServerReflection {
    pub(super) fn new(services: Vec<Arc<dyn Service>>, majors: Vec<(ServiceId, Arc<dyn Service>)>) -> Self {
        Self { services, majors }
    }
}

impl Reflection for ServerReflection {
    async fn list(&self) -> Vec<ServiceSummary> {
        let summary = |service: &Arc<dyn Service>| {
            let methods = service.methods().iter().map(|method| method.name().to_owned()).collect();
            let summary = ServiceSummary::new(service.id().to_string(), methods);
            match service.contract() {
                Some(contract) => summary.with_contract(contract),
                None => summary,
            }
        };
        let own = own_contract();
        let own_methods = own.methods.iter().map(|method| method.name.clone()).collect();
        let own = ServiceSummary::new(own_id(), own_methods).with_contract(own);
        let mut summaries: Vec<_> = self.services.iter().map(summary).chain([own]).collect();
        summaries.sort_by(|one, other| one.service.cmp(&other.service));
        summaries
    }

    async fn describe(&self, service: String) -> Result<Contract, Status> {
        if service == own_id() {
            return Ok(own_contract().clone());
        }
        let of_major = || self.majors.iter().find(|(major, _)| major.to_string() == service).map(|(_, found)| found);
        let found = self.services.iter().find(|found| found.id().to_string() == service).or_else(of_major);
        let Some(found) = found else {
            let names: Vec<_> = self.services.iter().map(|service| service.id().to_string()).collect();
            let message = format!("no such service here: {service}; the server has {}", names.join(", "));
            return Err(Status::new(Code::NotFound, message));
        };
        found.contract().cloned().ok_or_else(|| {
            Status::new(Code::Unimplemented, format!("{service} was not generated from a trait and has no description"))
        })
    }
}

fn own_contract() -> &'static Contract {
    ReflectionServer::<ServerReflection>::contract()
}

fn own_id() -> String {
    format!("{}:{}", own_contract().name, own_contract().version)
}
