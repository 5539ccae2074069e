//! [`ServerLayer`]: what stands between a server and the handlers of its services; and [`LayeredService`], a service behind
//! such layers.

use std::{fmt, sync::Arc, time::Duration};

use crate::{BoxFuture, Code, Context, MethodInfo, Payload, Responder, Service, ServiceId, Status};

/// What stands between a server and the handlers of its services: it sees each call before its handler and learns how it
/// ended, and may refuse it.
///
/// Calls get here once their service and method are known. Those that the server refuses itself do not: unknown methods,
/// more calls than may run, what is malformed. Nor do repeats of a call that runs once, which get the answer that was kept.
///
/// An answer is written into the connection's buffer where it is given, so a layer learns its code, and cannot change it.
///
/// # Cancel safety
///
/// A layer's future is dropped at its `next.run().await` when the caller gives up, the connection ends or the deadline
/// passes. What must happen at the end of every call belongs into the `Drop` of a value that is made before it, where
/// [`Context::outcome`] tells how the call ended.
///
/// # Examples
///
/// Only callers who know a secret get to the handler:
///
/// ```
/// use rpc_core::{
///     Code, Error, Local, Status, rpc_service,
///     layer::{Arrival, LayeredService, Served, ServerLayer, ServerNext},
/// };
///
/// struct Token(&'static str);
///
/// impl ServerLayer for Token {
///     async fn serve(&self, arrival: &Arrival, next: ServerNext<'_>) -> Served {
///         let token = arrival.context().metadata().get_bytes("token").unwrap_or_default();
///         // Looks at every byte whatever the first ones are: the time it takes tells nothing.
///         let differences = token.iter().zip(self.0.as_bytes()).fold(0, |all, (one, other)| all | (one ^ other));
///         if token.len() != self.0.len() || differences != 0 {
///             return next.refuse(Status::new(Code::Unauthenticated, "the caller's token is not known"));
///         }
///         let served = next.run().await;
///         println!("{} ended with {}", arrival.method().route(), served.code());
///         served
///     }
/// }
///
/// #[rpc_service(name = "demo.Greeter", version = "1.0")]
/// trait Greeter {
///     async fn hello(&self, name: String) -> String;
/// }
/// # struct MyGreeter;
/// # impl Greeter for MyGreeter {
/// #     async fn hello(&self, name: String) -> String { format!("Hello {name}") }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// // All services of a server: `Server::builder().layer(Token("open sesame"))`.
/// let service = LayeredService::new(GreeterServer::new(MyGreeter)).layer(Token("open sesame"));
/// let greeter = GreeterClient::new(Local::new(service));
/// assert_eq!(greeter.hello("Bo".into()).metadata("token", "open sesame").await?, "Hello Bo");
/// assert_eq!(greeter.hello("Eve".into()).await.unwrap_err().code(), Code::Unauthenticated);
/// # Ok(()) }
/// ```
pub trait ServerLayer: Send + Sync + 'static {
    /// Serves a call: by [`ServerNext::run`], or not, by [`ServerNext::refuse`].
    fn serve(&self, arrival: &Arrival, next: ServerNext<'_>) -> impl Future<Output = Served> + Send;
}

/// A call that has arrived.
pub struct Arrival {
    service: Arc<dyn Service>,
    method: usize,
    context: Context,
}

/// The rest of a call's way: further layers, then the handler.
///
/// # Drop
///
/// Dropped, it answers `Internal`.
#[must_use = "a call that is neither run nor refused fails"]
pub struct ServerNext<'a> {
    layers: &'a [Arc<dyn Boxed>],
    arrival: &'a Arrival,
    arguments: Payload,
    responder: Responder,
}

/// How a call ended. Only running or refusing it makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served(Code);

/// A service behind layers, which is a service again.
#[derive(Clone)]
pub struct LayeredService {
    service: Arc<dyn Service>,
    layers: ServerLayers,
}

/// Layers for several services: what a server keeps until it knows its services.
#[derive(Clone, Default)]
pub struct ServerLayers(Arc<[Arc<dyn Boxed>]>);

impl Arrival {
    /// What is called; one of the service's own methods.
    pub fn method(&self) -> &MethodInfo {
        &self.service.methods()[self.method]
    }

    /// What is known of the call. It is `Context::current()` as well.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl ServerNext<'_> {
    /// Goes on; resolves when the handler has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the handler is dropped.
    pub async fn run(self) -> Served {
        let Self { layers, arrival, arguments, responder } = self;
        if let Some((layer, layers)) = layers.split_first() {
            return layer.serve_boxed(arrival, ServerNext { layers, arrival, arguments, responder }).await;
        }
        arrival.service.call(arrival.method, arguments, responder).await;
        // Without an answer when the connection was gone by then.
        Served(arrival.context.outcome().unwrap_or(Code::Cancelled))
    }

    /// Answers in place of the handler. `Unavailable` tells a client that it may call another server.
    pub fn refuse(self, status: Status) -> Served {
        let served = Served(status.code());
        self.responder.status(status);
        served
    }

    /// Answers in place of the handler, and says when to come back. With it, `ResourceExhausted` tells a client to leave this
    /// server alone for as long, at most a minute, and to call another.
    pub fn refuse_until(self, status: Status, retry_after: Duration) -> Served {
        let served = Served(status.code());
        self.responder.refuse_until(status, retry_after);
        served
    }
}

impl Served {
    /// The code of the answer; `Cancelled` when there was nobody left to get one.
    pub fn code(self) -> Code {
        self.0
    }
}

impl LayeredService {
    /// Puts `service` behind no layers yet.
    pub fn new(service: impl Service) -> Self {
        Self { service: Arc::new(service), layers: ServerLayers::default() }
    }

    /// Adds a layer behind those that are there: the first one sees a call first.
    #[must_use]
    pub fn layer(self, layer: impl ServerLayer) -> Self {
        Self { layers: self.layers.and(layer), ..self }
    }
}

impl ServerLayers {
    /// Adds a layer behind those that are there: the first one sees a call first.
    #[must_use]
    pub fn and(self, layer: impl ServerLayer) -> Self {
        Self(self.0.iter().cloned().chain([Arc::new(layer) as Arc<dyn Boxed>]).collect())
    }

    /// Puts a service behind these layers; without any it stays as it is, and costs what it did.
    pub fn around(&self, service: Arc<dyn Service>) -> Arc<dyn Service> {
        if self.0.is_empty() { service } else { Arc::new(LayeredService { service, layers: self.clone() }) }
    }
}

impl Service for LayeredService {
    fn id(&self) -> &ServiceId {
        self.service.id()
    }

    fn methods(&self) -> &[MethodInfo] {
        self.service.methods()
    }

    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        if method >= self.methods().len() {
            return self.service.call(method, arguments, responder);
        }
        let (service, layers) = (Arc::clone(&self.service), Arc::clone(&self.layers.0));
        Box::pin(async move {
            let arrival = Arrival { service, method, context: responder.context().clone() };
            ServerNext { layers: &layers, arrival: &arrival, arguments, responder }.run().await;
        })
    }
}

/// A [`ServerLayer`] behind a pointer.
trait Boxed: Send + Sync {
    fn serve_boxed<'a>(&'a self, arrival: &'a Arrival, next: ServerNext<'a>) -> BoxFuture<'a, Served>;
}

impl<L: ServerLayer> Boxed for L {
    fn serve_boxed<'a>(&'a self, arrival: &'a Arrival, next: ServerNext<'a>) -> BoxFuture<'a, Served> {
        Box::pin(self.serve(arrival, next))
    }
}

impl<L: ServerLayer> ServerLayer for Arc<L> {
    fn serve(&self, arrival: &Arrival, next: ServerNext<'_>) -> impl Future<Output = Served> + Send {
        (**self).serve(arrival, next)
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("route", &self.method().route())
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerNext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerNext")
            .field("arrival", &self.arrival)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LayeredService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredService").field("service", self.id()).field("layers", &self.layers).finish()
    }
}

impl fmt::Debug for ServerLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerLayers").field(&self.0.len()).finish()
    }
}
