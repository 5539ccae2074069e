//! [`Upload`]: a long stream to a slow reader, and the memory of both ends meanwhile.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use rpc_core::{Status, StreamSender, Streaming};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::msnb;
use crate::{failure::Failure, resources::resident};

/// The parameters of an upload.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Upload {
    /// The process id of the server.
    #[arg(long)]
    server: u32,
    #[arg(long)]
    mib: u64,
    /// The rate at which the server reads, in MiB/s.
    #[arg(long)]
    rate: u64,
}

/// The highest resident memory of both ends in bytes: of the server and of the client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Uploaded {
    pub(crate) secs: f64,
    /// While the first tenth of the bytes was sent.
    pub(crate) early: [u64; 2],
    /// While the other bytes were sent.
    pub(crate) late: [u64; 2],
}

impl Upload {
    /// Sends the bytes in parts, as from a file.
    pub(crate) async fn run(&self, address: SocketAddr) -> Result<Uploaded, Failure> {
        let items = msnb::connect(address).await?;
        let (count, server) = (self.mib * PARTS_PER_MIB, self.server.to_string());
        let (sender, parts) = Streaming::channel(1);
        let (mut early, mut late) = ([0; 2], [0; 2]);
        let started = Instant::now();
        let sending = async {
            let mut ticks = interval(SAMPLE_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            for number in 0..count {
                let highest = if number < count / 10 { &mut early } else { &mut late };
                // Cancel-safe: a part whose sending is dropped has not been sent, so the same one is sent again.
                loop {
                    tokio::select! {
                        sent = send(&sender) => break sent?,
                        _ = ticks.tick() => {
                            let now = [resident(&server)?, resident("self")?];
                            *highest = [0, 1].map(|end| highest[end].max(now[end]));
                        }
                    }
                }
            }
            drop(sender);
            Ok::<_, Failure>(())
        };
        let uploading = async { Ok::<_, Failure>(items.upload(self.rate << 20, parts).await?) };
        let ((), received) = tokio::try_join!(sending, uploading)?;
        if received != self.mib << 20 {
            return Err(format!("{received} bytes arrived instead of {} MiB", self.mib).into());
        }
        Ok(Uploaded { secs: started.elapsed().as_secs_f64(), early, late })
    }
}

async fn send(sender: &StreamSender<Bytes, Status>) -> Result<(), Failure> {
    sender.send(Bytes::from(vec![7; PART])).await.map_err(|_| Failure::from("the call has ended"))
}

/// The length of a part, in bytes.
const PART: usize = 64 << 10;
const PARTS_PER_MIB: u64 = (1 << 20) / PART as u64;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
