//! What may happen thousands of times a second is said once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts something and says when it is time to tell, so that whoever causes it cannot fill the log.
#[derive(Default)]
pub struct Seldom(Mutex<Count>);

#[derive(Default)]
struct Count {
    told: Option<Instant>,
    since: u64,
}

/// How long it is only counted after it was told.
const QUIET: Duration = Duration::from_secs(60);

impl Seldom {
    /// It happened. When it is to be told: how often it happened since it was told last, this time included.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.since += 1;
        if count
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < QUIET)
        {
            return None;
        }
        count.told = Some(now);
        Some(std::mem::take(&mut count.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_once_and_counted() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let told: Vec<u64> = (0..150)
            .filter_map(|second| seldom.happened(start + Duration::from_secs(second)))
            .collect();
        assert_eq!(told, [1, 60, 60]);
    }
}
