//! The queue for slow hashes is full.

use crate::house::House;
use crate::support::log;
use crate::support::stage::Stage;
use crate::support::upstream::Script;
use gatepost::gate::slow_hash::{Argon2id, HashError, PoolSettings, SlowHash};
use gatepost::reason::Protocol;
use gatepost::store::records::SlowHashCost;
use gatepost::wire::dialect;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// Argon2id that waits for the test.
#[derive(Default)]
struct Stuck {
    stuck: Mutex<bool>,
    changed: Condvar,
}

impl Stuck {
    fn set(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.changed.notify_all();
    }
}

impl SlowHash for Stuck {
    fn hash(&self, literal: &[u8], cost: &SlowHashCost) -> Result<Zeroizing<[u8; 32]>, HashError> {
        let stuck = self.stuck.lock().unwrap();
        drop(self.changed.wait_while(stuck, |stuck| *stuck).unwrap());
        Argon2id.hash(literal, cost)
    }
}

/// Two hashes at once, and four that wait.
const POOL: PoolSettings = PoolSettings {
    threads: 2,
    longest_queue: Duration::from_secs(2),
    first_guess: Duration::from_secs(1),
};

/// More than that.
const COLD: usize = 16;

#[test]
fn while_no_hash_can_be_made_known_devices_notice_nothing_and_others_hear_try_later() {
    log::keep();
    let stage = Stage::new(Script::default());
    let stuck = Arc::new(Stuck::default());
    let hash: Arc<dyn SlowHash> = stuck.clone();
    let house = House::build(&stage, "hashes", dialect(Protocol::Imap), hash, POOL);
    let literal = format!("secret@{}", stage.alice.code());
    let (mut session, answer) = house.sign_in("alice", &literal);
    assert!(answer.starts_with("a OK"), "{answer}");
    let others: Vec<(String, String)> = (0..COLD)
        .map(|number| {
            let login = format!("p{number}@example.org");
            let phone = stage.gateway.enrol(&login);
            (login, format!("secret@{}", phone.code()))
        })
        .collect();

    stuck.set(true);
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        for (login, literal) in &others {
            let (tell, house) = (tell.clone(), &house);
            scope.spawn(move || tell.send(house.sign_in(login, literal).1).unwrap());
        }
        let first = told.recv().unwrap();
        assert!(first.starts_with("a NO [UNAVAILABLE]"), "{first}");
        let (_, answer) = house.sign_in("alice", &literal);
        assert!(answer.starts_with("a OK"), "a known device: {answer}");
        assert_eq!(session.command("n", "NOOP"), "n OK NOOP done");

        stuck.set(false);
        drop(tell);
        let rest: Vec<String> = told.iter().collect();
        let admitted = rest.iter().filter(|answer| answer.starts_with("a OK")).count();
        let later = rest
            .iter()
            .filter(|answer| answer.starts_with("a NO [UNAVAILABLE]"))
            .count();
        assert_eq!(admitted + later, COLD - 1, "{rest:#?}");
        assert!(admitted >= 2, "those who had a place got in: {rest:#?}");
    });
    let busy = log::wait_for(&["listener=hashes", "reason=busy"], 1);
    assert!(!busy.is_empty(), "the log says so");
}
