//! [`Http2`]: the requests of HTTP/2, whose connections the server may share with other endpoints.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use rpc_core::BoxFuture;
use rpc_server::{Http2Body, Http2Connection, Http2Handler, Http2Limits, Http2Requests, is_grpc_content};

use super::exchange::{Exchange, State};

/// Answers the requests of connections of HTTP/2.
pub(super) struct Http2(pub(super) Arc<State>);

impl Http2Handler for Http2 {
    fn limits(&self) -> Http2Limits {
        let config = &self.0.config;
        Http2Limits {
            max_head: config.max_head,
            max_streams: config.max_streams,
            max_resets: config.max_resets,
            max_idle_frames: MAX_IDLE_FRAMES,
            head_time: config.head_time,
            idle_time: config.idle_time,
            // Callers of HTTP wait for one answer, and streams of events have comments.
            ping_interval: Duration::MAX,
            ping_time: Duration::MAX,
            write_stall: config.write_stall,
        }
    }

    fn accepts(&self, request: &Request<Incoming>) -> bool {
        !is_grpc_content(request.headers())
    }

    fn connect(&self, connection: Http2Connection) -> Box<dyn Http2Requests> {
        Box::new(Exchange { state: Arc::clone(&self.0), connection: connection.endpoint().clone() })
    }
}

impl Http2Requests for Exchange {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Http2Body>> {
        let exchange = self.clone();
        Box::pin(async move { exchange.answer(request).await.map(|body| body.map_err(Into::into).boxed_unsync()) })
    }
}

/// The maximum number of frames in succession that carry no part of a request.
const MAX_IDLE_FRAMES: u32 = 1000;
