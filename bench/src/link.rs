//! [`Link`]: a connection to an echo, by whatever framework; and [`Sample`], what is sent over it.

use crate::Failure;

/// A connection to an echo, by whatever framework. Clones share the connection.
pub(crate) trait Link: Clone + Send + Sync + 'static {
    /// Makes one call with this id and checks its reply.
    fn echo(&self, id: u64, sample: &Sample) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What each call carries besides its id.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) payload: Vec<u8>,
}

impl Sample {
    /// A name and a payload of this length.
    pub(crate) fn new(length: usize) -> Self {
        Self { name: "parrot".to_owned(), payload: (0..=u8::MAX).cycle().take(length).collect() }
    }

    /// Checks that what came back is what was sent.
    pub(crate) fn check(&self, sent: u64, id: u64, name: &str, payload: &[u8]) -> Result<(), Failure> {
        if sent == id && self.name == name && self.payload == payload {
            return Ok(());
        }
        Err(format!("call {sent} got the reply {id}, `{name}`, {} bytes, which is not what it sent", payload.len())
            .into())
    }
}
