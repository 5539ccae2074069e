//! `im-bench talk`: sessions on all nodes send messages at a constant rate.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use loadgen::Pace;
use rpc_im::{client::Line, envelope::Recipient};
use tokio::time::{Instant, sleep};

use crate::{
    failure::Failure,
    nodes::{Cluster, Nodes},
    report::Report,
    talker::{Shared, Talker, create, enter},
};

/// The options of `im-bench talk`.
#[derive(Debug, clap::Args)]
pub(crate) struct Talk {
    /// The number of sessions, distributed over the nodes.
    #[arg(long, value_name = "N", default_value = "200")]
    sessions: usize,
    /// The size of a group: 2 sessions send to each other, more share a group conversation.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(2..=1000))]
    group: u16,
    /// Messages per second of all sessions together; a node accepts 20 per second from one session.
    #[arg(long, value_name = "N", default_value = "1000")]
    rate: NonZeroUsize,
    /// The length of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value = "100")]
    body: usize,
    /// The number of users with a second device that never reads.
    #[arg(long, value_name = "N", default_value = "0")]
    slow: usize,
    /// The measured time in seconds, after two seconds of warm-up.
    #[arg(long, value_name = "S", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The SVG file for a chart of latency over time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
}

impl Talk {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let group = usize::from(self.group);
        if self.sessions < group {
            return Err("--sessions must be at least --group".into());
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
        let report = Mutex::new(Report::new(WARM_UP, length));
        let shared = Arc::new(Shared { start: Instant::now(), padding, report });
        let talkers: Vec<_> = (lines.into_iter().zip(recipients))
            .map(|(line, to)| Talker::start(line, to, Arc::clone(&shared)))
            .collect();
        self.pace(&talkers, &shared, length).await;
        self.wait_for_messages(&shared, group as u64 - 1).await;
        self.print(&nodes, &shared, talkers.len(), group as u64 - 1).await
    }

    /// Sends messages in an open loop: each at its scheduled time, independent of earlier ones.
    async fn pace(&self, talkers: &[Talker], shared: &Shared, length: Duration) {
        let end = shared.start + WARM_UP + length;
        let pace = Pace::start(Some(self.rate), end);
        let progress = progress(end - shared.start);
        let mut turns = talkers.iter().cycle();
        let mut shown = Instant::now();
        while let (Some(due), Some(talker)) = (pace.next(Instant::now()).await, turns.next()) {
            let accepted = talker.send(due);
            let mut report = shared.report();
            if report.counts(due - shared.start) {
                report.sent += 1;
            }
            if !accepted {
                report.fail("the send queue of a session is full: the rate is too high".to_owned());
            }
            if shown.elapsed() > TICK {
                shown = Instant::now();
                progress.set_position((shown - shared.start).as_millis() as u64);
                progress.set_message(format!("{} sent, {} received", report.sent, report.arrived));
            }
        }
        progress.finish_and_clear();
    }

    /// Waits for outstanding messages, until none arrives within 500 ms.
    async fn wait_for_messages(&self, shared: &Shared, receivers: u64) {
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
            sleep(IDLE_TIME).await;
        }
    }

    async fn print(&self, nodes: &Nodes, shared: &Shared, talkers: usize, receivers: u64) -> Result<(), Failure> {
        let title = format!(
            "{talkers} sessions on {} nodes, groups of {}, {} messages/s of {} bytes, {} devices that do not read",
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
                std::fs::write(path, loadgen::draw(&title, &report.timeline))
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
            (report.lagged, report.failed())
        };
        let (lost, stuck) =
            (nodes.metric("im_frames_too_many_total").await?, nodes.metric("im_closed_stuck_total").await?);
        println!(
            "lag notifications: {lagged}; closed because they did not read: {stuck}; rejected by the rate limit: {lost}"
        );
        println!("memory of all nodes: {} MiB", nodes.resident()? >> 20);
        if failed > 0 { Err("some messages failed".into()) } else { Ok(()) }
    }
}

/// Returns the recipient of each session: its partner, or the conversation that the first session of its group creates.
async fn recipients(lines: &mut [Line], group: usize) -> Result<Vec<Recipient>, Failure> {
    if group == 2 {
        return Ok((0..lines.len()).map(|number| Recipient::User(user(number ^ 1))).collect());
    }
    let mut recipients = Vec::new();
    for (index, members) in lines.chunks_mut(group).enumerate() {
        let names = (index * group..(index + 1) * group).map(user).collect();
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
    // The template is a constant; if it were invalid, the default style would be used.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    bar
}

const WARM_UP: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(100);
const IDLE_TIME: Duration = Duration::from_millis(500);
