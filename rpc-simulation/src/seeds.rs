//! [`check_seeds`]: runs a test with many seeds.

use std::{
    any::Any,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The first seed with which a test failed.
#[derive(Debug)]
pub struct FailedSeed {
    /// The seed, with which the test fails again.
    pub seed: u64,
    /// The error, or the message of the panic.
    pub message: String,
}

impl fmt::Display for FailedSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.message)
    }
}

impl Error for FailedSeed {}

/// Runs `test` with each seed, until it returns an error or panics.
///
/// # Errors
///
/// The first seed with which the test failed.
///
/// # Examples
///
/// ```
/// use rpc_simulation::check_seeds;
///
/// let failed = check_seeds(0..100, |seed| if seed < 17 { Ok(()) } else { Err("too large".into()) });
/// assert_eq!(failed.unwrap_err().to_string(), "seed 17: too large");
/// ```
pub fn check_seeds(
    seeds: impl IntoIterator<Item = u64>,
    test: impl Fn(u64) -> Result<(), Box<dyn Error>>,
) -> Result<(), FailedSeed> {
    for seed in seeds {
        let message = match catch_unwind(AssertUnwindSafe(|| test(seed))) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_message(&*panic),
        };
        return Err(FailedSeed { seed, message });
    }
    Ok(())
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}
