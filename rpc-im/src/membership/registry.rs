//! [`RegistryMembership`]: the nodes that are registered in the registry of msnb.

use std::sync::{Arc, Mutex, PoisonError};

use rpc_core::{BoxFuture, Discovery, Error, Instance, ServiceId};
use tokio::{sync::watch, task::JoinSet};

use super::{Member, Membership, NewMember};
use crate::identity::NodeId;

/// The nodes that are registered in the registry of msnb.
///
/// The RPC server of a node registers it, with its id in the metadata; see [`METADATA_NODE`].
pub(crate) struct RegistryMembership {
    registry: Arc<dyn Discovery>,
    /// Translates lists of the registry until this value is dropped.
    watches: Mutex<JoinSet<()>>,
}

impl RegistryMembership {
    pub(crate) fn new(registry: Arc<dyn Discovery>) -> Self {
        Self { registry, watches: Mutex::default() }
    }
}

impl Membership for RegistryMembership {
    fn join(&self, _: NewMember) -> BoxFuture<'_, Result<NodeId, Error>> {
        Box::pin(std::future::ready(Ok(NodeId::random())))
    }

    fn watch(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        let mut listed = self.registry.watch(&SERVICE);
        let (sender, members) = watch::channel(None);
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            loop {
                let list = listed.borrow_and_update().as_ref().map(|list| list.iter().filter_map(member).collect());
                sender.send_replace(list);
                if listed.changed().await.is_err() {
                    return;
                }
            }
        });
        members
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Returns the node of a registered instance; `None` for an instance without the metadata of a node.
fn member(instance: &Instance) -> Option<Member> {
    let id = instance.metadata().get(METADATA_NODE)?;
    let websocket = instance.metadata().get(METADATA_WEBSOCKET)?;
    let id = NodeId(u64::from_str_radix(id, 16).ok()?);
    Some(Member { id, address: instance.address(), websocket: websocket.clone() })
}

/// The service under which nodes are registered.
const SERVICE: ServiceId = ServiceId::from_static("im.NodeForward", "2.0");
/// The metadata with the id of a node, in hexadecimal.
pub(crate) const METADATA_NODE: &str = "im-node";
/// The metadata with the URL at which clients reach a node.
pub(crate) const METADATA_WEBSOCKET: &str = "im-websocket";
