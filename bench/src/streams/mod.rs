//! `msnb-bench streams`: items per second of streams, and the memory of idle streams, for msnb and tonic; the memory of a
//! long upload to a slow reader, for msnb.

mod job;
mod msnb;
#[cfg(feature = "compare")]
pub(crate) mod tonic;
mod upload;

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, time::Duration};

pub(crate) use self::{job::StreamJob, upload::Upload};
use self::{
    job::{Footprint, Rate},
    upload::Uploaded,
};
use crate::{compare::child::Server, failure::Failure, job::positive_seconds};

/// The options of `msnb-bench streams`.
#[derive(Debug, clap::Args)]
pub(crate) struct Streams {
    /// The number of rounds; the medians are printed.
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// The measured time of each run in seconds, after half a second of warm-up.
    #[arg(long, value_name = "S", default_value = "2", value_parser = positive_seconds)]
    seconds: Duration,
    /// The numbers of streams on one connection.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 100])]
    streams: Vec<usize>,
    /// The payloads of items, in bytes.
    #[arg(long, value_delimiter = ',', value_name = "B", default_values_t = [32, 1 << 10, 64 << 10])]
    payloads: Vec<usize>,
    /// The number of idle streams whose memory is measured.
    #[arg(long, value_name = "N", default_value = "1000")]
    idle: usize,
    /// Measures only the memory of an upload of this length in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(10..))]
    upload: Option<u64>,
    /// The rate at which the server reads the upload, in MiB/s.
    #[arg(long, value_name = "MIB", default_value = "200", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
}

/// An implementation of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum StreamPeer {
    Msnb,
    #[cfg(feature = "compare")]
    Tonic,
}

impl StreamPeer {
    const ALL: &[Self] = &[
        Self::Msnb,
        #[cfg(feature = "compare")]
        Self::Tonic,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Msnb => "msnb",
            #[cfg(feature = "compare")]
            Self::Tonic => "tonic",
        }
    }

    /// Serves streams at `address` until the process is killed.
    pub(crate) async fn serve(self, address: SocketAddr) -> Result<(), Failure> {
        match self {
            Self::Msnb => msnb::serve(address).await,
            #[cfg(feature = "compare")]
            Self::Tonic => tonic::serve(address).await,
        }
    }

    /// Runs a job with the server at `address`, and returns its result as JSON.
    pub(crate) async fn run(self, address: SocketAddr, job: &StreamJob) -> Result<serde_json::Value, Failure> {
        match self {
            Self::Msnb => job.run(&msnb::connect(address).await?).await,
            #[cfg(feature = "compare")]
            Self::Tonic => job.run(&tonic::connect(address).await?).await,
        }
    }
}

impl Streams {
    /// Measures and prints tables.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if let Some(mib) = self.upload {
            return upload(mib, self.rate);
        }
        println!("| streams | payload | peer | items/s | MiB/s | msnb has |\n|--:|--:|---|--:|--:|--:|");
        for streams in &self.streams {
            for payload in &self.payloads {
                let mut rates = BTreeMap::<_, Vec<f64>>::new();
                for _ in 0..self.rounds.get() {
                    for peer in StreamPeer::ALL {
                        let seconds = self.seconds.as_secs_f64();
                        let arguments = ["--streams", &streams.to_string(), "--payload", &payload.to_string()]
                            .map(str::to_owned)
                            .into_iter()
                            .chain(["--seconds".to_owned(), seconds.to_string()]);
                        let Rate { items, secs } = client(*peer, arguments)?;
                        rates.entry(*peer).or_default().push(items as f64 / secs);
                    }
                }
                let medians = rates.into_iter().map(|(peer, rates)| (peer, median(rates))).collect::<Vec<_>>();
                let msnb = medians[0].1;
                for (peer, rate) in &medians {
                    let mib = rate * *payload as f64 / f64::from(1 << 20);
                    println!(
                        "| {streams} | {payload} | {} | {rate:.0} | {mib:.0} | {:.2} × |",
                        peer.name(),
                        msnb / rate
                    );
                }
            }
        }
        println!("\n| idle streams | peer | server bytes per stream | client bytes per stream |\n|--:|---|--:|--:|");
        for peer in StreamPeer::ALL {
            let count = self.idle;
            let arguments = ["--streams", &count.to_string(), "--idle"].map(str::to_owned);
            let Footprint { server_bytes, client_bytes } = client(*peer, arguments)?;
            println!("| {count} | {} | {server_bytes:.0} | {client_bytes:.0} |", peer.name());
        }
        Ok(())
    }
}

/// Uploads with a new server, and prints the memory of both ends.
fn upload(mib: u64, rate: u64) -> Result<(), Failure> {
    let server = Server::launch("stream-server", &["msnb", "127.0.0.1:0"])?;
    let arguments = [format!("--mib={mib}"), format!("--rate={rate}")];
    let Uploaded { secs, early, late } = server.run_client("stream-upload", &arguments)?;
    println!("| MiB | MiB/s | end | MiB resident during the first tenth | during the rest |\n|--:|--:|---|--:|--:|");
    for (end, name) in ["server", "client"].into_iter().enumerate() {
        let [early, late] = [early, late].map(|bytes| bytes[end] as f64 / f64::from(1 << 20));
        println!("| {mib} | {:.0} | {name} | {early:.1} | {late:.1} |", mib as f64 / secs);
    }
    Ok(())
}

/// Runs a client with a new server, each in a process.
fn client<T: serde::de::DeserializeOwned>(
    peer: StreamPeer,
    arguments: impl IntoIterator<Item = String>,
) -> Result<T, Failure> {
    let server = Server::launch("stream-server", &[peer.name(), "127.0.0.1:0"])?;
    let arguments: Vec<_> = ["--peer".to_owned(), peer.name().to_owned()].into_iter().chain(arguments).collect();
    server.run_client("stream-client", &arguments)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
