//! The bounded pool for Argon2id: wrong guesses cannot buy the box.
//!
//! ```text
//!   familiar ──▶ [ lane, and one place for every person ] ──┐
//!                                                           ├──▶ at most `threads` hashes at once, one per person;
//!   strangers ─▶ [ lane ] ──────────────────────────────────┘    strangers on at most half of them
//! ```
//! *Familiar* is an attempt from a network where the person signed in within 30 days. Both lanes together hold 30 seconds
//! of work; who finds no room is told to come back later. A waiter whose client has gone is skipped.
//!
//! **A turn is a hash without the work**: where there is nothing to hash an attempt waits in the same lanes, holds its place
//! and its person as long, and occupies no thread. For this the pool keeps a *beat*: nothing leaves it sooner, neither a turn
//! nor a hash that was done before. How long hashes take is measured as they come, not at start, and the beat follows once a
//! minute and with room: if it followed each hash, many attempts with hashes would go faster than as many without.
//!
//! Hashes run on the runtime's blocking threads, which end when nothing is to be done.

use crate::auth::SlowHashWork;
use crate::secret::Secret;
use crate::store::records::{PersonId, SlowHashCost, Tag};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::hmac;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{Instant as Tick, sleep_until};
use zeroize::{Zeroize, Zeroizing};

/// A hash of literals that is slow on purpose.
pub trait SlowHash: Send + Sync + 'static {
    /// Hashes a literal. Blocks.
    ///
    /// # Errors
    /// [`HashError`].
    fn hash(&self, literal: &[u8], cost: &SlowHashCost) -> Result<Zeroizing<[u8; 32]>, HashError>;
}

/// Why a literal was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashError {
    /// The cost is below the least that is safe, or above what Argon2 knows.
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes.
        passes: u32,
    },
    /// There is no memory for it.
    Memory,
    /// It panicked.
    Panicked,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashError::Cost { memory_kib, passes } => write!(
                f,
                "a slow hash of {memory_kib} KiB and {passes} passes is not safe; at least {LEAST_MEMORY_KIB} KiB and \
                 {LEAST_PASSES} passes are"
            ),
            HashError::Memory => f.write_str("no memory for a slow hash"),
            HashError::Panicked => f.write_str("a slow hash panicked"),
        }
    }
}

impl std::error::Error for HashError {}

/// The least memory of a hash, KiB (OWASP's second recommendation for Argon2id: 19 MiB, 2 passes, 1 lane).
pub const LEAST_MEMORY_KIB: u32 = 19 * 1024;

/// The fewest passes of a hash.
pub const LEAST_PASSES: u32 = 2;

/// Argon2id (RFC 9106), version 0x13, one lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Argon2id;

impl SlowHash for Argon2id {
    fn hash(&self, literal: &[u8], cost: &SlowHashCost) -> Result<Zeroizing<[u8; 32]>, HashError> {
        if cost.memory_kib < LEAST_MEMORY_KIB || cost.passes < LEAST_PASSES {
            return Err(HashError::Cost {
                memory_kib: cost.memory_kib,
                passes: cost.passes,
            });
        }
        argon2id(literal, &cost.salt, cost.memory_kib, cost.passes)
    }
}

fn argon2id(
    literal: &[u8],
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Result<Zeroizing<[u8; 32]>, HashError> {
    let unknown_cost = |_| HashError::Cost { memory_kib, passes };
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(unknown_cost)?;
    let mut memory = Memory::of(params.block_count())?;
    let mut hash = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(literal, salt, hash.as_mut(), memory.0.as_mut_slice())
        .map_err(unknown_cost)?;
    Ok(hash)
}

/// The hash's working memory: derived from the literal, hence wiped.
struct Memory(Vec<Block>);

impl Memory {
    fn of(blocks: usize) -> Result<Memory, HashError> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).map_err(|_| HashError::Memory)?;
        memory.resize(blocks, Block::default());
        Ok(Memory(memory))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for block in &mut self.0 {
            block.zeroize();
        }
    }
}

/// How much the pool may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Hashes at once.
    pub threads: usize,
    /// Work that may wait.
    pub longest_queue: Duration,
    /// What one hash is taken to last until some have been measured.
    pub first_guess: Duration,
}

impl PoolSettings {
    /// One hash per core, but at most what half of the free memory holds. At least two where memory allows it, so that
    /// strangers never hold all of them.
    pub fn of_this_machine(memory_kib: u32) -> PoolSettings {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let fit = free_memory_kib().map_or(1, |free| free / 2 / u64::from(memory_kib.max(1)));
        PoolSettings {
            threads: cores
                .max(2)
                .min(usize::try_from(fit).unwrap_or(usize::MAX))
                .max(1),
            longest_queue: Duration::from_secs(30),
            first_guess: Duration::from_millis(120),
        }
    }
}

/// Memory that is free for us: what the kernel calls available, or what a container's limit leaves of it.
fn free_memory_kib() -> Option<u64> {
    let available = available_kib(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let read = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let limit = read("memory.max").map(|max| max.saturating_sub(read("memory.current").unwrap_or(0)) / 1024);
    Some(limit.map_or(available, |limit| limit.min(available)))
}

fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The pool. Clones share it.
#[derive(Clone)]
pub(super) struct SlowHashPool(Arc<Shared>);

struct Shared {
    settings: PoolSettings,
    hash: Arc<dyn SlowHash>,
    tag_key: hmac::Key,
    queue: Mutex<Queue>,
}

/// Why there is no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTag {
    /// No room.
    Busy,
    /// The hash failed.
    Failed(HashError),
}

impl SlowHashPool {
    pub(super) fn new(settings: PoolSettings, hash: Arc<dyn SlowHash>, tag_key: hmac::Key) -> SlowHashPool {
        let queue = Queue {
            beat: Beat::new(settings.first_guess),
            ..Queue::default()
        };
        SlowHashPool(Arc::new(Shared {
            settings,
            hash,
            tag_key,
            queue: Mutex::new(queue),
        }))
    }

    /// HMAC(device-tag key, slow hash of the literal). Dropping the future gives the place in the queue back.
    pub(super) async fn tag(&self, literal: Secret<Vec<u8>>, work: SlowHashWork) -> Result<Tag, NoTag> {
        let (reply, tag) = oneshot::channel();
        let place = Place {
            person: work.person,
            familiar: work.familiar,
        };
        let cost = work.cost;
        let work = Work::Hash { literal, cost, reply };
        self.0.push(Job { place, work })?;
        tag.await.map_err(|_| NoTag::Busy)?.map_err(NoTag::Failed)
    }

    /// Waits in a lane until a hash would run, and as long as it would run, and runs none: what an attempt does whose delay
    /// must look as if.
    pub(super) async fn turn(&self, person: PersonId, familiar: bool) -> Result<(), NoTag> {
        let (reply, turn) = oneshot::channel();
        let place = Place { person, familiar };
        let work = Work::Turn { reply };
        self.0.push(Job { place, work })?;
        turn.await.map_err(|_| NoTag::Busy)
    }
}

impl Shared {
    fn push(self: &Arc<Self>, job: Job) -> Result<(), NoTag> {
        self.queue().push(job, &self.settings)?;
        self.start();
        Ok(())
    }

    /// Starts what may run now: at most as many tasks as there are threads.
    fn start(self: &Arc<Self>) {
        loop {
            let Some((job, beat)) = self.queue().next(&self.settings) else {
                return;
            };
            tokio::spawn(self.clone().run(job, Tick::now() + beat));
        }
    }

    /// Holds the job's place until `ends`, or until its work is done where that is later.
    async fn run(self: Arc<Self>, job: Job, ends: Tick) {
        match job.work {
            Work::Turn { reply } => {
                sleep_until(ends).await;
                self.queue().finished(job.place);
                // The waiter may have gone meanwhile.
                let _ = reply.send(());
            }
            Work::Hash { literal, cost, reply } => {
                let shared = self.clone();
                let hashed = tokio::task::spawn_blocking(move || shared.hash(literal, &cost)).await;
                sleep_until(ends).await;
                self.queue().finished(job.place);
                let _ = reply.send(hashed.unwrap_or(Err(HashError::Panicked)));
            }
        }
        self.start();
    }

    fn hash(&self, literal: Secret<Vec<u8>>, cost: &SlowHashCost) -> Result<Tag, HashError> {
        let started = Instant::now();
        let hashed = catch_unwind(AssertUnwindSafe(|| self.hash.hash(literal.expose(), cost)));
        let tag = hashed
            .unwrap_or(Err(HashError::Panicked))
            .map(|hash| self.tag_of(&hash));
        if tag.is_ok() {
            self.queue().beat.measured(started.elapsed(), Tick::now());
        }
        tag
    }

    fn tag_of(&self, hash: &[u8; 32]) -> Tag {
        let tag = hmac::sign(&self.tag_key, hash);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Tag(bytes)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits in a lane.
struct Job {
    place: Place,
    work: Work,
}

/// What a job holds while it runs.
#[derive(Clone, Copy)]
struct Place {
    person: PersonId,
    familiar: bool,
}

enum Work {
    Hash {
        literal: Secret<Vec<u8>>,
        cost: SlowHashCost,
        reply: oneshot::Sender<Result<Tag, HashError>>,
    },
    Turn {
        reply: oneshot::Sender<()>,
    },
}

impl Job {
    /// Whether somebody still waits for it.
    fn wanted(&self) -> bool {
        match &self.work {
            Work::Hash { reply, .. } => !reply.is_closed(),
            Work::Turn { reply } => !reply.is_closed(),
        }
    }
}

/// How long a place is held at least.
#[derive(Default)]
struct Beat {
    lasts: Duration,
    /// What a hash takes on average, once some were made.
    average: Option<Duration>,
    /// When `lasts` was last set from it.
    set: Option<Tick>,
}

impl Beat {
    fn new(first_guess: Duration) -> Beat {
        Beat {
            lasts: first_guess,
            ..Beat::default()
        }
    }

    /// A hash took so long. The first one only starts the minute, unless the guess was too short.
    fn measured(&mut self, took: Duration, now: Tick) {
        let average = self.average.map_or(took, |before| (before * 7 + took) / 8);
        self.average = Some(average);
        match self.set {
            Some(set) if now.duration_since(set) < BEAT_HOLDS => return,
            Some(_) => self.lasts = with_room(average),
            None => self.lasts = self.lasts.max(with_room(took)),
        }
        self.set = Some(now);
    }
}

/// Most hashes take less than a quarter more than the average.
fn with_room(average: Duration) -> Duration {
    average * 5 / 4
}

/// Twice the longest queue: attempts that wait at the same time are measured with one beat, or nearly so.
const BEAT_HOLDS: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Queue {
    familiar: VecDeque<Job>,
    strangers: VecDeque<Job>,
    /// People whose hash, or turn, is running.
    running: HashSet<PersonId>,
    strangers_running: usize,
    /// The lanes take turns where both may go.
    stranger_was_last: bool,
    beat: Beat,
}

/// Most that wait in both lanes, places of familiar people apart: with literals of at most 8 KiB, 16 MiB.
const MOST_WAITING: usize = 2048;

impl Queue {
    fn push(&mut self, job: Job, settings: &PoolSettings) -> Result<(), NoTag> {
        let room = self.room_of_a_lane(settings);
        let Place { person, familiar } = job.place;
        let lane = if familiar {
            &mut self.familiar
        } else {
            &mut self.strangers
        };
        if lane.len() >= room {
            lane.retain(Job::wanted);
        }
        let own_place = familiar && !lane.iter().any(|waiting| waiting.place.person == person);
        if lane.len() >= room && !own_place {
            return Err(NoTag::Busy);
        }
        lane.push_back(job);
        Ok(())
    }

    /// Half of the jobs that are done within the longest wait.
    fn room_of_a_lane(&self, settings: &PoolSettings) -> usize {
        let one = self.beat.lasts.as_micros().max(1);
        let at_once = u128::try_from(settings.threads).unwrap_or(u128::MAX);
        let jobs = settings.longest_queue.as_micros().saturating_mul(at_once) / one;
        usize::try_from(jobs).unwrap_or(usize::MAX).clamp(2, MOST_WAITING) / 2
    }

    /// The job whose turn it is, marked as running, and how long at least.
    fn next(&mut self, settings: &PoolSettings) -> Option<(Job, Duration)> {
        if self.running.len() >= settings.threads {
            return None;
        }
        let strangers_may = self.strangers_running < (settings.threads / 2).max(1);
        let familiar = first(&mut self.familiar, &self.running);
        let stranger = strangers_may
            .then(|| first(&mut self.strangers, &self.running))
            .flatten();
        let (job, is_stranger) = match (familiar, stranger) {
            (Some(index), other) if other.is_none() || self.stranger_was_last => {
                (self.familiar.remove(index)?, false)
            }
            (_, Some(index)) => (self.strangers.remove(index)?, true),
            (_, None) => return None,
        };
        self.stranger_was_last = is_stranger;
        self.strangers_running += usize::from(is_stranger);
        self.running.insert(job.place.person);
        Some((job, self.beat.lasts))
    }

    fn finished(&mut self, place: Place) {
        self.running.remove(&place.person);
        self.strangers_running -= usize::from(!place.familiar);
    }
}

/// The first job of a lane whose person has none running; those whose client has gone are thrown out on the way.
fn first(lane: &mut VecDeque<Job>, running: &HashSet<PersonId>) -> Option<usize> {
    lane.retain(Job::wanted);
    lane.iter().position(|job| !running.contains(&job.place.person))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    /// A hash that waits for a word, and writes down whose literals it saw.
    struct Scripted {
        go: Mutex<mpsc::Receiver<()>>,
        seen: Mutex<Vec<String>>,
        at_once: AtomicUsize,
        most_at_once: AtomicUsize,
    }

    impl SlowHash for Scripted {
        fn hash(&self, literal: &[u8], _: &SlowHashCost) -> Result<Zeroizing<[u8; 32]>, HashError> {
            let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            self.seen
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(literal).into_owned());
            let _ = self.go.lock().unwrap().recv();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            assert!(literal != b"panic");
            Ok(Zeroizing::new([literal[0]; 32]))
        }
    }

    struct Bench {
        pool: SlowHashPool,
        hash: Arc<Scripted>,
        go: mpsc::Sender<()>,
    }

    impl Bench {
        /// Room for eight in each lane of two threads.
        fn new(threads: usize) -> Bench {
            let (go, gate) = mpsc::channel();
            let hash = Arc::new(Scripted {
                go: Mutex::new(gate),
                seen: Mutex::default(),
                at_once: AtomicUsize::new(0),
                most_at_once: AtomicUsize::new(0),
            });
            let settings = PoolSettings {
                threads,
                longest_queue: Duration::from_secs(8),
                first_guess: Duration::from_secs(1),
            };
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
            Bench {
                pool: SlowHashPool::new(settings, hash.clone(), key),
                hash,
                go,
            }
        }

        fn ask(
            &self,
            person: u8,
            familiar: bool,
            literal: &str,
        ) -> tokio::task::JoinHandle<Result<Tag, NoTag>> {
            let pool = self.pool.clone();
            let literal = Secret::copy(literal.as_bytes());
            let work = SlowHashWork {
                cost: SlowHashCost {
                    salt: [0; 16],
                    memory_kib: LEAST_MEMORY_KIB,
                    passes: LEAST_PASSES,
                },
                person: PersonId([person; 8]),
                familiar,
            };
            tokio::spawn(async move { pool.tag(literal, work).await })
        }

        /// Lets tasks run until they wait for hashes.
        async fn settle(&self) {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }

        async fn seen(&self, count: usize) -> Vec<String> {
            loop {
                let seen = self.hash.seen.lock().unwrap().clone();
                if seen.len() >= count {
                    return seen;
                }
                // Places are held in virtual time, which stands still while a hash waits for its word.
                tokio::time::advance(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_hash_per_person_at_a_time() {
        let bench = Bench::new(4);
        let asked = [
            bench.ask(1, true, "a"),
            bench.ask(1, true, "b"),
            bench.ask(1, true, "c"),
        ];
        for _ in 0..3 {
            bench.go.send(()).unwrap();
        }
        for (asked, byte) in asked.into_iter().zip(*b"abc") {
            let tag = asked.await.unwrap().unwrap();
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
            assert!(tag.same(&Tag(hmac::sign(&key, &[byte; 32]).as_ref().try_into().unwrap())));
        }
        assert_eq!(bench.hash.most_at_once.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_is_busy_for_strangers_only() {
        let bench = Bench::new(2);
        let strangers: Vec<_> = (0..9).map(|person| bench.ask(person, false, "s")).collect();
        bench.settle().await;
        assert_eq!(bench.seen(1).await.len(), 1, "strangers hold one of two threads");
        assert_eq!(
            bench.pool.turn(PersonId([200; 8]), false).await,
            Err(NoTag::Busy),
            "who only looks like one waits likewise"
        );
        assert_eq!(bench.ask(100, false, "t").await.unwrap(), Err(NoTag::Busy));
        let friend = bench.ask(101, true, "friend");
        assert_eq!(
            bench.seen(2).await[1],
            "friend",
            "the other thread is free for her"
        );
        for _ in 0..strangers.len() + 1 {
            bench.go.send(()).unwrap();
        }
        for asked in strangers.into_iter().chain([friend]) {
            asked.await.unwrap().unwrap();
        }
        assert_eq!(bench.hash.most_at_once.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_familiar_person_has_a_place_even_in_a_full_lane() {
        let bench = Bench::new(2);
        // Two run, eight wait; one of them is another literal of person 3.
        let asked: Vec<_> = (0..10)
            .map(|person| bench.ask(person.min(8), true, "f"))
            .collect();
        bench.settle().await;
        bench.seen(2).await;
        assert_eq!(
            bench.ask(8, true, "again").await.unwrap(),
            Err(NoTag::Busy),
            "she waits already"
        );
        let own = bench.ask(50, true, "own place");
        bench.settle().await;
        assert!(!own.is_finished());
        drop(bench.go);
        for asked in asked.into_iter().chain([own]) {
            asked.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lanes_take_turns_on_a_single_thread() {
        let bench = Bench::new(1);
        let first = bench.ask(0, false, "s0");
        bench.seen(1).await;
        let mut asked = vec![first];
        for person in 1..4 {
            asked.push(bench.ask(person, false, &format!("s{person}")));
            asked.push(bench.ask(person + 10, true, &format!("f{person}")));
        }
        bench.settle().await;
        drop(bench.go);
        for asked in asked {
            asked.await.unwrap().unwrap();
        }
        assert_eq!(
            *bench.hash.seen.lock().unwrap(),
            ["s0", "f1", "s1", "f2", "s2", "f3", "s3"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_gone_is_never_hashed_and_leaves_room() {
        let bench = Bench::new(2);
        let running = bench.ask(0, false, "running");
        bench.seen(1).await;
        let gone: Vec<_> = (1..9).map(|person| bench.ask(person, false, "gone")).collect();
        bench.settle().await;
        assert_eq!(bench.ask(20, false, "late").await.unwrap(), Err(NoTag::Busy));
        for gone in gone {
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
        }
        let late = bench.ask(20, false, "late");
        bench.settle().await;
        drop(bench.go);
        running.await.unwrap().unwrap();
        late.await.unwrap().unwrap();
        assert_eq!(*bench.hash.seen.lock().unwrap(), ["running", "late"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_when_a_hash_would_run_and_lasts_as_long() {
        let bench = Bench::new(2);
        let turn = |person: u8, familiar| {
            let pool = bench.pool.clone();
            tokio::spawn(async move {
                let turn = pool.turn(PersonId([person; 8]), familiar).await;
                turn.map(|()| Tick::now())
            })
        };
        let start = Tick::now();
        let running = bench.ask(1, false, "s1");
        bench.settle().await;
        let same_person = turn(1, true);
        let behind = turn(2, false);
        bench.seen(1).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        bench.settle().await;
        assert!(!same_person.is_finished(), "one at a time per person");
        assert!(!behind.is_finished(), "one stranger at a time");
        let friend = turn(3, true);
        bench.settle().await;
        let other_friend = turn(4, true);
        bench.settle().await;
        bench.go.send(()).unwrap();
        running.await.unwrap().unwrap();
        let mut ends = Vec::new();
        for turn in [friend, same_person, behind, other_friend] {
            ends.push(turn.await.unwrap().unwrap().duration_since(start).as_secs());
        }
        // Two places, each held for a second; the lanes take turns.
        let first = ends[0];
        ends.sort_unstable();
        assert_eq!(ends, [first, first, first + 1, first + 1]);
        assert_eq!(bench.hash.seen.lock().unwrap().len(), 1, "turns hash nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_turns_as_hashes_of_one_person_end_at_the_same_instants() {
        let mut ends = Vec::new();
        for hashes in [true, false] {
            let bench = Bench::new(4);
            let start = Tick::now();
            let tasks: Vec<_> = (0..8)
                .map(|number| {
                    let pool = bench.pool.clone();
                    let ask = hashes.then(|| bench.ask(1, false, &format!("{number}")));
                    tokio::spawn(async move {
                        match ask {
                            Some(ask) => drop(ask.await.unwrap().unwrap()),
                            None => pool.turn(PersonId([1; 8]), false).await.unwrap(),
                        }
                        Tick::now().duration_since(start).as_millis()
                    })
                })
                .collect();
            for _ in 0..8 {
                bench.go.send(()).unwrap();
            }
            let mut at = Vec::new();
            for task in tasks {
                at.push(task.await.unwrap());
            }
            ends.push(at);
        }
        assert_eq!(ends[0], ends[1]);
        // A timer may be a millisecond late.
        for (place, at) in ends[1].iter().enumerate() {
            assert!(at.abs_diff(1000 * (place as u128 + 1)) < 20, "{:?}", ends[1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_beat_follows_the_hashes_once_a_minute() {
        let ms = Duration::from_millis;
        let start = Tick::now();
        let mut beat = Beat::new(ms(120));
        // Seconds since the start, what a hash took, the beat after it.
        for (at, took, lasts) in [
            (0, 60, 120),
            (1, 10, 120),
            (59, 60, 120),
            (60, 60, 69),
            (61, 200, 69),
            (121, 200, 111),
        ] {
            beat.measured(ms(took), start + Duration::from_secs(at));
            assert_eq!(beat.lasts.as_millis(), lasts, "after {at} s");
        }
        let mut slow = Beat::new(ms(120));
        slow.measured(ms(400), start);
        assert_eq!(slow.lasts, ms(500), "a guess that is too short is mended at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_costs_its_own_attempt_only() {
        let bench = Bench::new(1);
        drop(bench.go.clone());
        let panics = bench.ask(1, true, "panic");
        bench.go.send(()).unwrap();
        assert_eq!(panics.await.unwrap(), Err(NoTag::Failed(HashError::Panicked)));
        let next = bench.ask(1, true, "next");
        bench.go.send(()).unwrap();
        next.await.unwrap().unwrap();
    }

    /// The vector is from the reference implementation's tests (2 passes, 2^16 KiB, 1 lane, version 0x13).
    #[test]
    fn hashes_with_argon2id_and_refuses_cheap_costs() {
        let known = argon2id(b"password", b"somesalt", 1 << 16, 2).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(known.as_ref()),
            "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"
        );
        let cost = |memory_kib, passes| SlowHashCost {
            salt: [1; 16],
            memory_kib,
            passes,
        };
        assert!(
            Argon2id
                .hash(b"password", &cost(LEAST_MEMORY_KIB, LEAST_PASSES))
                .is_ok()
        );
        let with_salt = |salt| {
            let cost = SlowHashCost {
                salt: [salt; 16],
                ..cost(LEAST_MEMORY_KIB, LEAST_PASSES)
            };
            Argon2id.hash(b"password", &cost).unwrap()
        };
        assert_ne!(
            with_salt(1),
            with_salt(2),
            "a tag says nothing about another person"
        );
        for (memory_kib, passes) in [(LEAST_MEMORY_KIB - 1, 2), (LEAST_MEMORY_KIB, 1), (u32::MAX, 2)] {
            let refused = Argon2id.hash(b"password", &cost(memory_kib, passes)).unwrap_err();
            assert!(
                matches!(refused, HashError::Cost { .. } | HashError::Memory),
                "{refused}"
            );
        }
    }

    #[test]
    fn reads_what_the_kernel_says_about_memory() {
        let meminfo = "MemTotal:       24683520 kB\nMemFree:         1000 kB\nMemAvailable:     2048 kB\n";
        assert_eq!(available_kib(meminfo), Some(2048));
        assert_eq!(available_kib("MemTotal: 1 kB\n"), None);
        assert_eq!(
            PoolSettings::of_this_machine(u32::MAX).threads.max(2),
            2,
            "at most half of free memory"
        );
    }
}
