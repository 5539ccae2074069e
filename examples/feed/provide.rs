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
use msnb::{
    Error, ServerConfig, Status, StreamSender, Streaming,
    app::{Failure, RegistryArgs, shutdown_signal},
    server::ServerBuilder,
};
use tokio::{io::AsyncWriteExt as _, sync::broadcast, time::sleep};
use tokio_util::task::TaskTracker;

use crate::hash::Hash;

/// Serves until the process is told to stop.
pub(crate) async fn run(
    server: ServerBuilder,
    registry: &RegistryArgs,
    listen: SocketAddr,
    files: PathBuf,
) -> Result<(), Failure> {
    let registry = registry.connect().await?;
    let url = registry.url().to_owned();
    // Clients that cannot move their streams lose them after this time.
    let config = ServerConfig::default().with_drain_timeout(Duration::from_secs(5));
    let tasks = TaskTracker::new();
    let feed = Shop { files, rooms: Arc::default(), tasks: tasks.clone() };
    let server = server.registry(registry).service(FeedServer::new(feed)).config(config).bind(listen).await?;
    let shutdown = shutdown_signal();
    println!("serving shop.Feed:1.0 on {} in {url}", server.local_address());
    server.run_until(shutdown).await?;
    // They have ended with their streams.
    tasks.close();
    tasks.wait().await;
    println!("drained");
    Ok(())
}

struct Shop {
    files: PathBuf,
    rooms: Rooms,
    /// The tasks that send items.
    tasks: TaskTracker,
}

/// The remarks of each room.
type Rooms = Arc<Mutex<HashMap<String, broadcast::Sender<Remark>>>>;

impl Feed for Shop {
    async fn prices(&self, good: String, after: Option<u64>) -> Result<Streaming<Price>, Status> {
        if good.is_empty() {
            return Err(Status::invalid_argument("the good has no name"));
        }
        // The newest price is sent at once, so that a reader has a cursor from then on.
        let newest = newest();
        let first = after.map_or(newest, |after| after.saturating_add(1));
        if first.saturating_add(MAX_AGE) < newest || first > newest + 1 {
            return Err(Status::out_of_range("the shop has the prices of the last hour"));
        }
        let (sender, stream) = Streaming::channel(16);
        self.tasks.spawn(async move {
            // Both are safe to drop: the stream ends with the call, for example because its reader has moved.
            tokio::select! {
                () = send_prices(&sender, first) => {}
                () = sender.closed() => {}
            }
        });
        Ok(stream)
    }

    async fn upload(&self, name: String, mut parts: Streaming<Bytes>) -> Result<Receipt, Status> {
        let (path, part_path) = (self.path_of(&name)?, self.path_of(&format!("{name}.{}.part", newest()))?);
        let failed = |error: std::io::Error| Status::internal(format!("cannot store {name}: {error}"));
        tokio::fs::create_dir_all(&self.files).await.map_err(failed)?;
        // An upload that fails leaves an earlier file as it is.
        let mut file = tokio::fs::File::create_new(&part_path).await.map_err(failed)?;
        let _unfinished = RemoveOnDrop(part_path.clone());
        let (mut bytes, mut hash) = (0, Hash::new());
        // The caller sends as fast as the disk writes.
        while let Some(part) = parts.next().await {
            let part = part?;
            file.write_all(&part).await.map_err(failed)?;
            hash.update(&part);
            bytes += part.len() as u64;
            if bytes > MAX_FILE {
                return Err(Status::resource_exhausted(format!("files have at most {MAX_FILE} bytes")));
            }
        }
        file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(&part_path, &path).await.map_err(failed)?;
        Ok(Receipt { bytes, hash: hash.0 })
    }

    async fn talk(&self, room: String, author: String, mut remarks: Streaming<String>) -> Streaming<Remark> {
        let (room, mut heard) = {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            // Rooms that everybody has left.
            rooms.retain(|_, room| room.receiver_count() > 0);
            let room = rooms.entry(room).or_insert_with(|| broadcast::channel(MAX_UNREAD).0);
            (room.clone(), room.subscribe())
        };
        let (sender, stream) = Streaming::channel(16);
        self.tasks.spawn(async move {
            // The two directions do not wait for each other: a caller that reads slowly may go on to speak.
            let speaking = async {
                while let Some(text) = remarks.next().await {
                    // Sending fails only in an empty room.
                    let _ = room.send(Remark { author: author.clone(), text: text? });
                }
                Ok(())
            };
            let hearing = async {
                loop {
                    let remark = heard.recv().await.map_err(|error| Status::resource_exhausted(error.to_string()))?;
                    if sender.send(remark).await.is_err() {
                        return Ok(());
                    }
                }
            };
            // All futures are safe to drop: the first end is that of the call.
            let end: Result<(), Status> = tokio::select! {
                end = speaking => end.map_err(|error: Error| error.into()),
                end = hearing => end,
                () = sender.closed() => Ok(()),
            };
            if let Err(status) = end {
                sender.fail(status);
            }
        });
        stream
    }
}

/// Removes a file unless it was renamed.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // It fails after the rename.
        let _ = std::fs::remove_file(&self.0);
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
/// The longest file, in bytes: 64 GiB.
const MAX_FILE: u64 = 64 << 30;
/// The number of remarks that may wait for one reader.
const MAX_UNREAD: usize = 256;
