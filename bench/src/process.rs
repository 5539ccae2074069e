//! The processor time of processes, read from `/proc` (Linux).

use std::{fs, io, time::Duration};

use tokio::time::sleep_until;

use crate::job::Window;

/// The processes whose processor time is measured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// The process id of a server, in addition to this process.
    pub(crate) server: Option<u32>,
}

/// The sum of user and system time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTimes {
    /// The time of this process.
    pub(crate) client: Duration,
    /// The time of the server, if it is measured.
    pub(crate) server: Option<Duration>,
}

impl Usage {
    /// Waits for the end of `window` and returns the processor time used during it.
    pub(crate) async fn during(self, window: Window) -> io::Result<CpuTimes> {
        sleep_until(window.begin).await;
        let before = self.current()?;
        sleep_until(window.end).await;
        let after = self.current()?;
        Ok(CpuTimes {
            client: after.client - before.client,
            server: after.server.zip(before.server).map(|(after, before)| after - before),
        })
    }

    fn current(self) -> io::Result<CpuTimes> {
        Ok(CpuTimes { client: cpu_time("self")?, server: self.server.map(|id| cpu_time(&id.to_string())).transpose()? })
    }
}

/// Returns the processor time of a process, with a resolution of 10 ms.
fn cpu_time(process: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks =
        ticks(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "cannot parse /proc/PID/stat"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Returns the sum of the fields utime and stime, proc_pid_stat(5). The second field, a name in parentheses, may
/// contain any character.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_accepts_any_process_name() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 120 45 0 0 20 0 3";
        assert_eq!(ticks(stat), Some(165));
        assert_eq!(ticks("7 (a"), None);
    }
}
