//! [`Calls`]: the requests of HTTP/2 that are calls of gRPC.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use rpc_core::BoxFuture;
use rpc_server::{Http2Body, Http2Connection, Http2Handler, Http2Limits, Http2Requests, is_grpc_content};

use super::{exchange::Exchange, memory::Memory, state::State};

/// Answers the requests of connections.
pub(super) struct Calls(pub(super) Arc<State>);

impl Http2Handler for Calls {
    fn limits(&self) -> Http2Limits {
        let config = &self.0.config;
        Http2Limits {
            max_head: config.max_head,
            max_streams: config.max_streams,
            max_resets: config.max_resets,
            max_idle_frames: config.max_idle_frames,
            head_time: config.head_time,
            idle_time: config.idle_time,
            ping_interval: config.ping_interval,
            ping_time: config.ping_time,
            write_stall: config.write_stall,
        }
    }

    fn accepts(&self, request: &Request<Incoming>) -> bool {
        is_grpc_content(request.headers())
    }

    fn connect(&self, connection: Http2Connection) -> Box<dyn Http2Requests> {
        let memory = Memory::new(self.0.config.request_memory);
        Box::new(Exchange { state: Arc::clone(&self.0), connection, memory })
    }
}

impl Http2Requests for Exchange {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Http2Body>> {
        let exchange = self.clone();
        Box::pin(async move {
            let response = exchange.answer(request).await;
            response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
        })
    }
}
