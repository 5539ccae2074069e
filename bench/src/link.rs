//! [`Link`]: a connection to an echo service over any framework; [`Sample`]: the content of its calls.

use tokio::runtime::Handle;

use crate::failure::Failure;

/// A connection to an echo service over any framework. Clones share the connection.
pub(crate) trait Link: Clone + Send + Sync + 'static {
    /// Makes one call with this id and verifies its reply.
    fn echo(&self, id: u64, sample: &Sample) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Returns the runtime on which the callers of this connection run.
    fn runtime(&self) -> Handle {
        Handle::current()
    }
}

/// The content of each call, except for its id.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
}

impl Sample {
    /// Creates a sample with a payload of `length` bytes.
    pub(crate) fn new(length: usize) -> Self {
        Self { name: "parrot".to_owned(), payload: (0..=u8::MAX).cycle().take(length).collect() }
    }

    /// Checks that the reply equals the request.
    pub(crate) fn check(&self, sent: u64, id: u64, name: &str, payload: &[u8]) -> Result<(), Failure> {
        if sent == id && self.name == name && self.payload == payload {
            return Ok(());
        }
        Err(format!("reply to call {sent} differs from the request: id {id}, name `{name}`, {} bytes", payload.len())
            .into())
    }
}
