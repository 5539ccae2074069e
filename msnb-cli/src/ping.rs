//! `msnb ping`: the round-trip times of calls to a server, or to the providers of a service.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rpc_cli::shutdown_signal;
use rpc_core::{Code, Error, Instance, reflection::ReflectionClient};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::{
    command_error::{CommandError, Exit},
    duration, output,
    printable::printable,
    route::parse_service,
    target::{Target, disabled, is_address, resolve},
};

/// Measures the round-trip times of calls to a server, or in turn to the providers of a service, and exits with 1 if a call
/// is not answered.
#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// The host and port of the server, or a service in the registry, such as demo.Greeter:1.0.
    #[arg(value_name = "ADDRESS|SERVICE")]
    server: String,
    /// The number of calls; default: until Ctrl-C.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: Option<u64>,
    /// The time from the start of one call to the next.
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Ping {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let addresses = self.addresses().await?;
        let name = match addresses[..] {
            [address] => address.to_string(),
            _ => self.server.clone(),
        };
        let target = self.target.at(&self.server);
        let client = target.client().await?;
        let reflection = ReflectionClient::new(client.clone());
        let call = async |address| answered(reflection.list().address(address).await);
        let mut times = Times::default();
        let start = Instant::now();
        // The first call of each address connects, and is not one of the measured ones.
        let mut connected = Ok(());
        for address in &addresses {
            connected = connected.and(call(*address).await);
        }
        if !self.json {
            let connected = match &connected {
                Ok(()) => format!("connected in {} ms", ms(start.elapsed())),
                Err(error) => printable(&error.to_string()),
            };
            output::text(&format!("PING {name}: {connected}\n"))?;
        }
        let mut shutdown = std::pin::pin!(shutdown_signal());
        let mut interval = tokio::time::interval(self.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.count.is_none_or(|count| times.sent < count) {
            let address = addresses[times.sent as usize % addresses.len()];
            let outcome = tokio::select! {
                outcome = async {
                    interval.tick().await;
                    let start = Instant::now();
                    call(address).await.map(|()| start.elapsed())
                } => outcome,
                () = &mut shutdown => break,
            };
            times.add(outcome.as_ref().ok().copied());
            if !self.json {
                let line = match outcome {
                    Ok(time) => format!("answer from {address}: seq={} time={} ms\n", times.sent, ms(time)),
                    Err(error) => {
                        format!("no answer from {address}: seq={} {}\n", times.sent, printable(&error.to_string()))
                    }
                };
                output::text(&line)?;
            }
        }
        client.close().await;
        self.summarize(&name, &addresses, &times, start.elapsed())?;
        Ok(if times.received.len() as u64 == times.sent && times.sent > 0 { Exit::Success } else { Exit::Negative })
    }

    /// Returns the address of the server, or those of the enabled providers of the service.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, CommandError> {
        let service = parse_service(&self.server).ok().filter(|_| !is_address(&self.server));
        let Some(service) = service else { return Ok(vec![resolve(&self.server).await?]) };
        let providers = self.target.providers(&service).await?;
        let enabled: Vec<_> =
            providers.iter().filter(|provider| provider.is_enabled()).map(Instance::address).collect();
        match enabled.is_empty() {
            false => Ok(enabled),
            true => Err(disabled(&service)),
        }
    }

    fn summarize(
        &self,
        name: &str,
        addresses: &[SocketAddr],
        times: &Times,
        elapsed: Duration,
    ) -> Result<Exit, CommandError> {
        let (sent, received) = (times.sent, times.received.len());
        let statistics = times.statistics();
        if self.json {
            let [min, avg, max, mdev] = statistics.map_or([None; 4], |times| times.map(Some));
            let times = json!({ "min": min, "avg": avg, "max": max, "mdev": mdev });
            let mut document = json!({ "sent": sent, "received": received, "rtt_ms": times });
            match addresses {
                [address] => document["address"] = json!(address),
                _ => document["addresses"] = json!(addresses),
            }
            return output::json(&document);
        }
        let loss = (sent - received as u64) * 100 / sent.max(1);
        let mut text = format!(
            "\n--- {name} ping statistics ---\n{sent} calls sent, {received} answered, {loss}% loss, time {} ms\n",
            elapsed.as_millis()
        );
        if let Some(values) = statistics {
            let values = values.map(|value| format!("{value:.3}")).join("/");
            text += &format!("rtt min/avg/max/mdev = {values} ms\n");
        }
        output::text(&text)
    }
}

/// Returns an error if the server did not answer.
///
/// A server that has no reflection, or denies it to this caller, has answered.
fn answered<T>(outcome: Result<T, Error>) -> Result<(), Error> {
    match outcome {
        Err(error) if !matches!(error.code(), Code::Unimplemented | Code::PermissionDenied) => Err(error),
        _ => Ok(()),
    }
}

/// Returns a time in milliseconds, as `ping` prints it.
fn ms(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

/// The calls that were sent, and the times of those that were answered.
#[derive(Debug, Default)]
struct Times {
    sent: u64,
    received: Vec<Duration>,
}

impl Times {
    fn add(&mut self, time: Option<Duration>) {
        self.sent += 1;
        self.received.extend(time);
    }

    /// Returns the minimum, the mean, the maximum and the standard deviation in milliseconds.
    fn statistics(&self) -> Option<[f64; 4]> {
        let times = || self.received.iter().map(|time| time.as_secs_f64() * 1e3);
        let count = self.received.len() as f64;
        let min = times().reduce(f64::min)?;
        let max = times().reduce(f64::max)?;
        let mean = times().sum::<f64>() / count;
        let variance = times().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
        Some([min, mean, max, variance.sqrt()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_ignore_lost_calls() {
        let mut times = Times::default();
        assert_eq!(times.statistics(), None);
        for time in [Some(2), None, Some(4), Some(6)] {
            times.add(time.map(Duration::from_millis));
        }
        let [min, mean, max, deviation] = times.statistics().unwrap();
        assert_eq!((times.sent, times.received.len()), (4, 3));
        for (value, expected) in [(min, 2.0), (mean, 4.0), (max, 6.0), (deviation, (8.0_f64 / 3.0).sqrt())] {
            assert!((value - expected).abs() < 1e-9, "{value} {expected}");
        }
    }
}
