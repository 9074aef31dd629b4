//! Writes the sign-in log: every decided attempt, repeats once a minute, the newest 50 000.

use super::lazies::Lazies;
use crate::reason::Reason;
use crate::report::{session_line, sign_in};
use crate::store::records::{Batch, Durability, Expect, Key, KeyRange, Order, PersonId, SignInEntry, Value};
use crate::store::seal::Label;
use crate::store::{Store, StoreError};
use ring::hmac;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// The sign-in log's writing end.
pub(super) struct Journal {
    lazies: Arc<Lazies>,
    veil: hmac::Key,
    /// Keeps entries of one millisecond apart, across a restart as well: it starts anywhere.
    number: AtomicU32,
    repeats: Mutex<Repeats>,
    /// Entries written since start.
    written: watch::Sender<u64>,
}

impl Journal {
    /// Begins to keep the log, and to keep it short.
    pub(super) fn start(store: &Store, lazies: Arc<Lazies>, first_number: u32) -> Journal {
        let written = watch::Sender::new(0);
        tokio::spawn(keep_short(store.clone(), written.subscribe(), RETENTION));
        Journal {
            lazies,
            veil: store.box_key().hmac_key(Label::LOGIN_HASH),
            number: AtomicU32::new(first_number),
            repeats: Mutex::default(),
            written,
        }
    }

    /// Carries out `work` as long as the journal lives.
    pub(super) fn until_its_end<W: Future<Output = ()>>(&self, work: W) -> impl Future<Output = ()> + use<W> {
        let closed = self.written.subscribe();
        async move {
            tokio::select! {
                () = work => {}
                () = gone(closed) => {}
            }
        }
    }

    /// What stands for a login that no person has.
    pub(super) fn veiled(&self, login: &[u8]) -> String {
        sign_in::veiled_login(&self.veil, login)
    }

    /// Writes an entry to the log and the program's log. `millis` is the wall clock since 1970.
    ///
    /// What repeats itself (a program that tries again every few seconds, a follower that shares its leader's refusal, a
    /// blocked network's attempts) is written once a minute for each reason, person and address.
    pub(super) fn write(&self, entry: SignInEntry, listener: &str, wall: Duration, is_echo: bool) {
        let fresh = self.repeats().first_of_its_minute(&entry, wall);
        if !fresh && (is_echo || repeats_itself(entry.reason)) {
            return;
        }
        session_line::sign_in(&entry, listener);
        let millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let batch = Batch::default().put(Key::SignIn(millis, number), Expect::Any, Value::SignIn(entry));
        self.lazies.write(batch);
        self.written.send_if_modified(|written| {
            *written += 1;
            written.is_multiple_of(NOTICE_EVERY)
        });
    }

    fn repeats(&self) -> std::sync::MutexGuard<'_, Repeats> {
        // Nothing panics while holding it.
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reasons that come again and again without anything new having happened.
fn repeats_itself(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RefusedLately
            | Reason::DeniedNetwork
            | Reason::PersonWaits
            | Reason::NetworkBlocked
            | Reason::KnownDeviceWaits
            | Reason::PlaintextPassword
            | Reason::Busy
            | Reason::StoreUnavailable
            | Reason::ClockUnknown
            | Reason::ShuttingDown
    )
}

/// What was written within this minute.
#[derive(Default)]
struct Repeats {
    minute: u64,
    seen: HashSet<(Option<PersonId>, IpAddr, Reason)>,
}

/// Above this nothing counts as new until the minute is over: 64 KiB.
const MOST_REPEATS: usize = 1024;

impl Repeats {
    fn first_of_its_minute(&mut self, entry: &SignInEntry, wall: Duration) -> bool {
        let minute = wall.as_secs() / 60;
        if self.minute != minute {
            self.minute = minute;
            self.seen.clear();
        }
        self.seen.len() < MOST_REPEATS && self.seen.insert((entry.person, entry.address, entry.reason))
    }
}

/// How many entries are kept and how gently older ones go.
#[derive(Clone, Copy)]
struct Retention {
    /// Before the first count, so that starting is not slowed down.
    after_start: Duration,
    /// Between two pages.
    breath: Duration,
    keep: u64,
    page: usize,
}

const RETENTION: Retention = Retention {
    after_start: Duration::from_secs(60),
    breath: Duration::from_millis(20),
    keep: 50_000,
    page: 256,
};

/// Entries between two looks at the length.
const NOTICE_EVERY: u64 = 64;

/// Keeps the log short; after an error, which a full disk may be, it begins anew. Ends with the journal.
async fn keep_short(store: Store, mut written: watch::Receiver<u64>, retention: Retention) {
    let closed = written.clone();
    let work = async {
        loop {
            sleep(retention.after_start).await;
            match shorten(&store, &mut written, retention).await {
                Ok(()) => return,
                Err(error) => {
                    log::error!(event = "sign-in-log", error:% = error; "the sign-in log cannot be shortened for now")
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = gone(closed) => {}
    }
}

/// Counts the entries once, and from then on removes the oldest as new ones come.
async fn shorten(
    store: &Store,
    written: &mut watch::Receiver<u64>,
    retention: Retention,
) -> Result<(), StoreError> {
    // Entries that come while counting may be counted twice: then a few more than needed go later, nothing worse.
    let mut seen = *written.borrow_and_update();
    let mut there = count(store, retention).await?;
    loop {
        let now = *written.borrow_and_update();
        there += now - seen;
        seen = now;
        while there > retention.keep {
            there = match remove_oldest(store, retention, there - retention.keep).await? {
                0 => 0,
                gone => there.saturating_sub(gone),
            };
            sleep(retention.breath).await;
        }
        if written.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn gone(mut written: watch::Receiver<u64>) {
    while written.changed().await.is_ok() {}
}

async fn count(store: &Store, retention: Retention) -> Result<u64, StoreError> {
    let mut range = KeyRange::all_sign_ins(Order::Ascending);
    let mut there = 0;
    loop {
        let page = store.scan(range.clone(), retention.page).await?;
        there += page.records.len() as u64;
        match page.records.last() {
            Some((last, _)) if page.more => range = range.after(last),
            _ => return Ok(there),
        }
        sleep(retention.breath).await;
    }
}

/// Removes at most a page of entries; returns how many.
async fn remove_oldest(store: &Store, retention: Retention, surplus: u64) -> Result<u64, StoreError> {
    let limit = usize::try_from(surplus).unwrap_or(usize::MAX).min(retention.page);
    let page = store
        .scan(KeyRange::all_sign_ins(Order::Ascending), limit)
        .await?;
    let gone = page.records.len() as u64;
    let batch = page
        .records
        .into_iter()
        .fold(Batch::default(), |batch, (key, _)| batch.remove(key, Expect::Any));
    store.commit(batch, Durability::Lazy).await?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::super::cache::Cache;
    use super::*;
    use crate::reason::Protocol;
    use crate::store::records::UnixTime;
    use crate::store::seal::BoxKey;
    use crate::store::{
        BoxFuture, Changes, Engine, EngineBatch, EngineOutcome, EnginePage, EngineRange, EngineRecord,
        Watching,
    };
    use std::future::ready;

    fn entry(person: u8, reason: Reason) -> SignInEntry {
        SignInEntry {
            at: UnixTime(1),
            protocol: Protocol::Imap,
            address: "192.0.2.1".parse().unwrap(),
            person: Some(PersonId([person; 8])),
            login: "alice@example.org".into(),
            device: None,
            reason,
            enforcing_would: None,
            client_hint: None,
        }
    }

    fn journal(store: &Store) -> Journal {
        let lazies = Lazies::start(store.clone(), Arc::new(Cache::new()));
        Journal::start(store, Arc::new(lazies), u32::MAX)
    }

    async fn entries(store: &Store) -> Vec<(Key, Reason)> {
        let page = store
            .scan(KeyRange::all_sign_ins(Order::Ascending), 1000)
            .await
            .unwrap();
        let reason = |value: Value| match value {
            Value::SignIn(entry) => entry.reason,
            other => panic!("{other:?}"),
        };
        page.records
            .into_iter()
            .map(|(key, record)| (key, reason(record.value)))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn writes_what_happened_and_repeats_once_a_minute() {
        let store = Store::memory(BoxKey::generate().unwrap());
        let journal = journal(&store);
        let at = Duration::from_secs(600);
        for (person, reason, seconds, is_echo) in [
            (1, Reason::WrongCode, 0, false),
            (1, Reason::WrongCode, 0, false),
            (1, Reason::WrongCode, 1, true),
            (1, Reason::RefusedLately, 2, false),
            (1, Reason::RefusedLately, 3, false),
            (2, Reason::RefusedLately, 3, false),
            (1, Reason::RefusedLately, 60, false),
        ] {
            let wall = at + Duration::from_secs(seconds);
            journal.write(entry(person, reason), "imaps", wall, is_echo);
        }
        journal.lazies.flush().await;
        let reasons: Vec<Reason> = entries(&store)
            .await
            .into_iter()
            .map(|(_, reason)| reason)
            .collect();
        use Reason::{RefusedLately, WrongCode};
        assert_eq!(reasons.iter().filter(|reason| **reason == WrongCode).count(), 2);
        assert_eq!(
            reasons.iter().filter(|reason| **reason == RefusedLately).count(),
            3
        );
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_newest() {
        let store = Store::memory(BoxKey::generate().unwrap());
        let journal = journal(&store);
        let retention = Retention {
            keep: 100,
            page: 16,
            ..RETENTION
        };
        let written = journal.written.subscribe();
        let short = tokio::spawn(keep_short(store.clone(), written, retention));
        let write = |from: u64, to: u64| {
            for millis in from..to {
                journal.write(
                    entry(1, Reason::WrongCode),
                    "imaps",
                    Duration::from_millis(millis),
                    false,
                );
            }
        };
        write(0, 128);
        journal.lazies.flush().await;
        sleep(Duration::from_secs(59)).await;
        assert_eq!(entries(&store).await.len(), 128, "not before a minute has passed");
        sleep(Duration::from_secs(10)).await;
        let left = entries(&store).await;
        assert_eq!(left.len(), 100);
        assert!(matches!(left[0].0, Key::SignIn(28, _)));
        write(128, 256);
        journal.lazies.flush().await;
        sleep(Duration::from_secs(10)).await;
        let left = entries(&store).await;
        assert!(left.len() <= 100 && left.len() > 100 - 64, "{}", left.len());
        assert!(matches!(left.last(), Some((Key::SignIn(255, _), _))));
        drop(journal);
        short.await.unwrap();
    }

    /// A store that cannot be read yet; it counts who tried.
    struct Unreadable {
        scans: Arc<AtomicU32>,
        changes: Changes,
    }

    impl Engine for Unreadable {
        fn get(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Vec<Option<EngineRecord>>, StoreError>> {
            Box::pin(ready(Ok(vec![None; keys.len()])))
        }

        fn scan(&self, _: EngineRange, _: usize) -> BoxFuture<'_, Result<EnginePage, StoreError>> {
            self.scans.fetch_add(1, Ordering::Relaxed);
            Box::pin(ready(Err(StoreError::Read("the disk is full".into()))))
        }

        fn commit(&self, _: EngineBatch, _: Durability) -> BoxFuture<'_, Result<EngineOutcome, StoreError>> {
            Box::pin(ready(Ok(EngineOutcome::Done)))
        }

        fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(ready(Ok(())))
        }

        fn watch(&self) -> Watching {
            self.changes.watch()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_does_not_end_the_shortening() {
        let scans = Arc::new(AtomicU32::new(0));
        let engine = Unreadable {
            scans: scans.clone(),
            changes: Changes::default(),
        };
        let store = Store::new(Box::new(engine), BoxKey::generate().unwrap());
        let (_written, watched) = watch::channel(0);
        let short = tokio::spawn(keep_short(store, watched, RETENTION));
        sleep(Duration::from_secs(301)).await;
        assert_eq!(scans.load(Ordering::Relaxed), 5, "once a minute");
        short.abort();
    }
}
