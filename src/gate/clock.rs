//! The time of decisions.

use crate::auth::Now;
use crate::store::records::UnixTime;
use std::time::{Duration, Instant, SystemTime};

/// Tells the time; tests have their own.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock, since 1970-01-01 00:00:00 UTC.
    fn wall(&self) -> Duration;

    /// Monotonic; the same time that the runtime's timers follow.
    fn mono(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Whether the wall clock can be believed: it reads later than [`EARLIEST`]. A box without a battery starts in 1970 or
    /// when its image was made, until a time server has been heard.
    fn known(&self) -> bool {
        self.wall() >= EARLIEST
    }
}

/// 2024-01-01 00:00:00 UTC: before this program was written, later than any clock that was never set.
pub const EARLIEST: Duration = Duration::from_secs(1_704_067_200);

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// All of it at one moment.
pub(super) fn now(clock: &dyn Clock) -> Now {
    Now {
        mono: clock.mono(),
        unix: UnixTime(clock.wall().as_secs()),
        clock_known: clock.known(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(u64);

    impl Clock for At {
        fn wall(&self) -> Duration {
            Duration::from_secs(self.0)
        }
    }

    #[test]
    fn a_clock_that_was_never_set_is_not_believed() {
        for (seconds, known) in [
            (0, false),
            (86_400 * 365, false),
            (1_704_067_199, false),
            (1_704_067_200, true),
            (1_795_471_560, true),
        ] {
            assert_eq!(now(&At(seconds)).clock_known, known, "{seconds}");
            assert_eq!(now(&At(seconds)).unix, UnixTime(seconds));
        }
    }
}
