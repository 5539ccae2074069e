//! [`StreamJob`]: one run of a client of streams.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{failure::Failure, job::positive_seconds, resources::resident};

/// The parameters of one run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StreamJob {
    /// The process id of the server.
    #[arg(long)]
    server: u32,
    #[arg(long)]
    streams: usize,
    #[arg(long, default_value_t = 32)]
    payload: usize,
    #[arg(long, default_value = "1", value_parser = positive_seconds)]
    seconds: Duration,
    /// Measures the memory of streams without items.
    #[arg(long)]
    idle: bool,
}

/// The items that were received in a time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) items: u64,
    pub(crate) secs: f64,
}

/// The memory per stream, in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Footprint {
    pub(crate) server_bytes: f64,
    pub(crate) client_bytes: f64,
}

/// A connection that opens streams.
pub(crate) trait Opener {
    /// A stream of payloads.
    type Items: Stream<Item = Result<usize, Failure>> + Send + Unpin + 'static;

    /// Opens a stream of items with this payload, which never ends; without a payload, it has no item.
    async fn open(&self, payload: Option<usize>) -> Result<Self::Items, Failure>;
}

impl StreamJob {
    pub(crate) async fn run(&self, opener: &impl Opener) -> Result<serde_json::Value, Failure> {
        Ok(if self.idle {
            serde_json::to_value(self.footprint(opener).await?)?
        } else {
            serde_json::to_value(self.rate(opener).await?)?
        })
    }

    /// Each stream has a task, as in a program.
    async fn rate(&self, opener: &impl Opener) -> Result<Rate, Failure> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + self.seconds;
        let mut tasks = JoinSet::new();
        for _ in 0..self.streams {
            let (mut items, payload) = (opener.open(Some(self.payload)).await?, self.payload);
            tasks.spawn(async move {
                let mut count = 0;
                // The clock is read once for many items.
                for turn in 0_u64.. {
                    let length = items.next().await.ok_or("the stream has ended")??;
                    if length != payload {
                        return Err(Failure::from("an item has another length"));
                    }
                    if turn % ITEMS_PER_CLOCK == 0 {
                        let now = Instant::now();
                        if now >= end {
                            break;
                        }
                        if now < begin {
                            count = 0;
                        }
                    }
                    count += 1;
                }
                Ok(count)
            });
        }
        let counts = tasks.join_all().await.into_iter().collect::<Result<Vec<u64>, Failure>>()?;
        Ok(Rate { items: counts.iter().sum(), secs: self.seconds.as_secs_f64() })
    }

    async fn footprint(&self, opener: &impl Opener) -> Result<Footprint, Failure> {
        let resident = || -> std::io::Result<[f64; 2]> {
            Ok([resident(&self.server.to_string())? as f64, resident("self")? as f64])
        };
        let open = |count: usize| {
            let opening: FuturesUnordered<_> = (0..count).map(|_| opener.open(None)).collect();
            opening.collect::<Vec<_>>()
        };
        // The first streams also cause one-time allocations.
        let first = open(20).await;
        sleep(SETTLE_TIME).await;
        let before = resident()?;
        let held = open(self.streams).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        sleep(SETTLE_TIME).await;
        let after = resident()?;
        drop((first, held));
        let [server_bytes, client_bytes] = [0, 1].map(|side| (after[side] - before[side]) / self.streams as f64);
        Ok(Footprint { server_bytes, client_bytes })
    }
}

const WARM_UP: Duration = Duration::from_millis(500);
const SETTLE_TIME: Duration = Duration::from_secs(1);
const ITEMS_PER_CLOCK: u64 = 16;
