//! The embedded engine: sled, with group commit and without its traps.
//!
//! Reads go straight to sled from any thread (microseconds) and are answered at once. Writes go to one thread, which takes
//! everything that waits, carries it out batch by batch, brings it to the disk with one flush, and answers all.
//! Lazy writes are answered at once; until that thread has written them they lie in a map which every read asks first.
//!
//! What sled does not do for us:
//! - Its `flush` leaves the drive's cache and the file's size alone. We keep a file descriptor of our own on its log and
//!   call `fdatasync`.
//! - It opens no store with a torn snapshot, and panics on some damage: see [`ladder`].
//! - It opens a log that lost its end without a word: see [`witness`].
//! - After one failed write it never writes again: see [`room`].
//! - A value above 128 KiB goes to a file that is never synced: [`MAX_RECORD`](super::MAX_RECORD) is far below.
//! - Its default cache is 1 GB.
//! - Its lock may outlive its handle for a moment, because its own threads still hold the file: [`Files`] waits for it.

mod ladder;
mod room;
mod witness;

use super::backward::last_first;
use super::engine::{
    Changes, Engine, EngineBatch, EngineOutcome, EnginePage, EngineRange, EngineRecord, EngineWrite, Watching,
};
use super::files::{self, DirLock};
use super::open::OpenError;
use super::records::{Durability, Expect, Order, Version};
use super::wait::block_on_unless;
use super::{BoxFuture, StoreError};
use ::sled::{Db, IVec};
use rustix::fs::{FlockOperation, flock};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::future::ready;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use witness::Witness;

/// The engine. Fields are dropped in this order: the writer ends, sled closes, its lock is seen free, ours is freed.
pub(super) struct SledEngine {
    _writer: Writer,
    shared: Arc<Shared>,
    _files: Files,
    _lock: DirLock,
}

/// Commits that may wait at once; more wait for a place. Bounds memory to this many batches.
const WAITING_COMMITS: usize = 256;
/// Lazy writes that may wait; above it a lazy batch waits for the disk like a synced one, which is the back-pressure.
const WAITING_LAZY: usize = 1024;
/// How long a lazy write may wait.
const LAZY_DELAY: Duration = Duration::from_millis(500);
/// sled's page cache, in bytes.
const CACHE: u64 = 16 * 1024 * 1024;
/// How long one flush may take. Worn SD cards pause for seconds, none that works for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long sled's own threads may keep its files after the handle is gone.
const RELEASE: Duration = Duration::from_secs(2);
/// sled's name for its log.
const LOG: &str = "db";

impl Engine for SledEngine {
    fn get(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Vec<Option<EngineRecord>>, StoreError>> {
        Box::pin(ready(self.shared.read(&keys)))
    }

    fn scan(&self, range: EngineRange, limit: usize) -> BoxFuture<'_, Result<EnginePage, StoreError>> {
        Box::pin(ready(self.shared.page(&range, limit)))
    }

    fn commit(
        &self,
        batch: EngineBatch,
        durability: Durability,
    ) -> BoxFuture<'_, Result<EngineOutcome, StoreError>> {
        Box::pin(async move {
            match durability {
                Durability::Synced => self.shared.commit(batch).await,
                Durability::Lazy => match self.shared.put_aside(batch)? {
                    None => Ok(EngineOutcome::Done),
                    Some(batch) => self.shared.commit(batch).await,
                },
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        // An empty batch takes the lazy writes along like any other.
        Box::pin(async move { self.shared.commit(EngineBatch::default()).await.map(|_| ()) })
    }

    fn watch(&self) -> Watching {
        self.shared.changes.watch()
    }
}

/// How many of the lazy writes, which are in the order of their batches, are written at once: whole batches.
fn portion(lazy: &[(Vec<u8>, LazyWrite)]) -> usize {
    let Some((_, last)) = lazy.get(PORTION - 1) else {
        return lazy.len();
    };
    let of_the_last = lazy[PORTION..].iter();
    PORTION
        + of_the_last
            .take_while(|(_, write)| write.number == last.number)
            .count()
}

/// Lazy writes of one portion, if batches were short.
const PORTION: usize = 64;

/// Frees what sled left behind. It replaces a page with each write and frees the old ones when somebody touches it again
/// some time later: after a burst of sign-ins 2.5 KiB of each would stay until the next one.
fn collect_garbage(writes: usize) {
    // Garbage is old enough after three steps of the clock that counts for it; a step frees what some hundred writes left.
    for _ in 0..3 + writes / 64 {
        crossbeam_epoch::pin().flush();
    }
}

/// What callers and the writer share.
struct Shared {
    dir: PathBuf,
    /// Nothing while it is opened again. Written while a batch is carried out, so that nobody reads half of one.
    db: RwLock<Option<Db>>,
    /// sled's log, to sync it.
    log: File,
    /// Up to where it is on the disk for certain.
    synced: AtomicI64,
    waiting: Mutex<Waiting>,
    wake: Condvar,
    room: Arc<Semaphore>,
    changes: Changes,
}

/// What the writer has still to do.
#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    lazy: BTreeMap<Vec<u8>, LazyWrite>,
    /// When the oldest lazy write came.
    lazy_since: Option<Instant>,
    lazy_count: u64,
    closing: bool,
    /// Why nothing is written.
    stopped: Option<Stopped>,
}

/// A write that failed, and with it all that would come after.
#[derive(Clone, Debug)]
enum Stopped {
    /// There was no room for it. Writing goes on once there is.
    Full(String),
    /// The disk or sled failed. What it holds is read until a restart.
    Broken(String),
}

/// A synced batch and who waits for it.
struct Job {
    batch: EngineBatch,
    answer: oneshot::Sender<Result<EngineOutcome, StoreError>>,
    /// Held by the job and not by who waits for it: abandoned jobs count as well.
    _place: OwnedSemaphorePermit,
}

/// A lazy write that is not in sled yet.
#[derive(Clone)]
struct LazyWrite {
    /// Of the batch that it came with: tells it from a later write of the same key.
    number: u64,
    value: Option<EngineRecord>,
}

/// What the writer does between two flushes.
struct Round {
    lazy: Vec<(Vec<u8>, LazyWrite)>,
    jobs: VecDeque<Job>,
}

impl Shared {
    fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<EngineRecord>>, StoreError> {
        let db = self.db();
        let db = opened(&db)?;
        let aside: Vec<Option<LazyWrite>> = {
            let waiting = self.waiting();
            keys.iter().map(|key| waiting.lazy.get(key).cloned()).collect()
        };
        let found = keys.iter().zip(aside).map(|(key, aside)| match aside {
            Some(write) => Ok(write.value),
            None => stored(db, key),
        });
        found.collect()
    }

    fn page(&self, range: &EngineRange, limit: usize) -> Result<EnginePage, StoreError> {
        let db = self.db();
        let db = opened(&db)?;
        let aside: BTreeMap<Vec<u8>, LazyWrite> = {
            let waiting = self.waiting();
            let found = waiting.lazy.range(range.from.clone()..range.to.clone());
            found.map(|(key, write)| (key.clone(), write.clone())).collect()
        };
        let enough = limit.saturating_add(1);
        let mut records = stored_page(db, range, enough, |key| !aside.contains_key(key))?;
        records.extend(
            aside
                .into_iter()
                .filter_map(|(key, write)| Some((key, write.value?))),
        );
        records.sort_unstable_by(|(a, _), (b, _)| match range.order {
            Order::Ascending => a.cmp(b),
            Order::Descending => b.cmp(a),
        });
        Ok(EnginePage::cut(records, limit))
    }

    /// Answers a batch when it is on the disk.
    async fn commit(&self, batch: EngineBatch) -> Result<EngineOutcome, StoreError> {
        let place = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| self.stopped_error())?;
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if let Some(stopped) = &waiting.stopped {
                return Err(stopped.clone().into());
            }
            waiting.jobs.push_back(Job {
                batch,
                answer,
                _place: place,
            });
        }
        self.wake.notify_one();
        // A writer that is gone has dropped the other half.
        answered.await.unwrap_or_else(|_| Err(self.stopped_error()))
    }

    /// Takes a lazy batch; gives it back when too much waits already. While the disk is full it waits for room.
    fn put_aside(&self, batch: EngineBatch) -> Result<Option<EngineBatch>, StoreError> {
        let mut waiting = self.waiting();
        if let Some(stopped @ Stopped::Broken(_)) = &waiting.stopped {
            return Err(stopped.clone().into());
        }
        if waiting.lazy.len() + batch.0.len() > WAITING_LAZY {
            return Ok(Some(batch));
        }
        if waiting.lazy_since.is_none() {
            waiting.lazy_since = Some(Instant::now());
            self.wake.notify_one();
        }
        let keys = batch.keys();
        waiting.lazy_count += 1;
        let number = waiting.lazy_count;
        for EngineWrite { key, value, .. } in batch.0 {
            waiting.lazy.insert(key, LazyWrite { number, value });
        }
        self.changes.tell(keys);
        Ok(None)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding it that would leave it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn db(&self) -> RwLockReadGuard<'_, Option<Db>> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn db_alone(&self) -> RwLockWriteGuard<'_, Option<Db>> {
        self.db.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped_error(&self) -> StoreError {
        let stopped = self.waiting().stopped.clone();
        stopped
            .unwrap_or_else(|| Stopped::Broken("the store is closed".to_owned()))
            .into()
    }

    // --- the writer's side

    fn run(&self) {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut witness = Witness::new(&self.dir);
            while let Some(round) = self.next_round() {
                if let Err(stopped) = self.carry_out(round)
                    && !(matches!(stopped, Stopped::Full(_)) && self.resume_with_room())
                {
                    return;
                }
                witness.saw(self.synced.load(Ordering::Relaxed), Instant::now());
            }
            witness.write(self.synced.load(Ordering::Relaxed));
        }));
        if let Err(payload) = ended {
            self.stop(Stopped::Broken(format!(
                "the writer failed: {}",
                words(payload.as_ref())
            )));
        }
    }

    /// Waits for work; `None` when the store closes and nothing is left to do.
    fn next_round(&self) -> Option<Round> {
        let mut waiting = self.waiting();
        loop {
            let lazy_wait = waiting
                .lazy_since
                .map(|since| LAZY_DELAY.saturating_sub(since.elapsed()));
            let due = lazy_wait.is_some_and(|wait| waiting.closing || wait.is_zero());
            if due || !waiting.jobs.is_empty() {
                return Some(waiting.take_round());
            }
            if waiting.closing {
                return None;
            }
            waiting = match lazy_wait {
                Some(wait) => {
                    self.wake
                        .wait_timeout(waiting, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes everything, brings it to the disk, and only then answers. After an error nothing more is written.
    fn carry_out(&self, round: Round) -> Result<(), Stopped> {
        match self.write(&round) {
            Ok(outcomes) => {
                for (job, outcome) in round.jobs.into_iter().zip(outcomes) {
                    if outcome == Ok(EngineOutcome::Done) {
                        self.changes.tell(job.batch.keys());
                    }
                    // Nobody may be waiting any more; the batch is written all the same.
                    let _ = job.answer.send(outcome);
                }
                Ok(())
            }
            Err(stopped) => {
                // Later commits must be refused before anybody hears of this one.
                self.stop(stopped.clone());
                for job in round.jobs {
                    let _ = job
                        .answer
                        .send(Err(StoreError::Write(stopped.cause().to_owned())));
                }
                Err(stopped)
            }
        }
    }

    fn write(&self, round: &Round) -> Result<Vec<Result<EngineOutcome, StoreError>>, Stopped> {
        let mut written = !round.lazy.is_empty();
        self.write_lazy(&round.lazy)?;
        let mut outcomes = Vec::with_capacity(round.jobs.len());
        for job in &round.jobs {
            let outcome = match self.conflict(&job.batch) {
                Ok(None) => {
                    written |= !job.batch.0.is_empty();
                    self.apply(job.batch.0.iter().map(|write| (&write.key, &write.value)))?;
                    Ok(EngineOutcome::Done)
                }
                Ok(Some(index)) => Ok(EngineOutcome::Conflict(index)),
                // One unreadable record is no reason to refuse everybody else.
                Err(error) => Err(error),
            };
            outcomes.push(outcome);
        }
        if written {
            self.sync()?;
        }
        Ok(outcomes)
    }

    /// Portion by portion, so that sled's garbage is never more than one portion's.
    fn write_lazy(&self, mut lazy: &[(Vec<u8>, LazyWrite)]) -> Result<(), Stopped> {
        while !lazy.is_empty() {
            let (portion, behind) = lazy.split_at(portion(lazy));
            self.write_portion(portion)?;
            collect_garbage(portion.len());
            lazy = behind;
        }
        Ok(())
    }

    fn write_portion(&self, portion: &[(Vec<u8>, LazyWrite)]) -> Result<(), Stopped> {
        let db = self.db_alone();
        apply_unseen(&db, portion.iter().map(|(key, write)| (key, &write.value)))?;
        let mut waiting = self.waiting();
        for (key, write) in portion {
            if waiting
                .lazy
                .get(key)
                .is_some_and(|now| now.number == write.number)
            {
                waiting.lazy.remove(key);
            }
        }
        drop(waiting);
        drop(db);
        Ok(())
    }

    /// The first write that does not find what it expects. Only this thread writes, so what it finds stays true.
    fn conflict(&self, batch: &EngineBatch) -> Result<Option<usize>, StoreError> {
        let db = self.db();
        let db = opened(&db)?;
        for (index, write) in batch.0.iter().enumerate() {
            let fits = match write.expect {
                Expect::Any => true,
                Expect::Absent => stored(db, &write.key)?.is_none(),
                Expect::Equals(version) => {
                    stored(db, &write.key)?.is_some_and(|record| record.version == version)
                }
            };
            if !fits {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn apply<'a>(
        &self,
        writes: impl Iterator<Item = (&'a Vec<u8>, &'a Option<EngineRecord>)>,
    ) -> Result<(), Stopped> {
        apply_unseen(&self.db_alone(), writes)
    }

    fn sync(&self) -> Result<(), Stopped> {
        let db = self.db();
        let db = opened(&db)?;
        // sled's own `flush` waits for ever when a write fails at the wrong moment, because that failure wakes nobody.
        let since = Instant::now();
        let flushed = block_on_unless(db.flush_async(), Duration::from_millis(200), || {
            db.context.global_error()?;
            if since.elapsed() < PATIENCE {
                Ok(())
            } else {
                Err(Stopped::Broken("the disk does not answer".to_owned()))
            }
        })?;
        flushed?;
        let position = witness::position(db);
        // After a failure here the kernel may take the lost pages for written: nothing may be written behind them.
        self.log
            .sync_data()
            .map_err(|error| Stopped::Broken(error.to_string()))?;
        self.synced.store(position, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses every commit from now on, those that wait included, and says so once.
    fn stop(&self, stopped: Stopped) {
        let jobs = {
            let mut waiting = self.waiting();
            waiting.stopped = Some(stopped.clone());
            std::mem::take(&mut waiting.jobs)
        };
        let error = StoreError::from(stopped);
        log::error!(event = "store-stopped"; "{error}; known devices go on signing in, nothing new is decided");
        if matches!(error, StoreError::Stopped(_)) {
            self.room.close();
        }
        for job in jobs {
            let _ = job.answer.send(Err(error.clone()));
        }
    }
}

impl Waiting {
    /// All jobs, and every lazy write that came before now: none of these is overtaken by a later job of its key.
    fn take_round(&mut self) -> Round {
        self.lazy_since = None;
        let mut lazy: Vec<(Vec<u8>, LazyWrite)> = self
            .lazy
            .iter()
            .map(|(key, write)| (key.clone(), write.clone()))
            .collect();
        lazy.sort_by_key(|(_, write)| write.number);
        Round {
            lazy,
            jobs: std::mem::take(&mut self.jobs),
        }
    }

    /// Writing goes on. Lazy writes of the round that failed are still here, and nobody else says that they wait.
    fn go_on(&mut self, now: Instant) {
        self.stopped = None;
        if !self.lazy.is_empty() {
            self.lazy_since.get_or_insert(now);
        }
    }
}

impl Stopped {
    fn cause(&self) -> &str {
        match self {
            Stopped::Full(cause) | Stopped::Broken(cause) => cause,
        }
    }
}

impl From<Stopped> for StoreError {
    fn from(stopped: Stopped) -> StoreError {
        match stopped {
            Stopped::Full(cause) => StoreError::Full(cause),
            Stopped::Broken(cause) => StoreError::Stopped(cause),
        }
    }
}

/// What sled could not write.
impl From<::sled::Error> for Stopped {
    fn from(error: ::sled::Error) -> Stopped {
        let cause = error.to_string();
        match error {
            ::sled::Error::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
                ) =>
            {
                Stopped::Full(cause)
            }
            _ => Stopped::Broken(cause),
        }
    }
}

impl From<NotOpen> for Stopped {
    fn from(_: NotOpen) -> Stopped {
        Stopped::Broken(NOT_OPEN.to_owned())
    }
}

impl From<NotOpen> for StoreError {
    fn from(_: NotOpen) -> StoreError {
        StoreError::Read(NOT_OPEN.to_owned())
    }
}

const NOT_OPEN: &str = "it is being opened again";

/// There is no sled at the moment.
struct NotOpen;

fn opened(db: &Option<Db>) -> Result<&Db, NotOpen> {
    db.as_ref().ok_or(NotOpen)
}

fn stored(db: &Db, key: &[u8]) -> Result<Option<EngineRecord>, StoreError> {
    reading(|| db.get(key))?.map(|bytes| unpack(&bytes)).transpose()
}

/// The first `enough` stored records of a range whose key is wanted.
fn stored_page(
    db: &Db,
    range: &EngineRange,
    enough: usize,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<(Vec<u8>, EngineRecord)>, StoreError> {
    let pairs: Vec<(IVec, IVec)> = reading(|| {
        let read = |from: &[u8], to: &[u8], most| {
            let wanted =
                |pair: &::sled::Result<(IVec, IVec)>| pair.as_ref().map_or(true, |(key, _)| wanted(key));
            db.range(from..to).filter(wanted).take(most).collect()
        };
        match range.order {
            Order::Ascending => read(&range.from, &range.to, enough),
            Order::Descending => last_first(&range.from, &range.to, enough, read),
        }
    })?;
    pairs
        .into_iter()
        .map(|(key, value)| Ok((key.to_vec(), unpack(&value)?)))
        .collect()
}

/// One sled batch: after a crash it is there whole or not at all. The caller has sled to itself.
fn apply_unseen<'a>(
    db: &Option<Db>,
    writes: impl Iterator<Item = (&'a Vec<u8>, &'a Option<EngineRecord>)>,
) -> Result<(), Stopped> {
    let mut batch = ::sled::Batch::default();
    let mut empty = true;
    for (key, value) in writes {
        empty = false;
        match value {
            Some(record) => batch.insert(key.as_slice(), pack(record)),
            None => batch.remove(key.as_slice()),
        }
    }
    if empty {
        return Ok(());
    }
    opened(db)?.apply_batch(batch).map_err(Stopped::from)
}

/// The writer's thread; its end is waited for.
struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(shared: &Arc<Shared>) -> io::Result<Writer> {
        let own = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || own.run())?;
        Ok(Writer {
            shared: Arc::clone(shared),
            thread: Some(thread),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.waiting().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught inside and told as `stopped`.
            let _ = thread.join();
        }
    }
}

/// sled's lock: whoever waits for the store to be closed must be able to open it again.
struct Files {
    log: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Ok(log) = File::open(&self.log) {
            is_released(&log);
        }
    }
}

/// Waits until nobody holds sled's log any more; says whether that came true.
fn is_released(log: &File) -> bool {
    let until = Instant::now() + RELEASE;
    while is_locked(log) {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

fn is_locked(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// A record as sled keeps it: the version, big-endian, then the sealed bytes.
fn pack(record: &EngineRecord) -> Vec<u8> {
    [&record.version.0.to_be_bytes(), record.sealed.as_slice()].concat()
}

fn unpack(bytes: &[u8]) -> Result<EngineRecord, StoreError> {
    let (version, sealed) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| StoreError::Read("a record is shorter than its version".to_owned()))?;
    Ok(EngineRecord {
        version: Version(u64::from_be_bytes(*version)),
        sealed: sealed.to_vec(),
    })
}

/// sled answers some damage with a panic; to us it is an error like any other.
fn reading<T>(read: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
    match quietly(read) {
        Ok(result) => result.map_err(|error| StoreError::Read(error.to_string())),
        Err(panicked) => Err(StoreError::Read(panicked)),
    }
}

/// Runs code whose panics are answers: they are returned as words instead of being printed.
fn quietly<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    // The hook belongs to the whole process: it is extended once, and stays silent only for threads that are in here.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                previous(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(code));
    QUIET.set(before);
    result.map_err(|payload| words(payload.as_ref()))
}

fn words(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no reason given").to_owned()
}

/// Opens the engine's directory by the [`ladder`], and says what had to be repaired.
///
/// The caller's lock proves that no other process uses the directory.
pub(super) fn open(dir: &Path, lock: DirLock) -> Result<(SledEngine, Option<String>), OpenError> {
    let (db, mut repaired) = ladder::open(dir)?;
    if witness::is_short(dir, &db) {
        let lost = "the log ends earlier than it once did, so something was lost; look whether anything is missing, and restore a \
                    backup if so";
        repaired = Some(repaired.map_or(lost.to_owned(), |repaired| format!("{repaired}; {lost}")));
    }
    let engine = start(dir, db, lock).map_err(|error| OpenError::from_io(dir, &error))?;
    Ok((engine, repaired))
}

fn start(dir: &Path, db: Db, lock: DirLock) -> io::Result<SledEngine> {
    let log_path = dir.join(LOG);
    let log = File::options().read(true).write(true).open(&log_path)?;
    // After a kill what was just read may lie in the kernel's cache only.
    let position = witness::position(&db);
    log.sync_data()?;
    // sled never syncs the directory: without this a new log may be gone after a power cut, whatever was synced in it.
    files::sync_dir(dir)?;
    let shared = Arc::new(Shared {
        dir: dir.to_owned(),
        synced: AtomicI64::new(position),
        db: RwLock::new(Some(db)),
        log,
        waiting: Mutex::default(),
        wake: Condvar::new(),
        room: Arc::new(Semaphore::new(WAITING_COMMITS)),
        changes: Changes::default(),
    });
    let writer = Writer::start(&shared)?;
    Ok(SledEngine {
        _writer: writer,
        shared,
        _files: Files { log: log_path },
        _lock: lock,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lazy_writes_of_a_round_that_failed_are_due_when_writing_goes_on() {
        let now = Instant::now();
        let mut waiting = Waiting {
            lazy_since: Some(now),
            ..Waiting::default()
        };
        let write = LazyWrite {
            number: 1,
            value: None,
        };
        waiting.lazy.insert(b"key".to_vec(), write);
        assert_eq!(waiting.take_round().lazy.len(), 1);
        waiting.stopped = Some(Stopped::Full("no room".to_owned()));
        waiting.go_on(now);
        assert!(waiting.stopped.is_none());
        assert_eq!(waiting.lazy_since, Some(now));
    }
}
