//! [`BootInstant`]: a clock that counts the time during which the machine is suspended.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A time of a clock that never goes back, and that counts the time during which the machine is suspended.
///
/// On Linux this is `CLOCK_BOOTTIME`. On other systems it is the monotonic clock, which may stand still meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootInstant(Duration);

impl BootInstant {
    pub(crate) fn now() -> Self {
        #[cfg(target_os = "linux")]
        let now = clock_gettime(ClockId::Boottime);
        #[cfg(not(target_os = "linux"))]
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Self(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()))
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}
