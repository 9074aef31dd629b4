//! A gate without sockets, tasks and threads: a store in a map, an upstream that is told what to say, a clock that moves when
//! told to, and a slow hash that is fast and counted.

pub(crate) use gatepost::auth::people::{LoginForm, RouteSettings};
pub(crate) use gatepost::auth::{
    AccessSettings, Answer, Attempt, CountingSettings, Memory, Need, Next, Now, PaceSettings, Proof, SignIn,
    Trial, Verdict, World,
};
pub(crate) use gatepost::reason::{Hearing, Outage, Outcome as Kind, Protocol, Reason, Rejection};
pub(crate) use gatepost::secret::Secret;
pub(crate) use gatepost::store::records::{
    Batch, Block, Budget, Claim, ClaimState, Death, Devices, Durability, Expect, FactorId, FactorState,
    Factors, Key, Mode, Outcome, Person, PersonId, Record, SlowHashCost, Tag, Tombstone, Totp, TotpHash,
    UnixTime, Value, Version,
};
use std::collections::HashMap;
pub(crate) use std::time::Duration;
use std::time::Instant;

pub(crate) const ALICE: PersonId = PersonId([1; 8]);
pub(crate) const TOKEN: FactorId = FactorId([2; 8]);
pub(crate) const HOME: &str = "192.0.2.1";
pub(crate) const AWAY: &str = "198.51.100.9";
pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 3600;
pub(crate) const DAY: u64 = 24 * HOUR;

/// A gate without sockets, tasks and threads.
pub(crate) struct Lab {
    pub(crate) settings: AccessSettings,
    pub(crate) memory: Memory,
    pub(crate) now: Now,
    pub(crate) store: HashMap<Key, (u64, Value)>,
    pub(crate) version: u64,
    pub(crate) store_fails: bool,
    pub(crate) pool_full: bool,
    pub(crate) random: u64,
    /// What the upstream takes, and what it says instead of judging when told so.
    pub(crate) passwords: Vec<Vec<u8>>,
    pub(crate) says: Option<Proof>,
    /// What was asked of upstream, pool and store.
    pub(crate) proved: Vec<Trial>,
    pub(crate) hashes: usize,
    pub(crate) turns: usize,
    pub(crate) commits: usize,
}

impl Lab {
    /// Alice, enforced, with a six-digit token; her mail password is `pw`.
    pub(crate) fn new() -> Lab {
        let mut lab = Lab {
            settings: settings(),
            memory: Memory::new([7; 32]),
            now: Now {
                mono: Instant::now(),
                unix: UnixTime(1_800_000_000),
                clock_known: true,
                clock_steady: true,
            },
            store: HashMap::new(),
            version: 0,
            store_fails: false,
            pool_full: false,
            random: 0,
            passwords: vec![b"pw".to_vec()],
            says: None,
            proved: Vec::new(),
            hashes: 0,
            turns: 0,
            commits: 0,
        };
        lab.put(Key::Login("alice@example.org".into()), Value::Login(ALICE));
        lab.put(Key::Person(ALICE), Value::Person(alice()));
        lab.put(
            Key::Factors(ALICE),
            Value::Factors(Factors { totp: vec![token(6)] }),
        );
        lab
    }

    pub(crate) fn unenrolled() -> Lab {
        let mut lab = Lab::new();
        lab.store.remove(&Key::Factors(ALICE));
        lab
    }

    pub(crate) fn learning() -> Lab {
        let mut lab = Lab::new();
        lab.settings.mode = Mode::Learning;
        lab
    }

    pub(crate) fn put(&mut self, key: Key, value: Value) {
        self.version += 1;
        self.store.insert(key, (self.version, value));
    }

    pub(crate) fn person(&mut self, change: impl FnOnce(&mut Person)) {
        let mut person = alice();
        change(&mut person);
        self.put(Key::Person(ALICE), Value::Person(person));
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.now.unix.0 += seconds;
    }

    /// A start with an empty memory.
    pub(crate) fn restart(&mut self) {
        self.memory = Memory::new([8; 32]);
    }

    /// The code of the step that lies `offset` steps from now.
    pub(crate) fn code(&self, offset: i64) -> String {
        let at = self.now.unix.0.checked_add_signed(offset * 30).unwrap();
        let totp = totp_rs::Builder::new()
            .with_algorithm(totp_rs::Algorithm::SHA1)
            .with_secret(token(6).seed.expose().clone())
            .build()
            .unwrap();
        totp.generate(at).to_string()
    }

    pub(crate) fn right(&self, password: &str) -> String {
        format!("{password}@{}", self.code(0))
    }

    /// A literal whose code is wrong now and will be for the whole test: each `n` another.
    pub(crate) fn wrong(&self, password: &str, n: u32) -> String {
        let near: Vec<String> = (-3..=3).map(|offset| self.code(offset)).collect();
        let mut code = 500_000 + n * 10;
        while near.contains(&format!("{code:06}")) {
            code += 1;
        }
        format!("{password}@{code:06}")
    }

    pub(crate) fn world<T>(&mut self, act: impl FnOnce(&mut World<'_>) -> T) -> T {
        let mut state = self.random;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
        };
        let done = act(&mut World {
            settings: &self.settings,
            memory: &mut self.memory,
            now: self.now,
            random: &mut random,
        });
        self.random = state;
        done
    }

    pub(crate) fn begin(&mut self, attempt: Attempt) -> Next {
        self.world(|world| SignIn::begin(attempt, world))
    }

    pub(crate) fn resume(&mut self, sign_in: SignIn, answer: Answer) -> Next {
        self.world(|world| sign_in.resume(answer, world))
    }

    /// Carries out one need.
    pub(crate) fn answer(&mut self, sign_in: &SignIn, need: Need) -> Answer {
        if let Need::Prove(trial) = need {
            assert!(sign_in.charge().is_some(), "a proof is a guess");
            let judged = if self.passwords.iter().any(|right| trial.password.same(right)) {
                Proof::Accepted
            } else {
                Proof::Rejected(Rejection::Password)
            };
            self.proved.push(trial);
            return Answer::Proved(self.says.unwrap_or(judged));
        }
        assert!(sign_in.charge().is_none(), "nothing else is a guess");
        match need {
            Need::SlowHash(_) | Need::Queue { .. } if self.pool_full => Answer::Busy,
            Need::SlowHash(work) => {
                self.hashes += 1;
                Answer::Hashed(tag(&work.cost, sign_in.attempt().literal.expose()))
            }
            Need::Queue { .. } => {
                self.turns += 1;
                Answer::Queued
            }
            _ if self.store_fails => Answer::StoreFailed,
            Need::Load(keys) => Answer::Loaded(keys.iter().map(|key| self.load(key)).collect()),
            Need::Claim(batch) => {
                self.commits += 1;
                Answer::Committed(self.commit(batch))
            }
            Need::Commit(batch, durability) => {
                assert_eq!(
                    durability,
                    Durability::Synced,
                    "what is waited for is on the disk"
                );
                self.commits += 1;
                Answer::Committed(self.commit(batch))
            }
            Need::Prove(_) => unreachable!("handled above"),
        }
    }

    pub(crate) fn load(&self, key: &Key) -> Option<Record> {
        self.store.get(key).map(|(version, value)| Record {
            version: Version(*version),
            value: value.clone(),
        })
    }

    pub(crate) fn commit(&mut self, batch: Batch) -> Outcome {
        for write in &batch.0 {
            let held = self.store.get(&write.key).map(|(version, _)| Version(*version));
            let fits = match write.expect {
                Expect::Absent => held.is_none(),
                Expect::Equals(version) => held == Some(version),
                Expect::Any => true,
            };
            if !fits {
                return Outcome::Conflict(write.key.clone());
            }
        }
        for write in batch.0 {
            let key = write.key.clone();
            match write.value {
                Some(value) => self.put(write.key, value),
                None => drop(self.store.remove(&write.key)),
            }
            self.watch(&key);
        }
        Outcome::Done
    }

    /// What the gate does when the store says that a key changed.
    pub(crate) fn watch(&mut self, key: &Key) {
        if let Key::Devices(person) | Key::Person(person) = key {
            let devices = self
                .store
                .get(&Key::Devices(*person))
                .map(|(_, value)| value.clone());
            let devices = match &devices {
                Some(Value::Devices(devices)) => Some(devices),
                _ => None,
            };
            self.memory.person_changed(*person, devices);
        }
    }

    pub(crate) fn run(&mut self, attempt: Attempt) -> Verdict {
        let mut next = self.begin(attempt);
        for _ in 0..100 {
            match next {
                Next::Done(verdict, lazy) => {
                    for write in &lazy.0 {
                        let may_be_lost = matches!(write.key, Key::DeviceUse(..) | Key::GoodNetworks(_));
                        assert!(may_be_lost, "{:?} is written lazily", write.key);
                    }
                    assert_eq!(self.commit(lazy), Outcome::Done, "lazy writes are unconditional");
                    return verdict;
                }
                Next::Need(sign_in, need) => {
                    let answer = self.answer(&sign_in, need);
                    next = self.resume(sign_in, answer);
                }
            }
        }
        panic!("a sign-in goes in circles");
    }

    pub(crate) fn sign_in(&mut self, literal: &str, from: &str) -> Verdict {
        self.run(attempt("alice", literal, from))
    }

    pub(crate) fn reason(&mut self, literal: &str, from: &str) -> Reason {
        reason(&self.sign_in(literal, from))
    }

    /// Alice gets a device from `from`; the code is of a step that nothing else in the test uses.
    pub(crate) fn device(&mut self, password: &str, from: &str) -> String {
        self.pass(5 * MINUTE);
        let literal = self.right(password);
        assert_eq!(self.reason(&literal, from), Reason::NewDevice);
        literal
    }

    pub(crate) fn devices(&self) -> Devices {
        match &self.store[&Key::Devices(ALICE)].1 {
            Value::Devices(devices) => devices.clone(),
            _ => unreachable!("a record of its own kind"),
        }
    }

    pub(crate) fn revoke_all(&mut self) {
        let mut devices = self.devices();
        for device in std::mem::take(&mut devices.devices) {
            devices.tombstones.push(Tombstone {
                tag: device.tag,
                death: Death::Revoked,
                died: self.now.unix,
            });
        }
        self.put(Key::Devices(ALICE), Value::Devices(devices));
        self.watch(&Key::Devices(ALICE));
    }

    pub(crate) fn budget(&self) -> Budget {
        match self.store.get(&Key::Budget(ALICE)) {
            Some((_, Value::Budget(budget))) => budget.clone(),
            _ => Budget::default(),
        }
    }

    pub(crate) fn claims(&self) -> Vec<Claim> {
        let claim = |(_, value): &(u64, Value)| match value {
            Value::Claim(claim) => Some(claim.clone()),
            _ => None,
        };
        self.store.values().filter_map(claim).collect()
    }

    pub(crate) fn remembered(&self) -> usize {
        self.store
            .iter()
            .filter(|(key, (_, value))| match value {
                Value::Devices(devices) => !devices.devices.is_empty(),
                _ => matches!(key, Key::Claim(..) | Key::DeviceUse(..) | Key::GoodNetworks(_)),
            })
            .count()
    }
}

pub(crate) fn settings() -> AccessSettings {
    let minutes = |count| Duration::from_secs(count * MINUTE);
    AccessSettings {
        mode: Mode::Enforcing,
        default_domain: Some("example.org".into()),
        routes: vec![RouteSettings {
            name: "office".into(),
            domains: vec!["example.org".into()],
            upstreams: vec!["dovecot".into()],
            login: LoginForm::Address,
            mode: None,
        }],
        denied: vec!["203.0.113.0/24".parse().unwrap()],
        trusted: vec!["10.1.0.0/16".parse().unwrap()],
        decoys: vec!["admin".into()],
        max_devices: 10,
        device_idle: Some(Duration::from_secs(90 * DAY)),
        counting: CountingSettings {
            window: minutes(10),
            per_person: 3,
            per_network: 10,
            familiar_factor: 5,
            familiar_for: Duration::from_secs(7 * DAY),
            blocks: [minutes(5), minutes(60), minutes(24 * 60)],
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

pub(crate) fn alice() -> Person {
    Person {
        id: ALICE,
        login: "alice@example.org".into(),
        aliases: Vec::new(),
        mode: None,
        grace_until: None,
        suspended: false,
        created: UnixTime(0),
    }
}

pub(crate) fn token(digits: u8) -> Totp {
    Totp {
        id: TOKEN,
        label: "token".into(),
        seed: Secret::copy(b"12345678901234567890"),
        digits,
        period: 30,
        hash: TotpHash::Sha1,
        state: FactorState::Active,
        created: UnixTime(0),
    }
}

pub(crate) fn attempt(login: &str, literal: &str, from: &str) -> Attempt {
    Attempt {
        protocol: Protocol::Imap,
        listener: "imaps".into(),
        address: from.parse().unwrap(),
        login: Secret::copy(login.as_bytes()),
        literal: Secret::copy(literal.as_bytes()),
        acts_as_other: false,
        client_hint: None,
        arrived: Instant::now(),
    }
}

/// Stands in for Argon2id: as different for different literals and salts, and free.
pub(crate) fn tag(cost: &SlowHashCost, literal: &[u8]) -> Tag {
    let digest = ring::digest::digest(&ring::digest::SHA256, &[&cost.salt[..], literal].concat());
    Tag(digest.as_ref().try_into().unwrap())
}

pub(crate) fn reason(verdict: &Verdict) -> Reason {
    match verdict {
        Verdict::Admit(admission) => admission.reason,
        Verdict::Refuse(refusal) => refusal.reason,
    }
}

pub(crate) fn would(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Admit(admission) => admission.enforcing_would,
        Verdict::Refuse(_) => panic!("refused: {verdict:?}"),
    }
}

pub(crate) fn hearing(verdict: &Verdict) -> Hearing {
    match verdict {
        Verdict::Admit(_) => panic!("admitted: {verdict:?}"),
        Verdict::Refuse(refusal) => refusal.hearing(),
    }
}

pub(crate) fn other(n: u32) -> String {
    format!("100.{}.{}.{}", 64 + (n >> 16), (n >> 8) & 255, n & 255)
}

/// Runs until the upstream is asked, and hangs up.
pub(crate) fn abandon_proof(lab: &mut Lab, attempt: Attempt) {
    let mut next = lab.begin(attempt);
    loop {
        let Next::Need(sign_in, need) = next else {
            panic!("the upstream was never asked: {next:?}")
        };
        if matches!(need, Need::Prove(_)) {
            let charge = sign_in.charge().unwrap();
            let (settings, now) = (lab.settings.clone(), lab.now);
            lab.memory.count_abandoned(charge, &settings, now);
            return;
        }
        let answer = lab.answer(&sign_in, need);
        next = lab.resume(sign_in, answer);
    }
}
