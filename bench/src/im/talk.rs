//! `im-bench talk`: sessions on all nodes talk at a steady rate.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rpc_im::{client::Line, envelope::Recipient};
use tokio::time::{Instant, sleep};

use crate::{
    Failure, chart,
    nodes::{Cluster, Nodes},
    pace::Pace,
    report::Report,
    talker::{Shared, Talker, create, enter},
};

/// Who talks, how much, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Talk {
    /// How many sessions, spread over the nodes.
    #[arg(long, value_name = "N", default_value = "200")]
    sessions: usize,
    /// How many of them talk with each other: 2 send to each other, more have a conversation together.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(2..=1000))]
    group: u16,
    /// Messages a second, of all together; a node takes 20 a second of one session.
    #[arg(long, value_name = "N", default_value = "1000")]
    rate: NonZeroUsize,
    /// The length of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value = "100")]
    body: usize,
    /// So many of the users have a further device, which never reads.
    #[arg(long, value_name = "N", default_value = "0")]
    slow: usize,
    /// How long, in seconds, after two of warm-up.
    #[arg(long, value_name = "S", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Where to draw the latencies over time, besides printing them.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
}

impl Talk {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let group = usize::from(self.group);
        if self.sessions < group {
            return Err("there are fewer sessions than --group".into());
        }
        let nodes = self.cluster.start().await?;
        let mut lines = Vec::new();
        for number in 0..self.sessions / group * group {
            lines.push(enter(&nodes.log_in(number % nodes.len(), &user(number), "talker")).await?);
        }
        let mut idle = Vec::new();
        for number in 0..self.slow.min(lines.len()) {
            idle.push(enter(&nodes.log_in((number + 1) % nodes.len(), &user(number), "slow")).await?);
        }
        let recipients = recipients(&mut lines, group).await?;
        let length = Duration::from_secs(self.seconds);
        let padding = "x".repeat(self.body.saturating_sub(20));
        let report = Mutex::new(Report::new(WARM, length));
        let shared = Arc::new(Shared { start: Instant::now(), padding, report });
        let talkers: Vec<_> = (lines.into_iter().zip(recipients))
            .map(|(line, to)| Talker::begin(line, to, Arc::clone(&shared)))
            .collect();
        self.pace(&talkers, &shared, length).await;
        self.until_all_arrived(&shared, group as u64 - 1).await;
        self.print(&nodes, &shared, talkers.len(), group as u64 - 1).await
    }

    /// Lets them say one message after the other, each when it is due, whether or not earlier ones have arrived.
    async fn pace(&self, talkers: &[Talker], shared: &Shared, length: Duration) {
        let end = shared.start + WARM + length;
        let pace = Pace::start(Some(self.rate), end);
        let progress = progress(end - shared.start);
        let mut turns = talkers.iter().cycle();
        let mut shown = Instant::now();
        while let (Some(due), Some(talker)) = (pace.next(Instant::now()).await, turns.next()) {
            let said = talker.say(due);
            let mut report = shared.report();
            if report.counts(due - shared.start) {
                report.sent += 1;
            }
            if !said {
                report.fail("a session is behind: the rate is too high for it".to_owned());
            }
            if shown.elapsed() > TICK {
                shown = Instant::now();
                progress.set_position((shown - shared.start).as_millis() as u64);
                progress.set_message(format!("{} sent, {} there", report.sent, report.arrived));
            }
        }
        progress.finish_and_clear();
    }

    /// Waits for what is still under way, for as long as something comes.
    async fn until_all_arrived(&self, shared: &Shared, receivers: u64) {
        let mut last = u64::MAX;
        loop {
            let (arrived, all) = {
                let report = shared.report();
                (report.arrived + report.stored, report.sent * (receivers + 1))
            };
            if arrived >= all || arrived == last {
                return;
            }
            last = arrived;
            sleep(LAST_WORDS).await;
        }
    }

    async fn print(&self, nodes: &Nodes, shared: &Shared, talkers: usize, receivers: u64) -> Result<(), Failure> {
        let title = format!(
            "{talkers} sessions on {} nodes, groups of {}, {} messages a second of {} bytes, {} that do not read",
            nodes.len(),
            self.group,
            self.rate,
            self.body,
            self.slow
        );
        let (lagged, failed) = {
            let report = shared.report();
            print!("{title}\n\n{}", report.table(receivers));
            if let Some(path) = &self.svg {
                std::fs::write(path, chart::draw(&title, &report.timeline))
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
            (report.lagged, report.failed())
        };
        let (lost, stuck) =
            (nodes.metric("im_frames_too_many_total").await?, nodes.metric("im_closed_stuck_total").await?);
        println!(
            "told that they lag: {lagged}; closed because they did not read: {stuck}; refused as too many: {lost}"
        );
        println!("the nodes have {} MiB", nodes.resident()? >> 20);
        if failed > 0 { Err("not all went well".into()) } else { Ok(()) }
    }
}

/// To whom each of these talks: the other one, or the conversation that the first of each group begins.
async fn recipients(lines: &mut [Line], group: usize) -> Result<Vec<Recipient>, Failure> {
    if group == 2 {
        return Ok((0..lines.len()).map(|number| Recipient::User(user(number ^ 1))).collect());
    }
    let mut recipients = Vec::new();
    for (place, members) in lines.chunks_mut(group).enumerate() {
        let names = (place * group..(place + 1) * group).map(user).collect();
        let conversation = create(&mut members[0], names).await?;
        recipients.extend((0..group).map(|_| Recipient::Conversation(conversation.clone())));
    }
    Ok(recipients)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

pub(crate) fn progress(length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(length.as_millis() as u64);
    // The template is a constant; the default style is as good.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar
}

const WARM: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(100);
const LAST_WORDS: Duration = Duration::from_millis(500);
