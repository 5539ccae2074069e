//! [`Failure`]: the page for an error.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use rpc_core::Error;

use super::state::{Frame, Shared};
use crate::command_error::{CommandError, Exit};

#[derive(Template)]
#[template(path = "failure.html")]
struct Page {
    frame: Frame,
    title: &'static str,
    message: String,
    fix: String,
}

/// An error with its page.
pub(super) struct Failure {
    status: StatusCode,
    /// Boxed, because most requests have none.
    page: Box<Page>,
}

impl Failure {
    pub(super) fn new(shared: &Shared, status: StatusCode, message: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let page = Page { frame: shared.frame(), title, message: message.into(), fix: String::new() };
        Self { status, page: Box::new(page) }
    }

    /// Creates the failure of a command that the page executes.
    pub(super) fn of(shared: &Shared, error: CommandError) -> Self {
        let status = match error.exit() {
            Exit::Input => StatusCode::BAD_REQUEST,
            Exit::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        };
        let mut failure = Self::new(shared, status, error.message());
        failure.page.fix = error.fix().unwrap_or_default().to_owned();
        failure
    }

    pub(super) fn of_call(shared: &Shared, error: Error) -> Self {
        Self::of(shared, error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, render(&*self.page)).into_response()
    }
}

pub(super) async fn not_found(State(shared): State<Arc<Shared>>) -> Failure {
    Failure::new(&shared, StatusCode::NOT_FOUND, "the console has no such page")
}

/// Returns the page of a template.
pub(super) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
