//! The description of the services of a server as OpenAPI 3.1.

mod operation;
mod schema;

use std::sync::Arc;

use bytes::Bytes;
use rpc_core::{Service, ServiceId};
use serde_json::{Map, Value, json};

use self::{operation::Operations, schema::Schemas};

/// Returns the document. Services without a description of their own are left out.
pub(super) fn document(services: &[(ServiceId, Arc<dyn Service>)], requires_token: bool) -> Bytes {
    let (mut schemas, mut paths) = (Schemas::new(), Map::new());
    for (id, service) in services {
        // A service under its major version has the paths of its own version.
        if let Some(contract) = service.contract().filter(|_| id == service.id()) {
            Operations { id, contract, schemas: &mut schemas, paths: &mut paths }.add_all(service.methods());
        }
    }
    let names: Vec<_> = services.iter().map(|(id, _)| id.to_string()).collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": names.join(", "),
            "version": services.first().map_or("1.0", |(id, _)| id.version()),
        },
        "paths": paths,
        "components": { "schemas": schemas.into_components() },
    });
    if requires_token {
        document["components"]["securitySchemes"] = json!({ "token": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "token": [] }]);
    }
    Bytes::from(Value::to_string(&document))
}
