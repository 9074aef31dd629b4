//! The embedded engine: sled, with group commit and without its traps.
//!
//! Reads go straight to sled from any thread (microseconds) and are answered at once. Writes go to one thread, which takes
//! everything that waits, carries it out batch by batch, brings it to the disk with one flush, and answers all.
//! Lazy writes are answered at once; until that thread has written them they lie in a map which every read asks first.
//!
//! What sled does not do for us:
//! - Its `flush` leaves the drive's cache and the file's size alone. We keep a file descriptor of our own on its log and
//!   call `fdatasync`.
//! - It opens no store with a torn snapshot, and panics on some damage: see [`open`].
//! - A value above 128 KiB goes to a file that is never synced: [`MAX_RECORD`](super::MAX_RECORD) is far below.
//! - Its default cache is 1 GB.
//! - Its lock may outlive its handle for a moment, because its own threads still hold the file: [`Files`] waits for it.

use super::backward::last_first;
use super::engine::{
    Changes, Engine, EngineBatch, EngineOutcome, EnginePage, EngineRange, EngineRecord, EngineWrite, Watching,
};
use super::files::{self, DirLock};
use super::open::OpenError;
use super::records::{Durability, Expect, Kind, Order, Version};
use super::wait::block_on_unless;
use super::{BoxFuture, StoreError};
use ::sled::{Config, Db, IVec, Mode};
use rustix::fs::{FlockOperation, flock};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::future::ready;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

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

/// What callers and the writer share.
struct Shared {
    db: Db,
    /// sled's log, to sync it.
    log: File,
    /// Written while a batch is carried out, so that nobody reads half of one.
    view: RwLock<()>,
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
    /// Why nothing is written any more.
    stopped: Option<String>,
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
    /// Tells a write from a later one of the same key.
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
        let _view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let aside: Vec<Option<LazyWrite>> = {
            let waiting = self.waiting();
            keys.iter().map(|key| waiting.lazy.get(key).cloned()).collect()
        };
        let found = keys.iter().zip(aside).map(|(key, aside)| match aside {
            Some(write) => Ok(write.value),
            None => self.stored(key),
        });
        found.collect()
    }

    fn stored(&self, key: &[u8]) -> Result<Option<EngineRecord>, StoreError> {
        reading(|| self.db.get(key))?
            .map(|bytes| unpack(&bytes))
            .transpose()
    }

    fn page(&self, range: &EngineRange, limit: usize) -> Result<EnginePage, StoreError> {
        let _view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let aside: BTreeMap<Vec<u8>, LazyWrite> = {
            let waiting = self.waiting();
            let found = waiting.lazy.range(range.from.clone()..range.to.clone());
            found.map(|(key, write)| (key.clone(), write.clone())).collect()
        };
        let enough = limit.saturating_add(1);
        let mut records = self.stored_page(range, enough, |key| !aside.contains_key(key))?;
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

    /// The first `enough` stored records of a range whose key is wanted.
    fn stored_page(
        &self,
        range: &EngineRange,
        enough: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<(Vec<u8>, EngineRecord)>, StoreError> {
        let pairs: Vec<(IVec, IVec)> = reading(|| {
            let read = |from: &[u8], to: &[u8], most| {
                let found = self.db.range(from..to);
                let wanted =
                    |pair: &::sled::Result<(IVec, IVec)>| pair.as_ref().map_or(true, |(key, _)| wanted(key));
                found.filter(wanted).take(most).collect()
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

    /// Answers a batch when it is on the disk.
    async fn commit(&self, batch: EngineBatch) -> Result<EngineOutcome, StoreError> {
        let place = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| self.stopped_error())?;
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            waiting.refuse_if_stopped()?;
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

    /// Takes a lazy batch; gives it back when too much waits already.
    fn put_aside(&self, batch: EngineBatch) -> Result<Option<EngineBatch>, StoreError> {
        let mut waiting = self.waiting();
        waiting.refuse_if_stopped()?;
        if waiting.lazy.len() + batch.0.len() > WAITING_LAZY {
            return Ok(Some(batch));
        }
        if waiting.lazy_since.is_none() {
            waiting.lazy_since = Some(Instant::now());
            self.wake.notify_one();
        }
        let keys = batch.keys();
        for EngineWrite { key, value, .. } in batch.0 {
            waiting.lazy_count += 1;
            let number = waiting.lazy_count;
            waiting.lazy.insert(key, LazyWrite { number, value });
        }
        self.changes.tell(keys);
        Ok(None)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding it that would leave it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped_error(&self) -> StoreError {
        let cause = self.waiting().stopped.clone();
        StoreError::Stopped(cause.unwrap_or_else(|| "the store is closed".to_owned()))
    }

    // --- the writer's side

    fn run(&self) {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            while let Some(round) = self.next_round() {
                if let Err(cause) = self.carry_out(round) {
                    return self.stop(cause);
                }
            }
        }));
        if let Err(payload) = ended {
            self.stop(format!("the writer failed: {}", words(payload.as_ref())));
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

    /// Writes everything, brings it to the disk, and only then answers. An error ends the writer.
    fn carry_out(&self, round: Round) -> Result<(), String> {
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
            Err(cause) => {
                // Later commits must be refused before anybody hears of this one.
                self.stop(cause.clone());
                for job in round.jobs {
                    let _ = job.answer.send(Err(StoreError::Write(cause.clone())));
                }
                Err(cause)
            }
        }
    }

    fn write(&self, round: &Round) -> Result<Vec<Result<EngineOutcome, StoreError>>, String> {
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

    fn write_lazy(&self, lazy: &[(Vec<u8>, LazyWrite)]) -> Result<(), String> {
        let view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        self.apply_unseen(lazy.iter().map(|(key, write)| (key, &write.value)))?;
        let mut waiting = self.waiting();
        for (key, write) in lazy {
            if waiting
                .lazy
                .get(key)
                .is_some_and(|now| now.number == write.number)
            {
                waiting.lazy.remove(key);
            }
        }
        drop(view);
        Ok(())
    }

    /// The first write that does not find what it expects. Only this thread writes, so what it finds stays true.
    fn conflict(&self, batch: &EngineBatch) -> Result<Option<usize>, StoreError> {
        for (index, write) in batch.0.iter().enumerate() {
            let fits = match write.expect {
                Expect::Any => true,
                Expect::Absent => self.stored(&write.key)?.is_none(),
                Expect::Equals(version) => self
                    .stored(&write.key)?
                    .is_some_and(|record| record.version == version),
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
    ) -> Result<(), String> {
        let _view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        self.apply_unseen(writes)
    }

    /// One sled batch: after a crash it is there whole or not at all. The caller holds the view.
    fn apply_unseen<'a>(
        &self,
        writes: impl Iterator<Item = (&'a Vec<u8>, &'a Option<EngineRecord>)>,
    ) -> Result<(), String> {
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
            Ok(())
        } else {
            self.db.apply_batch(batch).map_err(|error| error.to_string())
        }
    }

    fn sync(&self) -> Result<(), String> {
        // sled's own `flush` waits for ever when a write fails at the wrong moment, because that failure wakes nobody.
        let since = Instant::now();
        let flushed = block_on_unless(self.db.flush_async(), Duration::from_millis(200), || {
            self.db
                .context
                .global_error()
                .map_err(|error| error.to_string())?;
            if since.elapsed() < PATIENCE {
                Ok(())
            } else {
                Err("the disk does not answer".to_owned())
            }
        })?;
        flushed.map_err(|error| error.to_string())?;
        self.log.sync_data().map_err(|error| error.to_string())
    }

    /// Refuses every commit from now on, those that wait included.
    fn stop(&self, cause: String) {
        let jobs = {
            let mut waiting = self.waiting();
            waiting.stopped.get_or_insert(cause);
            std::mem::take(&mut waiting.jobs)
        };
        self.room.close();
        for job in jobs {
            let _ = job.answer.send(Err(self.stopped_error()));
        }
    }
}

impl Waiting {
    fn refuse_if_stopped(&self) -> Result<(), StoreError> {
        self.stopped
            .as_ref()
            .map_or(Ok(()), |cause| Err(StoreError::Stopped(cause.clone())))
    }

    /// All jobs, and every lazy write that came before now: none of these is overtaken by a later job of its key.
    fn take_round(&mut self) -> Round {
        self.lazy_since = None;
        Round {
            lazy: self
                .lazy
                .iter()
                .map(|(key, write)| (key.clone(), write.clone()))
                .collect(),
            jobs: std::mem::take(&mut self.jobs),
        }
    }
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
        let Ok(file) = File::open(&self.log) else { return };
        let until = Instant::now() + RELEASE;
        while is_locked(&file) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }
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

/// Opens the engine's directory, repairing what can be repaired, and says what was.
///
/// 1. A snapshot whose writing was interrupted is removed; sled would refuse to open for ever.
/// 2. sled opens, its panics caught, and one record is read.
/// 3. If that fails and there are snapshots: the directory is copied aside, the snapshots are removed, and sled rebuilds
///    itself from its log. Without snapshots there is nothing to remove and no copy is made, so that a gateway which is
///    restarted in a loop does not fill the disk with copies.
///    A log that is damaged itself can come out shorter: who opens the store checks that its first record is there.
/// 4. If that fails too, the error names the copy and says what to do.
///
/// The caller's lock proves that no other process uses the directory.
pub(super) fn open(dir: &Path, lock: DirLock) -> Result<(SledEngine, Option<String>), OpenError> {
    let io = |error: io::Error| OpenError::from_io(dir, &error);
    files::create_private_dir(dir).map_err(io)?;
    let unfinished = remove_snapshots(dir, |name| name.ends_with(".generating")).map_err(io)?;
    let mut repaired =
        (unfinished > 0).then(|| "removed an unfinished snapshot that a crash left behind".to_owned());
    let db = match try_open(dir) {
        Ok(db) => db,
        Err(Failure::Damaged(cause)) => {
            let (db, done) = rebuild(dir, cause)?;
            repaired = Some(done);
            db
        }
        Err(failure) => return Err(failure.into_error(dir)),
    };
    let engine = start(dir, db, lock).map_err(io)?;
    Ok((engine, repaired))
}

fn start(dir: &Path, db: Db, lock: DirLock) -> io::Result<SledEngine> {
    let log_path = dir.join(LOG);
    let log = File::options().read(true).write(true).open(&log_path)?;
    // sled never syncs the directory: without this a new log may be gone after a power cut, whatever was synced in it.
    files::sync_dir(dir)?;
    let shared = Arc::new(Shared {
        db,
        log,
        view: RwLock::default(),
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

/// sled's name for its log.
const LOG: &str = "db";
/// sled's names for snapshots begin like this.
const SNAPSHOT: &str = "snap.";

/// Why sled did not open.
enum Failure {
    Locked,
    Io(io::Error),
    Damaged(String),
}

impl Failure {
    fn into_error(self, dir: &Path) -> OpenError {
        match self {
            Failure::Locked => OpenError::Locked { pid: None },
            Failure::Io(error) => OpenError::from_io(dir, &error),
            Failure::Damaged(cause) => OpenError::Damaged { cause, copy: None },
        }
    }
}

fn try_open(dir: &Path) -> Result<Db, Failure> {
    let until = Instant::now() + RELEASE;
    loop {
        match try_open_once(dir) {
            // Ours is the only process; threads of a handle that was just dropped may still hold the file.
            Err(Failure::Locked) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
}

fn try_open_once(dir: &Path) -> Result<Db, Failure> {
    let config = Config::new()
        .path(dir)
        .cache_capacity(CACHE)
        .mode(Mode::LowSpace)
        .use_compression(false)
        .flush_every_ms(Some(500));
    let opened = quietly(|| {
        let db = config.open()?;
        // Some damage shows only when something is read.
        db.get([Kind::Meta as u8])?;
        Ok(db)
    });
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(failure(dir, error)),
        Err(panicked) => Err(Failure::Damaged(panicked)),
    }
}

fn failure(dir: &Path, error: ::sled::Error) -> Failure {
    let ::sled::Error::Io(error) = error else {
        return Failure::Damaged(error.to_string());
    };
    let held = || File::open(dir.join(LOG)).is_ok_and(|file| is_locked(&file));
    match error.kind() {
        // sled reports a held lock as words only.
        io::ErrorKind::Other if error.to_string().contains("could not acquire lock") || held() => {
            Failure::Locked
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded => Failure::Io(error),
        _ => Failure::Damaged(error.to_string()),
    }
}

fn rebuild(dir: &Path, cause: String) -> Result<(Db, String), OpenError> {
    let io = |error: io::Error| OpenError::from_io(dir, &error);
    if snapshots(dir).map_err(io)?.is_empty() {
        return Err(OpenError::Damaged { cause, copy: None });
    }
    let copy = copy_aside(dir).map_err(io)?;
    remove_snapshots(dir, |_| true).map_err(io)?;
    match try_open(dir) {
        Ok(db) => {
            let done = format!(
                "the store did not open ({cause}); it was rebuilt from its log; look whether anything is missing, and restore \
                 a backup if so; a copy of what was found is at {}",
                copy.display()
            );
            Ok((db, done))
        }
        Err(Failure::Damaged(cause)) => Err(OpenError::Damaged {
            cause,
            copy: Some(copy),
        }),
        Err(failure) => Err(failure.into_error(dir)),
    }
}

fn snapshots(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SNAPSHOT) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes the snapshots whose name is meant, and says how many.
fn remove_snapshots(dir: &Path, meant: impl Fn(&str) -> bool) -> io::Result<usize> {
    let mut removed = 0;
    for path in snapshots(dir)? {
        if path
            .file_name()
            .is_some_and(|name| meant(&name.to_string_lossy()))
        {
            files::remove_if_there(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn copy_aside(dir: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut target = dir.as_os_str().to_owned();
    target.push(format!(".damaged-{now}"));
    // A box without a clock may come to the same second twice.
    while Path::new(&target).try_exists()? {
        target.push("+");
    }
    let target = PathBuf::from(target);
    files::copy_dir(dir, &target).inspect_err(|_| {
        // Half a copy is no copy, and the disk may be full because of it.
        let _ = fs::remove_dir_all(&target);
    })?;
    Ok(target)
}
