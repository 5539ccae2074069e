//! The memory of an idle connection.

use std::{io, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    failure::Failure,
    peers::Peer,
    resources::{raise_limit, resident},
};

/// The memory per connection, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Footprint {
    pub(crate) server_bytes: f64,
    pub(crate) client_bytes: f64,
}

/// Opens connections that carry one call each, and measures how much the memory of both processes grows.
pub(crate) async fn measure(peer: Peer, address: SocketAddr, conns: usize, server: u32) -> Result<Footprint, Failure> {
    raise_limit();
    let resident = || -> io::Result<[f64; 2]> { Ok([resident(&server.to_string())? as f64, resident("self")? as f64]) };
    // The first connections also cause one-time allocations, which the measurement excludes.
    let first = peer.open(address, WARM_UP_CONNECTIONS).await?;
    sleep(SETTLE_TIME).await;
    let before = resident()?;
    let held = peer.open(address, conns).await?;
    sleep(SETTLE_TIME).await;
    let after = resident()?;
    drop((first, held));
    let [server_bytes, client_bytes] = [0, 1].map(|side| ((after[side] - before[side]) / conns as f64).round());
    Ok(Footprint { server_bytes, client_bytes })
}

const WARM_UP_CONNECTIONS: usize = 100;
const SETTLE_TIME: Duration = Duration::from_secs(1);
