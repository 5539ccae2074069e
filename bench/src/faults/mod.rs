//! `msnb-bench faults`: what callers notice of faults of a provider, for msnb and for other frameworks.
//!
//! | topic | module |
//! |---|---|
//! | the faults, and their times | `fault`, `phases` |
//! | servers and clients of the frameworks | `peers`, with `caller` and `delay` |
//! | the processes of the providers | `provider` |
//! | a relay that stops forwarding | `relay` |
//! | the calls, and a row of the table | `record` |

mod caller;
mod delay;
mod fault;
mod peers;
mod phases;
mod provider;
mod record;
mod relay;

use clap::ValueEnum as _;
use tokio::time::{Instant, sleep_until};

pub(crate) use self::provider::FaultServer;
use self::{
    fault::Fault,
    peers::FaultPeer,
    phases::{BEGIN, END, LENGTH},
    provider::Provider,
    record::{HEADER, load, row},
    relay::Relay,
};
use crate::{compare::child::progress, failure::Failure};

/// Counts the calls that faults of one of two providers fail or delay, for msnb and other frameworks.
///
/// Each call is idempotent and has a deadline of 1 s. The fault begins after 2 s and ends after 5 s; the calls end after
/// 9 s.
#[derive(Debug, clap::Args)]
pub(crate) struct Faults {
    /// The faults; default all.
    faults: Vec<Fault>,
    /// The frameworks; default all that this build includes.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<FaultPeer>,
    /// The calls per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
}

impl Faults {
    /// Measures each peer with each fault and prints a table.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let faults = if self.faults.is_empty() { Fault::value_variants() } else { &self.faults };
        let peers = if self.peers.is_empty() { FaultPeer::value_variants() } else { &self.peers };
        let bar = progress(faults.len() * peers.len());
        let mut table = String::from(HEADER);
        for fault in faults {
            for peer in peers {
                bar.set_message(format!("{fault:?} {peer:?}"));
                table += &self.measure(*peer, *fault).await?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        print!("{table}");
        Ok(())
    }

    async fn measure(&self, peer: FaultPeer, fault: Fault) -> Result<String, Failure> {
        let mut faulty = Provider::start(peer, None)?;
        let healthy = Provider::start(peer, None)?;
        let relay = match fault {
            Fault::BlackHole => Some(Relay::start(faulty.address()).await?),
            _ => None,
        };
        let address = relay.as_ref().map_or(faulty.address(), Relay::address);
        let caller = peer.connect([address, healthy.address()]).await?;
        let start = Instant::now();
        let calls = tokio::spawn(load(caller, self.rate, LENGTH));
        sleep_until(start + BEGIN).await;
        fault.begin(&mut faulty, relay.as_ref())?;
        sleep_until(start + END).await;
        fault.end(peer, &mut faulty, relay.as_ref())?;
        let records = calls.await?;
        Ok(row(fault, peer, &records, faulty.address().port()))
    }
}
