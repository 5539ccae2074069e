//! What a connection costs on which nothing happens.

use std::{io, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    Failure,
    peers::Peer,
    resources::{raise_limit, resident},
};

/// The memory for each connection, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Footprint {
    pub(crate) server_bytes: f64,
    pub(crate) client_bytes: f64,
}

/// Opens connections that carry one call each and then nothing, and looks how much memory both processes grew by.
pub(crate) async fn measure(peer: Peer, address: SocketAddr, conns: usize, server: u32) -> Result<Footprint, Failure> {
    raise_limit();
    let resident = || -> io::Result<[f64; 2]> { Ok([resident(&server.to_string())? as f64, resident("self")? as f64]) };
    // What the first connections make a process set up once is not counted.
    let first = peer.open(address, FIRST).await?;
    sleep(SETTLE).await;
    let before = resident()?;
    let held = peer.open(address, conns).await?;
    sleep(SETTLE).await;
    let after = resident()?;
    drop((first, held));
    let [server_bytes, client_bytes] = [0, 1].map(|side| ((after[side] - before[side]) / conns as f64).round());
    Ok(Footprint { server_bytes, client_bytes })
}

const FIRST: usize = 100;
const SETTLE: Duration = Duration::from_secs(1);
