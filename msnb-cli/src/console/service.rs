//! The page of a service: its providers, the differences of their contracts, its methods.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use rpc_core::{
    Error, ServiceId,
    descriptor::{Contract, compare},
};

use super::{
    failure::{Failure, render},
    state::{Frame, Shared},
};
use crate::{contract::to_rust, provider::Provider};

#[derive(Template)]
#[template(path = "service.html")]
struct Page {
    frame: Frame,
    service: String,
    docs: Vec<String>,
    providers: Vec<Row>,
    /// The provider with which the others are compared.
    reference: String,
    differences: Vec<Difference>,
    /// The part of the page with the counters, as HTML.
    counters: String,
    methods: Vec<Method>,
    rust: String,
}

struct Row {
    address: String,
    weight: f64,
    state: &'static str,
    zone: String,
    tags: String,
    contract: String,
    started: String,
    /// The calls of this console that the provider has answered.
    calls: u64,
    differs: bool,
    problem: String,
}

struct Difference {
    address: String,
    changes: Vec<String>,
}

struct Method {
    name: String,
    summary: String,
    differs: bool,
}

/// A provider and the contract that it describes; `None` for one that is not asked.
type Described = (Provider, Option<Result<Contract, Error>>);

pub(super) async fn page(State(shared): State<Arc<Shared>>, Path(service): Path<String>) -> Result<Response, Failure> {
    let service = parse(&shared, &service)?;
    let providers = shared.providers(&service).await.map_err(|error| Failure::of(&shared, error))?;
    let counters = show_counters(&shared, &service, &providers).await;
    let described = describe(&shared, &service, providers).await;
    let reference = described.iter().find_map(|(provider, contract)| match contract {
        Some(Ok(contract)) => Some((provider.address.clone(), contract.clone())),
        _ => None,
    });
    let counts = shared.client.provider_counts();
    let mut differences = Vec::new();
    let mut changed = BTreeSet::new();
    let rows = described.into_iter().map(|(provider, contract)| {
        let mut problem = String::new();
        let mut differs = false;
        match (contract, &reference) {
            (Some(Ok(contract)), Some((_, reference))) if contract.digest() != reference.digest() => {
                differs = true;
                let changes = compare(reference, &contract);
                changed.extend(changes.iter().filter_map(|change| change.path.split('/').next().map(str::to_owned)));
                let changes = changes.iter().take(MAX_CHANGES).map(ToString::to_string).collect();
                differences.push(Difference { address: provider.address.clone(), changes });
            }
            (Some(Err(error)), _) => problem = error.to_string(),
            _ => {}
        }
        let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), String::clone);
        let answered = counts.iter().find(|count| count.address.to_string() == provider.address);
        Row {
            weight: provider.weight,
            state: provider.state(),
            zone: or_dash(provider.zone.as_ref()),
            tags: provider.tags.join(", "),
            contract: or_dash(provider.contract.as_ref()),
            started: or_dash(provider.started.as_ref()),
            calls: answered.map_or(0, |count| count.answered),
            address: provider.address,
            differs,
            problem,
        }
    });
    let providers: Vec<_> = rows.collect();
    let (reference, contract) = reference.unzip();
    let methods = contract.iter().flat_map(|contract| &contract.methods).map(|method| Method {
        name: method.name.clone(),
        summary: method.docs.lines().next().unwrap_or_default().to_owned(),
        differs: changed.contains(&method.name),
    });
    Ok(render(&Page {
        frame: shared.frame(),
        docs: contract.iter().flat_map(|contract| contract.docs.lines()).map(str::to_owned).collect(),
        methods: methods.collect(),
        rust: contract.as_ref().map_or_else(|| "No provider describes its contract.".to_owned(), to_rust),
        reference: reference.unwrap_or_default(),
        service: service.to_string(),
        providers,
        differences,
        counters,
    }))
}

/// Returns the part of the page that has the counters.
pub(super) async fn counters(
    State(shared): State<Arc<Shared>>,
    Path(service): Path<String>,
) -> Result<Response, Failure> {
    let service = parse(&shared, &service)?;
    let providers = shared.providers(&service).await.map_err(|error| Failure::of(&shared, error))?;
    Ok(Html(show_counters(&shared, &service, &providers).await).into_response())
}

/// Reads the counters of the providers if that is due, and returns them as HTML.
async fn show_counters(shared: &Shared, service: &ServiceId, providers: &[Provider]) -> String {
    if shared.counters.is_due(service) {
        let own = providers.iter().filter(|provider| provider.state() != "foreign").take(MAX_DESCRIBED);
        let addresses: Vec<SocketAddr> = own.filter_map(|provider| provider.address.parse().ok()).collect();
        let read = stream::iter(addresses)
            .map(async |address| (address.to_string(), shared.server_counters(address).await))
            .buffered(DESCRIBED_AT_ONCE);
        shared.counters.record(service, read.collect().await);
    }
    shared.counters.part(service).render().unwrap_or_default()
}

/// Asks the first enabled providers for their contracts.
async fn describe(shared: &Shared, service: &ServiceId, providers: Vec<Provider>) -> Vec<Described> {
    let described = stream::iter(providers.into_iter().enumerate()).map(async |(position, provider)| {
        let address = provider.address.parse::<SocketAddr>().ok();
        let contract = match address.filter(|_| position < MAX_DESCRIBED && provider.state() == "enabled") {
            Some(address) => Some(shared.describe(service, address).await),
            None => None,
        };
        (provider, contract)
    });
    described.buffered(DESCRIBED_AT_ONCE).collect().await
}

/// Parses the name of a service in a path.
pub(super) fn parse(shared: &Shared, service: &str) -> Result<ServiceId, Failure> {
    service.parse().map_err(|_| {
        Failure::new(shared, StatusCode::NOT_FOUND, format!("`{service}` is not the name and version of a service"))
    })
}

/// The largest number of providers that are asked for their contract or their counters.
const MAX_DESCRIBED: usize = 64;
/// The number of providers that are asked at a time.
const DESCRIBED_AT_ONCE: usize = 8;
/// The largest number of changes that the page shows for a provider.
const MAX_CHANGES: usize = 100;
