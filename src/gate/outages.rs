//! Which routes' upstreams gave no verdict a moment ago.
//!
//! While an upstream is out, a right code hears "try later" and costs nothing. If a wrong one heard "refused" meanwhile,
//! an outage would be the time to find out codes. So everybody on that route hears "try later"; failures still count.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// By route; as many entries as there are routes.
#[derive(Default)]
pub(super) struct Outages(Mutex<HashMap<String, Instant>>);

impl Outages {
    /// The route's upstream gave no verdict.
    pub(super) fn silent(&self, route: &str, now: Instant) {
        self.routes().insert(route.to_owned(), now);
    }

    /// The route's upstream gave a verdict.
    pub(super) fn spoke(&self, route: &str) {
        self.routes().remove(route);
    }

    /// Whether the route's upstream is out, as far as is known.
    pub(super) fn is_out(&self, route: &str, now: Instant) -> bool {
        let since = self.routes().get(route).copied();
        since.is_some_and(|since| now.saturating_duration_since(since) < REMEMBERED)
    }

    fn routes(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // No write of it is ever half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an outage counts when nobody asks the upstream again.
const REMEMBERED: Duration = Duration::from_secs(60);
