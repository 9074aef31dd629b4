//! Sessions end when what let them in is gone.

use crate::world::{ALICE, World, admitted, refused, settings};
use gatepost::gate::sessions::{Cut, SessionHandle};
use gatepost::reason::Reason;
use gatepost::store::records::{Batch, Expect, Key, Mode};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long until the session is told to end; at most a second.
async fn is_cut(session: &SessionHandle) -> bool {
    let mut cut = session.cut();
    let told = timeout(Duration::from_secs(1), cut.wait_for(|cut| *cut == Some(Cut::Cut))).await;
    told.is_ok_and(|told| told.is_ok())
}

#[tokio::test(start_paused = true)]
async fn revoking_cuts_a_live_session_and_kills_the_literal() {
    let world = World::new().await;
    let literal = world.literal();
    let session = admitted(world.sign_in(&literal).await, Reason::NewDevice);
    let other = admitted(world.sign_in(&literal).await, Reason::KnownDevice);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(session.cut().borrow().is_none(), "its own making does not cut it");
    let before = Instant::now();
    world.revoke_all().await;
    assert!(is_cut(&session).await && is_cut(&other).await);
    assert!(before.elapsed() < Duration::from_millis(100));
    assert_eq!(refused(world.sign_in(&literal).await), Reason::Revoked);
    drop((session, other));
    assert_eq!(world.gate.sessions().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn revoking_reaches_a_session_between_verdict_and_relay() {
    let (mut cut, mut turned_away) = (0, 0);
    // The upstream answers after 50 ms. The device is revoked before, or so many turns of the scheduler after.
    for (millis, turns) in [(10, 0), (49, 0)]
        .into_iter()
        .chain((0..40).map(|turns| (50, turns)))
    {
        let world = World::new().await;
        let literal = world.literal();
        drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
        *world.upstream.latency.lock().unwrap() = Duration::from_millis(50);
        let revoking = world.revocation().await;
        let task = world.spawn(&literal);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        world.commit(revoking).await;
        match task.await.unwrap() {
            gatepost::gate::SignedIn::Admitted { session, .. } => {
                assert!(is_cut(&session).await, "after {millis} ms and {turns} turns");
                cut += 1;
            }
            refused => {
                assert_eq!(crate::world::refused(refused), Reason::Revoked);
                turned_away += 1;
            }
        }
    }
    assert!(cut > 0 && turned_away > 0, "{cut} cut, {turned_away} turned away");
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_a_person_happens_to_her_sessions() {
    let world = World::new().await;
    let literal = world.literal();
    let session = admitted(world.sign_in(&literal).await, Reason::NewDevice);
    world
        .change_alice(|alice| alice.aliases.push("al@example.org".into()))
        .await;
    assert!(!is_cut(&session).await, "an alias more is no reason");
    world.change_alice(|alice| alice.suspended = true).await;
    assert!(is_cut(&session).await);
    assert_eq!(refused(world.sign_in(&literal).await), Reason::Suspended);

    world.change_alice(|alice| alice.suspended = false).await;
    let session = admitted(world.sign_in(&literal).await, Reason::KnownDevice);
    world
        .commit(Batch::default().remove(Key::Person(ALICE), Expect::Any))
        .await;
    assert!(is_cut(&session).await);
}

#[tokio::test(start_paused = true)]
async fn switching_to_enforcing_cuts_who_came_by_password_alone() {
    let mut learning = settings();
    learning.mode = Mode::Learning;
    let world = World::with(learning.clone()).await;
    let by_password = admitted(world.sign_in(crate::world::PASSWORD).await, Reason::Learning);
    let by_code = admitted(world.sign_in(&world.literal()).await, Reason::NewDevice);
    world.gate.reload(learning);
    assert!(!is_cut(&by_password).await);
    world.gate.reload(settings());
    assert!(is_cut(&by_password).await);
    assert!(!is_cut(&by_code).await);
}

#[tokio::test(start_paused = true)]
async fn a_persons_mode_counts_as_well() {
    let mut learning = settings();
    learning.mode = Mode::Learning;
    let world = World::with(learning).await;
    let session = admitted(world.sign_in(crate::world::PASSWORD).await, Reason::Learning);
    world
        .change_alice(|alice| alice.mode = Some(Mode::Enforcing))
        .await;
    assert!(is_cut(&session).await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_just_then_only_delays_the_cut() {
    let world = World::new().await;
    let literal = world.literal();
    let session = admitted(world.sign_in(&literal).await, Reason::NewDevice);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let revoked = world.revoke_all();
    revoked.await;
    world.engine.cannot_read.store(true, Ordering::SeqCst);
    assert!(!is_cut(&session).await);
    world.engine.cannot_read.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_cut(&session).await);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lagged_loses_no_revocation() {
    let world = World::new().await;
    let literal = world.literal();
    let session = admitted(world.sign_in(&literal).await, Reason::NewDevice);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.engine.drowns_changes.store(true, Ordering::SeqCst);
    world.revoke_all().await;
    assert!(is_cut(&session).await);
    assert_eq!(refused(world.sign_in(&literal).await), Reason::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_does_not_keep_the_administrator_waiting() {
    let world = World::new().await;
    let literal = world.literal();
    drop(admitted(world.sign_in(&literal).await, Reason::NewDevice));
    world.gate.settle().await;
    world.engine.hangs.store(true, Ordering::SeqCst);
    drop(admitted(world.sign_in(&literal).await, Reason::KnownDevice));
    let settled = timeout(Duration::from_secs(2), world.gate.settle()).await;
    assert!(settled.is_ok(), "status, and cutting a session, wait for this");
}
