//! When refusals leave: at arrival + F + jitter, or a later multiple of F, whatever the reason was.
//!
//! A refusal that the upstream had a part in must not be told from one that was decided here in a microsecond, or the
//! time would say whether a code was right. So F of a route follows that upstream's own refusals.

use super::PaceSettings;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long the upstreams took to refuse, lately.
#[derive(Default)]
pub(super) struct Pace {
    /// At most [`MAX_ROUTES`] × [`MAX_SAMPLES`] × 32 octets: 512 KiB.
    routes: HashMap<Box<str>, VecDeque<(Instant, Duration)>>,
}

impl Pace {
    /// A refusal by the upstream of `route` came `took` after its attempt had arrived.
    pub(super) fn upstream_refused(&mut self, route: &str, took: Duration, now: Instant) {
        if !self.routes.contains_key(route) {
            if self.routes.len() >= MAX_ROUTES {
                // Route names come from the configuration; old ones stay behind after reloads.
                self.routes.clear();
            }
            self.routes.insert(route.into(), VecDeque::new());
        }
        if let Some(samples) = self.routes.get_mut(route) {
            if samples.len() >= MAX_SAMPLES {
                samples.pop_front();
            }
            samples.push_back((now, took));
        }
    }

    /// When the refusal of an attempt leaves that arrived at `arrived` and is decided `now`.
    pub(super) fn leaves(
        &self,
        settings: &PaceSettings,
        arrived: Instant,
        route: Option<&str>,
        now: Instant,
        jitter: u64,
    ) -> Instant {
        let distance = self.distance(settings, route, now);
        let decided_after = now.saturating_duration_since(arrived);
        let slots = decided_after
            .as_nanos()
            .div_ceil(distance.as_nanos().max(1))
            .max(1);
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        arrived + distance.saturating_mul(slots) + Duration::from_nanos(jitter % MAX_JITTER_NANOS)
    }

    /// F of a route: the 99th percentile of its upstream's refusals within the last hour, with room for what the gate
    /// adds, in steps of half a second so that a single sample moves it seldom; between floor and ceiling.
    fn distance(&self, settings: &PaceSettings, route: Option<&str>, now: Instant) -> Duration {
        let mut lately: Vec<Duration> = route
            .and_then(|route| self.routes.get(route))
            .into_iter()
            .flatten()
            .filter(|(at, _)| now.saturating_duration_since(*at) <= HOUR)
            .map(|(_, took)| *took)
            .collect();
        lately.sort_unstable();
        let Some(rank) = (lately.len() * 99).div_ceil(100).checked_sub(1) else {
            return settings.floor.min(settings.ceiling);
        };
        let steps = (lately[rank] + ROOM).as_millis().div_ceil(STEP.as_millis());
        let rounded = STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
        rounded.max(settings.floor).min(settings.ceiling)
    }
}

/// Jitter is below a quarter of a second: enough to blur scheduling, too little for a person to notice.
const MAX_JITTER_NANOS: u64 = 250_000_000;
/// What slow hash, store and scheduler may add to an upstream's refusal before it falls into the next slot.
const ROOM: Duration = Duration::from_millis(250);
const STEP: Duration = Duration::from_millis(500);
const HOUR: Duration = Duration::from_secs(3600);
/// With 256 samples the 99th percentile is the third largest.
const MAX_SAMPLES: usize = 256;
const MAX_ROUTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PaceSettings {
        PaceSettings {
            floor: Duration::from_millis(2500),
            ceiling: Duration::from_secs(8),
        }
    }

    /// Milliseconds from arrival to leaving for a decision after `decided` ms, with upstream refusals of `samples` ms.
    fn check(samples: &[u64], decided: u64, expected: u64) {
        let start = Instant::now();
        let mut pace = Pace::default();
        for took in samples {
            pace.upstream_refused("r", Duration::from_millis(*took), start);
        }
        let now = start + Duration::from_millis(decided);
        let leaves = pace.leaves(&settings(), start, Some("r"), now, 0);
        assert_eq!(
            leaves - start,
            Duration::from_millis(expected),
            "{samples:?} {decided}"
        );
    }

    #[test]
    fn refusals_leave_in_slots() {
        check(&[], 0, 2500);
        check(&[], 2400, 2500);
        check(&[], 2500, 2500);
        check(&[], 2501, 5000);
        check(&[], 7600, 10_000);
        check(&[10], 0, 2500);
        // A slow upstream moves every refusal of its route, and its own stay in the first slot.
        check(&[3000], 0, 3500);
        check(&[3000], 3000, 3500);
        check(&[3000], 3240, 3500);
        check(&[2400], 2400, 3000);
        check(&[60_000], 0, 8000);
        check(&[60_000], 60_000, 64_000);
    }

    #[test]
    fn one_slow_refusal_in_two_hundred_does_not_move_the_slot() {
        let mut samples = vec![100; 199];
        samples.push(6000);
        check(&samples, 0, 2500);
    }

    #[test]
    fn samples_count_for_an_hour_and_for_their_route_only() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.upstream_refused("slow", Duration::from_secs(5), start);
        let at = |pace: &Pace, route: Option<&str>, minutes: u64| {
            let now = start + Duration::from_secs(60 * minutes);
            pace.leaves(&settings(), now, route, now, 0) - now
        };
        assert_eq!(at(&pace, Some("slow"), 59), Duration::from_millis(5500));
        assert_eq!(at(&pace, Some("slow"), 61), Duration::from_millis(2500));
        assert_eq!(at(&pace, Some("other"), 1), Duration::from_millis(2500));
        assert_eq!(at(&pace, None, 1), Duration::from_millis(2500));
    }

    #[test]
    fn jitter_stays_below_a_quarter_second() {
        let start = Instant::now();
        let pace = Pace::default();
        for jitter in [0, 1, 249_999_999, 250_000_000, u64::MAX] {
            let after = pace.leaves(&settings(), start, None, start, jitter) - start;
            assert!((Duration::from_millis(2500)..Duration::from_millis(2750)).contains(&after));
        }
    }
}
