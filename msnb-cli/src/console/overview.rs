//! The page of all services.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use rpc_core::ServiceId;
use serde::Deserialize;

use super::{
    failure::{Failure, render},
    state::{Frame, Shared},
};
use crate::ls;

#[derive(Template)]
#[template(path = "services.html")]
struct Page {
    frame: Frame,
    query: String,
    services: Vec<Row>,
}

struct Row {
    name: String,
    is_msnb: bool,
    providers: usize,
    disabled: usize,
    foreign: usize,
    contract: String,
    differs: bool,
}

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Query(Search { q }): Query<Search>,
) -> Result<Response, Failure> {
    let mut services = match shared.server {
        Some(server) => of_server(&shared, server).await?,
        None => of_registry(&shared).await?,
    };
    let wanted = q.trim().to_lowercase();
    services.retain(|service| service.name.to_lowercase().contains(&wanted));
    Ok(render(&Page { frame: shared.frame(), query: q, services }))
}

async fn of_registry(shared: &Shared) -> Result<Vec<Row>, Failure> {
    let listing = tokio::time::timeout(shared.target.timeout(), ls::services(&shared.registry)).await;
    let listed = listing.unwrap_or_else(|_| Err(shared.target.without_answer(shared.registry.url())));
    let listed = listed.map_err(|error| Failure::of(shared, error))?;
    let rows = listed.into_iter().map(|service| {
        let contract = service.contract();
        Row {
            is_msnb: service.service.parse::<ServiceId>().is_ok() && service.providers > 0,
            differs: service.contracts.len() > 1,
            providers: service.providers,
            disabled: service.disabled,
            foreign: service.foreign,
            name: service.service,
            contract,
        }
    });
    Ok(rows.collect())
}

async fn of_server(shared: &Shared, server: std::net::SocketAddr) -> Result<Vec<Row>, Failure> {
    let services = shared.services(server).await.map_err(|error| Failure::of_call(shared, error))?;
    let rows = services.into_iter().map(|service| Row {
        name: service.service,
        is_msnb: true,
        providers: 1,
        disabled: 0,
        foreign: 0,
        contract: service.digest.unwrap_or_else(|| "-".to_owned()),
        differs: false,
    });
    Ok(rows.collect())
}
