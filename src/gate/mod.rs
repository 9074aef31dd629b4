//! The only room that carries out what the policy needs; one [`Gate`] for all fronts.
//!
//! ```text
//!   front ── Attempt ──▶ Gate::sign_in ──▶ SignIn::begin ─┐
//!                            ▲                            ▼
//!                            │ resume(Answer)           Need: Load ──▶ cache, else store
//!                            │                                SlowHash ──▶ flight, then slow_hash
//!                            └─────────────────────────────── Claim, Commit ──▶ store
//!                                                             Prove ──▶ the front's Prover
//!   store's watch ──▶ cache, memory, sessions
//! ```
//! Locks: the memory's, the cache's, the flights' and the registry's are each held for a moment, none across an await,
//! none while hashing, none while another is held.
//!
//! A `sign_in` future that is dropped, wherever it is, leaves nothing behind: its lead goes to the next follower, its
//! place in the queue is free, and if the upstream was being asked, that counts as one guess.

mod cache;
pub mod clock;
mod flight;
mod journal;
mod lazies;
mod outages;
pub mod sessions;
pub mod slow_hash;
mod standing;
mod sweep;
mod watch;

use crate::auth::{
    AccessSettings, Admission, Answer, Attempt, Charge, Memory, Need, Next, Now, Proof, SignIn, Trial,
    Verdict, World,
};
use crate::reason::{Protocol, Reason, Refusal};
use crate::report::sign_in::clean_hint;
use crate::store::records::{Batch, Durability, Key, PersonId, Record, SignInEntry, Value};
use crate::store::seal::Label;
use crate::store::{BoxFuture, Store, StoreError};
use arc_swap::ArcSwap;
use cache::Cache;
use clock::{Clock, ClockState, Watched};
use flight::{Flights, Joined, Lead, Told};
use journal::Journal;
use lazies::Lazies;
use outages::Outages;
use ring::rand::{SecureRandom, SystemRandom};
use sessions::{Facts, SessionHandle, Sessions};
use slow_hash::{NoTag, PoolSettings, SlowHash, SlowHashPool};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Asks the upstream; what a front brings along.
///
/// For mail the connection that a prover has signed in becomes the session; the prover keeps it until the verdict.
pub trait Prover: Send {
    /// Signs in upstream with exactly the trial's password, within a deadline of its own.
    fn prove<'a>(&'a mut self, trial: &'a Trial) -> BoxFuture<'a, Proof>;
}

/// How an attempt ended.
#[derive(Debug)]
pub enum SignedIn {
    /// Let in. The session is on the registry from now on, and may already have been told to end.
    Admitted {
        /// Who, as what.
        admission: Admission,
        /// To be kept as long as the session lives.
        session: SessionHandle,
    },
    /// Not let in. What the prover has signed in is closed unheard.
    Refused {
        /// Why, and what the client may hear of it.
        refusal: Refusal,
        /// When the answer leaves, the same for every reason.
        leaves_at: Instant,
    },
}

/// What a gate is made of.
pub struct Parts {
    /// Where records are.
    pub store: Store,
    /// What the administrator has set.
    pub settings: AccessSettings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The hash of literals.
    pub slow_hash: Arc<dyn SlowHash>,
    /// How many of them at once.
    pub pool: PoolSettings,
}

/// Decides who gets in. Clones share everything; the last one's drop ends its tasks.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    store: Store,
    settings: ArcSwap<AccessSettings>,
    reloaded: Arc<Notify>,
    clock: Arc<Watched>,
    random: SystemRandom,
    memory: Mutex<Memory>,
    cache: Arc<Cache>,
    lazies: Arc<Lazies>,
    journal: Journal,
    flights: Arc<Flights>,
    pool: SlowHashPool,
    outages: Outages,
    sessions: Sessions,
    /// Since when the store cannot be read.
    silent_since: Mutex<Option<Instant>>,
    closing: AtomicBool,
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no random bytes")
    }
}

impl std::error::Error for NoRandomness {}

impl Gate {
    /// Starts a gate and its tasks. Must be called inside a runtime; reads nothing from the store.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn start(parts: Parts) -> Result<Gate, NoRandomness> {
        let Parts {
            store,
            settings,
            clock,
            slow_hash,
            pool,
        } = parts;
        let clock = Arc::new(Watched::new(clock));
        let random = SystemRandom::new();
        let mut memory_key = [0; 32];
        let mut first_number = [0; 4];
        random.fill(&mut memory_key).map_err(|_| NoRandomness)?;
        random.fill(&mut first_number).map_err(|_| NoRandomness)?;
        // Listening begins before the first read, so that no change falls between.
        let changes = store.watch();
        let cache = Arc::new(Cache::new());
        let lazies = Arc::new(Lazies::start(store.clone(), cache.clone()));
        let inner = Arc::new(Inner {
            settings: ArcSwap::from_pointee(settings),
            reloaded: Arc::default(),
            clock,
            random,
            memory: Mutex::new(Memory::new(memory_key)),
            cache,
            journal: Journal::start(&store, lazies.clone(), u32::from_be_bytes(first_number)),
            lazies,
            flights: Arc::default(),
            pool: SlowHashPool::new(pool, slow_hash, store.box_key().hmac_key(Label::DEVICE_TAG)),
            outages: Outages::default(),
            sessions: Sessions::default(),
            silent_since: Mutex::default(),
            closing: AtomicBool::new(false),
            store,
        });
        tokio::spawn(watch::follow(
            Arc::downgrade(&inner),
            changes,
            inner.reloaded.clone(),
        ));
        let sweep = sweep::run(inner.store.clone(), inner.clock.clone(), sweep::PACE);
        tokio::spawn(inner.journal.until_its_end(sweep));
        Ok(Gate(inner))
    }

    /// Decides an attempt. May take as long as the upstream does; dropping the future abandons it.
    pub async fn sign_in(&self, attempt: Attempt, prover: &mut dyn Prover) -> SignedIn {
        let mut run = Run {
            gate: &self.0,
            attempt: &attempt,
            who: None,
            route: None,
            place: Place::NotTaken,
        };
        let ending = run.decide(prover).await;
        run.end(ending).await
    }

    /// Notes that a password came in the clear and was refused unseen (P18): nobody knows whose it is.
    pub fn password_in_clear(&self, protocol: Protocol, listener: &str, address: IpAddr) {
        let entry = SignInEntry {
            at: self.0.now().unix,
            protocol,
            address: address.to_canonical(),
            person: None,
            login: "unseen".to_owned(),
            device: None,
            reason: Reason::PlaintextPassword,
            enforcing_would: None,
            client_hint: None,
        };
        self.0.journal.write(entry, listener, self.0.clock.wall(), false);
    }

    /// What is to be said about the wall clock.
    pub fn clock(&self) -> ClockState {
        self.0.clock.state()
    }

    /// The live sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<AccessSettings> {
        self.0.settings.load_full()
    }

    /// Puts new settings in force: for attempts from now on, and for sessions that they would refuse.
    pub fn reload(&self, settings: AccessSettings) {
        self.0.settings.store(Arc::new(settings));
        self.0.reloaded.notify_one();
    }

    /// From now on every attempt is refused with [`Reason::ShuttingDown`].
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }

    /// Waits until the store shows everything that was decided so far; at most [`SETTLING`].
    pub async fn settle(&self) {
        // Whoever asks about a gateway whose disk hangs wants an answer, or to cut a session, which needs no disk.
        let _ = tokio::time::timeout(SETTLING, self.0.lazies.flush()).await;
    }

    /// Brings everything that was decided to the disk: the last step before the end.
    ///
    /// # Errors
    /// [`StoreError`] of the flush.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.0.lazies.flush().await;
        self.0.store.flush().await
    }
}

/// Many times what it takes while the store keeps up.
const SETTLING: Duration = Duration::from_secs(1);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({} sessions)", self.0.sessions.count())
    }
}

/// One attempt on its way.
struct Run<'a> {
    gate: &'a Inner,
    attempt: &'a Attempt,
    /// Whose login it is, and the login under which she was found.
    who: Option<(PersonId, String)>,
    route: Option<String>,
    place: Place,
}

/// Where an attempt stands among others with the same literal.
enum Place {
    /// It has not come to its first slow hash.
    NotTaken,
    /// Others may be waiting for it.
    Leads(Lead),
    /// It has waited for another that was let in, and waits for nobody again.
    Followed,
}

/// How the decision fell.
enum Ending {
    /// By the policy.
    Decided(Verdict, Batch),
    /// As the leader's did.
    Shared(Refusal),
}

/// What a slow hash has to wait for.
enum Turn {
    Hash,
    StartOver,
    Share(Refusal),
    Busy,
}

impl Run<'_> {
    async fn decide(&mut self, prover: &mut dyn Prover) -> Ending {
        if self.gate.closing.load(Ordering::Relaxed) {
            return Ending::Shared(Refusal::unproven(Reason::ShuttingDown));
        }
        'start: loop {
            let mut next = self
                .gate
                .with_world(|world| SignIn::begin(self.attempt.clone(), world));
            loop {
                let (sign_in, need) = match next {
                    Next::Done(verdict, batch) => return Ending::Decided(verdict, batch),
                    Next::Need(sign_in, need) => (sign_in, need),
                };
                self.route = sign_in.route().map(str::to_owned);
                let answer = match need {
                    Need::Load(keys) => self.load(keys).await,
                    Need::SlowHash(work) => match self.turn(work.person).await {
                        Turn::StartOver => continue 'start,
                        Turn::Share(refusal) => return Ending::Shared(refusal),
                        Turn::Busy => Answer::Busy,
                        Turn::Hash => {
                            let literal = self.attempt.literal.clone();
                            answer_of(self.gate.pool.tag(literal, work).await.map(Answer::Hashed))
                        }
                    },
                    Need::Queue { person, familiar } => match self.turn(person).await {
                        Turn::StartOver => continue 'start,
                        Turn::Share(refusal) => return Ending::Shared(refusal),
                        Turn::Busy => Answer::Busy,
                        Turn::Hash => {
                            let turn = self.gate.pool.turn(person, familiar).await;
                            answer_of(turn.map(|()| Answer::Queued))
                        }
                    },
                    Need::Claim(batch) => self.gate.commit(batch, Durability::Synced).await,
                    Need::Commit(batch, durability) => self.gate.commit(batch, durability).await,
                    Need::Prove(trial) => Answer::Proved(self.prove(&sign_in, &trial, prover).await),
                };
                next = self.gate.with_world(|world| sign_in.resume(answer, world));
            }
        }
    }

    async fn load(&mut self, keys: Vec<Key>) -> Answer {
        let logins: Vec<(usize, String)> = keys
            .iter()
            .enumerate()
            .filter_map(|(index, key)| match key {
                Key::Login(login) => Some((index, login.clone())),
                _ => None,
            })
            .collect();
        match self.gate.load(keys).await {
            Ok(records) => {
                for (index, login) in logins {
                    if let Some(Some(Record {
                        value: Value::Login(person),
                        ..
                    })) = records.get(index)
                    {
                        self.who = Some((*person, login));
                    }
                }
                Answer::Loaded(records)
            }
            Err(_) => Answer::StoreFailed,
        }
    }

    /// Waits until this attempt may hash, or stand in the queue as if: only one at a time does of those with the same literal.
    async fn turn(&mut self, person: PersonId) -> Turn {
        if !matches!(self.place, Place::NotTaken) {
            return Turn::Hash;
        }
        let route = self.route.as_deref().unwrap_or_default();
        let key = self
            .gate
            .memory()
            .flight_key(person, self.attempt.literal.expose(), route);
        let told = match self.gate.flights.join(key) {
            Joined::Lead(lead) => {
                self.place = Place::Leads(lead);
                return Turn::Hash;
            }
            Joined::Full => return Turn::Busy,
            Joined::Follow(told) => told.await,
        };
        match told {
            Ok(Told::Admitted) => {
                self.place = Place::Followed;
                Turn::StartOver
            }
            Ok(Told::Lead(lead)) => {
                self.place = Place::Leads(lead);
                Turn::StartOver
            }
            Ok(Told::Refused(refusal)) => Turn::Share(refusal),
            // A lead is handed over before it goes, so that this is never seen; waiting on would be worse.
            Err(_) => Turn::Busy,
        }
    }

    /// Asks the upstream. Dropped meanwhile, it is counted as a guess.
    async fn prove(&self, sign_in: &SignIn, trial: &Trial, prover: &mut dyn Prover) -> Proof {
        let mut guess = Guess {
            gate: self.gate,
            charge: sign_in.charge(),
        };
        let proof = prover.prove(trial).await;
        guess.charge = None;
        let now = self.gate.clock.mono();
        match proof {
            Proof::Unavailable(_) => self.gate.outages.silent(&trial.route, now),
            Proof::Accepted | Proof::Rejected(_) => self.gate.outages.spoke(&trial.route),
        }
        if let Proof::Rejected(_) = proof {
            let took = now.saturating_duration_since(self.attempt.arrived);
            self.gate.memory().upstream_refused(&trial.route, took, now);
        }
        proof
    }

    async fn end(mut self, ending: Ending) -> SignedIn {
        let (verdict, batch, is_echo) = match ending {
            Ending::Decided(verdict, batch) => (verdict, batch, false),
            Ending::Shared(refusal) => (Verdict::Refuse(refusal), Batch::default(), true),
        };
        let outcome = match verdict {
            Verdict::Admit(admission) => self.admit(admission).await,
            Verdict::Refuse(refusal) => Err(self.as_others_hear(refusal)),
        };
        self.gate.lazies.write(batch);
        self.note(&outcome, is_echo);
        let lead = match std::mem::replace(&mut self.place, Place::Followed) {
            Place::Leads(lead) => Some(lead),
            Place::NotTaken | Place::Followed => None,
        };
        match outcome {
            Ok((admission, session)) => {
                lead.into_iter().for_each(Lead::admitted);
                SignedIn::Admitted { admission, session }
            }
            Err(refusal) => {
                lead.into_iter().for_each(|lead| lead.refused(refusal));
                SignedIn::Refused {
                    refusal,
                    leaves_at: self.gate.leaves_at(self.attempt.arrived, self.route.as_deref()),
                }
            }
        }
    }

    /// A refusal while the upstream is out sounds like the outage.
    fn as_others_hear(&self, refusal: Refusal) -> Refusal {
        let now = self.gate.clock.mono();
        let upstream_out = self
            .route
            .as_deref()
            .is_some_and(|route| self.gate.outages.is_out(route, now));
        Refusal {
            upstream_out,
            ..refusal
        }
    }

    /// Puts the session on the registry, then judges it once more; `watch` tells why in this order.
    async fn admit(&self, admission: Admission) -> Result<(Admission, SessionHandle), Refusal> {
        let session = self.gate.sessions.register(Facts {
            admission: admission.clone(),
            protocol: self.attempt.protocol,
            address: self.attempt.address,
            listener: self.attempt.listener.clone(),
            since: self.gate.now().unix,
        });
        let (person, devices) = match admission.person {
            Some(id) => self
                .gate
                .person(id)
                .await
                .map_err(|_| Refusal::proven(Reason::StoreUnavailable))?,
            None => (None, None),
        };
        let (settings, now) = (self.gate.settings.load(), self.gate.now());
        standing::check(session.facts(), &settings, person.as_ref(), devices.as_ref(), now)
            .map_err(Refusal::proven)?;
        Ok((admission, session))
    }

    /// Writes the sign-in log.
    fn note(&self, outcome: &Result<(Admission, SessionHandle), Refusal>, is_echo: bool) {
        let admission = outcome.as_ref().ok().map(|(admission, _)| admission);
        let reason = match outcome {
            Ok((admission, _)) => admission.reason,
            Err(refusal) => refusal.reason,
        };
        let login = match (admission, &self.who) {
            (Some(admission), _) => admission.account.to_string(),
            (None, Some((_, login))) => login.clone(),
            (None, None) => self.gate.journal.veiled(self.attempt.login.expose()),
        };
        let entry = SignInEntry {
            at: self.gate.now().unix,
            protocol: self.attempt.protocol,
            address: self.attempt.address,
            person: self.who.as_ref().map(|(person, _)| *person),
            login,
            device: admission.and_then(|admission| admission.device),
            reason,
            enforcing_would: admission.and_then(|admission| admission.enforcing_would),
            client_hint: self.attempt.client_hint.as_deref().map(clean_hint),
        };
        let wall = self.gate.clock.wall();
        self.gate
            .journal
            .write(entry, &self.attempt.listener, wall, is_echo);
    }
}

fn answer_of(tag: Result<Answer, NoTag>) -> Answer {
    tag.unwrap_or_else(|none| {
        if let NoTag::Failed(error) = none {
            log::error!(event = "slow-hash-failed", error:% = error; "a literal could not be hashed");
        }
        Answer::Busy
    })
}

/// Counts a guess when it is dropped with its charge.
struct Guess<'a> {
    gate: &'a Inner,
    charge: Option<Charge>,
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if let Some(charge) = self.charge.take() {
            let (settings, now) = (self.gate.settings.load(), self.gate.now());
            self.gate.memory().count_abandoned(charge, &settings, now);
        }
    }
}

/// How long known devices go on while the store cannot be read.
const SILENCE: Duration = Duration::from_secs(15 * 60);

impl Inner {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic while holding it ends one connection; what it left half done are counters.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_world<T>(&self, decide: impl FnOnce(&mut World<'_>) -> T) -> T {
        let (settings, now) = (self.settings.load(), self.now());
        let mut random = |bytes: &mut [u8]| {
            // It gave some at start. Should it ever stop, ending this connection beats an id that can be guessed.
            self.random
                .fill(bytes)
                .expect("the operating system has random bytes");
        };
        decide(&mut World {
            settings: &settings,
            memory: &mut self.memory(),
            now,
            random: &mut random,
        })
    }

    /// Reads records, from the cache where it has all of them.
    ///
    /// While the store cannot be read, what is cached goes on being an answer for 15 minutes.
    async fn load(&self, keys: Vec<Key>) -> Result<Vec<Option<Record>>, StoreError> {
        let looked = self.cache.look(&keys);
        let believe = self.is_cache_believable();
        let missing: Vec<usize> = (0..keys.len())
            .filter(|index| !believe || looked.found[*index].is_none())
            .collect();
        if missing.is_empty() {
            return Ok(looked.found.into_iter().map(Option::flatten).collect());
        }
        let wanted = missing.iter().map(|index| keys[*index].clone()).collect();
        let read = self.store.get(wanted).await;
        self.note_silence(read.as_ref().err());
        let mut records = read?.into_iter();
        let mut found: Vec<Option<Record>> = looked.found.iter().cloned().map(Option::flatten).collect();
        for (index, record) in missing.into_iter().zip(&mut records) {
            self.cache.fill(&looked, index, &keys[index], &record);
            found[index] = record;
        }
        Ok(found)
    }

    fn is_cache_believable(&self) -> bool {
        let since = *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_none_or(|since| self.clock.mono().saturating_duration_since(since) < SILENCE)
    }

    fn note_silence(&self, error: Option<&StoreError>) {
        let mut since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, *since) {
            (None, Some(_)) => {
                *since = None;
                log::info!(event = "store-back"; "the store can be read again");
            }
            (Some(error), None) => {
                *since = Some(self.clock.mono());
                log::error!(event = "store-silent", error:% = error;
                    "the store cannot be read; known devices go on for 15 minutes");
            }
            _ => {}
        }
    }

    /// Commits; whatever came of it, what the batch names is read anew afterwards.
    async fn commit(&self, batch: Batch, durability: Durability) -> Answer {
        let keys: Vec<Key> = batch.0.iter().map(|write| write.key.clone()).collect();
        let committed = self.store.commit(batch, durability).await;
        self.cache.forget(&keys);
        match committed {
            Ok(outcome) => Answer::Committed(outcome),
            Err(error) => {
                log::error!(event = "commit-failed", error:% = error; "a decision could not be written");
                Answer::StoreFailed
            }
        }
    }

    fn leaves_at(&self, arrived: Instant, route: Option<&str>) -> Instant {
        let (settings, now) = (self.settings.load(), self.clock.mono());
        let mut jitter = [0; 8];
        // Without randomness refusals leave on the beat, which tells nobody anything.
        let jitter = self
            .random
            .fill(&mut jitter)
            .map_or(0, |()| u64::from_be_bytes(jitter));
        self.memory()
            .refusal_leaves(&settings.pace, arrived, route, now, jitter)
    }
}
