//! The time of decisions.

use crate::auth::Now;
use crate::store::records::UnixTime;
use std::sync::{Arc, OnceLock};
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

/// A clock that is watched for jumps.
pub(super) struct Watched {
    clock: Arc<dyn Clock>,
    /// Wall clock and monotonic clock when the wall clock was first known. That a box without a battery hears the time
    /// after its start is no jump.
    start: OnceLock<(Duration, Instant)>,
}

/// What is to be said about the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// It can be believed.
    Good,
    /// It was never set: no code is decided.
    Unknown,
    /// It was set to another time while the gateway ran: codes are decided by the new time, and no device expires.
    Jumped,
}

impl ClockState {
    /// The state in words for the status.
    pub fn meaning(self) -> &'static str {
        match self {
            ClockState::Good => "good",
            ClockState::Unknown => "not known: no code can be checked before it is set",
            ClockState::Jumped => {
                "was set to another time while the gateway ran: no device expires before a restart"
            }
        }
    }
}

impl Watched {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Watched {
        let watched = Watched {
            clock,
            start: OnceLock::new(),
        };
        watched.now();
        watched
    }

    /// All of it at one moment.
    pub(super) fn now(&self) -> Now {
        let (wall, mono) = (self.clock.wall(), self.clock.mono());
        Now {
            mono,
            unix: UnixTime(wall.as_secs()),
            clock_known: self.clock.known(),
            clock_steady: self.clock.known() && self.is_steady(wall, mono),
        }
    }

    pub(super) fn wall(&self) -> Duration {
        self.clock.wall()
    }

    pub(super) fn mono(&self) -> Instant {
        self.clock.mono()
    }

    pub(super) fn state(&self) -> ClockState {
        let now = self.now();
        match (now.clock_known, now.clock_steady) {
            (false, _) => ClockState::Unknown,
            (true, false) => ClockState::Jumped,
            (true, true) => ClockState::Good,
        }
    }

    fn is_steady(&self, wall: Duration, mono: Instant) -> bool {
        let (start_wall, start_mono) = self.start.get_or_init(|| (wall, mono));
        let expected = *start_wall + mono.saturating_duration_since(*start_mono);
        wall.abs_diff(expected) <= JUMP
    }
}

/// Less than this is a correction, not a jump.
const JUMP: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock that is set by hand, beside a monotonic one that stands still.
    struct At(AtomicU64);

    impl Clock for At {
        fn wall(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    fn at(seconds: u64) -> (Arc<At>, Watched) {
        let at = Arc::new(At(AtomicU64::new(seconds)));
        (at.clone(), Watched::new(at))
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
            let now = at(seconds).1.now();
            assert_eq!(now.clock_known, known, "{seconds}");
            assert_eq!(now.unix, UnixTime(seconds));
        }
    }

    #[test]
    fn a_jump_is_noticed_and_the_first_setting_is_none() {
        let (clock, watched) = at(0);
        assert_eq!(watched.state(), ClockState::Unknown);
        clock.0.store(1_795_471_560, Ordering::Relaxed);
        assert_eq!(watched.state(), ClockState::Good, "the time was heard");
        clock.0.store(1_795_471_560 + 1800, Ordering::Relaxed);
        assert_eq!(watched.state(), ClockState::Good, "a correction");
        for jump in [1_795_471_560 + 10 * 31_536_000, 1_795_471_560 - 7200] {
            clock.0.store(jump, Ordering::Relaxed);
            assert_eq!(watched.state(), ClockState::Jumped);
            assert!(watched.now().clock_known && !watched.now().clock_steady);
        }
    }
}
