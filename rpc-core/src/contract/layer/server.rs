//! [`ServerLayer`]: middleware of a server; [`LayeredService`]: a service with such layers.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    BoxFuture, Code, Context, MethodInfo, Payload, Responder, Service, ServiceId, Status, descriptor::Contract,
};

/// Middleware between a server and the handlers of its services.
///
/// A layer receives each call before its handler, may reject it, and receives its code when it has ended.
///
/// The server passes a call to its layers after it has found the service and the method. Layers do not receive calls
/// that the server itself rejects, such as calls of unknown methods, calls above the limit and malformed requests, nor
/// repeats of a once call, which receive the stored answer.
///
/// The handler writes its answer directly into the connection's outbox, so a layer receives the code but cannot change
/// the answer.
///
/// # Cancel safety
///
/// The future of a layer is dropped at its `next.run().await` when the caller cancels, the connection ends or the
/// deadline passes. Code that must execute at the end of every call belongs in the `Drop` of a value created before
/// `run`, where [`Context::outcome`] returns the code of the call.
///
/// # Examples
///
/// A layer that rejects callers without the secret:
///
/// ```
/// use rpc_core::{
///     Code, Error, Local, Status, rpc_service,
///     layer::{IncomingCall, LayeredService, Served, ServerLayer, ServerNext},
/// };
///
/// struct Token(&'static str);
///
/// impl ServerLayer for Token {
///     async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
///         let token = arrival.context().metadata().get_bytes("token").unwrap_or_default();
///         // Compare in constant time, so that the duration reveals nothing about the secret.
///         let differences = token.iter().zip(self.0.as_bytes()).fold(0, |all, (one, other)| all | (one ^ other));
///         if token.len() != self.0.len() || differences != 0 {
///             return next.reject(Status::new(Code::Unauthenticated, "the token is not accepted"));
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
/// // For all services of a server: `Server::builder().layer(Token("open sesame"))`.
/// let service = LayeredService::new(GreeterServer::new(MyGreeter)).layer(Token("open sesame"));
/// let greeter = GreeterClient::new(Local::new(service));
/// assert_eq!(greeter.hello("Bo".into()).metadata("token", "open sesame").await?, "Hello Bo");
/// assert_eq!(greeter.hello("Eve".into()).await.unwrap_err().code(), Code::Unauthenticated);
/// # Ok(()) }
/// ```
pub trait ServerLayer: Send + Sync + 'static {
    /// Serves a call with [`ServerNext::run`], or rejects it with [`ServerNext::reject`].
    fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> impl Future<Output = Served> + Send;
}

/// A received call.
pub struct IncomingCall {
    service: Arc<dyn Service>,
    method: usize,
    context: Context,
}

/// The remaining layers of a call and its handler.
///
/// # Drop
///
/// Dropping this value answers the call with `Internal`.
#[must_use = "a call that is neither run nor rejected fails"]
pub struct ServerNext<'a> {
    layers: &'a [Arc<dyn DynLayer>],
    arrival: &'a IncomingCall,
    arguments: Payload,
    responder: Responder,
}

/// The code of a call that has ended. Only [`ServerNext`] creates it, by running or rejecting the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served(Code);

/// A service with layers.
#[derive(Clone)]
pub struct LayeredService {
    service: Arc<dyn Service>,
    layers: ServerLayers,
}

/// A list of layers that can be applied to several services.
#[derive(Clone, Default)]
pub struct ServerLayers(Arc<[Arc<dyn DynLayer>]>);

impl IncomingCall {
    /// Returns the called method, which is one of the service's methods.
    pub fn method(&self) -> &MethodInfo {
        &self.service.methods()[self.method]
    }

    /// Returns the context of the call, which [`Context::current`] returns as well.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl ServerNext<'_> {
    /// Passes the call to the next layer or the handler, and returns when the handler has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler.
    pub async fn run(self) -> Served {
        let Self { layers, arrival, arguments, responder } = self;
        if let Some((layer, layers)) = layers.split_first() {
            return layer.serve_boxed(arrival, ServerNext { layers, arrival, arguments, responder }).await;
        }
        arrival.service.call(arrival.method, arguments, responder).await;
        // There is no answer if the connection has closed.
        Served(arrival.context.outcome().unwrap_or(Code::Cancelled))
    }

    /// Rejects the call without executing the handler.
    ///
    /// A client that receives `Unavailable` may call another server.
    pub fn reject(self, status: Status) -> Served {
        let served = Served(status.code());
        self.responder.reject(status);
        served
    }

    /// Rejects the call without executing the handler, and states when the caller may retry.
    ///
    /// A client that receives `ResourceExhausted` with a retry-after sends this server no calls for that time, at most
    /// one minute, and calls another.
    pub fn reject_until(self, status: Status, retry_after: Duration) -> Served {
        let served = Served(status.code());
        self.responder.reject_until(status, retry_after);
        served
    }
}

impl Served {
    /// Returns the code of the answer; `Cancelled` if the call ended without one.
    pub fn code(self) -> Code {
        self.0
    }
}

impl LayeredService {
    /// Wraps `service` without layers.
    pub fn new(service: impl Service) -> Self {
        Self { service: Arc::new(service), layers: ServerLayers::default() }
    }

    /// Adds a layer after the existing ones. The layer that was added first receives a call first.
    #[must_use]
    pub fn layer(self, layer: impl ServerLayer) -> Self {
        Self { layers: self.layers.and(layer), ..self }
    }
}

impl ServerLayers {
    /// Adds a layer after the existing ones. The layer that was added first receives a call first.
    #[must_use]
    pub fn and(self, layer: impl ServerLayer) -> Self {
        Self(self.0.iter().cloned().chain([Arc::new(layer) as Arc<dyn DynLayer>]).collect())
    }

    /// Wraps a service in these layers. Returns it unchanged if there are none.
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

    fn contract(&self) -> Option<&Contract> {
        self.service.contract()
    }

    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        if method >= self.methods().len() {
            return self.service.call(method, arguments, responder);
        }
        let (service, layers) = (Arc::clone(&self.service), Arc::clone(&self.layers.0));
        Box::pin(async move {
            let arrival = IncomingCall { service, method, context: responder.context().clone() };
            ServerNext { layers: &layers, arrival: &arrival, arguments, responder }.run().await;
        })
    }
}

/// A `dyn`-compatible [`ServerLayer`].
trait DynLayer: Send + Sync {
    fn serve_boxed<'a>(&'a self, arrival: &'a IncomingCall, next: ServerNext<'a>) -> BoxFuture<'a, Served>;
}

impl<L: ServerLayer> DynLayer for L {
    fn serve_boxed<'a>(&'a self, arrival: &'a IncomingCall, next: ServerNext<'a>) -> BoxFuture<'a, Served> {
        Box::pin(self.serve(arrival, next))
    }
}

impl<L: ServerLayer> ServerLayer for Arc<L> {
    fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> impl Future<Output = Served> + Send {
        (**self).serve(arrival, next)
    }
}

impl fmt::Debug for IncomingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingCall")
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
