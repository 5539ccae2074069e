//! [`Sending`]: passes the items of a caller on.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use rpc_core::{Code, Error};
use rpc_server::{EndpointItemSender, EndpointItems, Http2Connection, Http2Task};
use tokio::sync::oneshot;

use super::{
    messages::{Messages, Received},
    routes::Route,
};
use crate::{
    schema::{Kind, Requests},
    transcode::{Fault, Part, item_to_messagepack, read_part, to_messagepack},
};

/// Passes the items of a caller on. Dropping it ends that.
pub(super) struct Sending {
    /// `None` once all items were sent.
    failed: Option<oneshot::Receiver<Error>>,
    _task: Http2Task,
}

/// The first message of a caller that sends a stream.
pub(super) struct Begun {
    pub(super) arguments: Bytes,
    /// An item that the first message already has.
    first: Option<Received>,
}

impl Begun {
    /// Reads the parameters, which are the first message.
    pub(super) async fn read(messages: &mut Messages, route: &Route, limit: usize) -> Result<Self, Error> {
        let missing = || invalid("the first message must have the parameters".to_owned());
        let Requests::Stream { parameters, has_no_parameters, .. } = route.method().request else {
            return Err(Error::not_executed(Code::Internal, "the method sends no stream"));
        };
        let Some(received) = messages.next().await? else {
            return if has_no_parameters { Self::without_parameters(route, None, limit) } else { Err(missing()) };
        };
        match read_part(&received.bytes).map_err(faulty)? {
            Part::Parameters(bytes) => {
                let mut arguments = BytesMut::new();
                to_messagepack(&route.proto, parameters, bytes, limit, &mut arguments).map_err(faulty)?;
                Ok(Self { arguments: received.share.keep(arguments.freeze()), first: None })
            }
            Part::Item(_) if has_no_parameters => Self::without_parameters(route, Some(received), limit),
            Part::Item(_) => Err(missing()),
        }
    }

    fn without_parameters(route: &Route, first: Option<Received>, limit: usize) -> Result<Self, Error> {
        let Requests::Stream { parameters, .. } = route.method().request else { return Err(faulty(Fault::new(""))) };
        let mut arguments = BytesMut::new();
        to_messagepack(&route.proto, parameters, &[], limit, &mut arguments).map_err(faulty)?;
        Ok(Self { arguments: arguments.freeze(), first })
    }
}

impl Sending {
    /// Starts to pass on the items, which the returned stream has.
    pub(super) fn start(
        connection: &Http2Connection,
        messages: Messages,
        first: Begun,
        route: &Arc<Route>,
        limit: usize,
    ) -> (Self, EndpointItems) {
        let (sender, items) = EndpointItems::channel(WAITING);
        let (report, failed) = oneshot::channel();
        let route = Arc::clone(route);
        let work = async move {
            if let Err(error) = send(messages, first.first, &route, &sender, limit).await {
                // Fails if the call has ended.
                let _ = report.send(error);
                // The end of the sender would be the regular end of the stream.
                std::future::pending::<()>().await;
            }
        };
        (Self { failed: Some(failed), _task: connection.spawn(work) }, items)
    }

    /// Returns the error for which the call must fail: the caller has sent something else than items.
    pub(super) fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(failed) = &mut self.failed else { return Poll::Pending };
        match ready!(Pin::new(failed).poll(cx)) {
            Ok(error) => Poll::Ready(error),
            Err(_) => {
                self.failed = None;
                Poll::Pending
            }
        }
    }
}

async fn send(
    mut messages: Messages,
    mut first: Option<Received>,
    route: &Route,
    sender: &EndpointItemSender,
    limit: usize,
) -> Result<(), Error> {
    let Requests::Stream { item: kind, .. } = route.method().request else { return Ok(()) };
    loop {
        let received = match first.take() {
            Some(received) => received,
            None => match messages.next().await? {
                Some(received) => received,
                None => return Ok(()),
            },
        };
        let item = received.share.keep(item(&received.bytes, route, kind, limit)?);
        // Fails if the call has ended.
        if sender.send(item).await.is_err() {
            return Ok(());
        }
    }
}

fn item(bytes: &[u8], route: &Route, kind: Kind, limit: usize) -> Result<Bytes, Error> {
    let Part::Item(item) = read_part(bytes).map_err(faulty)? else {
        return Err(invalid("only the first message may have parameters".to_owned()));
    };
    let mut out = BytesMut::new();
    item_to_messagepack(&route.proto, kind, item, limit, &mut out).map_err(faulty)?;
    Ok(out.freeze())
}

/// Returns the error of a message that has no other form.
pub(super) fn faulty(fault: Fault) -> Error {
    if fault.is_too_long() {
        return Error::not_executed(Code::ResourceExhausted, fault.to_string());
    }
    invalid(fault.to_string())
}

fn invalid(message: String) -> Error {
    Error::not_executed(Code::InvalidArgument, message)
}

/// The number of items that wait to be sent.
const WAITING: usize = 16;
