//! What a warm decision costs: a known device signs in again, through the whole gate, its line in the sign-in log
//! included. The store is memory, because a warm decision reads none; the upstream answers at once.

use criterion::Criterion;
use gatepost::auth::people::{LoginForm, RouteSettings};
use gatepost::auth::{AccessSettings, Attempt, CountingSettings, PaceSettings, Proof, Trial};
use gatepost::gate::clock::Clock;
use gatepost::gate::slow_hash::{Argon2id, PoolSettings};
use gatepost::gate::{Gate, Parts, Prover, SignedIn};
use gatepost::reason::{Protocol, Reason};
use gatepost::secret::Secret;
use gatepost::store::records::{
    Batch, Durability, Expect, FactorId, FactorState, Factors, Key, Mode, Outcome, Person, PersonId, Totp,
    TotpHash, UnixTime, Value,
};
use gatepost::store::seal::BoxKey;
use gatepost::store::{BoxFuture, Store};
use ring::hmac;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SEED: &[u8] = b"12345678901234567890";
const PASSWORD: &str = "correct horse";

/// Seconds of a code's step.
const STEP: u64 = 30;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // (people, devices of the one who signs in): the cost must not grow with either.
    for (people, devices) in [(1, 1), (1, 10), (10_000, 1), (10_000, 10)] {
        criterion.bench_function(
            &format!("decision/warm-{people}-people-{devices}-devices"),
            |bencher| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let mut world = World::new(&runtime, people, devices);
                bencher.iter_custom(|count| {
                    let started = Instant::now();
                    runtime.block_on(world.warm_sign_ins(count));
                    started.elapsed()
                });
            },
        );
    }
    criterion.final_summary();
}

struct World {
    gate: Gate,
    clock: Arc<SetClock>,
    literals: Vec<String>,
}

impl World {
    fn new(runtime: &Runtime, people: u64, devices: u64) -> World {
        runtime.block_on(async {
            let clock = Arc::new(SetClock(AtomicU64::new(1_795_471_560)));
            let store = Store::memory(BoxKey::generate().expect("randomness"));
            for number in 0..people {
                enrol(&store, number).await;
            }
            let gate = Gate::start(Parts {
                store,
                settings: settings(),
                clock: clock.clone(),
                slow_hash: Arc::new(Argon2id),
                pool: PoolSettings {
                    threads: 1,
                    longest_queue: Duration::from_secs(30),
                    first_guess: Duration::from_millis(60),
                },
            })
            .expect("randomness");
            let mut world = World {
                gate,
                clock,
                literals: Vec::new(),
            };
            for _ in 0..devices {
                world.new_device().await;
            }
            world
        })
    }

    /// One more string with a right code, which becomes a device.
    async fn new_device(&mut self) {
        let now = self.clock.0.fetch_add(STEP, Ordering::Relaxed) + STEP;
        let literal = format!("{PASSWORD}@{}", code(now / STEP));
        self.sign_in(&literal, Reason::NewDevice).await;
        self.literals.push(literal);
    }

    async fn warm_sign_ins(&mut self, count: u64) {
        let literal = self.literals[0].clone();
        for _ in 0..count {
            self.sign_in(&literal, Reason::KnownDevice).await;
            // So that the log's writer gets its turn, and its work is in the figure.
            tokio::task::yield_now().await;
        }
    }

    async fn sign_in(&self, literal: &str, expected: Reason) {
        let attempt = Attempt {
            protocol: Protocol::Imap,
            listener: "imaps".into(),
            address: [192, 0, 2, 1].into(),
            login: Secret::copy(b"person0@example.org"),
            literal: Secret::copy(literal.as_bytes()),
            acts_as_other: false,
            client_hint: None,
            arrived: self.clock.mono(),
        };
        match self.gate.sign_in(attempt, &mut Upstream).await {
            SignedIn::Admitted { admission, .. } => assert_eq!(admission.reason, expected),
            SignedIn::Refused { refusal, .. } => panic!("refused: {refusal:?}"),
        }
    }
}

/// Accepts everything at once.
struct Upstream;

impl Prover for Upstream {
    fn prove<'a>(&'a mut self, _: &'a Trial) -> BoxFuture<'a, Proof> {
        Box::pin(std::future::ready(Proof::Accepted))
    }
}

struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn wall(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

async fn enrol(store: &Store, number: u64) {
    let (id, login) = (
        PersonId(number.to_be_bytes()),
        format!("person{number}@example.org"),
    );
    let person = Person {
        id,
        login: login.clone(),
        aliases: Vec::new(),
        mode: None,
        grace_until: None,
        suspended: false,
        created: UnixTime(0),
    };
    let token = Totp {
        id: FactorId(number.to_be_bytes()),
        label: "phone".into(),
        seed: Secret::copy(SEED),
        digits: 6,
        period: 30,
        hash: TotpHash::Sha1,
        state: FactorState::Active,
        created: UnixTime(0),
    };
    let batch = Batch::default()
        .put(Key::Login(login), Expect::Absent, Value::Login(id))
        .put(Key::Person(id), Expect::Absent, Value::Person(person))
        .put(
            Key::Factors(id),
            Expect::Absent,
            Value::Factors(Factors { totp: vec![token] }),
        );
    assert_eq!(store.commit(batch, Durability::Synced).await, Ok(Outcome::Done));
}

/// RFC 6238 with SHA-1 and six digits.
fn code(step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SEED);
    let mac = hmac::sign(&key, &step.to_be_bytes());
    let start = usize::from(mac.as_ref()[19] & 15);
    let word = mac.as_ref()[start..start + 4]
        .iter()
        .fold(0, |word: u32, octet| word << 8 | u32::from(*octet));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// As shipped, with one route for everybody.
fn settings() -> AccessSettings {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    AccessSettings {
        mode: Mode::Enforcing,
        default_domain: None,
        routes: vec![RouteSettings {
            name: "main".into(),
            domains: vec!["*".into()],
            upstreams: vec!["mail".into()],
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
