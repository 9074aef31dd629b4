//! A fault of our own: a machine or a guard that panics.

use crate::house::House;
use crate::support::log;
use crate::support::stage::Stage;
use crate::support::upstream::Script;
use gatepost::gate::slow_hash::{Argon2id, LEAST_MEMORY_KIB, PoolSettings};
use gatepost::reason::{Protocol, Refusal};
use gatepost::wire::{
    CloseCause, Dialect, Direction, Guard, Introduction, Leftover, Machine, OutBuf, ServerEvent,
    ServerMachine, Step, Success, Watch, dialect,
};
use std::time::Instant;

/// Whoever reads this word panics.
const WORD: &[u8] = b"STUMBLE";

fn stumble_over(bytes: &[u8]) {
    assert!(
        !bytes.windows(WORD.len()).any(|window| window == WORD),
        "stumbled, as the test wants"
    );
}

/// IMAP, spoken by machines that stumble.
fn stumbling() -> &'static Dialect {
    let imap = dialect(Protocol::Imap);
    Box::leak(Box::new(Dialect {
        server: |facts| Box::new(Stumbling((dialect(Protocol::Imap).server)(facts))),
        guard: || Box::new(Stumbling((dialect(Protocol::Imap).guard)())),
        ..*imap
    }))
}

struct Stumbling<M: ?Sized>(Box<M>);

impl Machine for Stumbling<dyn ServerMachine> {
    type Event = ServerEvent;

    fn input(&mut self, bytes: &[u8]) -> usize {
        stumble_over(bytes);
        self.0.input(bytes)
    }

    fn end_of_input(&mut self) {
        self.0.end_of_input();
    }

    fn step(&mut self, now: Instant, out: &mut OutBuf) -> Step<ServerEvent> {
        self.0.step(now, out)
    }
}

impl ServerMachine for Stumbling<dyn ServerMachine> {
    fn tls_started(&mut self) {
        self.0.tls_started();
    }

    fn admit(&mut self, success: Success) {
        self.0.admit(success);
    }

    fn refuse(&mut self, refusal: Refusal, at: Instant) {
        self.0.refuse(refusal, at);
    }

    fn shutting_down(&mut self, cause: CloseCause) {
        self.0.shutting_down(cause);
    }

    fn introduction(&self) -> Introduction {
        self.0.introduction()
    }

    fn into_leftover(self: Box<Self>) -> Leftover {
        self.0.into_leftover()
    }
}

impl Guard for Stumbling<dyn Guard> {
    fn inspect(&mut self, direction: Direction, bytes: &[u8]) -> Watch {
        stumble_over(bytes);
        self.0.inspect(direction, bytes)
    }

    fn safe_to_speak(&self) -> bool {
        self.0.safe_to_speak()
    }

    fn goodbye(&self, cause: CloseCause) -> OutBuf {
        self.0.goodbye(cause)
    }
}

#[test]
fn a_panic_ends_its_own_connection_only() {
    log::keep();
    let stage = Stage::new(Script::default());
    let pool = PoolSettings::of_this_machine(LEAST_MEMORY_KIB);
    let house = House::build(
        &stage,
        "stumbling",
        stumbling(),
        std::sync::Arc::new(Argon2id),
        pool,
    );
    let literal = format!("secret@{}", stage.alice.code());
    let (mut other, answer) = house.sign_in("alice", &literal);
    assert!(answer.starts_with("a OK"), "{answer}");
    let mut waiting = house.client();
    let (mut session, answer) = house.sign_in("alice", &literal);
    assert!(answer.starts_with("a OK"), "{answer}");
    assert_eq!(house.gate.sessions().count(), 2);

    let mut before = house.client();
    before.send("x STUMBLE\r\n");
    assert_eq!(before.rest(), "", "closed before sign-in");
    session.send("x STUMBLE\r\n");
    assert_eq!(session.rest(), "", "closed after it");
    assert!(!String::from_utf8_lossy(&stage.upstream.received()).contains("STUMBLE"));

    // Each is the last thing that its connection does.
    let told = log::wait_for(&["connection-panicked", "listener=stumbling"], 2);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(
        house.gate.sessions().count(),
        1,
        "its session is off the registry"
    );
    assert_eq!(other.command("n", "NOOP"), "n OK NOOP done");
    assert_eq!(waiting.command("n", "NOOP"), "n OK Nothing done");
    let (_, answer) = house.sign_in("alice", &literal);
    assert!(answer.starts_with("a OK"), "{answer}");
    assert!(
        told[0].contains("ERROR") && told[0].contains("please report it"),
        "{told:?}"
    );
}
