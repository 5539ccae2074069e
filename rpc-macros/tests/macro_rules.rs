//! Contracts from `macro_rules!`, which puts its fragments into invisible groups.

use std::time::Duration;

use rpc_core::{Method, Once, Service, rpc_service};

macro_rules! contract {
    ($trait:ident, $path:literal, $name:expr, $version:literal, $timeout:literal, $wire:literal, $scope:literal) => {
        #[rpc_service(crate = $path, name = $name, version = $version)]
        trait $trait {
            #[rpc(timeout = $timeout, name = $wire, once = $scope)]
            async fn keep(&self) -> u8;
        }
    };
}

contract!(Stored, "rpc_core", "demo.Stored", "2.0", "250ms", "put", "cluster");

struct Store;

impl Stored for Store {
    async fn keep(&self) -> u8 {
        7
    }
}

#[tokio::test]
async fn macro_rules_pass_literals_to_every_option() {
    let server = StoredServer::new(Store);
    assert_eq!((server.id().name(), server.id().version()), ("demo.Stored", "2.0"));
    let info = stored_methods::Keep::info();
    assert_eq!(info.route(), "demo.Stored:2.0/put");
    assert_eq!(info.default_timeout(), Some(Duration::from_millis(250)));
    assert_eq!(info.once_scope(), Some(Once::Cluster));
    assert_eq!(StoredClient::local(Store).keep().await.unwrap(), 7);
}

macro_rules! with_metas {
    ($trait:ident, $service:meta, $option:meta) => {
        #[rpc_service($service)]
        trait $trait {
            #[rpc($option)]
            async fn method(&self);
        }
    };
}

with_metas!(Metas, name = "demo.Metas", timeout = "1s");

#[test]
fn macro_rules_pass_whole_options() {
    assert_eq!(metas_methods::Method::info().route(), "demo.Metas:1.0/method");
    assert_eq!(metas_methods::Method::info().default_timeout(), Some(Duration::from_secs(1)));
}
