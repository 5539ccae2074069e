//! The provider of `shop.Feed:1.0`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use contracts::{Feed, FeedServer, Price, Receipt, Remark};
use rpc_cli::{Failure, RegistryArgs, shutdown_signal};
use rpc_core::{Status, StreamSender, Streaming};
use rpc_server::{Server, ServerConfig};
use tokio::{io::AsyncWriteExt as _, sync::broadcast, time::sleep};

use crate::hash::Hash;

/// Serves until the process is told to stop.
pub(crate) async fn run(registry: &RegistryArgs, listen: SocketAddr, files: PathBuf) -> Result<(), Failure> {
    let registry = registry.connect().await?;
    let url = registry.url().to_owned();
    // Clients that cannot move their streams lose them after this time.
    let config = ServerConfig::default().with_drain_timeout(Duration::from_secs(5));
    let feed = Shop { files, rooms: Arc::default() };
    let server =
        Server::builder().registry(registry).service(FeedServer::new(feed)).config(config).bind(listen).await?;
    let shutdown = shutdown_signal();
    println!("serving shop.Feed:1.0 on {} in {url}", server.local_address());
    server.run_until(shutdown).await?;
    println!("drained");
    Ok(())
}

struct Shop {
    files: PathBuf,
    rooms: Rooms,
}

/// The remarks of each room.
type Rooms = Arc<Mutex<HashMap<String, broadcast::Sender<Remark>>>>;

impl Feed for Shop {
    async fn prices(&self, good: String, after: Option<u64>) -> Result<Streaming<Price>, Status> {
        if good.is_empty() {
            return Err(Status::invalid_argument("the good has no name"));
        }
        let first = match after {
            Some(after) => after.checked_add(1).ok_or_else(|| Status::invalid_argument("no price follows the last"))?,
            None => newest() + 1,
        };
        if first + MAX_AGE < newest() {
            return Err(Status::out_of_range("the shop remembers the prices of an hour"));
        }
        let (sender, stream) = Streaming::channel(16);
        tokio::spawn(async move {
            // Both are safe to drop: the stream ends with the call, for example because its reader has moved.
            tokio::select! {
                () = send_prices(&sender, first) => {}
                () = sender.closed() => {}
            }
        });
        Ok(stream)
    }

    async fn upload(&self, name: String, mut parts: Streaming<Bytes>) -> Result<Receipt, Status> {
        let path = self.path_of(&name)?;
        let failed = |error: std::io::Error| Status::internal(format!("cannot store {name}: {error}"));
        tokio::fs::create_dir_all(&self.files).await.map_err(failed)?;
        let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
        let (mut bytes, mut hash) = (0, Hash::new());
        // The caller sends as fast as the disk writes.
        while let Some(part) = parts.next().await {
            let part = part?;
            file.write_all(&part).await.map_err(failed)?;
            hash.update(&part);
            bytes += part.len() as u64;
        }
        file.sync_all().await.map_err(failed)?;
        Ok(Receipt { bytes, hash: hash.0 })
    }

    async fn talk(&self, room: String, author: String, mut remarks: Streaming<String>) -> Streaming<Remark> {
        let room = {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            // Rooms that everybody has left.
            rooms.retain(|_, room| room.receiver_count() > 0);
            rooms.entry(room).or_insert_with(|| broadcast::channel(MAX_UNREAD).0).clone()
        };
        let mut heard = room.subscribe();
        let (sender, stream) = Streaming::channel(16);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    remark = remarks.next() => match remark {
                        // Sending fails only in an empty room.
                        Some(Ok(text)) => _ = room.send(Remark { author: author.clone(), text }),
                        Some(Err(error)) => return sender.fail(error.into()),
                        None => return,
                    },
                    remark = heard.recv() => match remark {
                        Ok(remark) => {
                            if sender.send(remark).await.is_err() {
                                return;
                            }
                        }
                        Err(broadcast::error::RecvError::Lagged(count)) => {
                            return sender.fail(Status::resource_exhausted(format!("{count} remarks were not read in time")));
                        }
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                    () = sender.closed() => return,
                }
            }
        });
        stream
    }
}

impl Shop {
    /// Returns the path of an uploaded file.
    fn path_of(&self, name: &str) -> Result<PathBuf, Status> {
        let is_plain = Path::new(name).file_name().is_some_and(|file| file == name) && !name.starts_with('.');
        if is_plain {
            Ok(self.files.join(name))
        } else {
            Err(Status::invalid_argument("the name is not that of a file"))
        }
    }
}

/// Sends the prices from `first` on, each when it is due.
async fn send_prices(sender: &StreamSender<Price, Status>, first: u64) {
    for number in first.. {
        while newest() < number {
            sleep(INTERVAL).await;
        }
        if sender.send(Price { number, cents: cents(number) }).await.is_err() {
            return;
        }
    }
}

/// Returns the number of the newest price: the clock determines it, so all providers agree.
fn newest() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis() / INTERVAL.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the price with a number, 1.00 to 2.00.
fn cents(number: u64) -> u32 {
    100 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % 101
}

/// The interval between two prices.
const INTERVAL: Duration = Duration::from_millis(2);
/// The number of prices that a provider can repeat: those of an hour.
const MAX_AGE: u64 = 1_800_000;
/// The number of remarks that may wait for one reader.
const MAX_UNREAD: usize = 256;
