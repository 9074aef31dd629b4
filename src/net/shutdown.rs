//! Ending without cutting people off: running, then draining until a deadline, and who is still there.

use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The state of the process. Clones share it.
#[derive(Clone)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
    tracked: Arc<watch::Sender<usize>>,
}

/// Whether the process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does.
    Running,
    /// No new connections; sessions say goodbye at the next good moment.
    Draining {
        /// What is left then is cut.
        until: Instant,
    },
}

/// Something that draining waits for; dropping it, on whatever path, is its end.
pub struct Tracked {
    tracked: Arc<watch::Sender<usize>>,
}

impl Shutdown {
    /// Running, with nothing tracked.
    pub fn new() -> Shutdown {
        Shutdown {
            phase: Arc::new(watch::Sender::new(Phase::Running)),
            tracked: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Begins draining. A second call can only bring the end nearer.
    pub fn drain(&self, until: Instant) {
        self.phase.send_modify(|phase| {
            *phase = match *phase {
                Phase::Draining { until: before } => Phase::Draining {
                    until: before.min(until),
                },
                Phase::Running => Phase::Draining { until },
            }
        });
    }

    /// Follows the state; the current one counts as seen.
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits until draining begins, and says until when.
    pub async fn draining(&self) -> Instant {
        let mut phases = self.phase.subscribe();
        loop {
            if let Phase::Draining { until } = *phases.borrow_and_update() {
                return until;
            }
            phases.changed().await.expect("self holds the sender");
        }
    }

    /// Counts one more until the guard is dropped.
    pub fn track(&self) -> Tracked {
        self.tracked.send_modify(|count| *count += 1);
        Tracked {
            tracked: self.tracked.clone(),
        }
    }

    /// How many are tracked.
    pub fn tracked(&self) -> usize {
        *self.tracked.borrow()
    }

    /// Waits until nothing is tracked any more.
    pub async fn drained(&self) {
        let mut counts = self.tracked.subscribe();
        counts
            .wait_for(|&count| count == 0)
            .await
            .expect("self holds the sender");
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown::new()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.tracked.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn drained_once_the_last_guard_is_gone() {
        let shutdown = Shutdown::new();
        let (first, second) = (shutdown.track(), shutdown.track());
        assert_eq!(shutdown.tracked(), 2);
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.drained().await }
        });
        drop(first);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
        shutdown.drained().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_only_shortens() {
        let shutdown = Shutdown::new();
        let now = Instant::now();
        let (late, soon) = (now + Duration::from_secs(30), now + Duration::from_secs(1));
        let phases = shutdown.subscribe();
        assert_eq!(*phases.borrow(), Phase::Running);
        shutdown.drain(late);
        assert_eq!(shutdown.draining().await, late);
        shutdown.drain(soon);
        shutdown.drain(late);
        assert_eq!(shutdown.draining().await, soon);
        assert!(phases.has_changed().unwrap());
    }
}
