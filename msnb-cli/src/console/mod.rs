//! `msnb console`: a web console for services, contracts and calls.
//!
//! | topic | module |
//! |---|---|
//! | what the pages share | `state` |
//! | checks of each request, and the headers of each answer | `guard` |
//! | services and their providers | `overview`, `service` |
//! | a method, its form and its calls | `method`, `form`, `history` |
//! | the counters of servers, and their latencies over time | `counters`, `latencies` |
//! | server-sent events | `events` |
//! | pages for errors | `failure` |

mod counters;
mod events;
mod failure;
mod form;
mod guard;
mod history;
mod latencies;
mod method;
mod overview;
mod service;
mod state;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::header::CONTENT_TYPE,
    middleware,
    response::IntoResponse,
    routing::{get, post},
};
use rpc_cli::shutdown_signal;
use tokio::net::TcpListener;

use self::state::Shared;
use crate::{
    command_error::{CommandError, Exit},
    output,
    target::Target,
};

/// Serves a web page with services, providers, contracts and calls.
///
/// It shows what a registry lists and what the providers describe. It makes calls only with --allow-calls.
#[derive(Debug, clap::Args)]
pub(crate) struct Console {
    /// The address on which the console listens. Everyone who can connect to it has the access of this user.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8870")]
    listen: SocketAddr,
    /// Allows the page to make calls.
    #[arg(long)]
    allow_calls: bool,
    #[command(flatten)]
    target: Target,
}

impl Console {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            CommandError::input(format!("cannot listen on {}: {error}", self.listen))
                .with_fix("choose another address with --listen; port 0 chooses a free port")
        })?;
        let address = listener.local_addr().map_err(|error| CommandError::input(error.to_string()))?;
        let shared = Shared::new(self.target, address, self.allow_calls).await?;
        let shutdown = shutdown_signal();
        output::text(&format!("console on http://{address}/\n"))?;
        let router = router(Arc::new(shared));
        // Streams of events end with the process, and do not hold it up.
        let ended = tokio::select! {
            ended = axum::serve(listener, router).into_future() => ended,
            () = shutdown => return Ok(Exit::Success),
        };
        ended.map_err(|error| CommandError::input(format!("the console has failed: {error}")))?;
        Ok(Exit::Success)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let (style, script) = (include_str!("../../assets/console.css"), include_str!("../../assets/console.js"));
    Router::new()
        .route("/", get(overview::page))
        .route("/services/{service}", get(service::page))
        .route("/counters/{service}", get(service::counters))
        .route("/services/{service}/{method}", get(method::page).post(method::call))
        .route("/services/{service}/{method}/stream", post(events::stream))
        .route("/events/{service}", get(events::changes))
        .route("/console.css", get(async || asset("text/css; charset=utf-8", style)))
        .route("/console.js", get(async || asset("text/javascript; charset=utf-8", script)))
        .fallback(failure::not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::check))
        .with_state(shared)
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind)], text)
}

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;
