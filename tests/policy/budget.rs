//! The guessing budget.

use crate::lab::*;

#[test]
fn right_passwords_with_wrong_codes_spend_the_budget() {
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    for n in 0..10 {
        assert_eq!(
            lab.reason(&lab.wrong("pw", n), &other(n)),
            Reason::WrongCode,
            "{n}"
        );
    }
    assert!(lab.budget().spent.is_some());
    assert_eq!(lab.budget().miss_networks.len(), 10);
    lab.pass(5 * MINUTE);
    lab.proved.clear();
    let verdict = lab.sign_in(&lab.right("pw"), HOME);
    assert_eq!(
        (reason(&verdict), hearing(&verdict)),
        (Reason::BudgetSpent, Hearing::Refused)
    );
    lab.pass(200 * DAY);
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::BudgetSpent);
    assert!(lab.proved.is_empty());
    // Restored by hand: the record is removed. The next code is good again.
    lab.store.remove(&Key::Budget(ALICE));
    lab.pass(MINUTE);
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
}

#[test]
fn a_spent_budget_changes_no_answer_that_was_given_before() {
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    let earlier = lab.wrong("nonsense", 99);
    assert_eq!(lab.reason(&earlier, AWAY), Reason::WrongCode);
    for n in 0..10 {
        lab.reason(&lab.wrong("pw", n), &other(n));
    }
    assert!(lab.budget().spent.is_some());
    // An attacker who keeps asking this must not learn that the password in the other guesses was right.
    assert_eq!(lab.reason(&earlier, AWAY), Reason::RefusedLately);
}

#[test]
fn thirty_misses_in_a_month_spend_it_too_and_older_ones_do_not_count() {
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    for n in 0..29 {
        lab.reason(&lab.wrong("pw", n), &other(n));
        lab.pass(DAY);
    }
    assert_eq!(lab.budget().spent, None);
    lab.reason(&lab.wrong("pw", 40), &other(40));
    assert!(lab.budget().spent.is_some());
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    for n in 0..60 {
        lab.reason(&lab.wrong("pw", n), &other(n));
        lab.pass(DAY + HOUR);
    }
    assert_eq!(lab.budget().spent, None);
    assert!(lab.budget().misses.len() <= 31);
}

#[test]
fn a_program_that_repeats_one_miss_for_a_day_is_one_miss() {
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    let wrong = lab.wrong("pw", 1);
    for _ in 0..90 {
        lab.pass(15 * MINUTE);
        lab.reason(&wrong, AWAY);
    }
    assert_eq!(lab.budget().misses.iter().map(|(_, n)| n).sum::<u32>(), 1);
}

#[test]
fn the_budget_is_written_before_the_refusal() {
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    let wrong = lab.wrong("pw", 1);
    let mut next = lab.begin(attempt("alice", &wrong, AWAY));
    while let Next::Need(sign_in, need) = next {
        if let Need::Commit(batch, durability) = &need {
            assert_eq!(*durability, Durability::Synced);
            assert!(matches!(batch.0[0].key, Key::Budget(_)));
            // Another process counts a miss at the same moment: none of the two is lost.
            lab.put(
                Key::Budget(ALICE),
                Value::Budget(Budget {
                    misses: vec![(lab.now.unix.0 / DAY, 5)],
                    ..Budget::default()
                }),
            );
            let answer = lab.answer(&sign_in, need);
            next = lab.resume(sign_in, answer);
            while let Next::Need(sign_in, need) = next {
                let answer = lab.answer(&sign_in, need);
                next = lab.resume(sign_in, answer);
            }
            assert_eq!(lab.budget().misses[0].1, 6);
            return;
        }
        let answer = lab.answer(&sign_in, need);
        next = lab.resume(sign_in, answer);
    }
    panic!("the miss was not written");
}

#[test]
fn a_spent_budget_keeps_her_devices_where_they_were_used_before() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    for n in 0..10 {
        lab.reason(&lab.wrong("pw", n), &other(n));
    }
    for start in [false, true] {
        if start {
            lab.restart();
        }
        assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
        lab.proved.clear();
        let verdict = lab.sign_in(&literal, AWAY);
        assert_eq!(
            (reason(&verdict), hearing(&verdict)),
            (Reason::BudgetSpent, Hearing::Refused)
        );
        assert!(lab.proved.is_empty());
    }
    // A miss from her own network bars that as well.
    lab.reason(&lab.wrong("pw", 30), HOME);
    assert_eq!(lab.reason(&literal, HOME), Reason::BudgetSpent);
}

#[test]
fn a_network_used_after_the_first_miss_does_not_count_as_used_before() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.reason(&lab.wrong("pw", 0), &other(0));
    assert_eq!(lab.reason(&literal, AWAY), Reason::KnownDevice);
    let late = lab.device("pw", HOME);
    for n in 1..10 {
        lab.reason(&lab.wrong("pw", n), &other(n));
    }
    assert!(lab.budget().spent.is_some());
    assert_eq!(lab.reason(&literal, AWAY), Reason::BudgetSpent);
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
    assert_eq!(lab.reason(&late, HOME), Reason::BudgetSpent);
}

#[test]
fn a_new_mail_password_restores_the_budget() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    for n in 0..10 {
        lab.reason(&lab.wrong("pw", n), &other(n));
    }
    lab.passwords = vec![b"new".to_vec()];
    assert_eq!(lab.reason(&literal, HOME), Reason::PasswordChanged);
    assert_eq!(lab.budget(), Budget::default());
    lab.device("new", HOME);
}

#[test]
fn after_a_restart_nobody_knows_what_was_guessed_with_so_nothing_restores_it() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    for n in 0..10 {
        lab.reason(&lab.wrong("pw", n), &other(n));
    }
    lab.restart();
    lab.passwords = vec![b"new".to_vec()];
    assert_eq!(lab.reason(&literal, HOME), Reason::PasswordChanged);
    assert!(lab.budget().spent.is_some());
}

#[test]
fn another_programs_old_password_does_not_restore_it() {
    let mut lab = Lab::new();
    lab.passwords = vec![b"one".to_vec(), b"two".to_vec()];
    let first = lab.device("one", HOME);
    lab.device("two", HOME);
    for n in 0..10 {
        assert_eq!(lab.reason(&lab.wrong("two", n), &other(n)), Reason::WrongCode);
    }
    assert!(lab.budget().spent.is_some());
    lab.passwords = vec![b"two".to_vec()];
    assert_eq!(lab.reason(&first, HOME), Reason::PasswordChanged);
    assert!(lab.budget().spent.is_some());
}

#[test]
fn while_no_password_is_verified_strangers_codes_count_a_hundred_a_day() {
    let mut lab = Lab::new();
    lab.device("pw", HOME);
    lab.restart();
    for n in 0..99 {
        lab.reason(&lab.wrong("x", n), &other(n));
    }
    assert_eq!(lab.budget().spent, None);
    // Not from where she signed in well, not what has no code, not twice.
    lab.reason(&lab.wrong("x", 1000), HOME);
    lab.reason("guess", &other(1001));
    lab.reason(&lab.wrong("x", 5), &other(1002));
    assert_eq!(lab.budget().spent, None);
    lab.reason(&lab.wrong("x", 1003), &other(1003));
    assert!(lab.budget().spent.is_some());
    // Nobody knows that these were right passwords: they are no misses of their networks.
    assert!(lab.budget().miss_networks.is_empty());
}

#[test]
fn ten_thousand_guesses_at_a_person_with_three_devices_change_nothing_for_her_devices() {
    let mut lab = Lab::new();
    let literals: Vec<String> = (0..3).map(|_| lab.device("pw", HOME)).collect();
    let before = lab.devices();
    let (hashes, proofs) = (lab.hashes, lab.proved.len());
    for n in 0..10_000 {
        let guess = lab.wrong(&format!("guess{n}"), n % 40_000);
        let from = other(n / 2);
        assert!(matches!(lab.sign_in(&guess, &from), Verdict::Refuse(_)));
        if n % 100 == 0 {
            lab.pass(20);
        }
    }
    assert_eq!(
        (lab.hashes, lab.proved.len()),
        (hashes, proofs),
        "wrong guesses bought nothing"
    );
    assert_eq!(lab.devices(), before);
    assert_eq!(lab.budget().spent, None);
    for (place, literal) in literals.iter().enumerate() {
        assert_eq!(lab.reason(literal, HOME), Reason::KnownDevice);
        assert_eq!(lab.reason(literal, &other(place as u32)), Reason::KnownDevice);
    }
    assert_eq!(lab.hashes, hashes, "still warm");
    lab.device("pw", HOME);
}

/// The same, for an attacker who knows the password: her devices go on where they were.
#[test]
fn ten_thousand_guesses_with_her_password_leave_her_devices_at_home_alone() {
    let mut lab = Lab::new();
    let literals: Vec<String> = (0..3).map(|_| lab.device("pw", HOME)).collect();
    for n in 0..10_000 {
        lab.sign_in(&lab.wrong("pw", n % 40_000), &other(n / 2));
    }
    assert!(lab.budget().spent.is_some());
    assert!(lab.budget().miss_networks.len() < 64);
    for start in [false, true] {
        if start {
            lab.restart();
        }
        for literal in &literals {
            assert_eq!(lab.reason(literal, HOME), Reason::KnownDevice);
            assert_eq!(lab.reason(literal, AWAY), Reason::BudgetSpent);
        }
    }
}

#[test]
fn a_literal_whose_password_is_known_to_be_wrong_is_not_hashed() {
    let mut lab = Lab::new();
    let first = lab.device("pw", HOME);
    lab.device("pw", HOME);
    lab.restart();
    // Nothing is known yet: each different guess costs one hash.
    lab.reason(&lab.wrong("x", 1), &other(1));
    assert_eq!(lab.hashes, 3);
    assert_eq!(lab.reason(&first, HOME), Reason::KnownDevice);
    assert_eq!(lab.hashes, 4);
    // The other device has not been seen, but its password is known by now.
    lab.reason(&lab.wrong("x", 2), &other(2));
    assert_eq!(lab.hashes, 4);
    lab.reason(&lab.wrong("pw", 3), &other(3));
    assert_eq!(lab.hashes, 5);
}

#[test]
fn programs_with_a_password_each_find_back_after_a_start() {
    let mut lab = Lab::new();
    lab.passwords = vec![b"one".to_vec(), b"two".to_vec()];
    let literals = [lab.device("one", HOME), lab.device("two", HOME)];
    lab.restart();
    lab.pass(HOUR);
    for literal in &literals {
        assert_eq!(lab.reason(literal, HOME), Reason::KnownDevice);
    }
    // Both passwords are known to be right: a wrong code behind either is a miss.
    for (n, password) in ["one", "two"].into_iter().enumerate() {
        lab.reason(&lab.wrong(password, n as u32), AWAY);
        assert_eq!(lab.budget().misses[0].1, n as u32 + 1);
    }
}
