//! `msnb-bench route`: the share of each provider and the latency of all calls while providers fail and recover.
//!
//! | topic | module |
//! |---|---|
//! | the faults and their times | `scenario` |
//! | a provider, whose faults a parent process sets | `provider` |
//! | the processes of the providers | `fleet` |
//! | the load-balancing policies | `policy` |
//! | the calls | `record` |
//! | a chart of a run | `chart` |

mod chart;
mod fleet;
mod policy;
mod provider;
mod record;
mod scenario;

use std::{fs, path::PathBuf};

use clap::ValueEnum as _;
use rpc_client::{Client, ClientConfig};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub(crate) use self::provider::RouteProvider;
use self::{
    fleet::Fleet,
    policy::Policy,
    provider::RouteClient,
    record::{Run, Summary, load},
    scenario::{Event, Scenario},
};
use crate::{compare::child::progress, failure::Failure};

/// Measures how calls are routed while providers fail and recover.
#[derive(Debug, clap::Args)]
pub(crate) struct Route {
    /// The scenarios; default all, which takes 5 minutes.
    scenarios: Vec<Scenario>,
    /// The calls per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// The policy of all scenarios; by default, some are measured with each policy.
    #[arg(long)]
    balance: Option<Policy>,
    /// A directory for a chart of each run, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
}

impl Route {
    /// Runs the scenarios and prints a table.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let scenarios = match self.scenarios.is_empty() {
            true => Scenario::value_variants(),
            false => &self.scenarios,
        };
        let policies = |scenario: &Scenario| match self.balance {
            Some(policy) => vec![policy],
            None if scenario.compares_policies() => vec![Policy::TwoChoices, Policy::LatencyAware, Policy::PeakEwma],
            None => vec![Policy::DEFAULT],
        };
        let runs: Vec<_> =
            scenarios.iter().flat_map(|one| policies(one).into_iter().map(move |policy| (*one, policy))).collect();
        let bar = progress(runs.len());
        let mut tables = String::from(Summary::HEADER);
        for (scenario, policy) in runs {
            bar.set_message(scenario.name(policy));
            let run = self.measure(scenario, policy).await?;
            for summary in scenario.phases().map(|(name, times)| Summary::of(&run.records, name, times)) {
                tables += &summary.row(&run.name, run.providers.first().copied());
            }
            if scenario == Scenario::Outage {
                tables += &record::first_success(&run.records, scenario.back_at(), &run.name);
            }
            if let Some(directory) = &self.svg {
                fs::create_dir_all(directory)?;
                fs::write(directory.join(format!("{}.svg", run.name)), chart::draw(scenario, &run))?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        print!("{tables}");
        Ok(())
    }

    async fn measure(&self, scenario: Scenario, policy: Policy) -> Result<Run, Failure> {
        let directory = tempfile::tempdir()?;
        let url = format!("local:{}", directory.path().display());
        let mut fleet = Fleet::start(&url, scenario.zones())?;
        let config = ClientConfig::default().with_cache_directory(None).with_zone(scenario.zone());
        let config = config.with_balance(policy.balance());
        let registry = rpc_registry::connect(&url).await?;
        let client = Client::builder().registry(registry).config(config).build()?;
        client.warm_up::<RouteClient<_>>().await?;
        let start = Instant::now();
        let mut calls = JoinSet::new();
        let route = RouteClient::new(client.clone());
        calls.spawn(load(route, self.rate, scenario.length(), scenario.heavy_calls()));
        for Event { at, action } in scenario.events() {
            sleep_until(start + at).await;
            fleet.apply(action)?;
        }
        let records = calls.join_all().await.concat();
        client.close().await;
        Ok(Run { name: scenario.name(policy), records, providers: fleet.addresses() })
    }
}
