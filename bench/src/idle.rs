//! What a connection costs on which nothing happens.

use std::{fs, io, net::SocketAddr, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{Failure, peers::Peer};

/// The memory for each connection, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Footprint {
    pub(crate) server_bytes: f64,
    pub(crate) client_bytes: f64,
}

/// Opens connections that carry one call each and then nothing, and looks how much memory both processes grew by.
pub(crate) async fn measure(peer: Peer, address: SocketAddr, conns: usize, server: u32) -> Result<Footprint, Failure> {
    raise_limit();
    let resident = || -> io::Result<[f64; 2]> { Ok([resident(&server.to_string())?, resident("self")?]) };
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

/// Lets this process have as many file descriptors as it may.
pub(crate) fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it may not, opening connections says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The memory that a process really has, in bytes: VmRSS of proc_pid_status(5).
fn resident(process: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/…/status is not understood"))
}

const FIRST: usize = 100;
const SETTLE: Duration = Duration::from_secs(1);
