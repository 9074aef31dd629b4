//! Counting failures: waits, blocks, decoys.

use crate::lab::*;
use proptest::prelude::*;

#[test]
fn more_than_three_different_failures_make_a_person_wait_from_that_network() {
    for login in ["alice", "bob"] {
        let mut lab = Lab::new();
        for n in 0..4 {
            let verdict = lab.run(attempt(login, &format!("guess{n}"), HOME));
            assert_eq!(hearing(&verdict), Hearing::Refused, "{login} {n}");
            lab.pass(10);
        }
        let Verdict::Refuse(refusal) = lab.run(attempt(login, "guess4", HOME)) else {
            panic!("let in")
        };
        assert_eq!(
            (refusal.reason, refusal.hearing()),
            (Reason::PersonWaits, Hearing::TryLater)
        );
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(600 - 40)));
        // Only from there, and only she.
        assert_eq!(
            hearing(&lab.run(attempt(login, "guess4", AWAY))),
            Hearing::Refused
        );
        assert_eq!(
            hearing(&lab.run(attempt("carol", "guess4", HOME))),
            Hearing::Refused
        );
        lab.pass(560);
        assert_eq!(
            hearing(&lab.run(attempt(login, "guess5", HOME))),
            Hearing::Refused
        );
    }
}

#[test]
fn the_same_wrong_literal_for_days_makes_nobody_wait() {
    let mut lab = Lab::new();
    for _ in 0..3 * 96 {
        let expected = Reason::NoCode;
        assert_eq!(lab.reason("old password", HOME), expected);
        lab.pass(15 * MINUTE);
    }
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
}

/// Where wrong passwords are asked about again and again, because learning changes nothing for anybody.
#[test]
fn one_wrong_password_every_half_minute_makes_nobody_wait() {
    let mut lab = Lab::learning();
    for _ in 0..20 {
        assert_eq!(lab.reason("old password", HOME), Reason::WrongPassword);
        lab.pass(30);
    }
    assert_eq!(lab.reason("pw", HOME), Reason::Learning);
}

#[test]
fn without_a_clock_a_network_is_blocked_all_the_same() {
    let mut lab = Lab::new();
    lab.now.clock_known = false;
    for n in 0..11 {
        let verdict = lab.run(attempt(&format!("bob{n}"), "guess", HOME));
        assert_eq!(reason(&verdict), Reason::UnknownPerson);
    }
    let Verdict::Refuse(refusal) = lab.run(attempt("carol", "guess", HOME)) else {
        panic!("let in")
    };
    assert_eq!(refusal.reason, Reason::NetworkBlocked);
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(5 * MINUTE)));
}

#[test]
fn more_than_ten_different_failures_block_a_network_longer_each_time() {
    let mut lab = Lab::new();
    let mut n = 0;
    let mut fail = |lab: &mut Lab| {
        n += 1;
        lab.run(attempt(&format!("bob{n}"), "guess", HOME))
    };
    for minutes in [5, 60, 24 * 60, 24 * 60] {
        let mut failures = 0;
        let lasts = loop {
            let verdict = fail(&mut lab);
            match verdict {
                Verdict::Refuse(refusal) if refusal.reason == Reason::NetworkBlocked => {
                    assert_eq!(refusal.hearing(), Hearing::TryLater);
                    break refusal.retry_after.unwrap();
                }
                _ => failures += 1,
            }
            assert!(failures < 20);
        };
        assert_eq!(lasts, Duration::from_secs(minutes * MINUTE));
        // A block outlives a start.
        lab.restart();
        assert_eq!(reason(&fail(&mut lab)), Reason::NetworkBlocked);
        assert_eq!(
            reason(&lab.run(attempt("bob", "guess", AWAY))),
            Reason::UnknownPerson
        );
        lab.pass(minutes * MINUTE);
        lab.memory.forget_all();
    }
    // After a day without, the row begins anew.
    lab.pass(DAY);
    for _ in 0..11 {
        assert_eq!(reason(&fail(&mut lab)), Reason::UnknownPerson);
    }
    let Verdict::Refuse(refusal) = fail(&mut lab) else {
        panic!("let in")
    };
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(5 * MINUTE)));
}

#[test]
fn known_devices_pass_every_block() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", AWAY);
    for n in 0..30 {
        lab.run(attempt(&format!("bob{n}"), "guess", HOME));
        lab.run(attempt("alice", &format!("guess{n}"), HOME));
    }
    assert_eq!(
        reason(&lab.run(attempt("carol", "guess", HOME))),
        Reason::NetworkBlocked
    );
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
    lab.memory.forget_all();
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
}

#[test]
fn where_she_signed_in_well_she_is_allowed_five_times_as_much() {
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    for n in 0..16 {
        assert_eq!(lab.reason(&format!("typo{n}"), HOME), Reason::NoCode, "{n}");
    }
    assert_eq!(lab.reason("typo", HOME), Reason::PersonWaits);
    // The block that others caused is not hers.
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    for n in 0..12 {
        lab.run(attempt(&format!("bob{n}"), "guess", HOME));
    }
    assert_eq!(
        reason(&lab.run(attempt("carol", "guess", HOME))),
        Reason::NetworkBlocked
    );
    lab.restart();
    assert_eq!(
        reason(&lab.run(attempt("carol", "guess", HOME))),
        Reason::NetworkBlocked
    );
    lab.pass(4 * MINUTE);
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
    // Five times as much is not everything.
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    lab.settings.counting.per_person = 1000;
    for n in 0..51 {
        assert_eq!(lab.reason(&format!("typo{n}"), HOME), Reason::NoCode, "{n}");
    }
    assert_eq!(lab.reason("typo", HOME), Reason::NetworkBlocked);
    // A week later she is a stranger there.
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    lab.pass(7 * DAY + HOUR);
    for n in 0..4 {
        assert_eq!(lab.reason(&format!("typo{n}"), HOME), Reason::NoCode, "{n}");
    }
    assert_eq!(lab.reason("typo", HOME), Reason::PersonWaits);
}

#[test]
fn ipv6_is_counted_by_64_and_more_leniently_by_56_and_48() {
    let first_block = |address: fn(u32) -> String| {
        let mut lab = Lab::new();
        let mut n = 0;
        while reason(&lab.run(attempt(&format!("bob{n}"), "guess", &address(n)))) != Reason::NetworkBlocked {
            n += 1;
            assert!(n < 200);
        }
        n
    };
    assert_eq!(first_block(|n| format!("2001:db8:0:1::{n:x}")), 11);
    assert_eq!(first_block(|n| format!("2001:db8:0:{n:x}::1")), 21);
    assert_eq!(first_block(|n| format!("2001:db8:0:{n:x}00::1")), 41);
}

#[test]
fn a_decoy_blocks_a_network_of_strangers_at_once() {
    let mut lab = Lab::new();
    assert_eq!(
        reason(&lab.run(attempt("Admin@example.org", "x", HOME))),
        Reason::Decoy
    );
    assert_eq!(
        reason(&lab.run(attempt("bob", "x", HOME))),
        Reason::NetworkBlocked
    );
    lab.pass(5 * MINUTE);
    assert_eq!(reason(&lab.run(attempt("bob", "x", HOME))), Reason::UnknownPerson);
    // Where somebody signed in well it only shows in the log.
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    assert_eq!(reason(&lab.run(attempt("admin", "x", HOME))), Reason::Decoy);
    assert_eq!(reason(&lab.run(attempt("bob", "x", HOME))), Reason::UnknownPerson);
}

proptest! {
    /// However failures, times and networks are mixed: the counter holds what happened within the window, no more than
    /// different literals, and a person waits exactly while there are more than three.
    #[test]
    fn a_person_waits_exactly_while_there_are_more_than_three(
        steps in proptest::collection::vec((0_u8..8, 0_u64..200), 1..60)
    ) {
        let mut lab = Lab::new();
        let mut model: Vec<(u8, u64)> = Vec::new();
        let mut clock = 0;
        for (guess, pause) in steps {
            clock += pause;
            lab.pass(pause);
            model.retain(|(_, at)| clock - at < 600);
            let waits = model.len() > 3;
            // A login that nobody has, so that nothing but the counter decides; a limit of the network beyond reach.
            lab.settings.counting.per_network = 1000;
            let verdict = lab.run(attempt("bob", &format!("guess{guess}"), HOME));
            let reason = reason(&verdict);
            if reason == Reason::RefusedLately {
                continue;
            }
            prop_assert_eq!(reason == Reason::PersonWaits, waits, "{:?}", model);
            if !waits && !model.iter().any(|(held, _)| *held == guess) {
                model.push((guess, clock));
            }
        }
    }
}
