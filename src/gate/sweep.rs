//! Removes what is over and would stay for ever: claims on codes whose time is past, blocks whose row has ended.
//!
//! Nothing here decides anything: whoever reads such a record judges its times by the clock itself.

use super::clock::Watched;
use crate::store::records::{Batch, Durability, Expect, KeyRange, Record, UnixTime, Value};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often, and how gently.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Before the first sweep, so that starting is not slowed down.
    after_start: Duration,
    /// Between two sweeps.
    every: Duration,
    /// Between two pages.
    breath: Duration,
    page: usize,
}

pub(super) const PACE: Pace = Pace {
    after_start: Duration::from_secs(120),
    every: Duration::from_secs(3600),
    breath: Duration::from_millis(20),
    page: 256,
};

/// How long a block is kept behind its end: a longer one than this does not follow it (see `next_level` in
/// `auth/throttle.rs`), whatever the settings are.
const BLOCKS_LINGER: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a claim is kept behind its end: a clock that was a little ahead must not free a code.
const CLAIMS_LINGER: Duration = Duration::from_secs(24 * 3600);

/// Sweeps until it is dropped.
pub(super) async fn run(store: Store, clock: Arc<Watched>, pace: Pace) {
    sleep(pace.after_start).await;
    loop {
        let now = clock.now();
        // Without a clock, or after a jump, nothing is over.
        if now.clock_known
            && now.clock_steady
            && let Err(error) = sweep(&store, now.unix, pace).await
        {
            log::warn!(event = "sweep-failed", error:% = error; "what is over stays in the store until the next sweep");
        }
        sleep(pace.every).await;
    }
}

async fn sweep(store: &Store, now: UnixTime, pace: Pace) -> Result<(), StoreError> {
    for mut range in [KeyRange::claims(), KeyRange::blocks()] {
        loop {
            let page = store.scan(range.clone(), pace.page).await?;
            let last = page.records.last().map(|(key, _)| key.clone());
            let over = page
                .records
                .into_iter()
                .filter(|(_, record)| is_over(record, now));
            let batch = over.fold(Batch::default(), |batch, (key, record)| {
                batch.remove(key, Expect::Equals(record.version))
            });
            if !batch.0.is_empty() {
                // A conflict means that somebody needs one of them again; the page then waits for the next sweep.
                store.commit(batch, Durability::Synced).await?;
            }
            match last {
                Some(last) if page.more => range = range.after(&last),
                _ => break,
            }
            sleep(pace.breath).await;
        }
    }
    Ok(())
}

fn is_over(record: &Record, now: UnixTime) -> bool {
    match &record.value {
        Value::Claim(claim) => now >= claim.expires.plus(CLAIMS_LINGER),
        Value::Block(block) => now >= block.until.plus(BLOCKS_LINGER),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;
    use crate::store::records::{Block, Claim, ClaimState, FactorId, Key, PersonId, Tag};
    use crate::store::seal::BoxKey;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Wall(AtomicU64);

    impl crate::gate::clock::Clock for Wall {
        fn wall(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = 1_795_471_560;

    fn claim(step: u64, expires: u64) -> (Key, Value) {
        let value = Claim {
            tag: Tag([1; 32]),
            state: ClaimState::Used,
            rejected: 0,
            expires: UnixTime(expires),
        };
        let key = Key::Claim(PersonId([1; 8]), FactorId([2; 8]), step);
        (key, Value::Claim(value))
    }

    fn block(network: &str, until: u64) -> (Key, Value) {
        let value = Block {
            reason: Reason::WrongCode,
            until: UnixTime(until),
            level: 1,
        };
        (Key::Block(network.parse().unwrap()), Value::Block(value))
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_over_goes_and_only_by_a_known_clock() {
        let store = Store::memory(BoxKey::generate().unwrap());
        // More than a page of claims that are over.
        let over = (0..20).map(|step| claim(step, NOW - DAY));
        let more = [
            block("192.0.2.1/32", NOW - 30 * DAY),
            claim(100, NOW - DAY + 1),
            block("192.0.2.2/32", NOW - 30 * DAY + 1),
        ];
        let all: Vec<(Key, Value)> = over.chain(more).collect();
        let keys: Vec<Key> = all.iter().map(|(key, _)| key.clone()).collect();
        let batch = all.into_iter().fold(Batch::default(), |batch, (key, value)| {
            batch.put(key, Expect::Any, value)
        });
        store.commit(batch, Durability::Synced).await.unwrap();
        let left = async || -> Vec<Key> {
            let records = store.get(keys.clone()).await.unwrap();
            let there = keys.iter().zip(records).filter(|(_, record)| record.is_some());
            there.map(|(key, _)| key.clone()).collect()
        };

        let clock = Arc::new(Wall(AtomicU64::new(0)));
        let pace = Pace { page: 8, ..PACE };
        let sweeping = tokio::spawn(run(store.clone(), Arc::new(Watched::new(clock.clone())), pace));
        sleep(PACE.after_start + PACE.every).await;
        assert_eq!(left().await.len(), keys.len(), "the clock is not known");
        clock.0.store(NOW, Ordering::Relaxed);
        sleep(PACE.every + Duration::from_secs(1)).await;
        assert_eq!(left().await, keys[21..]);
        sweeping.abort();
    }
}
