//! [`ClientLayer`]: what stands between a program and its client; and [`Layered`], a caller behind such layers.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{self, Poll},
};

use serde::Serialize;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    BoxFuture, CallOptions, Caller, Code, Delivery, Error, Explain, Explanation, MethodInfo, Phase, Reply, Request,
};

/// What stands between a program and its client: it sees each call before it is sent, may change its options or refuse it,
/// and gets its reply, which it may replace.
///
/// A call passes a layer once, however often the client sends it. The time that layers take counts: a call ends by its
/// deadline wherever it stands.
///
/// # Cancel safety
///
/// A layer's future is dropped when the program drops the call, or its deadline passes while it is in the layer's hands.
///
/// # Examples
///
/// ```
/// use rpc_core::{
///     Context, Error, Local, Reply, rpc_service,
///     layer::{ClientLayer, ClientNext, Layered, Outgoing},
/// };
///
/// struct Token(String);
///
/// impl ClientLayer for Token {
///     async fn call(&self, mut call: Outgoing, next: ClientNext<'_>) -> Result<Reply, Error> {
///         call.options.metadata.set("token", &self.0).map_err(|status| Error::from_status(status, None))?;
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
    /// Takes a call to its reply: by [`ClientNext::run`], or not.
    fn call(&self, call: Outgoing, next: ClientNext<'_>) -> impl Future<Output = Result<Reply, Error>> + Send;
}

/// A call on its way out, without its arguments.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// What is called.
    pub method: &'static MethodInfo,
    /// What the caller asked for.
    pub options: CallOptions,
}

/// The rest of a call's way: further layers, then the caller behind them.
#[must_use = "a call is sent when it is run"]
pub struct ClientNext<'a> {
    layers: &'a [Arc<dyn Boxed>],
    send: SendCall,
}

/// A caller behind layers, which is a caller again.
#[derive(Clone)]
pub struct Layered<C> {
    caller: C,
    layers: Arc<[Arc<dyn Boxed>]>,
}

impl ClientNext<'_> {
    /// Goes on; resolves with the reply.
    ///
    /// # Errors
    ///
    /// Those of the call.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the call is given up.
    pub async fn run(self, call: Outgoing) -> Result<Reply, Error> {
        let Self { layers, send } = self;
        match layers.split_first() {
            Some((layer, layers)) => layer.call_boxed(call, ClientNext { layers, send }).await,
            None => send(call.options).await,
        }
    }
}

impl<C: Caller> Layered<C> {
    /// Puts `caller` behind no layers yet.
    pub fn new(caller: C) -> Self {
        Self { caller, layers: Arc::default() }
    }

    /// Adds a layer behind those that are there: the first one sees a call first.
    #[must_use]
    pub fn layer(mut self, layer: impl ClientLayer) -> Self {
        self.layers = self.layers.iter().cloned().chain([Arc::new(layer) as Arc<dyn Boxed>]).collect();
        self
    }

    /// The caller behind the layers.
    pub fn caller(&self) -> &C {
        &self.caller
    }
}

impl<C: Caller> Caller for Layered<C> {
    type Calling<A: Serialize + Send + 'static> = LayeredCall;

    fn call<A: Serialize + Send + 'static>(&self, request: Request<A>) -> LayeredCall {
        let (caller, layers, place) = (self.caller.clone(), Arc::clone(&self.layers), Arc::new(Place::default()));
        let Request { method, arguments, mut options } = request;
        let deadline = options.deadline_from(Instant::now(), method, caller.default_timeout());
        options.deadline = Some(deadline);
        let within = Arc::clone(&place);
        let send: SendCall = Box::new(move |options: CallOptions| {
            let explain = options.explain;
            within.enter(Place::BELOW);
            let mut calling = caller.call(Request { method, arguments, options });
            Box::pin(async move {
                let outcome = (&mut calling).await;
                if explain {
                    *within.explanation.lock().unwrap_or_else(PoisonError::into_inner) = calling.explanation();
                }
                within.enter(Place::AFTER);
                outcome
            })
        });
        let call = Box::pin(async move {
            let next = ClientNext { layers: &layers, send };
            next.run(Outgoing { method, options }).await
        });
        LayeredCall { call, place, deadline, overdue: None }
    }

    fn default_timeout(&self) -> std::time::Duration {
        self.caller.default_timeout()
    }
}

/// A call through layers on its way.
///
/// # Cancel safety
///
/// Dropped, the call is given up.
#[must_use = "futures do nothing unless polled"]
pub struct LayeredCall {
    call: BoxFuture<'static, Result<Reply, Error>>,
    place: Arc<Place>,
    deadline: Instant,
    /// Made when a layer waits for something.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl Future for LayeredCall {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Self { call, place, deadline, overdue } = &mut *self;
        if let Poll::Ready(outcome) = call.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        let delivery = match place.stage.load(Ordering::Relaxed) {
            Place::BEFORE => Delivery::NotExecuted,
            // It keeps the deadline itself, and knows better what became of the request.
            Place::BELOW => return Poll::Pending,
            _ => Delivery::Unknown,
        };
        let overdue = overdue.get_or_insert_with(|| Box::pin(sleep_until(*deadline)));
        overdue.as_mut().poll(cx).map(|()| {
            let error = Error::not_executed(Code::DeadlineExceeded, "the deadline passed while a layer had the call");
            Err(error.with_phase(Phase::Send).with_delivery(delivery))
        })
    }
}

impl Explain for LayeredCall {
    fn explanation(&self) -> Explanation {
        self.place.explanation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a call is, for who polls it from outside.
#[derive(Debug, Default)]
struct Place {
    stage: AtomicU8,
    explanation: Mutex<Explanation>,
}

impl Place {
    /// A layer has the call, and it was not sent.
    const BEFORE: u8 = 0;
    /// The caller behind the layers has it.
    const BELOW: u8 = 1;
    /// It has its reply.
    const AFTER: u8 = 2;

    /// Set and read while the call is polled, so by one thread at a time.
    fn enter(&self, stage: u8) {
        self.stage.store(stage, Ordering::Relaxed);
    }
}

/// Hands a call with these options to the caller behind the layers.
type SendCall = Box<dyn FnOnce(CallOptions) -> BoxFuture<'static, Result<Reply, Error>> + Send>;

/// A [`ClientLayer`] behind a pointer.
trait Boxed: Send + Sync {
    fn call_boxed<'a>(&'a self, call: Outgoing, next: ClientNext<'a>) -> BoxFuture<'a, Result<Reply, Error>>;
}

impl<L: ClientLayer> Boxed for L {
    fn call_boxed<'a>(&'a self, call: Outgoing, next: ClientNext<'a>) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(self.call(call, next))
    }
}

impl<L: ClientLayer> ClientLayer for Arc<L> {
    fn call(&self, call: Outgoing, next: ClientNext<'_>) -> impl Future<Output = Result<Reply, Error>> + Send {
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
        f.debug_struct("LayeredCall").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
