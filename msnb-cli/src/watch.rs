//! `msnb watch`: the changes of a service's providers.

use std::{collections::BTreeMap, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use rpc_cli::shutdown_signal;
use rpc_core::ServiceId;
use serde_json::json;

use crate::{
    command_error::{CommandError, Exit},
    output,
    provider::Provider,
    route,
    target::Target,
};

/// Prints the providers of a service, and their changes in the registry as they happen, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// The service, such as demo.Greeter:1.0.
    #[arg(value_name = "SERVICE", value_parser = route::parse_service)]
    service: ServiceId,
    #[command(flatten)]
    target: Target,
    /// Prints each change as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Watch {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        if self.target.address.is_some() {
            return Err(CommandError::input("a server has no list of providers").with_fix("use --registry"));
        }
        let registry = self.target.connect().await?;
        let mut watch = registry.watch(&self.service);
        let mut shutdown = std::pin::pin!(shutdown_signal());
        let mut listed = BTreeMap::new();
        loop {
            let list = watch.borrow_and_update().clone();
            if let Some(list) = list {
                let new = list.iter().map(|instance| (instance.address(), Provider::from(instance))).collect();
                self.print(&changes(&listed, &new))?;
                listed = new;
            }
            tokio::select! {
                changed = watch.changed() => if changed.is_err() {
                    let message = format!("the watch of {} in {} has ended", self.service, registry.url());
                    return Err(CommandError::new(Exit::Unreachable, message).with_fix("start the command again"));
                },
                () = &mut shutdown => return Ok(Exit::Success),
            }
        }
    }

    fn print(&self, changes: &[(&str, &Provider)]) -> Result<(), CommandError> {
        let time = DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Millis, true);
        for (kind, provider) in changes {
            let line = if self.json {
                json!({ "time": time, "change": kind, "provider": provider }).to_string()
            } else {
                format!("{time}  {kind:<7}  {}", provider.cells().join("  "))
            };
            output::text(&(line + "\n"))?;
        }
        Ok(())
    }
}

type Providers = BTreeMap<std::net::SocketAddr, Provider>;

/// Returns the changes from one list to another, in the order of the addresses.
fn changes<'a>(old: &'a Providers, new: &'a Providers) -> Vec<(&'static str, &'a Provider)> {
    let removed =
        old.iter().filter(|(address, _)| !new.contains_key(address)).map(|(_, provider)| ("removed", provider));
    let others = new.iter().filter_map(|(address, provider)| match old.get(address) {
        None => Some(("added", provider)),
        Some(before) => (before != provider).then_some(("changed", provider)),
    });
    removed.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use rpc_core::Instance;

    use super::*;

    #[test]
    fn changes_are_removed_added_and_changed() {
        let list = |entries: &[(u16, f64)]| -> Providers {
            let instances =
                entries.iter().map(|(port, weight)| Instance::new(([127, 0, 0, 1], *port).into()).with_weight(*weight));
            instances.map(|instance| (instance.address(), Provider::from(&instance))).collect()
        };
        let (old, new) = (list(&[(1, 1.0), (2, 1.0), (3, 1.0)]), list(&[(2, 5.0), (3, 1.0), (4, 1.0)]));
        let found: Vec<_> =
            changes(&old, &new).into_iter().map(|(kind, provider)| (kind, &*provider.address)).collect();
        assert_eq!(found, [("removed", "127.0.0.1:1"), ("changed", "127.0.0.1:2"), ("added", "127.0.0.1:4")]);
    }
}
