//! The page of a method: its contract, its form, and the outcome of a call.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use askama::Template;
use axum::{
    extract::{Form, Path, State},
    http::StatusCode,
    response::Response,
};
use rpc_client::JsonCall;
use rpc_core::{
    CallError, ServiceId, Streaming,
    descriptor::{Contract, Form as CallForm},
};

use super::{
    failure::{Failure, render},
    form::{self, Input, Values},
    history::Chart,
    service,
    state::{Frame, Shared},
};
use crate::contract::{reduce, to_rust};

#[derive(Template)]
#[template(path = "method.html")]
struct Page {
    frame: Frame,
    service: String,
    method: String,
    rust: String,
    fields: Vec<Input>,
    /// The type of the items that the caller sends; empty without them.
    items: String,
    items_value: String,
    /// Whether the callee sends a stream.
    streams: bool,
    addresses: Vec<String>,
    chosen: String,
    outcome: Option<Outcome>,
    chart: Option<Chart>,
}

/// How a call ended.
struct Outcome {
    /// `ok` or `failed`.
    kind: &'static str,
    title: String,
    text: String,
}

/// A call that a user has filled in, and whose form is valid.
pub(super) struct Filled {
    pub(super) call: JsonCall,
    pub(super) streams: bool,
}

pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Path((service, method)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (service, contract) = find(&shared, &service, &method).await?;
    show(&shared, &service, &contract, &method, None, None).await
}

pub(super) async fn call(
    State(shared): State<Arc<Shared>>,
    Path((service, method)): Path<(String, String)>,
    Form(values): Form<Values>,
) -> Result<Response, Failure> {
    permit(&shared, &values)?;
    let (service, contract) = find(&shared, &service, &method).await?;
    let filled = fill(&shared, &service, &contract, &method, &values);
    let outcome = match filled {
        Err(problem) => Outcome { kind: "failed", title: "The form is not valid".to_owned(), text: problem },
        Ok(Filled { streams: true, .. }) => {
            let text = "enable JavaScript, with which the page shows the items as they arrive".to_owned();
            Outcome { kind: "failed", title: "The method returns a stream".to_owned(), text }
        }
        Ok(Filled { call, .. }) => {
            let start = Instant::now();
            let outcome = call.await;
            let took = start.elapsed();
            shared.history.record(&format!("{service}/{method}"), took);
            let took = format!("{:.1} ms", took.as_secs_f64() * 1e3);
            match outcome {
                Ok(result) => {
                    let text = serde_json::to_string_pretty(&result).unwrap_or_default();
                    Outcome { kind: "ok", title: format!("Result after {took}"), text }
                }
                Err(error) => Outcome {
                    kind: "failed",
                    title: match error {
                        CallError::Service(_) => format!("The service's own error after {took}"),
                        CallError::Rpc(_) => format!("Failed after {took}"),
                    },
                    text: describe(&error),
                },
            }
        }
    };
    show(&shared, &service, &contract, &method, Some(&values), Some(outcome)).await
}

/// Returns the text of an error.
pub(super) fn describe(error: &CallError<serde_json::Value>) -> String {
    match error {
        CallError::Service(error) => serde_json::to_string_pretty(error).unwrap_or_default(),
        CallError::Rpc(error) => error.to_string(),
    }
}

/// Rejects a call of a console that is read-only, or of a page that is not one of the console.
pub(super) fn permit(shared: &Shared, values: &Values) -> Result<(), Failure> {
    let problem = match values.get("token") {
        _ if !shared.allow_calls => "this console is read-only; `msnb console --allow-calls` allows calls",
        Some(token) if shared.is_token(token) => return Ok(()),
        _ => "the form is not one of this console, or the console has restarted: load the page again",
    };
    Err(Failure::new(shared, StatusCode::FORBIDDEN, problem))
}

/// Returns a service and its contract, which has the method.
pub(super) async fn find(shared: &Shared, service: &str, method: &str) -> Result<(ServiceId, Contract), Failure> {
    let service = service::parse(shared, service)?;
    let contract = shared.contract(&service).await.map_err(|error| Failure::of(shared, error))?;
    if contract.method(method).is_none() {
        let message = format!("{service} has no method `{method}`");
        return Err(Failure::new(shared, StatusCode::NOT_FOUND, message));
    }
    Ok((service, contract))
}

/// Returns the call that a user has filled in, or the problem of the form.
pub(super) fn fill(
    shared: &Shared,
    service: &ServiceId,
    contract: &Contract,
    method: &str,
    values: &Values,
) -> Result<Filled, String> {
    let described = contract.method(method).ok_or("the method has gone")?;
    let arguments = form::arguments(described, values)?;
    let mut call = shared.client.call_json(&format!("{service}/{method}"), arguments).timeout(shared.target.timeout());
    if let Some(address) = shared.server.map(|server| server.to_string()).as_ref().or_else(|| values.get("address"))
        && !address.is_empty()
    {
        let address: SocketAddr = address.parse().map_err(|_| format!("`{address}` is not an address"))?;
        call = call.address(address);
    }
    if described.caller_items.is_some() {
        call = call.items(Streaming::from_iterator(form::items(values)?));
    }
    Ok(Filled { call, streams: matches!(described.form, CallForm::CalleeStream | CallForm::Streams) })
}

async fn show(
    shared: &Shared,
    service: &ServiceId,
    contract: &Contract,
    method: &str,
    values: Option<&Values>,
    outcome: Option<Outcome>,
) -> Result<Response, Failure> {
    let mut reduced = contract.clone();
    reduce(&mut reduced, method);
    let Some(described) = reduced.methods.first() else {
        return Err(Failure::new(shared, StatusCode::NOT_FOUND, "the method has gone"));
    };
    let providers = shared.providers(service).await.unwrap_or_default();
    let value = |name: &str| values.and_then(|values| values.get(name)).cloned().unwrap_or_default();
    Ok(render(&Page {
        frame: shared.frame(),
        service: service.to_string(),
        method: method.to_owned(),
        rust: to_rust(&reduced),
        fields: form::inputs(&reduced, described, values),
        items: described.caller_items.as_ref().map(ToString::to_string).unwrap_or_default(),
        items_value: value("items"),
        streams: described.items.is_some(),
        addresses: providers.into_iter().map(|provider| provider.address).collect(),
        chosen: value("address"),
        outcome,
        chart: shared.history.chart(&format!("{service}/{method}")),
    }))
}
