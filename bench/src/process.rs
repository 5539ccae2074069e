//! What a process costs, read from Linux's `/proc`.

use std::{fs, io, time::Duration};

use tokio::time::sleep_until;

use crate::job::Window;

/// Whose processor time is taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// A server's, besides this process's own.
    pub(crate) server: Option<u32>,
}

/// Processor time, user and system together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Costs {
    /// This process's.
    pub(crate) client: Duration,
    /// The server's, if it was asked for.
    pub(crate) server: Option<Duration>,
}

impl Usage {
    /// Waits for the end of `window`, and says what was used during it.
    pub(crate) async fn during(self, window: Window) -> io::Result<Costs> {
        sleep_until(window.begin).await;
        let before = self.so_far()?;
        sleep_until(window.end).await;
        let after = self.so_far()?;
        Ok(Costs {
            client: after.client - before.client,
            server: after.server.zip(before.server).map(|(after, before)| after - before),
        })
    }

    fn so_far(self) -> io::Result<Costs> {
        Ok(Costs { client: cpu_time("self")?, server: self.server.map(|id| cpu_time(&id.to_string())).transpose()? })
    }
}

/// The processor time that a process has used, in steps of 10 ms.
fn cpu_time(process: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks =
        ticks(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/…/stat is not understood"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The fields utime and stime, proc_pid_stat(5). The second field, a name in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 120 45 0 0 20 0 3";
        assert_eq!(ticks(stat), Some(165));
        assert_eq!(ticks("7 (a"), None);
    }
}
