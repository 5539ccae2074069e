//! [`Operations`]: the methods of a service as operations.

use std::collections::BTreeMap;

use rpc_core::{
    MethodInfo, ServiceId,
    descriptor::{Contract, Field, MethodContract},
};
use serde_json::{Map, Value, json};

use super::schema::Schemas;
use crate::{headers, problem::PROBLEM_JSON};

/// Adds the methods of a service to the paths of a document.
pub(super) struct Operations<'a> {
    pub(super) id: &'a ServiceId,
    pub(super) contract: &'a Contract,
    pub(super) schemas: &'a mut Schemas,
    pub(super) paths: &'a mut Map<String, Value>,
}

/// The verb and the path of an operation.
struct Place<'a> {
    verb: String,
    path: String,
    /// The parameters in the path.
    in_path: Vec<&'a str>,
    /// Whether the other parameters are in the query.
    in_query: bool,
}

impl Operations<'_> {
    pub(super) fn add_all(mut self, methods: &[MethodInfo]) {
        for info in methods.iter().filter(|info| !info.is_sending_items()) {
            let Some(method) = self.contract.method(info.name()) else { continue };
            let path = format!("/{}/{}", self.id, info.name());
            self.add(info, method, Place { verb: "post".to_owned(), path, in_path: Vec::new(), in_query: false });
            let Some((verb, path)) = info.http_path().and_then(|http| http.split_once(' ')) else { continue };
            let parameter = |segment: &'static str| segment.strip_prefix('{')?.strip_suffix('}');
            let place = Place {
                verb: verb.to_ascii_lowercase(),
                path: path.to_owned(),
                in_path: path.split('/').filter_map(parameter).collect(),
                in_query: matches!(verb, "GET" | "DELETE"),
            };
            self.add(info, method, place);
        }
    }

    fn add(&mut self, info: &MethodInfo, method: &MethodContract, place: Place<'_>) {
        let Place { verb, path, in_path, in_query } = place;
        let is_in_path = |field: &Field| in_path.contains(&&*field.name);
        let mut parameters = Vec::new();
        for field in method.parameters.iter().filter(|field| is_in_path(field) || in_query) {
            let place = if is_in_path(field) { "path" } else { "query" };
            parameters.push(json!({
                "name": field.name,
                "in": place,
                "required": is_in_path(field) || !field.optional,
                "schema": self.schemas.of(self.contract, &field.ty),
            }));
        }
        if info.once_scope().is_some() {
            parameters.push(json!({ "name": headers::KEY, "in": "header", "schema": { "type": "string" } }));
        }
        let mut operation = json!({
            "operationId": format!("{} {verb} {path}", info.route()),
            "tags": [self.id.to_string()],
            "responses": self.responses(info, method),
        });
        if !method.docs.is_empty() {
            operation["description"] = Value::from(&*method.docs);
        }
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        let in_body: Vec<&Field> = method.parameters.iter().filter(|field| !is_in_path(field) && !in_query).collect();
        if !in_body.is_empty() {
            let required = in_body.iter().any(|field| !field.optional);
            let schema = self.schemas.object(self.contract, in_body);
            operation["requestBody"] =
                json!({ "required": required, "content": json_content("application/json", &schema) });
        }
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        item[verb] = operation;
    }

    fn responses(&mut self, info: &MethodInfo, method: &MethodContract) -> Value {
        let mut responses = Map::new();
        match &method.items {
            Some(items) => {
                let schema = self.schemas.of(self.contract, items);
                let mut content = json_content("application/x-ndjson", &schema);
                content["text/event-stream"] = json!({ "schema": schema });
                responses.insert(
                    "200".to_owned(),
                    json!({ "description": "The items, one for each line or event.", "content": content }),
                );
            }
            None if info.is_one_way() => {
                responses.insert("202".to_owned(), json!({ "description": "The call was sent." }));
            }
            None => {
                let schema = self.schemas.of(self.contract, &method.result);
                let content = json_content("application/json", &schema);
                responses.insert("200".to_owned(), json!({ "description": "The result.", "content": content }));
            }
        }
        if let Some(error) = &method.error {
            let schema = self.schemas.of(self.contract, error);
            let mut variants: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
            for (name, status) in &method.http_statuses {
                variants.entry(*status).or_default().push(name);
            }
            variants.entry(422).or_default();
            for (status, names) in variants {
                let description = match &names[..] {
                    [] => "The error of the service.".to_owned(),
                    names => format!("The error of the service: {}.", names.join(", ")),
                };
                let content = json_content("application/json", &schema);
                responses.insert(status.to_string(), json!({ "description": description, "content": content }));
            }
        }
        let content = json_content(PROBLEM_JSON, &Schemas::problem());
        responses.insert("default".to_owned(), json!({ "description": "Another error.", "content": content }));
        Value::Object(responses)
    }
}

fn json_content(media_type: &str, schema: &Value) -> Value {
    json!({ media_type: { "schema": schema } })
}
