//! [`LimitArguments`]: the command-line arguments for the limits of clients.

use std::net::IpAddr;

use clap::Args;

use super::open_files;
use crate::edge::EdgeConfig;

/// The command-line arguments for the limits of clients. The limits of a user are those on this node.
#[derive(Args, Clone, Debug)]
pub struct LimitArguments {
    /// The address of a reverse proxy in front of the node; repeat it for several. The limits by address then use the
    /// last address in X-Forwarded-For of its requests.
    #[arg(long, value_name = "IP")]
    pub trusted_proxy: Vec<IpAddr>,
    /// The requests of a user in a second.
    #[arg(long, value_name = "NUMBER", default_value_t = EdgeConfig::default().rate)]
    pub rate: u32,
    /// The requests of a user at once.
    #[arg(long, value_name = "NUMBER", default_value_t = EdgeConfig::default().burst)]
    pub burst: u32,
    /// The groups that a user may create in an hour.
    #[arg(long, value_name = "NUMBER", default_value_t = EdgeConfig::default().groups_per_hour)]
    pub groups_per_hour: u32,
    /// The members that a user may add to groups in an hour.
    #[arg(long, value_name = "NUMBER", default_value_t = EdgeConfig::default().additions_per_hour)]
    pub additions_per_hour: u32,
    /// The groups to which others may add a user in a day.
    #[arg(long, value_name = "NUMBER", default_value_t = EdgeConfig::default().additions_of_user_per_day)]
    pub additions_of_user_per_day: u32,
    /// The bytes of messages that a user may store in a day.
    #[arg(long, value_name = "BYTES", default_value_t = EdgeConfig::default().bytes_per_day)]
    pub bytes_per_day: u64,
}

impl LimitArguments {
    /// Returns the configuration of the edge, and raises the limit of open files of the process.
    pub(super) fn edge(&self) -> EdgeConfig {
        let config = EdgeConfig::default()
            .with_trusted_proxies(self.trusted_proxy.clone())
            .with_rate(self.rate, self.burst)
            .with_groups_per_hour(self.groups_per_hour)
            .with_additions_per_hour(self.additions_per_hour)
            .with_additions_of_user_per_day(self.additions_of_user_per_day)
            .with_bytes_per_day(self.bytes_per_day);
        open_files::fit(config, open_files::raise())
    }
}
