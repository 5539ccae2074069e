//! Several versions of a service, and requests of a major version.

use std::sync::Arc;

use rpc_client::Client;
use rpc_core::{Code, Discovery as _, Instance, ServiceId, rpc_service};
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder};
use tests::{in_time, patient, serving::Serving};

use crate::caller;

mod first {
    #[rpc_core::rpc_service(name = "test.Versions", version = "1.2")]
    pub(crate) trait Versions {
        async fn version(&self) -> String;
    }
}

mod second {
    #[rpc_core::rpc_service(name = "test.Versions", version = "1.10")]
    pub(crate) trait Versions {
        async fn version(&self, exact: Option<bool>) -> String;
    }
}

/// Any version 1.x.
#[rpc_service(name = "test.Versions", version = "1")]
trait Major {
    async fn version(&self) -> String;
}

#[rpc_service(name = "test.Versions", version = "2.0")]
trait Unknown {
    async fn version(&self) -> String;
}

struct Service;

impl first::Versions for Service {
    async fn version(&self) -> String {
        "1.2".to_owned()
    }
}

impl second::Versions for Service {
    async fn version(&self, _: Option<bool>) -> String {
        "1.10".to_owned()
    }
}

fn both() -> ServerBuilder {
    let server = Server::builder().service(second::VersionsServer::new(Service));
    server.service(first::VersionsServer::new(Service))
}

#[tokio::test]
async fn error_lists_the_versions_of_the_server() {
    let serving = Serving::start(both()).await;
    let error = UnknownClient::new(caller()).version().address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(
        error
            .message()
            .contains("no such service here: test.Versions:2.0/version; versions of test.Versions here: 1.10, 1.2"),
        "{error}"
    );
    let error = MajorClient::new(caller()).version().address(serving.address()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "major versions are served on request");
}

#[tokio::test]
async fn major_version_is_the_highest_one() {
    let registry = Arc::new(Memory::named("major-versions"));
    let _serving = Serving::start(both().major_versions(true).registry(Arc::clone(&registry) as _)).await;
    let client = Client::builder().registry(Arc::clone(&registry) as _).config(patient()).build().unwrap();
    let versions = in_time(async {
        // The contract of the major version differs from that of the highest one: its calls use names.
        let major = MajorClient::new(client.clone()).version().wait_for_ready(true).await.unwrap();
        let first = first::VersionsClient::new(client.clone()).version().wait_for_ready(true).await.unwrap();
        let second = second::VersionsClient::new(client).version(None).wait_for_ready(true).await.unwrap();
        [major, first, second]
    });
    assert_eq!(versions.await, ["1.10", "1.2", "1.10"]);
}

/// Operators find the digest of the contract in the registry.
#[tokio::test]
async fn registration_has_the_digest_of_the_contract() {
    let registry = Arc::new(Memory::named("contract-digests"));
    let _serving = Serving::start(both().registry(Arc::clone(&registry) as _)).await;
    let mut watch = registry.watch(&ServiceId::from_static("test.Versions", "1.2"));
    let listed = in_time(watch.wait_for(|list| list.as_ref().is_some_and(|list| !list.is_empty()))).await.unwrap();
    let digest = listed.as_ref().unwrap()[0].metadata()[Instance::CONTRACT].clone();
    assert_eq!(digest, format!("{:016x}", first::VersionsServer::<Service>::contract().digest()));
}
