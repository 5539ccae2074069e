//! The live feed.

use std::{fmt, pin::pin};

use contracts::FeedClient;
use msnb::{
    Client,
    app::{Failure, shutdown_signal},
};

/// The items of a stream, compared with their numbers.
#[derive(Debug, Default)]
pub(crate) struct Report {
    items: u64,
    missing: u64,
    repeated: u64,
    /// The number of the next item.
    next: Option<u64>,
}

impl Report {
    fn add(&mut self, number: u64) {
        let expected = self.next.unwrap_or(number);
        self.items += 1;
        self.missing += number.saturating_sub(expected);
        self.repeated += u64::from(number < expected);
        self.next = Some(expected.max(number + 1));
    }

    /// Returns whether each item was received once.
    pub(crate) fn is_complete(&self) -> bool {
        self.items > 0 && (self.missing, self.repeated) == (0, 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "items {}, missing {}, repeated {}", self.items, self.missing, self.repeated)
    }
}

/// Prints the prices of a good, every hundredth of them.
pub(crate) async fn run(feed: &FeedClient<Client>, good: String, count: Option<u64>) -> Result<Report, Failure> {
    let mut prices = feed.prices(good.clone(), None).resumable().await?;
    let (mut report, mut shutdown) = (Report::default(), pin!(shutdown_signal()));
    while count.is_none_or(|count| report.items < count) {
        // Both futures are safe to drop.
        let price = tokio::select! {
            price = prices.next() => price,
            () = &mut shutdown => break,
        };
        let price = price.transpose()?.ok_or("the feed has ended")?;
        report.add(price.number);
        if report.items % 100 == 1 {
            println!("item {}: {good} costs {}.{:02}", report.items, price.cents / 100, price.cents % 100);
        }
    }
    Ok(report)
}
