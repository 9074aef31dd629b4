//! A right code belongs to one literal, whatever happens at the same time.

use crate::lab::*;

#[test]
fn another_literal_with_the_same_code_is_refused_and_the_same_literal_goes_on() {
    let mut lab = Lab::new();
    let code = lab.code(0);
    assert_eq!(lab.reason(&format!("pw@{code}"), HOME), Reason::NewDevice);
    assert_eq!(lab.reason(&format!("pw {code}"), HOME), Reason::UsedCode);
    assert_eq!(lab.reason(&format!("pw@{code}"), AWAY), Reason::KnownDevice);
    // Even for the right password, and even when the memory is gone.
    lab.restart();
    assert_eq!(lab.reason(&format!("pw{code}"), AWAY), Reason::UsedCode);
    assert_eq!(lab.proved.len(), 2);
    assert_eq!(lab.devices().devices.len(), 1);
}

#[test]
fn four_wrong_passwords_with_one_right_code() {
    let mut lab = Lab::new();
    for (n, expected) in [(1, 1), (2, 2), (3, 3)] {
        // Each from another network, so that nobody waits.
        assert_eq!(
            lab.reason(&lab.right(&format!("guess{n}")), &other(n)),
            Reason::WrongPassword
        );
        assert_eq!(lab.proved.len(), expected);
    }
    assert_eq!(lab.claims()[0].state, ClaimState::Dead);
    for password in ["guess4", "pw"] {
        assert_eq!(lab.reason(&lab.right(password), &other(4)), Reason::UsedCode);
    }
    assert_eq!(lab.proved.len(), 3, "zero bytes of the fourth");
}

#[test]
fn an_upstream_that_is_silent_burns_nothing() {
    for outage in [Outage::Silent, Outage::Unreachable, Outage::Limit, Outage::Tls] {
        let mut lab = Lab::new();
        let literal = lab.right("pw");
        lab.says = Some(Proof::Unavailable(outage));
        for _ in 0..20 {
            let verdict = lab.sign_in(&literal, HOME);
            assert_eq!(reason(&verdict), Reason::from(outage));
            assert_eq!(hearing(&verdict), Hearing::TryLater);
        }
        assert_eq!(lab.claims()[0].state, ClaimState::Released);
        lab.says = None;
        assert_eq!(lab.reason(&literal, HOME), Reason::NewDevice);
    }
}

#[test]
fn a_rejected_password_frees_the_code_for_the_right_one() {
    let mut lab = Lab::new();
    assert_eq!(lab.reason(&lab.right("typo"), HOME), Reason::WrongPassword);
    assert_eq!(lab.reason(&lab.right("typo"), HOME), Reason::RefusedLately);
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
    assert_eq!(lab.claims()[0].state, ClaimState::Used);
}

#[test]
fn expired_and_disabled_accounts_are_told_so_after_the_code() {
    for (rejection, expected) in [
        (Rejection::Expired, Reason::PasswordExpired),
        (Rejection::Disabled, Reason::AccountDisabled),
    ] {
        let mut lab = Lab::new();
        lab.says = Some(Proof::Rejected(rejection));
        let verdict = lab.sign_in(&lab.right("pw"), HOME);
        assert_eq!(hearing(&verdict), Hearing::Told(expected));
        assert_eq!(lab.claims()[0].state, ClaimState::Released);
        assert_eq!(lab.claims()[0].rejected, 0);
    }
}

/// Runs two attempts, whose steps take turns as the bits of `schedule` say.
fn race(lab: &mut Lab, attempts: [Attempt; 2], schedule: u32) -> [Verdict; 2] {
    let mut runs = attempts.map(|attempt| Some(lab.begin(attempt)));
    for turn in 0.. {
        let chosen = (schedule >> (turn % SCHEDULE_BITS)) as usize & 1;
        let open = |run: &Option<Next>| matches!(run, Some(Next::Need(..)));
        let which = match (open(&runs[chosen]), open(&runs[1 - chosen])) {
            (true, _) => chosen,
            (false, true) => 1 - chosen,
            (false, false) => break,
        };
        if let Some(Next::Need(sign_in, need)) = runs[which].take() {
            let answer = lab.answer(&sign_in, need);
            runs[which] = Some(lab.resume(sign_in, answer));
        }
    }
    runs.map(|run| match run {
        Some(Next::Done(verdict, _)) => verdict,
        _ => unreachable!("both have ended"),
    })
}

const SCHEDULE_BITS: u32 = 12;

/// Whatever the order of their steps, one of two literals becomes a device, and only that one is proven: for the first
/// code of a person, and for a later one.
#[test]
fn two_literals_race_for_one_code_at_every_step() {
    for (schedule, first) in (0..1 << SCHEDULE_BITS).flat_map(|n| [(n, true), (n, false)]) {
        let mut lab = Lab::new();
        if !first {
            lab.device("pw", HOME);
            lab.pass(5 * MINUTE);
        }
        let before = lab.proved.len();
        let code = lab.code(0);
        let attempts = ["pw@", "pw "].map(|pw| attempt("alice", &format!("{pw}{code}"), HOME));
        let mut reasons = race(&mut lab, attempts, schedule).map(|verdict| reason(&verdict));
        reasons.sort_by_key(|reason| *reason != Reason::NewDevice);
        assert_eq!(reasons, [Reason::NewDevice, Reason::UsedCode], "{schedule:b}");
        assert_eq!(lab.devices().devices.len(), before + 1, "{schedule:b}");
        assert_eq!(lab.proved.len(), before + 1, "{schedule:b}");
    }
}

/// A used code is not remembered as refused while its holder's password is not proven: a typo on the way must not lock out
/// the right password that follows it.
#[test]
fn a_code_held_by_a_typo_is_free_again_when_the_typo_is_refused() {
    let mut lab = Lab::new();
    lab.device("pw", AWAY);
    lab.pass(5 * MINUTE);
    let (typo, right) = (lab.right("typo"), lab.right("pw"));
    let mut next = lab.begin(attempt("alice", &typo, HOME));
    while let Next::Need(sign_in, need) = next {
        if matches!(need, Need::Prove(_)) {
            assert_eq!(lab.reason(&right, HOME), Reason::UsedCode);
        }
        let answer = lab.answer(&sign_in, need);
        next = lab.resume(sign_in, answer);
    }
    assert_eq!(lab.reason(&right, HOME), Reason::NewDevice);
}

/// Runs an attempt up to its proof, lets `meanwhile` happen, and goes on with the upstream's word.
fn with_meanwhile(lab: &mut Lab, literal: &str, meanwhile: impl Fn(&mut Lab)) -> Verdict {
    let mut next = lab.begin(attempt("alice", literal, HOME));
    loop {
        match next {
            Next::Done(verdict, _) => return verdict,
            Next::Need(sign_in, need) => {
                let proof = matches!(need, Need::Prove(_));
                let answer = lab.answer(&sign_in, need);
                if proof {
                    meanwhile(lab);
                }
                next = lab.resume(sign_in, answer);
            }
        }
    }
}

/// Gives the only claim to another literal, as another gateway may after the time of this one was over.
fn taken_by_another(lab: &mut Lab) {
    let held = lab.store.iter().find_map(|(key, (_, value))| match value {
        Value::Claim(claim) => Some((key.clone(), claim.clone())),
        _ => None,
    });
    let (key, claim) = held.unwrap();
    let tag = Tag([9; 32]);
    lab.put(key, Value::Claim(Claim { tag, ..claim }));
}

#[test]
fn a_device_is_made_only_while_the_claim_is_its_own() {
    let mut lab = Lab::new();
    let literal = lab.right("pw");
    let verdict = with_meanwhile(&mut lab, &literal, taken_by_another);
    assert_eq!(hearing(&verdict), Hearing::Told(Reason::UsedCode));
    assert!(lab.devices().devices.is_empty());
    assert_eq!(lab.claims()[0].tag, Tag([9; 32]));
}

#[test]
fn a_late_refusal_frees_no_claim_of_another_literal() {
    let mut lab = Lab::new();
    let literal = lab.right("typo");
    let verdict = with_meanwhile(&mut lab, &literal, taken_by_another);
    assert_eq!(reason(&verdict), Reason::WrongPassword);
    let claim = &lab.claims()[0];
    assert_eq!((claim.tag, claim.state), (Tag([9; 32]), ClaimState::Claimed));
}

/// The same literal twice at once, as a mail program sends it: both are let in, as one device.
#[test]
fn one_literal_twice_at_every_step() {
    for schedule in 0..1 << SCHEDULE_BITS {
        let mut lab = Lab::new();
        let literal = lab.right("pw");
        let attempts = [HOME, AWAY].map(|from| attempt("alice", &literal, from));
        let mut reasons = race(&mut lab, attempts, schedule).map(|verdict| reason(&verdict));
        reasons.sort_by_key(|reason| *reason != Reason::NewDevice);
        assert_eq!(reasons, [Reason::NewDevice, Reason::KnownDevice], "{schedule:b}");
        assert_eq!(lab.devices().devices.len(), 1, "{schedule:b}");
    }
}

/// Two codes at once: neither device is lost to the other's write, nor made with a salt that is not hers.
#[test]
fn two_devices_made_at_once_at_every_step() {
    for schedule in 0..1 << SCHEDULE_BITS {
        let mut lab = Lab::new();
        let literals = [0, 1].map(|offset| format!("pw@{}", lab.code(offset)));
        let attempts = literals.each_ref().map(|literal| attempt("alice", literal, HOME));
        let reasons = race(&mut lab, attempts, schedule).map(|verdict| reason(&verdict));
        assert_eq!(reasons, [Reason::NewDevice, Reason::NewDevice], "{schedule:b}");
        assert_eq!(lab.devices().devices.len(), 2, "{schedule:b}");
        lab.restart();
        for literal in literals {
            assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice, "{schedule:b}");
        }
    }
}

/// The client of the first attempt vanishes after any number of steps: the same literal works all the same.
#[test]
fn a_leader_that_vanishes_at_each_step_leaves_the_literal_good() {
    let mut vanished = 0;
    for steps in 0..20 {
        let mut lab = Lab::new();
        let literal = lab.right("pw");
        let mut next = lab.begin(attempt("alice", &literal, HOME));
        let mut finished = false;
        for _ in 0..steps {
            match next {
                Next::Need(sign_in, need) => {
                    let answer = lab.answer(&sign_in, need);
                    next = lab.resume(sign_in, answer);
                }
                Next::Done(..) => {
                    finished = true;
                    break;
                }
            }
        }
        if let Next::Need(sign_in, _) = &next {
            vanished += 1;
            if let Some(charge) = sign_in.charge() {
                let (settings, now) = (lab.settings.clone(), lab.now);
                lab.memory.count_abandoned(charge, &settings, now);
            }
        }
        drop(next);
        let verdict = lab.sign_in(&literal, AWAY);
        assert!(
            matches!(verdict, Verdict::Admit(_)),
            "after {steps} steps: {verdict:?}"
        );
        assert_eq!(lab.devices().devices.len(), 1);
        if finished {
            break;
        }
    }
    assert!(vanished >= 8, "the way has that many steps: {vanished}");
}

#[test]
fn a_store_that_fails_at_any_step_lets_nobody_in_and_burns_nothing() {
    for steps in 0..20 {
        let mut lab = Lab::new();
        let literal = lab.right("pw");
        let mut next = lab.begin(attempt("alice", &literal, HOME));
        let mut count = 0;
        let verdict = loop {
            match next {
                Next::Need(sign_in, need) => {
                    lab.store_fails = count >= steps;
                    count += 1;
                    let answer = lab.answer(&sign_in, need);
                    next = lab.resume(sign_in, answer);
                }
                Next::Done(verdict, _) => break verdict,
            }
        };
        lab.store_fails = false;
        if count <= steps {
            assert_eq!(reason(&verdict), Reason::NewDevice);
            return;
        }
        assert_eq!(reason(&verdict), Reason::StoreUnavailable, "after {steps} steps");
        assert_eq!(
            lab.reason(&literal, HOME),
            Reason::NewDevice,
            "after {steps} steps"
        );
    }
    panic!("never ran through");
}

#[test]
fn an_answer_to_another_question_lets_nobody_in() {
    let mut lab = Lab::new();
    let literal = lab.right("pw");
    let mut next = lab.begin(attempt("alice", &literal, HOME));
    let mut seen = 0;
    while let Next::Need(sign_in, need) = next {
        if !matches!(need, Need::Prove(_)) {
            seen += 1;
            let mut other = Lab::new();
            let mut stray = other.begin(attempt("alice", &literal, HOME));
            for _ in 1..seen {
                let Next::Need(sign_in, need) = stray else {
                    panic!("ended early")
                };
                let answer = other.answer(&sign_in, need);
                stray = other.resume(sign_in, answer);
            }
            if let Next::Need(stray, need) = stray
                && !matches!(need, Need::Prove(_))
            {
                let next = other.resume(stray, Answer::Proved(Proof::Accepted));
                assert!(matches!(next, Next::Done(Verdict::Refuse(_), _)), "{need:?}");
            }
        }
        let answer = lab.answer(&sign_in, need);
        next = lab.resume(sign_in, answer);
    }
    assert!(seen > 5);
}
