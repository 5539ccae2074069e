//! [`DynCaller`]: a caller of any type.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use crate::{Caller, Codec, CodecError, Encode, Error, Explain, Explanation, Reply, Request, WriteBuffer};

/// A caller whose type is erased, so that a program need not be generic over its callers.
///
/// It is the default of the type parameter of generated clients: `StockClient` is `StockClient<DynCaller>`.
///
/// A call through it allocates twice more, for its arguments and for its future, and is dispatched at run time. It
/// moves the arguments into the allocation and does not encode them twice.
///
/// # Examples
///
/// ```
/// use rpc_core::{Code, DynCaller, Error, rpc_service, testing};
///
/// #[rpc_service(name = "shop.Stock", version = "1.0")]
/// trait Stock {
///     async fn count(&self, item: String) -> u32;
/// }
/// # struct Shelf;
/// # impl Stock for Shelf {
/// #     async fn count(&self, item: String) -> u32 { item.len() as u32 }
/// # }
///
/// /// Neither this type nor its users are generic.
/// struct Shop {
///     stock: StockClient,
/// }
///
/// impl Shop {
///     async fn offers(&self, item: &str) -> Result<bool, Error> {
///         Ok(self.stock.count(item.into()).await? > 0)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // In the program, pass a `Client` of rpc-client to `DynCaller::new`.
/// # let client = rpc_core::Local::new(StockServer::new(Shelf));
/// let shop = Shop { stock: StockClient::new(DynCaller::new(client)) };
/// assert!(shop.offers("teapot").await.unwrap());
///
/// let broken = Shop { stock: StockClient::new(DynCaller::new(testing::failing(Code::Unavailable))) };
/// assert_eq!(broken.offers("teapot").await.unwrap_err().code(), Code::Unavailable);
/// # }
/// ```
#[derive(Clone)]
pub struct DynCaller(Arc<dyn ErasedCaller>);

/// Arguments whose type is erased.
pub struct DynArguments(Box<dyn Encode + Send>);

/// A call in progress through a [`DynCaller`].
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
#[must_use = "futures do nothing unless polled"]
pub struct DynCall(Box<dyn ErasedCall>);

impl DynCaller {
    /// Erases the type of `caller`.
    pub fn new(caller: impl Caller) -> Self {
        Self(Arc::new(caller))
    }
}

impl Caller for DynCaller {
    type Calling<A: Encode + Send + 'static> = DynCall;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> DynCall {
        let Request { method, arguments, options } = request;
        DynCall(self.0.call_erased(Request { method, arguments: DynArguments(Box::new(arguments)), options }))
    }

    fn default_timeout(&self) -> Duration {
        self.0.default_timeout_erased()
    }
}

impl Encode for DynArguments {
    fn encode(&self, codec: Codec, out: &mut WriteBuffer) -> Result<(), CodecError> {
        self.0.encode(codec, out)
    }
}

impl Future for DynCall {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll(cx)
    }
}

impl Explain for DynCall {
    fn explanation(&self) -> Explanation {
        self.0.explanation()
    }
}

/// A `dyn`-compatible [`Caller`].
trait ErasedCaller: Send + Sync {
    fn call_erased(&self, request: Request<DynArguments>) -> Box<dyn ErasedCall>;

    fn default_timeout_erased(&self) -> Duration;
}

impl<C: Caller> ErasedCaller for C {
    fn call_erased(&self, request: Request<DynArguments>) -> Box<dyn ErasedCall> {
        Box::new(self.call(request))
    }

    fn default_timeout_erased(&self) -> Duration {
        self.default_timeout()
    }
}

/// A call in progress through any caller.
trait ErasedCall: Future<Output = Result<Reply, Error>> + Explain + Send + Unpin {}

impl<F: Future<Output = Result<Reply, Error>> + Explain + Send + Unpin> ErasedCall for F {}

impl fmt::Debug for DynCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynCaller").finish_non_exhaustive()
    }
}

impl fmt::Debug for DynArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynArguments").finish_non_exhaustive()
    }
}

impl fmt::Debug for DynCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynCall").finish_non_exhaustive()
    }
}
