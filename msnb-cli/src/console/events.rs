//! Server-sent events: the items of a stream, and changes of the registry.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{Form, Path, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use rpc_core::Streaming;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    failure::Failure,
    form::Values,
    method::{Filled, describe, fill, find, permit},
    service,
    state::Shared,
};

/// Opens a stream of a call, and sends its items. The call ends when the browser closes the connection.
pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    Path((service, method)): Path<(String, String)>,
    Form(values): Form<Values>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    permit(&shared, &values)?;
    let place = place(&shared)?;
    let (service, contract) = find(&shared, &service, &method).await?;
    let Filled { call, .. } = fill(&shared, &service, &contract, &method, &values)
        .map_err(|problem| Failure::new(&shared, StatusCode::BAD_REQUEST, problem))?;
    let first = match call.stream().await.0 {
        Ok(items) => Progress::Open(items, 0),
        Err(error) => Progress::Failed(describe(&error)),
    };
    let events = stream::unfold((first, place), async |(state, place)| {
        let (event, next) = next(state).await?;
        Some((Ok(event), (next, place)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// The state of a stream of events.
enum Progress {
    Open(Streaming<Value, Value>, u64),
    Failed(String),
    Ended,
}

async fn next(state: Progress) -> Option<(Event, Progress)> {
    Some(match state {
        Progress::Open(mut items, count) => match items.next().await {
            Some(Ok(item)) => (Event::default().event("item").data(item.to_string()), Progress::Open(items, count + 1)),
            Some(Err(error)) => (failed(&describe(&error)), Progress::Ended),
            None => (Event::default().event("end").data(format!("complete after {count} items")), Progress::Ended),
        },
        Progress::Failed(problem) => (failed(&problem), Progress::Ended),
        Progress::Ended => return None,
    })
}

fn failed(problem: &str) -> Event {
    // A line break would end the data of the event.
    Event::default().event("failed").data(format!("failed: {}", problem.replace(['\r', '\n'], " ")))
}

/// Sends an event after each change of the providers of a service.
pub(super) async fn changes(
    State(shared): State<Arc<Shared>>,
    Path(service): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let service = service::parse(&shared, &service)?;
    let place = place(&shared)?;
    let watch = shared.registry.watch(&service);
    // The page may be older than the watch, so that the first list counts as a change.
    let events = stream::unfold((watch, place, true), async |(mut watch, place, is_first)| {
        match is_first {
            true => watch.wait_for(Option::is_some).await.map(drop).ok()?,
            false => watch.changed().await.ok()?,
        }
        watch.mark_unchanged();
        Some((Ok(Event::default().event("changed").data("providers")), (watch, place, false)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Returns the place of a stream of events, which it has until it ends.
fn place(shared: &Shared) -> Result<OwnedSemaphorePermit, Failure> {
    Arc::clone(&shared.streams).try_acquire_owned().map_err(|_| {
        Failure::new(
            shared,
            StatusCode::SERVICE_UNAVAILABLE,
            "too many streams are open in this console: close other pages",
        )
    })
}
