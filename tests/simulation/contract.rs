//! The contracts of the two simulated services, and [`RecordingService`], which implements both.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::{Streaming, rpc_service};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    history::History,
    services::{ServiceError, SimService},
    stream_record::{Direction, Item, ReadEnd, StreamArguments},
    streams::{Recorder, SimSource, read},
};

/// The arguments of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Arguments {
    /// Unique number of the call.
    pub(crate) nonce: u64,
    /// Time that the handler takes.
    pub(crate) duration: Duration,
    /// Whether the handler returns the service's own error.
    pub(crate) fails: bool,
    /// Whether the handler panics.
    pub(crate) panics: bool,
    /// Number of bytes in the answer's padding.
    pub(crate) padding: usize,
}

/// The answer to a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Number of the call.
    pub(crate) nonce: u64,
    /// The requested number of bytes, each of which is the last byte of the nonce.
    pub(crate) padding: Vec<u8>,
}

/// The first service.
#[rpc_service(name = "sim.Ledger", version = "1.0")]
pub(crate) trait Ledger {
    /// May execute repeatedly.
    #[rpc(idempotent)]
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Executes at most once.
    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Has no answer.
    #[rpc(one_way)]
    async fn note(&self, arguments: Arguments);
    /// Executes at most once; differs in [`OutdatedLedger`].
    async fn audit(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Executes at most once although the client retries it.
    #[rpc(once)]
    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Executes at most once, and returns a stream.
    async fn download(&self, arguments: StreamArguments) -> Result<Streaming<Item, ServiceError>, ServiceError>;
    /// Executes at most once, and returns the number of items, as the length of the padding.
    async fn upload(&self, arguments: StreamArguments, items: Streaming<Item>) -> Result<Answer, ServiceError>;
    /// Executes at most once, and returns a stream.
    async fn talk(
        &self,
        arguments: StreamArguments,
        items: Streaming<Item>,
    ) -> Result<Streaming<Item, ServiceError>, ServiceError>;
}

/// The first service in an incompatible contract: it lacks methods, and two have other arguments or another answer.
#[rpc_service(name = "sim.Ledger", version = "1.0")]
pub(crate) trait OutdatedLedger {
    /// The same method.
    #[rpc(idempotent)]
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// A method of the same name.
    async fn audit(&self, label: String, reason: String) -> String;
    /// The same method in a build that executes every attempt.
    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// A method of the same name, without a stream.
    async fn download(&self, arguments: StreamArguments) -> Result<Answer, ServiceError>;
}

/// The second service, with the same methods as the first but one.
#[rpc_service(name = "sim.Archive", version = "1.0")]
pub(crate) trait Archive {
    /// May execute repeatedly.
    #[rpc(idempotent)]
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Executes at most once.
    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError>;
    /// Has no answer.
    #[rpc(one_way)]
    async fn note(&self, arguments: Arguments);
}

/// Implements one of the services on one server.
pub(crate) struct RecordingService {
    /// Records the executions.
    pub(crate) history: Arc<History>,
    /// Address of the server.
    pub(crate) server: SocketAddr,
    /// Service that is implemented.
    pub(crate) service: SimService,
}

impl RecordingService {
    async fn run(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        let execution = self.history.record_execution(arguments.nonce, self.server, self.service);
        if !arguments.duration.is_zero() {
            sleep(arguments.duration).await;
        }
        let Arguments { nonce, fails, panics, padding, .. } = arguments;
        if panics {
            // Without the panic hook, which would print a message for each.
            std::panic::resume_unwind(Box::new("intended panic of a handler"));
        }
        self.history.record_completion(execution);
        if fails { Err(ServiceError { nonce }) } else { Ok(Answer { nonce, padding: vec![nonce as u8; padding] }) }
    }

    fn source(&self, arguments: StreamArguments) -> SimSource<ServiceError> {
        let recorder = Recorder::new(&self.history, arguments.nonce, Direction::Down);
        SimSource::new(recorder, arguments.source, |nonce| ServiceError { nonce })
    }

    /// Runs the handler of a method that returns a stream. `items` is the stream of the caller.
    #[expect(clippy::disallowed_methods, reason = "the task ends with the stream that it reads")]
    fn open(
        &self,
        arguments: StreamArguments,
        items: Option<Streaming<Item>>,
    ) -> Result<Streaming<Item, ServiceError>, ServiceError> {
        let StreamArguments { nonce, fails, follows, ref reader, length, .. } = arguments;
        let execution = self.history.record_execution(nonce, self.server, self.service);
        self.history.record_completion(execution);
        if fails {
            return Err(ServiceError { nonce });
        }
        let (up, reader) = (Recorder::new(&self.history, nonce, Direction::Up), reader.clone());
        Ok(Streaming::from_stream(match items {
            None => self.source(arguments),
            Some(items) if follows => self.source(arguments).following(items, &up, length),
            Some(items) => {
                tokio::spawn(async move { read(items, &up, &reader, length).await });
                self.source(arguments)
            }
        }))
    }
}

impl Ledger for RecordingService {
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn note(&self, arguments: Arguments) {
        let _ = self.run(arguments).await;
    }

    async fn audit(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn download(&self, arguments: StreamArguments) -> Result<Streaming<Item, ServiceError>, ServiceError> {
        self.open(arguments, None)
    }

    async fn upload(&self, arguments: StreamArguments, items: Streaming<Item>) -> Result<Answer, ServiceError> {
        let StreamArguments { nonce, fails, reader, length, .. } = arguments;
        let execution = self.history.record_execution(nonce, self.server, self.service);
        let up = Recorder::new(&self.history, nonce, Direction::Up);
        let end = if fails { ReadEnd::Dropped } else { read(items, &up, &reader, length).await };
        self.history.record_completion(execution);
        match end {
            _ if fails => Err(ServiceError { nonce }),
            ReadEnd::Failed { .. } => Err(ServiceError { nonce }),
            ReadEnd::Complete | ReadEnd::Service | ReadEnd::Dropped => {
                Ok(Answer { nonce, padding: vec![nonce as u8; up.count_read() as usize] })
            }
        }
    }

    async fn talk(
        &self,
        arguments: StreamArguments,
        items: Streaming<Item>,
    ) -> Result<Streaming<Item, ServiceError>, ServiceError> {
        self.open(arguments, Some(items))
    }
}

impl OutdatedLedger for RecordingService {
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn audit(&self, label: String, _reason: String) -> String {
        label
    }

    async fn charge(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn download(&self, arguments: StreamArguments) -> Result<Answer, ServiceError> {
        Err(ServiceError { nonce: arguments.nonce })
    }
}

impl Archive for RecordingService {
    async fn read(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn write(&self, arguments: Arguments) -> Result<Answer, ServiceError> {
        self.run(arguments).await
    }

    async fn note(&self, arguments: Arguments) {
        let _ = self.run(arguments).await;
    }
}
