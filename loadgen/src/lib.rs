//! Load on a service, for the command `msnb` and for the benchmarks.
//!
//! | topic | module |
//! |---|---|
//! | the start times of calls | `pace` |
//! | a histogram of latencies | `latencies` |
//! | latencies over time, and their chart | `timeline`, `chart` |

mod chart;
mod latencies;
mod pace;
mod timeline;

pub use chart::draw;
pub use latencies::Latencies;
pub use pace::Pace;
pub use timeline::{Interval, Timeline};
