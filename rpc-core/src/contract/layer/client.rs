//! [`ClientLayer`]: middleware of a client; [`Layered`]: a caller with such layers.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::Progress;
use crate::{
    BoxFuture, CallOptions, Caller, Code, Delivery, Encode, Error, Explain, Explanation, MethodInfo, Phase, Reply,
    Request,
};

/// Middleware between a program and its client.
///
/// A layer receives each call before it is sent, and may change its options or reject it. It receives the reply and may
/// replace it.
///
/// A call passes a layer once, regardless of the number of attempts. A call's deadline includes the time that layers
/// take.
///
/// A layer can shorten the timeout that the program has set for the call, but not extend it. To leave it unchanged and
/// to replace only the timeout of the method or the client, use [`OutgoingCall::set_default_timeout`].
///
/// # Cancel safety
///
/// The future of a layer is dropped when the program drops the call, and when the deadline passes while a layer
/// executes.
///
/// # Examples
///
/// ```
/// use rpc_core::{
///     Context, Error, Local, Reply, rpc_service,
///     layer::{ClientLayer, ClientNext, Layered, OutgoingCall},
/// };
///
/// struct Token(String);
///
/// impl ClientLayer for Token {
///     async fn call(&self, mut call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
///         let set = call.options.metadata.set("token", &self.0);
///         set.map_err(|status| Error::not_executed(status.code(), status.message().to_owned()))?;
///         let outcome = next.run(call).await;
///         if let Err(error) = &outcome {
///             println!("{error}");
///         }
///         outcome
///     }
/// }
///
/// #[rpc_service(name = "demo.Greeter", version = "1.0")]
/// trait Greeter {
///     async fn hello(&self) -> String;
/// }
/// # struct MyGreeter;
/// # impl Greeter for MyGreeter {
/// #     async fn hello(&self) -> String {
/// #         let context = Context::current().expect("a handler has a context");
/// #         context.metadata().get("token").unwrap_or_default().to_owned()
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let client = Local::new(GreeterServer::new(MyGreeter));
/// let greeter = GreeterClient::new(Layered::new(client).layer(Token("open sesame".into())));
/// assert_eq!(greeter.hello().await?, "open sesame");
/// # Ok(()) }
/// ```
pub trait ClientLayer: Send + Sync + 'static {
    /// Handles a call: sends it with [`ClientNext::run`], or returns an outcome without sending it.
    fn call(&self, call: OutgoingCall, next: ClientNext<'_>) -> impl Future<Output = Result<Reply, Error>> + Send;
}

/// A call before it is sent, without its arguments.
#[derive(Debug)]
#[non_exhaustive]
pub struct OutgoingCall {
    /// The called method.
    pub method: &'static MethodInfo,
    /// The options of the call.
    pub options: CallOptions,
}

impl OutgoingCall {
    /// Sets the timeout, unless the program has set one for this call.
    ///
    /// It replaces the timeout of the method and of the client, and may be shorter or longer. Time that a layer takes
    /// before the call is sent is limited by the timeout that it replaces.
    pub fn set_default_timeout(&mut self, timeout: Duration) {
        self.options.timeout.get_or_insert(timeout);
    }
}

/// The remaining layers of a call and the caller behind them.
#[must_use = "a call is sent when it is run"]
pub struct ClientNext<'a> {
    layers: &'a [Arc<dyn DynLayer>],
    send: SendCall,
}

/// A caller with layers.
#[derive(Clone)]
pub struct Layered<C> {
    caller: C,
    layers: Arc<[Arc<dyn DynLayer>]>,
}

impl ClientNext<'_> {
    /// Passes the call to the next layer or sends it, and returns the reply.
    ///
    /// # Errors
    ///
    /// The error of the call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn run(self, call: OutgoingCall) -> Result<Reply, Error> {
        let Self { layers, send } = self;
        match layers.split_first() {
            Some((layer, layers)) => layer.call_boxed(call, ClientNext { layers, send }).await,
            None => send(call.options).await,
        }
    }
}

impl<C: Caller> Layered<C> {
    /// Wraps `caller` without layers.
    pub fn new(caller: C) -> Self {
        Self { caller, layers: Arc::default() }
    }

    /// Adds a layer after the existing ones. The layer that was added first receives a call first.
    #[must_use]
    pub fn layer(mut self, layer: impl ClientLayer) -> Self {
        self.layers = self.layers.iter().cloned().chain([Arc::new(layer) as Arc<dyn DynLayer>]).collect();
        self
    }

    /// Returns the caller behind the layers.
    pub fn caller(&self) -> &C {
        &self.caller
    }
}

impl<C: Caller> Caller for Layered<C> {
    type Calling<A: Encode + Send + 'static> = LayeredCall;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> LayeredCall {
        let (caller, layers) = (self.caller.clone(), Arc::clone(&self.layers));
        let Request { method, arguments, mut options } = request;
        let (now, default) = (Instant::now(), caller.default_timeout());
        let deadline = options.deadline_from(now, method, default);
        if options.timeout.is_some() {
            // A layer that sets another timeout can only shorten this one.
            options.deadline = Some(deadline);
        }
        let progress = Arc::new(Progress::new(now, deadline, options.progress.take()));
        let below = Arc::clone(&progress);
        let send: SendCall = Box::new(move |mut options: CallOptions| {
            let explain = options.explain;
            // Not as the option `deadline`, which layers of the caller below could not extend.
            options.progress = Some(Arc::clone(&below));
            below.set_deadline(options.deadline_from(now, method, default));
            below.enter(Progress::BELOW);
            let mut calling = caller.call(Request { method, arguments, options });
            Box::pin(async move {
                let outcome = (&mut calling).await;
                if explain {
                    below.set_explanation(calling.explanation());
                }
                below.enter(Progress::AFTER);
                outcome
            })
        });
        let call = Box::pin(async move {
            let next = ClientNext { layers: &layers, send };
            next.run(OutgoingCall { method, options }).await
        });
        LayeredCall { call, progress, overdue: None }
    }

    fn default_timeout(&self) -> Duration {
        self.caller.default_timeout()
    }
}

/// A call in progress through layers.
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
#[must_use = "futures do nothing unless polled"]
pub struct LayeredCall {
    call: BoxFuture<'static, Result<Reply, Error>>,
    progress: Arc<Progress>,
    /// Created when a layer first waits.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl Future for LayeredCall {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Self { call, progress, overdue } = &mut *self;
        if let Poll::Ready(outcome) = call.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        let delivery = match progress.stage() {
            Progress::BEFORE => Delivery::NotExecuted,
            // The caller enforces the deadline itself, and its error states whether the request was sent.
            Progress::BELOW => return Poll::Pending,
            _ => Delivery::Unknown,
        };
        let deadline = progress.deadline();
        let overdue = overdue.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if overdue.deadline() != deadline {
            overdue.as_mut().reset(deadline);
        }
        overdue.as_mut().poll(cx).map(|()| {
            let error = Error::new(delivery, Code::DeadlineExceeded, "the deadline passed in a client layer".into());
            Err(error.with_phase(Phase::Send))
        })
    }
}

impl Explain for LayeredCall {
    fn explanation(&self) -> Explanation {
        self.progress.explanation()
    }
}

/// Passes a call with the given options to the caller behind the layers.
type SendCall = Box<dyn FnOnce(CallOptions) -> BoxFuture<'static, Result<Reply, Error>> + Send>;

/// A `dyn`-compatible [`ClientLayer`].
trait DynLayer: Send + Sync {
    fn call_boxed<'a>(&'a self, call: OutgoingCall, next: ClientNext<'a>) -> BoxFuture<'a, Result<Reply, Error>>;
}

impl<L: ClientLayer> DynLayer for L {
    fn call_boxed<'a>(&'a self, call: OutgoingCall, next: ClientNext<'a>) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(self.call(call, next))
    }
}

impl<L: ClientLayer> ClientLayer for Arc<L> {
    fn call(&self, call: OutgoingCall, next: ClientNext<'_>) -> impl Future<Output = Result<Reply, Error>> + Send {
        (**self).call(call, next)
    }
}

impl fmt::Debug for ClientNext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientNext").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

impl<C: fmt::Debug> fmt::Debug for Layered<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("caller", &self.caller).field("layers", &self.layers.len()).finish()
    }
}

impl fmt::Debug for LayeredCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredCall").field("deadline", &self.progress.deadline()).finish_non_exhaustive()
    }
}
