//! Hours of IDLE (RFC 2177) in virtual time: IMAP's own guard, real sockets, the idle deadline that the configuration
//! has by default.

use super::{Leg, Plan, Session, ended_cause, expect, rest, say};
use gatepost::reason::Protocol;
use gatepost::wire::{CloseCause, dialect};
use std::future::poll_fn;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

/// Where nothing is configured; `tests/config.rs` holds the default to it.
const DEADLINE: Duration = minutes(35);

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// A clock that stands still between [`Clock::advance`]s.
struct Clock {
    _held: mpsc::Sender<()>,
}

impl Clock {
    fn stop() -> Clock {
        tokio::time::pause();
        // A paused clock jumps to the next timer as soon as there is nothing to do, such as when bytes are on their way
        // through the kernel. It does not while a blocking task is at work.
        let (held, released) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || released.recv());
        Clock { _held: held }
    }

    /// Lets time pass and whoever waited for it have their turn.
    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

/// A session of a mail program that has opened its mailbox and begins to idle.
async fn idling() -> (Session, Clock) {
    let mut plan = Plan::new([Leg::Tls, Leg::Tls], super::Lines::default());
    plan.guard = (dialect(Protocol::Imap).guard)();
    plan.idle = DEADLINE;
    let clock = Clock::stop();
    let mut session = plan.start().await;
    begin_idle(&mut session).await;
    (session, clock)
}

async fn begin_idle(session: &mut Session) {
    say(&mut session.client, b"a IDLE\r\n").await;
    expect(&mut session.upstream, b"a IDLE\r\n").await;
    say(&mut session.upstream, b"+ idling\r\n").await;
    expect(&mut session.client, b"+ idling\r\n").await;
}

async fn end_idle(session: &mut Session) {
    say(&mut session.client, b"DONE\r\n").await;
    expect(&mut session.upstream, b"DONE\r\n").await;
    say(&mut session.upstream, b"a OK Idle completed\r\n").await;
    expect(&mut session.client, b"a OK Idle completed\r\n").await;
}

/// Neither ended nor about to: its client has nothing to read, not even an end.
async fn goes_on(session: &mut Session) -> bool {
    let mut byte = [0];
    let said = poll_fn(|cx| Poll::Ready(session.client.poll_read(cx, &mut byte).is_ready())).await;
    !said && !session.task.is_finished()
}

async fn cause_of_the_end(mut session: Session, clock: Clock) -> CloseCause {
    // The relay lingers for the client's last bytes.
    clock.advance(minutes(1)).await;
    assert_eq!(rest(&mut session.upstream).await, b"");
    ended_cause(&mut session).await
}

#[tokio::test]
async fn idle_that_begins_again_every_29_minutes_goes_on_for_hours() {
    let (mut session, clock) = idling().await;
    for _ in 0..12 {
        clock.advance(minutes(29)).await;
        end_idle(&mut session).await;
        begin_idle(&mut session).await;
    }
}

/// Dovecot says that much every 2 minutes; there are mail programs that rely on it and never begin IDLE again.
#[tokio::test]
async fn idle_goes_on_for_hours_with_a_server_that_is_still_here() {
    let (mut session, clock) = idling().await;
    for _ in 0..200 {
        clock.advance(minutes(2)).await;
        say(&mut session.upstream, b"* OK Still here\r\n").await;
        expect(&mut session.client, b"* OK Still here\r\n").await;
    }
    end_idle(&mut session).await;
}

#[tokio::test]
async fn silent_idle_ends_at_the_deadline_with_a_goodbye() {
    let (mut session, clock) = idling().await;
    clock.advance(DEADLINE - Duration::from_secs(1)).await;
    assert!(goes_on(&mut session).await);
    clock.advance(Duration::from_secs(2)).await;
    assert_eq!(
        rest(&mut session.client).await,
        b"* BYE Nothing said for too long\r\n"
    );
    assert_eq!(cause_of_the_end(session, clock).await, CloseCause::Idle);
}

/// Words would become part of the message (P45).
#[tokio::test]
async fn silence_inside_a_literal_ends_at_the_deadline_without_words() {
    let (mut session, clock) = idling().await;
    end_idle(&mut session).await;
    let begun = b"* 1 FETCH (BODY[] {50}\r\nFrom: some";
    say(&mut session.upstream, begun).await;
    expect(&mut session.client, begun).await;
    clock.advance(DEADLINE - Duration::from_secs(1)).await;
    assert!(goes_on(&mut session).await);
    clock.advance(Duration::from_secs(2)).await;
    assert_eq!(rest(&mut session.client).await, b"");
    assert_eq!(cause_of_the_end(session, clock).await, CloseCause::Idle);
}
