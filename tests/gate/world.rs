//! A gate with everything around it: a store that can be watched and broken, an upstream with a script, a clock that
//! follows the runtime's virtual time, a person with a token.

use gatepost::auth::people::{LoginForm, RouteSettings};
use gatepost::auth::{AccessSettings, Attempt, CountingSettings, PaceSettings, Proof, Trial};
use gatepost::gate::clock::Clock;
use gatepost::gate::sessions::SessionHandle;
use gatepost::gate::slow_hash::{Argon2id, HashError, PoolSettings, SlowHash};
use gatepost::gate::{Gate, Parts, Prover, SignedIn};
use gatepost::reason::{Outage, Protocol, Reason, Rejection};
use gatepost::secret::Secret;
use gatepost::store::records::{
    Batch, Death, Devices, Durability, Expect, FactorId, FactorState, Factors, Key, KeyRange, Mode, Order,
    Outcome, Person, PersonId, SignInEntry, SlowHashCost, Tombstone, Totp, TotpHash, UnixTime, Value,
};
use gatepost::store::seal::BoxKey;
use gatepost::store::{
    BoxFuture, Changes, Engine, EngineBatch, EngineKind, EngineOutcome, EnginePage, EngineRange,
    EngineRecord, Store, StoreError, Watching,
};
use ring::{digest, hmac};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

pub(crate) const ALICE: PersonId = PersonId([1; 8]);
pub(crate) const TOKEN: FactorId = FactorId([2; 8]);
pub(crate) const PASSWORD: &str = "correct horse";
const SEED: &[u8] = b"12345678901234567890";

/// 2026-11-23 22:06:00 UTC, the beginning of a TOTP step.
const START: Duration = Duration::from_secs(1_795_471_560);

pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) store: Store,
    pub(crate) engine: Arc<Shelf>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) hash: Arc<CheapHash>,
    pub(crate) upstream: Arc<Upstream>,
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(settings()).await
    }

    pub(crate) async fn with(settings: AccessSettings) -> World {
        let engine = Arc::new(Shelf::default());
        let store = Store::new(Box::new(Shared(engine.clone())), BoxKey::generate().unwrap());
        World::of(settings, store, engine, CheapHash::default()).await
    }

    /// With everything as it ships: the embedded engine in a directory, Argon2id.
    pub(crate) async fn as_shipped(dir: &std::path::Path) -> World {
        let opened = gatepost::store::open(&gatepost::store::Settings {
            path: dir.to_owned(),
            engine: EngineKind::Sled,
        });
        let hash = CheapHash {
            is_argon2id: true,
            ..CheapHash::default()
        };
        World::of(settings(), opened.unwrap().store, Arc::default(), hash).await
    }

    async fn of(settings: AccessSettings, store: Store, engine: Arc<Shelf>, hash: CheapHash) -> World {
        let clock = Arc::new(VirtualClock {
            started: Instant::now(),
            known: AtomicBool::new(true),
        });
        let hash = Arc::new(hash);
        let pool = PoolSettings {
            threads: 2,
            longest_queue: Duration::from_secs(30),
            first_guess: Duration::from_millis(60),
        };
        let parts = Parts {
            store: store.clone(),
            settings,
            clock: clock.clone(),
            slow_hash: hash.clone(),
            pool,
        };
        let gate = Gate::start(parts).unwrap();
        let world = World {
            gate,
            store,
            engine,
            clock,
            hash,
            upstream: Arc::default(),
        };
        world.enrol_alice().await;
        world
    }

    async fn enrol_alice(&self) {
        let login = "alice@example.org".to_owned();
        let person = Person {
            id: ALICE,
            login: login.clone(),
            aliases: Vec::new(),
            mode: None,
            grace_until: None,
            suspended: false,
            created: UnixTime(0),
        };
        let token = Totp {
            id: TOKEN,
            label: "phone".into(),
            seed: Secret::copy(SEED),
            digits: 6,
            period: 30,
            hash: TotpHash::Sha1,
            state: FactorState::Active,
            created: UnixTime(0),
        };
        let batch = Batch::default()
            .put(Key::Login(login), Expect::Absent, Value::Login(ALICE))
            .put(Key::Person(ALICE), Expect::Absent, Value::Person(person))
            .put(
                Key::Factors(ALICE),
                Expect::Absent,
                Value::Factors(Factors { totp: vec![token] }),
            );
        self.commit(batch).await;
    }

    pub(crate) async fn commit(&self, batch: Batch) {
        assert_eq!(
            self.store.commit(batch, Durability::Synced).await.unwrap(),
            Outcome::Done
        );
    }

    /// Changes Alice's own record, as an administrator does.
    pub(crate) async fn change_alice(&self, change: impl FnOnce(&mut Person)) {
        let record = self
            .store
            .get(vec![Key::Person(ALICE)])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        let expect = Expect::Equals(record.version);
        let Value::Person(mut person) = record.value else {
            panic!()
        };
        change(&mut person);
        self.commit(Batch::default().put(Key::Person(ALICE), expect, Value::Person(person)))
            .await;
    }

    pub(crate) async fn devices(&self) -> Option<Devices> {
        let record = self
            .store
            .get(vec![Key::Devices(ALICE)])
            .await
            .unwrap()
            .remove(0)?;
        match record.value {
            Value::Devices(devices) => Some(devices),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn device_count(&self) -> usize {
        self.devices().await.map_or(0, |devices| devices.devices.len())
    }

    /// What `device revoke` writes for every device: they go, and leave tombstones.
    pub(crate) async fn revocation(&self) -> Batch {
        let record = self
            .store
            .get(vec![Key::Devices(ALICE)])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        let expect = Expect::Equals(record.version);
        let Value::Devices(mut devices) = record.value else {
            panic!()
        };
        for device in std::mem::take(&mut devices.devices) {
            devices.tombstones.push(Tombstone {
                tag: device.tag,
                death: Death::Revoked,
                died: UnixTime(self.clock.wall().as_secs()),
            });
        }
        Batch::default().put(Key::Devices(ALICE), expect, Value::Devices(devices))
    }

    pub(crate) async fn revoke_all(&self) {
        self.commit(self.revocation().await).await;
    }

    /// The password with the code of now.
    pub(crate) fn literal(&self) -> String {
        self.literal_of(PASSWORD)
    }

    pub(crate) fn literal_of(&self, password: &str) -> String {
        format!("{password}@{}", self.code())
    }

    pub(crate) fn code(&self) -> String {
        totp(self.clock.wall().as_secs() / 30)
    }

    /// Codes that are wrong now and for a while.
    pub(crate) fn wrong_codes(&self) -> impl Iterator<Item = String> {
        let step = self.clock.wall().as_secs() / 30;
        let near: Vec<String> = (step - 5..step + 20).map(totp).collect();
        let codes = (0..1_000_000).map(|code| format!("{code:06}"));
        codes.filter(move |code| !near.contains(code))
    }

    pub(crate) fn attempt(&self, literal: &str) -> Attempt {
        self.attempt_from("192.0.2.1", "alice@example.org", literal)
    }

    pub(crate) fn attempt_from(&self, address: &str, login: &str, literal: &str) -> Attempt {
        Attempt {
            protocol: Protocol::Imap,
            listener: "imaps".into(),
            address: address.parse().unwrap(),
            login: Secret::copy(login.as_bytes()),
            literal: Secret::copy(literal.as_bytes()),
            acts_as_other: false,
            client_hint: None,
            arrived: self.clock.mono(),
        }
    }

    pub(crate) async fn sign_in(&self, literal: &str) -> SignedIn {
        self.sign_in_as(self.attempt(literal)).await
    }

    pub(crate) async fn sign_in_as(&self, attempt: Attempt) -> SignedIn {
        let mut connection = Connection(self.upstream.clone());
        self.gate.sign_in(attempt, &mut connection).await
    }

    /// Signs in in a task of its own.
    pub(crate) fn spawn(&self, literal: &str) -> tokio::task::JoinHandle<SignedIn> {
        let (gate, attempt) = (self.gate.clone(), self.attempt(literal));
        let mut connection = Connection(self.upstream.clone());
        tokio::spawn(async move { gate.sign_in(attempt, &mut connection).await })
    }

    /// The reasons in the sign-in log, oldest first.
    pub(crate) async fn log(&self) -> Vec<SignInEntry> {
        self.gate.flush().await.unwrap();
        let page = self
            .store
            .scan(KeyRange::all_sign_ins(Order::Ascending), 10_000)
            .await
            .unwrap();
        let entry = |value| match value {
            Value::SignIn(entry) => entry,
            other => panic!("{other:?}"),
        };
        page.records
            .into_iter()
            .map(|(_, record)| entry(record.value))
            .collect()
    }
}

/// The session of somebody who was let in.
pub(crate) fn admitted(signed_in: SignedIn, reason: Reason) -> SessionHandle {
    match signed_in {
        SignedIn::Admitted { admission, session } => {
            assert_eq!(admission.reason, reason);
            session
        }
        SignedIn::Refused { refusal, .. } => panic!("refused: {refusal:?}"),
    }
}

/// The reason of somebody who was not.
pub(crate) fn refused(signed_in: SignedIn) -> Reason {
    match signed_in {
        SignedIn::Refused { refusal, .. } => refusal.reason,
        SignedIn::Admitted { admission, .. } => panic!("admitted: {admission:?}"),
    }
}

pub(crate) fn settings() -> AccessSettings {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    AccessSettings {
        mode: Mode::Enforcing,
        default_domain: Some("example.org".into()),
        routes: vec![RouteSettings {
            name: "main".into(),
            domains: vec!["*".into()],
            upstreams: vec!["dovecot".into()],
            login: LoginForm::Address,
            mode: None,
        }],
        denied: Vec::new(),
        trusted: Vec::new(),
        decoys: Vec::new(),
        max_devices: 10,
        device_idle: Some(Duration::from_secs(90 * 86_400)),
        counting: CountingSettings {
            window: minutes(10),
            per_person: 3,
            per_network: 10,
            familiar_factor: 5,
            familiar_for: Duration::from_secs(7 * 86_400),
            blocks: [minutes(5), minutes(60), minutes(60 * 24)],
            misses_a_day: 10,
            misses_a_month: 30,
            unverified_a_day: 100,
            unverified_a_month: 300,
        },
        pace: PaceSettings {
            floor: Duration::from_millis(2500),
            ceiling: Duration::from_secs(8),
        },
    }
}

/// RFC 6238 with SHA-1 and six digits.
fn totp(step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SEED);
    let mac = hmac::sign(&key, &step.to_be_bytes());
    let offset = usize::from(mac.as_ref()[19] & 15);
    let word = u32::from_be_bytes(mac.as_ref()[offset..offset + 4].try_into().unwrap());
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

pub(crate) struct VirtualClock {
    started: Instant,
    pub(crate) known: AtomicBool,
}

impl Clock for VirtualClock {
    fn wall(&self) -> Duration {
        START + self.started.elapsed()
    }

    fn known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }
}

/// A hash that is counted, and quick unless told otherwise.
#[derive(Default)]
pub(crate) struct CheapHash {
    pub(crate) count: AtomicUsize,
    is_argon2id: bool,
}

impl SlowHash for CheapHash {
    fn hash(&self, literal: &[u8], cost: &SlowHashCost) -> Result<Zeroizing<[u8; 32]>, HashError> {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.is_argon2id {
            return Argon2id.hash(literal, cost);
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&cost.salt);
        context.update(literal);
        Ok(Zeroizing::new(context.finish().as_ref().try_into().unwrap()))
    }
}

impl CheapHash {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// A mail server that knows one password.
pub(crate) struct Upstream {
    pub(crate) latency: Mutex<Duration>,
    pub(crate) outage: Mutex<Option<Outage>>,
    pub(crate) password: Mutex<String>,
    /// Whether each question was about a known device.
    pub(crate) asked: Mutex<Vec<bool>>,
}

impl Default for Upstream {
    fn default() -> Self {
        Upstream {
            latency: Mutex::default(),
            outage: Mutex::default(),
            password: Mutex::new(PASSWORD.into()),
            asked: Mutex::default(),
        }
    }
}

impl Upstream {
    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

pub(crate) struct Connection(pub(crate) Arc<Upstream>);

impl Prover for Connection {
    fn prove<'a>(&'a mut self, trial: &'a Trial) -> BoxFuture<'a, Proof> {
        Box::pin(async {
            assert_eq!(trial.upstream_login.expose(), b"alice@example.org");
            self.0.asked.lock().unwrap().push(trial.device.is_some());
            let latency = *self.0.latency.lock().unwrap();
            yield_now().await;
            sleep(latency).await;
            if let Some(outage) = *self.0.outage.lock().unwrap() {
                return Proof::Unavailable(outage);
            }
            if trial.password.expose() == self.0.password.lock().unwrap().as_bytes() {
                Proof::Accepted
            } else {
                Proof::Rejected(Rejection::Password)
            }
        })
    }
}

/// An engine in memory that yields at every call, counts, and fails when told to.
#[derive(Default)]
pub(crate) struct Shelf {
    records: Mutex<BTreeMap<Vec<u8>, EngineRecord>>,
    changes: Changes,
    pub(crate) reads: AtomicUsize,
    pub(crate) synced: AtomicUsize,
    pub(crate) cannot_read: AtomicBool,
    pub(crate) cannot_write: AtomicBool,
    /// Whether it answers at once, before anybody else gets a turn.
    pub(crate) hurries: AtomicBool,
    /// Whether each change is followed by more than a watch remembers.
    pub(crate) drowns_changes: AtomicBool,
    /// Whether the disk hangs, so that nothing more is written and nobody is told.
    pub(crate) hangs: AtomicBool,
}

impl Shelf {
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn synced(&self) -> usize {
        self.synced.load(Ordering::SeqCst)
    }

    async fn pause(&self) {
        if !self.hurries.load(Ordering::SeqCst) {
            yield_now().await;
        }
    }

    fn carry_out(&self, batch: EngineBatch) -> EngineOutcome {
        let mut records = self.records.lock().unwrap();
        for (index, write) in batch.0.iter().enumerate() {
            let found = records.get(&write.key).map(|record| record.version);
            let expected = match write.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Equals(version) => found == Some(version),
            };
            if !expected {
                return EngineOutcome::Conflict(index);
            }
        }
        let keys = batch.keys();
        for write in batch.0 {
            match write.value {
                Some(record) => records.insert(write.key, record),
                None => records.remove(&write.key),
            };
        }
        self.changes.tell(keys);
        if self.drowns_changes.load(Ordering::SeqCst) {
            for _ in 0..5_000 {
                self.changes.tell(vec![Key::Meta.encode()]);
            }
        }
        EngineOutcome::Done
    }
}

struct Shared(Arc<Shelf>);

impl Engine for Shared {
    fn get(&self, keys: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Vec<Option<EngineRecord>>, StoreError>> {
        Box::pin(async move {
            self.0.reads.fetch_add(1, Ordering::SeqCst);
            self.0.pause().await;
            if self.0.cannot_read.load(Ordering::SeqCst) {
                return Err(StoreError::Read("the disk is gone".into()));
            }
            let found = {
                let records = self.0.records.lock().unwrap();
                keys.iter().map(|key| records.get(key).cloned()).collect()
            };
            self.0.pause().await;
            Ok(found)
        })
    }

    fn scan(&self, range: EngineRange, limit: usize) -> BoxFuture<'_, Result<EnginePage, StoreError>> {
        let records = self.0.records.lock().unwrap();
        let found = records
            .range(range.from..range.to)
            .map(|(key, record)| (key.clone(), record.clone()));
        let mut found: Vec<_> = found.collect();
        if range.order == Order::Descending {
            found.reverse();
        }
        Box::pin(async move { Ok(EnginePage::cut(found, limit)) })
    }

    fn commit(
        &self,
        batch: EngineBatch,
        durability: Durability,
    ) -> BoxFuture<'_, Result<EngineOutcome, StoreError>> {
        Box::pin(async move {
            self.0.pause().await;
            if self.0.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.0.cannot_write.load(Ordering::SeqCst) {
                return Err(StoreError::Write("the disk is full".into()));
            }
            if durability == Durability::Synced {
                self.0.synced.fetch_add(1, Ordering::SeqCst);
            }
            let outcome = self.0.carry_out(batch);
            self.0.pause().await;
            Ok(outcome)
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn watch(&self) -> Watching {
        self.0.changes.watch()
    }
}
