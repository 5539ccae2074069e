//! Service registration and discovery for msnb.
//!
//! [`connect`] opens the [`Backend`] that a URL names. A provider registers itself through the [`Registry`] trait, a
//! consumer finds providers through the [`Discovery`] trait.
//!
//! | URL | type | use |
//! |---|---|---|
//! | `local:`, `local:/dir` | [`Local`] | one machine, without a server |
//! | `nacos://host:8848,host2:8848?namespace=&group=&cluster=&username=&password=&grpc_port=` | [`Nacos`] | production |
//! | `zookeeper://host:2181,host2:2181/chroot` | [`ZooKeeper`], with the feature `zookeeper` | production |
//! | `etcd://host:2379,host2:2379/prefix?username=&password=` | [`Etcd`], with the feature `etcd` | production |
//! | `dns://name:port`, `dns+srv://_service._proto.name` | [`Dns`], with the feature `dns` | Kubernetes, and other platforms that name providers |
//! | `fixed:host:port,host:port` | [`Fixed`] | known addresses, without a registry |
//! | `memory:`, `memory:name` | [`Memory`] | one process, for tests |
//! | `nacos://a:8848,zookeeper://b:2181` | [`Several`] | migration from one registry to another |
//!
//! | topic | module |
//! |---|---|
//! | lists and changes for the tools of operators | [`Administration`] |
//! | parsing of registry URLs | `connect` |
//! | backends without I/O after construction | `fixed`, `memory` |
//! | names that are looked up again | `dns` |
//! | discovery through files on one machine, detection of dead providers | `local` |
//! | registries whose server stores entries while a session lives: ZooKeeper, etcd | `directory`, `zookeeper`, `etcd` |
//! | the Nacos client, workarounds for faults of nacos-sdk and of servers | `nacos` |
//! | several registries as one | `several` |
//! | sharing of one watch among receivers | `watches` |
//! | owner and runtime of background tasks, restarts after panics | `tasks`, `supervision` |
//!
//! # Examples
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), rpc_core::Error> {
//! use rpc_core::{Discovery as _, Instance, Registry as _, ServiceId};
//!
//! let registry = rpc_registry::connect("memory:example").await?;
//! let greeter = ServiceId::from_static("demo.Greeter", "1.0");
//! registry.register(&greeter, Instance::new(([127, 0, 0, 1], 7788).into())).await?;
//!
//! let addresses = registry.watch(&greeter);
//! assert_eq!(addresses.borrow().as_ref().map(|list| list.len()), Some(1));
//! # Ok(()) }
//! ```
//!
//! [`Registry`]: rpc_core::Registry
//! [`Discovery`]: rpc_core::Discovery

#![forbid(unsafe_code)]

mod address;
mod administration;
mod backend;
mod connect;
#[cfg(any(feature = "etcd", feature = "zookeeper"))]
mod directory;
#[cfg(feature = "dns")]
mod dns;
#[cfg(feature = "etcd")]
mod etcd;
mod fixed;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(unix)]
mod local;
mod memory;
#[cfg(feature = "nacos")]
mod nacos;
#[cfg(not(unix))]
mod no_local;
#[cfg(any(feature = "etcd", feature = "nacos", feature = "zookeeper"))]
mod reachability;
mod several;
mod supervision;
mod tasks;
mod throttle;
mod user_directory;
mod watches;
#[cfg(feature = "zookeeper")]
mod zookeeper;

pub use administration::{Administration, InstanceChange};
pub use backend::Backend;
pub use connect::connect;
#[cfg(feature = "dns")]
pub use dns::Dns;
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use fixed::Fixed;
#[cfg(unix)]
pub use local::Local;
pub use memory::Memory;
#[cfg(feature = "nacos")]
pub use nacos::Nacos;
#[cfg(not(unix))]
pub use no_local::Local;
pub use several::Several;
#[cfg(feature = "zookeeper")]
pub use zookeeper::ZooKeeper;
