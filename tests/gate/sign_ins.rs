//! One sign-in at a time: what it costs, how it is refused, what the store's failure does.

use crate::world::{ALICE, Connection, PASSWORD, World, admitted, refused, settings};
use gatepost::auth::{Proof, Trial};
use gatepost::gate::clock::Clock;
use gatepost::gate::{Prover, SignedIn};
use gatepost::reason::{Hearing, Outage, Reason};
use gatepost::store::BoxFuture;
use gatepost::store::records::{Batch, Block, Death, Expect, Key, Tag, Tombstone, UnixTime, Value};
use std::future::ready;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_code_makes_a_device_and_the_device_outlives_the_code() {
    let world = World::new().await;
    let literal = world.literal();
    drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
    sleep(Duration::from_secs(3600)).await;
    drop(admitted(world.sign_in(&literal).await, Reason::KnownDevice));
    assert_eq!(refused(world.sign_in(PASSWORD).await), Reason::NoCode);
    assert_eq!(world.hash.count(), 1);
    assert_eq!(world.upstream.asked(), 2);
    let log: Vec<Reason> = world.log().await.into_iter().map(|entry| entry.reason).collect();
    assert_eq!(log, [Reason::NewDevice, Reason::KnownDevice, Reason::NoCode]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_sign_in_reads_nothing_and_waits_for_no_disk() {
    let world = World::new().await;
    let literal = world.literal();
    drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
    sleep(Duration::from_secs(1)).await;
    drop(admitted(world.sign_in(&literal).await, Reason::KnownDevice));
    sleep(Duration::from_secs(1)).await;
    for minutes in 0..20 {
        let before = (world.engine.reads(), world.engine.synced(), world.hash.count());
        drop(admitted(world.sign_in(&literal).await, Reason::KnownDevice));
        sleep(Duration::from_secs(60 * minutes)).await;
        let after = (world.engine.reads(), world.engine.synced(), world.hash.count());
        assert_eq!(before, after, "after {minutes} minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_cannot_be_read_known_devices_go_on_for_a_quarter_of_an_hour() {
    let world = World::new().await;
    let literal = world.literal();
    drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
    sleep(Duration::from_secs(1)).await;
    drop(admitted(world.sign_in(&literal).await, Reason::KnownDevice));
    sleep(Duration::from_secs(60)).await;
    world.engine.cannot_read.store(true, Ordering::SeqCst);
    assert_eq!(
        refused(world.sign_in(&world.literal()).await),
        Reason::StoreUnavailable
    );
    sleep(Duration::from_secs(14 * 60)).await;
    drop(admitted(world.sign_in(&literal).await, Reason::KnownDevice));
    sleep(Duration::from_secs(2 * 60)).await;
    assert_eq!(refused(world.sign_in(&literal).await), Reason::StoreUnavailable);
    world.engine.cannot_read.store(false, Ordering::SeqCst);
    drop(admitted(world.sign_in(&literal).await, Reason::KnownDevice));
}

/// Distance from arrival to leaving, jitter cut off.
fn distance(world: &World, arrived: std::time::Instant, signed_in: &SignedIn) -> Duration {
    let SignedIn::Refused { leaves_at, refusal } = signed_in else {
        panic!("{signed_in:?}")
    };
    assert!(
        *leaves_at >= world.clock.mono(),
        "{refusal:?} leaves before it is decided"
    );
    let after = leaves_at.saturating_duration_since(arrived).as_millis();
    Duration::from_millis(u64::try_from(after / 500 * 500).unwrap())
}

#[tokio::test(start_paused = true)]
async fn refusals_leave_at_the_same_distance_whatever_the_reason() {
    for latency in [10, 300, 1000, 2000, 3000] {
        let mut roomy = settings();
        roomy.counting.per_person = 1000;
        roomy.counting.per_network = 1000;
        roomy.counting.misses_a_day = 1000;
        roomy.counting.misses_a_month = 1000;
        let world = World::with(roomy).await;
        *world.upstream.latency.lock().unwrap() = Duration::from_millis(latency);
        // The pace learns how long this upstream takes.
        assert_eq!(
            refused(world.sign_in(&world.literal_of("wrong")).await),
            Reason::WrongPassword
        );
        sleep(Duration::from_secs(60)).await;

        let mut distances = Vec::new();
        let attempts = [
            (
                "alice@example.org",
                world.literal_of("wrong again"),
                Reason::WrongPassword,
            ),
            (
                "alice@example.org",
                format!("{PASSWORD}@{}", world.wrong_codes().next().unwrap()),
                Reason::WrongCode,
            ),
            ("alice@example.org", PASSWORD.to_owned(), Reason::NoCode),
            ("alice@example.org", PASSWORD.to_owned(), Reason::RefusedLately),
            ("nobody@example.org", PASSWORD.to_owned(), Reason::UnknownPerson),
            (
                "nobody@example.org",
                format!("{PASSWORD}@123456"),
                Reason::UnknownPerson,
            ),
        ];
        for (login, literal, reason) in attempts {
            let attempt = world.attempt_from("192.0.2.1", login, &literal);
            let arrived = attempt.arrived;
            let signed_in = world.sign_in_as(attempt).await;
            distances.push(distance(&world, arrived, &signed_in));
            assert_eq!(refused(signed_in), reason);
        }
        assert!(distances[0] >= Duration::from_millis(2500));
        assert!(
            distances.iter().all(|one| *one == distances[0]),
            "{latency} ms: {distances:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_guesses_change_nothing_for_her_devices() {
    let world = World::new().await;
    let mut literals = Vec::new();
    for _ in 0..3 {
        let literal = world.literal();
        drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
        literals.push(literal);
        sleep(Duration::from_secs(31)).await;
    }
    let before = world.devices().await;
    let (hashes, asked) = (world.hash.count(), world.upstream.asked());
    for guess in 0..10_000u32 {
        let address = format!("198.51.{}.{}", guess / 250 % 250, guess % 250);
        let literal = format!("guess {guess}@{:06}", guess * 7 % 1_000_000);
        let reason = refused(
            world
                .sign_in_as(world.attempt_from(&address, "alice", &literal))
                .await,
        );
        assert_ne!(reason, Reason::Busy);
    }
    assert_eq!(
        world.upstream.asked(),
        asked,
        "no byte of a guess reaches the upstream"
    );
    // Wrong guesses buy nothing: her devices are all warm, and the password part is known to be wrong.
    assert_eq!(world.hash.count(), hashes);
    assert_eq!(world.devices().await, before);
    for literal in &literals {
        drop(admitted(world.sign_in(literal).await, Reason::KnownDevice));
    }
    assert_eq!(world.gate.sessions().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_one_attempt_writes_the_next_one_sees_before_the_watch_does() {
    let world = World::new().await;
    drop(admitted(world.sign_in(&world.literal()).await, Reason::NewDevice));
    world.engine.hurries.store(true, Ordering::SeqCst);
    for code in world.wrong_codes().take(3) {
        assert_eq!(
            refused(world.sign_in(&format!("{PASSWORD}@{code}")).await),
            Reason::WrongCode
        );
    }
    let budget = world
        .store
        .get(vec![Key::Budget(ALICE)])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let Value::Budget(budget) = budget.value else {
        panic!()
    };
    assert_eq!(budget.misses.iter().map(|(_, count)| count).sum::<u32>(), 3);
}

/// A mail server that takes every password, without giving anybody else a turn.
struct AtOnce;

impl Prover for AtOnce {
    fn prove<'a>(&'a mut self, _: &'a Trial) -> BoxFuture<'a, Proof> {
        Box::pin(ready(Proof::Accepted))
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_writes_it_reads_again_before_the_watch_does() {
    let world = World::new().await;
    world.engine.hurries.store(true, Ordering::SeqCst);
    // Its claim makes the record of her devices, which was known to be absent.
    let attempt = world.attempt(&world.literal());
    let signed_in = world.gate.sign_in(attempt, &mut AtOnce).await;
    drop(admitted(signed_in, Reason::NewDevice));
}

#[tokio::test(start_paused = true)]
async fn nobodys_login_is_not_written_down() {
    let world = World::new().await;
    assert_eq!(
        refused(
            world
                .sign_in_as(world.attempt_from("192.0.2.1", "my secret password", "x"))
                .await
        ),
        Reason::UnknownPerson
    );
    let entry = world.log().await.remove(0);
    assert!(entry.login.starts_with("unknown:18:"), "{}", entry.login);
    assert_eq!(entry.person, None);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_somebody_else_lifts_is_lifted_here() {
    let world = World::new().await;
    let block = Block {
        reason: Reason::NetworkBlocked,
        until: UnixTime(u64::MAX),
        level: 1,
    };
    let key = Key::Block("192.0.2.1/32".parse().unwrap());
    world
        .commit(Batch::default().put(key.clone(), Expect::Any, Value::Block(block)))
        .await;
    assert_eq!(
        refused(world.sign_in(&world.literal()).await),
        Reason::NetworkBlocked
    );
    world.commit(Batch::default().remove(key, Expect::Any)).await;
    sleep(Duration::from_secs(1)).await;
    drop(admitted(world.sign_in(&world.literal()).await, Reason::NewDevice));
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_closing_is_told_to_come_later() {
    let world = World::new().await;
    world.gate.close();
    assert_eq!(
        refused(world.sign_in(&world.literal()).await),
        Reason::ShuttingDown
    );
    assert_eq!(world.hash.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_lets_nobody_in() {
    let world = World::new().await;
    let literal = world.literal();
    world.engine.cannot_write.store(true, Ordering::SeqCst);
    assert_eq!(refused(world.sign_in(&literal).await), Reason::StoreUnavailable);
    assert_eq!(world.upstream.asked(), 0, "no claim, no question");
    world.engine.cannot_write.store(false, Ordering::SeqCst);
    // Full just when the device is to be written: the upstream has said yes, and nobody hears of it.
    *world.upstream.latency.lock().unwrap() = Duration::from_millis(300);
    let task = world.spawn(&literal);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(world.upstream.asked(), 1);
    world.engine.cannot_write.store(true, Ordering::SeqCst);
    assert_eq!(refused(task.await.unwrap()), Reason::StoreUnavailable);
    assert_eq!(world.device_count().await, 0);
    world.engine.cannot_write.store(false, Ordering::SeqCst);
    drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
}

#[tokio::test(start_paused = true)]
async fn no_code_is_judged_before_the_clock_is_known() {
    let world = World::new().await;
    world.clock.known.store(false, Ordering::Relaxed);
    let literal = world.literal();
    assert_eq!(refused(world.sign_in(&literal).await), Reason::ClockUnknown);
    world.clock.known.store(true, Ordering::Relaxed);
    drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_is_on_the_disk_after_a_flush() {
    let world = World::new().await;
    drop(admitted(world.sign_in(&world.literal()).await, Reason::NewDevice));
    world.gate.flush().await.unwrap();
    let found = world.store.get(vec![Key::GoodNetworks(ALICE)]).await.unwrap();
    assert!(found[0].is_some());
}

#[tokio::test(start_paused = true)]
async fn while_the_upstream_is_out_right_and_wrong_codes_hear_the_same() {
    let world = World::new().await;
    *world.upstream.outage.lock().unwrap() = Some(Outage::Silent);
    let hears = async |literal: &str| match world.sign_in(literal).await {
        SignedIn::Refused { refusal, .. } => refusal.hearing(),
        SignedIn::Admitted { .. } => panic!("let in"),
    };
    let wrong = world.wrong_codes().next().unwrap();
    assert_eq!(hears(&world.literal()).await, Hearing::TryLater);
    assert_eq!(hears(&format!("pw@{wrong}")).await, Hearing::TryLater);
    assert_eq!(hears("pw").await, Hearing::TryLater);
    // Nobody has asked it for a while: what is known of it is too old to go by.
    sleep(Duration::from_secs(61)).await;
    assert_eq!(hears("another").await, Hearing::Refused);
}

/// After how many beats each of forty attempts at once from each network is refused, and what it hears.
async fn crowd(world: &World, login: &str, password: &str, networks: &[&str]) -> Vec<(u128, Hearing)> {
    let mut codes = world.wrong_codes();
    let mut tasks = Vec::new();
    for network in networks {
        for _ in 0..40 {
            let literal = format!("{password}@{}", codes.next().unwrap());
            let attempt = world.attempt_from(network, login, &literal);
            let (gate, mut connection) = (world.gate.clone(), Connection(world.upstream.clone()));
            let clock = world.clock.clone();
            tasks.push(tokio::spawn(async move {
                let arrived = attempt.arrived;
                let signed_in = gate.sign_in(attempt, &mut connection).await;
                let SignedIn::Refused { refusal, leaves_at } = signed_in else {
                    panic!("let in")
                };
                assert!(leaves_at > clock.mono());
                // Jitter is below a quarter of a second.
                let beats = (leaves_at - arrived).as_millis() / 2500;
                (beats, refusal.hearing())
            }));
            // Each gets into the queue before the next one comes; who is first must not be the scheduler's choice.
            for _ in 0..30 {
                tokio::task::yield_now().await;
            }
        }
    }
    let mut heard = Vec::new();
    for task in tasks {
        heard.push(task.await.unwrap());
    }
    heard
}

/// Were it otherwise, the place of the first late refusal would say whether the password part was right, or the name.
#[tokio::test(start_paused = true)]
async fn a_crowd_of_attempts_leaves_alike_whatever_is_known_of_name_and_password() {
    for blocked in [false, true] {
        for unseen in [false, true] {
            let mut crowds = Vec::new();
            for (login, password) in [
                ("alice@example.org", PASSWORD),
                ("alice@example.org", "wrong horse"),
                ("nobody@example.org", "wrong horse"),
            ] {
                let world = World::new().await;
                let literal = world.literal();
                drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
                if unseen {
                    bury_one_unseen(&world).await;
                }
                if blocked {
                    block(&world, "198.51.100.1/32").await;
                }
                let before = world.hash.count();
                let networks = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
                crowds.push(crowd(&world, login, password, &networks).await);
                let hashed = world.hash.count() - before;
                let expected = if unseen && password == PASSWORD { 120 } else { 0 };
                assert_eq!(hashed, expected, "{login} {password}");
            }
            let beats = |beat| crowds[0].iter().filter(|(beats, _)| *beats == beat).count();
            assert!(beats(1) > 0 && beats(2) > 0, "not a crowd: {:?}", crowds[0]);
            let [right, wrong, unknown] = &crowds[..] else {
                panic!()
            };
            assert_eq!(right, wrong, "blocked {blocked}, unseen {unseen}");
            assert_eq!(right, unknown, "blocked {blocked}, unseen {unseen}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_literal_many_times_is_one_turn_as_it_is_one_hash() {
    let mut heard = Vec::new();
    for (login, password) in [
        ("alice@example.org", PASSWORD),
        ("alice@example.org", "wrong horse"),
        ("nobody@example.org", "wrong horse"),
    ] {
        let world = World::new().await;
        let literal = world.literal();
        drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
        bury_one_unseen(&world).await;
        let literal = format!("{password}@{}", world.wrong_codes().next().unwrap());
        let start = tokio::time::Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let attempt = world.attempt_from("198.51.100.1", login, &literal);
            let (gate, mut connection) = (world.gate.clone(), Connection(world.upstream.clone()));
            tasks.push(tokio::spawn(async move {
                let SignedIn::Refused { refusal, .. } = gate.sign_in(attempt, &mut connection).await else {
                    panic!("let in")
                };
                (refusal.hearing(), start.elapsed().as_millis() < 100)
            }));
        }
        let mut these = Vec::new();
        for task in tasks {
            these.push(task.await.unwrap());
        }
        assert_eq!(
            these
                .iter()
                .filter(|(hears, _)| *hears == Hearing::Refused)
                .count(),
            17
        );
        assert!(
            these.iter().all(|(_, soon)| *soon),
            "they wait for one: {these:?}"
        );
        heard.push(these);
    }
    assert_eq!(heard[0], heard[1]);
    assert_eq!(heard[0], heard[2]);
}

/// Alice has a tombstone whose literal nobody has typed since start: whatever looks like a code is compared with it.
async fn bury_one_unseen(world: &World) {
    let mut devices = world.devices().await.unwrap();
    devices.tombstones.push(Tombstone {
        tag: Tag([9; 32]),
        death: Death::Revoked,
        died: UnixTime(world.clock.wall().as_secs()),
    });
    let put = Batch::default().put(Key::Devices(ALICE), Expect::Any, Value::Devices(devices));
    world.commit(put).await;
    sleep(Duration::from_millis(10)).await;
}

async fn block(world: &World, network: &str) {
    let block = Block {
        reason: Reason::Decoy,
        until: UnixTime(world.clock.wall().as_secs() + 3600),
        level: 1,
    };
    let key = Key::Block(network.parse().unwrap());
    world
        .commit(Batch::default().put(key, Expect::Any, Value::Block(block)))
        .await;
    sleep(Duration::from_millis(10)).await;
}
