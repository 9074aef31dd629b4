//! The policy: whatever is typed, from wherever, and whatever fails meanwhile, the promises of the access document hold.

use super::lab::*;
use std::collections::{HashMap, HashSet};

/// Pairs of octets are what happens: an attempt, time that passes, a failure that begins or ends. Everybody but the policy
/// is a model: it knows which codes are right, which literals became devices, and which of those were revoked.
pub fn sign_in(input: &[u8]) {
    let mut story = Story {
        lab: Lab::new(),
        alive: Vec::new(),
        dead: HashSet::new(),
        owners: HashMap::new(),
    };
    for event in input.chunks_exact(2).take(64) {
        story.happens(event[0], event[1]);
    }
}

struct Story {
    lab: Lab,
    /// Literals that are devices, as far as is known here; some may have expired or been replaced.
    alive: Vec<String>,
    /// Literals that were revoked.
    dead: HashSet<String>,
    /// Which literal made a device with which code.
    owners: HashMap<String, String>,
}

impl Story {
    fn happens(&mut self, what: u8, how: u8) {
        let lab = &mut self.lab;
        match what % 16 {
            0 => lab.pass(u64::from(how)),
            1 => lab.pass(u64::from(how) * HOUR),
            2 => lab.restart(),
            3 => lab.store_fails = how.is_multiple_of(4),
            4 => lab.pool_full = how.is_multiple_of(4),
            5 => lab.now.clock_known = !how.is_multiple_of(4),
            6 => {
                lab.says = match how % 4 {
                    0 => Some(Proof::Unavailable(Outage::Silent)),
                    1 => Some(Proof::Rejected(Rejection::Disabled)),
                    _ => None,
                };
            }
            7 => self.revokes(),
            8 => {
                let suspended = how.is_multiple_of(4);
                lab.person(|person| person.suspended = suspended);
            }
            _ => self.attempts(how),
        }
    }

    fn revokes(&mut self) {
        if !self.alive.is_empty() {
            self.lab.revoke_all();
            self.dead.extend(self.alive.drain(..));
        }
    }

    fn attempts(&mut self, how: u8) {
        let from = [HOME, AWAY, "100.64.0.9", "2001:db8::7"][usize::from(how >> 6)];
        let password = ["pw", "pw", "other", "pw@123456"][usize::from(how >> 4 & 3)];
        let known = |literals: &mut dyn Iterator<Item = &String>| literals.next().cloned();
        let literal = match how % 16 {
            0..=4 => self.lab.right(password),
            5 => format!("{password}@{}", self.lab.code(-1)),
            6 => format!("{password}@{}", self.lab.code(-40)),
            7 => format!("{password}@{}", self.lab.code(40)),
            8 => self.lab.wrong(password, 1),
            9 => password.to_owned(),
            10 => known(&mut self.dead.iter()).unwrap_or_default(),
            11 => known(&mut self.alive.iter()).unwrap_or_default(),
            _ => known(&mut self.alive.iter().rev()).unwrap_or_default(),
        };
        self.tries(&literal, from);
    }

    fn tries(&mut self, literal: &str, from: &str) {
        let right = self.right_code(literal);
        let asked = self.lab.proved.len();
        let suspended = self.is_suspended();
        let verdict = self.lab.sign_in(literal, from);
        let proofs = &self.lab.proved[asked..];
        assert!(proofs.len() <= 1, "one attempt, one guess");
        for trial in proofs {
            let is_device = self.alive.iter().any(|alive| alive == literal);
            assert!(right.is_some() || is_device, "asked without a code: {literal}");
            assert!(!self.dead.contains(literal), "asked for a revoked device");
            assert!(!suspended, "asked for somebody who is suspended");
            let (before, _) = literal.rsplit_once('@').expect("all of them have one");
            assert!(
                trial.password.same(before.as_bytes()),
                "more or less than the password went out"
            );
        }
        let Verdict::Admit(admission) = &verdict else {
            return;
        };
        assert_eq!(proofs.len(), 1, "let in although the mail server was not asked");
        assert!(
            literal.starts_with("pw@") && self.lab.says.is_none(),
            "let in against its word"
        );
        match admission.reason {
            Reason::NewDevice => {
                let code = right.expect("a device is made by a right code");
                let owner = self.owners.entry(code).or_insert_with(|| literal.to_owned());
                assert_eq!(owner, literal, "one code made two devices");
                self.alive.push(literal.to_owned());
            }
            Reason::KnownDevice => {}
            reason => panic!("{reason:?} when enforcing"),
        }
    }

    /// The code at the end, with its step, if it is right now or was a step ago or will be a step from now.
    fn right_code(&self, literal: &str) -> Option<String> {
        let (_, typed) = literal.rsplit_once('@')?;
        let near = (-1..=1).find(|offset| self.lab.code(*offset) == typed)?;
        let step = (self.lab.now.unix.0 / 30).checked_add_signed(near)?;
        Some(format!("{typed} of step {step}"))
    }

    fn is_suspended(&self) -> bool {
        matches!(self.lab.load(&Key::Person(ALICE)), Some(Record { value: Value::Person(person), .. }) if person.suspended)
    }
}
