//! Several connections of one program at once.

use crate::world::{Connection, World, admitted, refused};
use gatepost::gate::SignedIn;
use gatepost::reason::{Outage, Reason};
use gatepost::store::records::{ClaimState, KeyRange, Value};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The reasons of sign-ins that are under way, in the order in which they began.
async fn reasons(tasks: Vec<tokio::task::JoinHandle<SignedIn>>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for task in tasks {
        reasons.push(match task.await.unwrap() {
            SignedIn::Admitted { admission, .. } => admission.reason,
            SignedIn::Refused { refusal, .. } => refusal.reason,
        });
    }
    reasons
}

async fn claims(world: &World) -> Vec<ClaimState> {
    let page = world.store.scan(KeyRange::claims(), 100).await.unwrap();
    let state = |value| match value {
        Value::Claim(claim) => claim.state,
        other => panic!("{other:?}"),
    };
    page.records
        .into_iter()
        .map(|(_, record)| state(record.value))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn eight_connections_with_one_fresh_literal_are_one_claim_one_hash_one_device() {
    let world = World::new().await;
    *world.upstream.latency.lock().unwrap() = Duration::from_millis(300);
    let literal = world.literal();
    let tasks = (0..8).map(|_| world.spawn(&literal)).collect();
    let mut reasons = reasons(tasks).await;
    reasons.sort_by_key(|reason| *reason != Reason::NewDevice);
    assert_eq!(reasons[0], Reason::NewDevice);
    assert_eq!(reasons[1..], [Reason::KnownDevice; 7]);
    assert_eq!(world.hash.count(), 1);
    assert_eq!(claims(&world).await, [ClaimState::Used]);
    assert_eq!(world.device_count().await, 1);
    let asked = world.upstream.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [&[false][..], &[true; 7]].concat(),
        "a login of its own for each"
    );
    assert_eq!(world.log().await.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn followers_wait_for_the_decision_and_not_for_the_session() {
    let world = World::new().await;
    let literal = world.literal();
    let tasks: Vec<_> = (0..3).map(|_| world.spawn(&literal)).collect();
    let mut sessions = Vec::new();
    for task in tasks {
        let SignedIn::Admitted { session, .. } = task.await.unwrap() else {
            panic!()
        };
        sessions.push(session);
    }
    assert_eq!(world.gate.sessions().count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_shared_and_counted_once() {
    let world = World::new().await;
    *world.upstream.latency.lock().unwrap() = Duration::from_millis(300);
    let literal = world.literal_of("wrong password");
    let tasks = (0..8).map(|_| world.spawn(&literal)).collect();
    assert_eq!(reasons(tasks).await, [Reason::WrongPassword; 8]);
    assert_eq!((world.hash.count(), world.upstream.asked()), (1, 1));
    assert_eq!(world.log().await.len(), 1, "the log does not say it eight times");
    // Three distinct failures are allowed: this was one of them.
    let right = world.literal();
    drop(admitted(world.sign_in(&right).await, Reason::NewDevice));
}

#[tokio::test(start_paused = true)]
async fn more_than_sixteen_followers_are_too_many() {
    let world = World::new().await;
    *world.upstream.latency.lock().unwrap() = Duration::from_secs(1);
    let literal = world.literal();
    let tasks = (0..20).map(|_| world.spawn(&literal)).collect();
    let reasons = reasons(tasks).await;
    let count = |wanted| reasons.iter().filter(|reason| **reason == wanted).count();
    assert_eq!(
        [
            count(Reason::NewDevice),
            count(Reason::KnownDevice),
            count(Reason::Busy)
        ],
        [1, 16, 3]
    );
}

/// A future that is dropped after it was polled so many times: a client that hangs up in the middle.
struct Abandoned<F> {
    future: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F: Future> Future for Abandoned<F> {
    /// `Some` if it came to its end before.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            self.future = None;
        }
        let Some(future) = &mut self.future else {
            return Poll::Ready(None);
        };
        let polled = future.as_mut().poll(cx).map(Some);
        self.polls -= 1;
        if self.polls == 0 {
            // Nothing else would wake it to be dropped.
            cx.waker().wake_by_ref();
        }
        polled
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_vanishes_at_every_step_and_a_follower_goes_on() {
    let mut steps = 0;
    for polls in 1.. {
        let world = World::new().await;
        *world.upstream.latency.lock().unwrap() = Duration::from_millis(300);
        let literal = world.literal();
        let (gate, attempt, upstream) = (
            world.gate.clone(),
            world.attempt(&literal),
            world.upstream.clone(),
        );
        let leader = async move { gate.sign_in(attempt, &mut Connection(upstream)).await };
        let leader = tokio::spawn(Abandoned {
            future: Some(Box::pin(leader)),
            polls,
        });
        let followers = (0..7).map(|_| world.spawn(&literal)).collect();
        let reasons = reasons(followers).await;
        for reason in &reasons {
            assert!(
                matches!(reason, Reason::NewDevice | Reason::KnownDevice),
                "after {polls} polls: {reasons:?}"
            );
        }
        assert_eq!(world.device_count().await, 1, "after {polls} polls");
        assert_eq!(claims(&world).await, [ClaimState::Used], "after {polls} polls");
        assert!(world.hash.count() <= 2, "after {polls} polls");
        if leader.await.unwrap().is_some() {
            break;
        }
        steps = polls;
    }
    assert!(steps >= 10, "it vanished at {steps} steps only");
}

#[tokio::test(start_paused = true)]
async fn of_two_literals_with_one_code_only_one_gets_it() {
    let world = World::new().await;
    *world.upstream.latency.lock().unwrap() = Duration::from_millis(300);
    let code = world.code();
    let first = world.spawn(&format!("{}@{code}", crate::world::PASSWORD));
    let second = world.spawn(&format!("{},{code}", crate::world::PASSWORD));
    let mut reasons = reasons(vec![first, second]).await;
    reasons.sort_by_key(|reason| *reason != Reason::NewDevice);
    assert_eq!(reasons, [Reason::NewDevice, Reason::UsedCode]);
    assert_eq!(world.device_count().await, 1);
    assert_eq!(world.upstream.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_burns_nothing() {
    let world = World::new().await;
    *world.upstream.outage.lock().unwrap() = Some(Outage::Silent);
    let literal = world.literal();
    let tasks = (0..3).map(|_| world.spawn(&literal)).collect();
    assert_eq!(reasons(tasks).await, [Reason::UpstreamSilent; 3]);
    *world.upstream.outage.lock().unwrap() = None;
    drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
    assert_eq!(claims(&world).await, [ClaimState::Used]);
}

#[tokio::test(start_paused = true)]
async fn hanging_up_while_the_upstream_is_asked_is_a_guess() {
    let world = World::new().await;
    *world.upstream.latency.lock().unwrap() = Duration::from_secs(5);
    // Each with a code of its own: the right one, so that the upstream is asked at all.
    for number in 0..4 {
        let task = world.spawn(&world.literal_of(&format!("guess {number}")));
        while world.upstream.asked() <= number {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        tokio::time::sleep(Duration::from_secs(31)).await;
    }
    assert_eq!(
        refused(world.sign_in(&world.literal_of("guess 4")).await),
        Reason::PersonWaits
    );
    assert_eq!(world.upstream.asked(), 4);
    assert_eq!(world.device_count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_shipped_eight_connections_are_one_device_and_revoking_cuts_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::as_shipped(dir.path()).await;
    let literal = world.literal();
    let tasks = (0..8).map(|_| world.spawn(&literal)).collect();
    let reasons = reasons(tasks).await;
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| **reason == Reason::NewDevice)
            .count(),
        1
    );
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| **reason == Reason::KnownDevice)
            .count(),
        7
    );
    assert_eq!((world.hash.count(), world.device_count().await), (1, 1));
    assert_eq!(world.log().await.len(), 8);

    let session = admitted(world.sign_in(&literal).await, Reason::KnownDevice);
    let before = std::time::Instant::now();
    world.revoke_all().await;
    let mut cut = session.cut();
    cut.wait_for(Option::is_some).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(refused(world.sign_in(&literal).await), Reason::Revoked);
}
