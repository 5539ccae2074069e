//! How to fix a failed call.

use std::net::SocketAddr;

use rpc_core::{CallError, Code, Error};
use serde_json::Value;

use super::Call;
use crate::{command_error::CommandError, route::Route, target::unreachable_fix};

impl Call {
    /// Returns the error of a failed call with an instruction that fixes the problem.
    pub(super) async fn failure(
        &self,
        error: CallError<Value>,
        route: &str,
        address: Option<SocketAddr>,
    ) -> CommandError {
        match error {
            CallError::Service(error) => CommandError::service(&error),
            CallError::Rpc(error) => {
                let fix = self.fix(&error, route, address).await;
                let error = CommandError::from(error);
                fix.into_iter().fold(error, CommandError::with_fix)
            }
        }
    }

    /// Returns the options with which another command asks the same server or registry.
    pub(super) fn options(&self, peer: Option<SocketAddr>) -> String {
        match (&self.target.address, peer) {
            (Some(address), _) => format!(" --address {address}"),
            (None, Some(peer)) => format!(" --address {peer}"),
            // The URL of a registry may contain a password.
            (None, None) => String::new(),
        }
    }

    async fn fix(&self, error: &Error, route: &str, address: Option<SocketAddr>) -> Option<String> {
        let service = &self.route.service;
        let options = self.options(error.peer());
        match error.code() {
            Code::InvalidArgument | Code::Unimplemented => {
                if let Some(fix) = self.contract_fix(error.peer().or(address)).await {
                    return Some(fix);
                }
                Some(format!(
                    "`msnb describe {service}{options}` prints the methods; `msnb describe {route} --template{options}` prints a body to fill in"
                ))
            }
            Code::Unavailable => match address {
                Some(address) => Some(unreachable_fix(address)),
                None => Some(format!(
                    "`msnb ls {service}` prints the providers in the registry; set --registry to another one, or name a server with --address"
                )),
            },
            _ => None,
        }
    }

    /// Returns the fix for a call that does not match the contract of the server, if the server describes it.
    async fn contract_fix(&self, server: Option<SocketAddr>) -> Option<String> {
        let server = server?;
        let Route { service, method } = &self.route;
        let target = self.target.at(server);
        let Ok(contract) = target.contract(service).await else {
            let services = target.services(server).await.ok()?;
            let names: Vec<_> = services.iter().map(|service| &*service.service).collect();
            return Some(format!("the server has the services {}", names.join(", ")));
        };
        let Some(method) = contract.method(method.as_deref()?) else {
            let names: Vec<_> = contract.methods.iter().map(|method| &*method.name).collect();
            return Some(format!("{service} has the methods {}", names.join(", ")));
        };
        let parameters: Vec<_> = method
            .parameters
            .iter()
            .map(|field| format!("{}: {}{}", field.name, field.ty, if field.optional { " (optional)" } else { "" }))
            .collect();
        let items = method.caller_items.iter().map(|items| format!("; each line of the items is of type {items}"));
        let template = format!("`msnb describe {service}/{} --template --address {server}`", method.name);
        let parameters = parameters.join(", ");
        Some(format!(
            "the parameters are {parameters}; {template} prints a body to fill in{}",
            items.collect::<String>()
        ))
    }
}
