//! Without a right code or a known device no byte reaches the upstream, and no word the client.

use crate::lab::*;
use proptest::prelude::*;

#[test]
fn refusing_paths_ask_no_upstream() {
    type Setup = fn(&mut Lab) -> Attempt;
    let cases: &[(Reason, Setup)] = &[
        (Reason::DeniedNetwork, |lab| {
            attempt("alice", &lab.right("pw"), "203.0.113.7")
        }),
        (Reason::ActsAsOther, |lab| Attempt {
            acts_as_other: true,
            ..attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::UnknownPerson, |lab| {
            attempt("bob", &lab.right("pw"), HOME)
        }),
        (Reason::NoRoute, |lab| {
            attempt("alice@elsewhere.example", &lab.right("pw"), HOME)
        }),
        (Reason::UnknownPerson, |lab| attempt("", &lab.right("pw"), HOME)),
        (Reason::NoCode, |_| attempt("alice", "pw", HOME)),
        (Reason::NoCode, |_| attempt("alice", "", HOME)),
        (Reason::NoCode, |lab| attempt("alice", &lab.code(0), HOME)),
        (Reason::WrongCode, |lab| {
            attempt("alice", &lab.wrong("pw", 1), HOME)
        }),
        (Reason::WrongCode, |lab| {
            lab.put(
                Key::Factors(ALICE),
                Value::Factors(Factors {
                    totp: vec![
                        token(8),
                        Totp {
                            state: FactorState::Pending,
                            ..token(6)
                        },
                    ],
                }),
            );
            let literal = format!("pw12{}", lab.code(0));
            attempt("alice", &literal, HOME)
        }),
        (Reason::NotEnrolled, |lab| {
            lab.store.remove(&Key::Factors(ALICE));
            attempt("alice", "pw", HOME)
        }),
        (Reason::NotEnrolled, |lab| {
            let pending = Totp {
                state: FactorState::Pending,
                ..token(6)
            };
            lab.put(
                Key::Factors(ALICE),
                Value::Factors(Factors { totp: vec![pending] }),
            );
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::Suspended, |lab| {
            lab.person(|person| person.suspended = true);
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::Decoy, |lab| attempt("admin", &lab.right("pw"), HOME)),
        (Reason::ClockUnknown, |lab| {
            lab.now.clock_known = false;
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::StoreUnavailable, |lab| {
            lab.store_fails = true;
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::Busy, |lab| {
            lab.pool_full = true;
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::BudgetSpent, |lab| {
            let budget = Budget {
                spent: Some(lab.now.unix),
                ..Budget::default()
            };
            lab.put(Key::Budget(ALICE), Value::Budget(budget));
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::NetworkBlocked, |lab| {
            let until = lab.now.unix.plus(Duration::from_secs(1));
            let block = Block {
                reason: Reason::Decoy,
                until,
                level: 1,
            };
            lab.put(Key::Block("192.0.2.1/32".parse().unwrap()), Value::Block(block));
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::PersonWaits, |lab| {
            for n in 0..4 {
                lab.reason(&lab.wrong("x", n), HOME);
            }
            attempt("alice", &lab.right("pw"), HOME)
        }),
        (Reason::RefusedLately, |lab| {
            lab.reason("pw", HOME);
            attempt("alice", "pw", HOME)
        }),
        (Reason::UsedCode, |lab| {
            let literal = lab.right("pw");
            lab.sign_in(&literal, HOME);
            lab.proved.clear();
            attempt("alice", &lab.right("pw2"), HOME)
        }),
        (Reason::Revoked, |lab| {
            let literal = lab.device("pw", HOME);
            lab.revoke_all();
            lab.proved.clear();
            attempt("alice", &literal, HOME)
        }),
    ];
    for (expected, setup) in cases {
        let mut lab = Lab::new();
        let attempt = setup(&mut lab);
        let verdict = lab.run(attempt);
        assert_eq!(reason(&verdict), *expected);
        assert!(lab.proved.is_empty(), "{expected:?} sent {:?}", lab.proved);
        // And the client hears nothing but refused or try later.
        let heard = hearing(&verdict);
        let alike = match expected.outcome() {
            Kind::TryLater => Hearing::TryLater,
            _ => Hearing::Refused,
        };
        assert_eq!(heard, alike, "{expected:?}");
    }
}

#[test]
fn a_busy_box_says_the_same_to_everybody() {
    let mut lab = Lab::new();
    lab.pool_full = true;
    for (login, literal) in [
        ("alice", lab.right("pw")),
        ("alice", lab.wrong("pw", 1)),
        ("bob", lab.right("pw")),
    ] {
        let verdict = lab.run(attempt(login, &literal, HOME));
        assert_eq!(hearing(&verdict), Hearing::TryLater, "{login} {literal}");
    }
    // Busy is no failure and is not remembered.
    lab.pool_full = false;
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
    assert_eq!(lab.reason(&lab.wrong("pw", 1), AWAY), Reason::WrongCode);
    assert_eq!(lab.turns, 1);
}

/// Time must not tell what was known: one slow hash or one turn for each, whatever refuses it.
#[test]
fn an_attempt_that_looks_like_a_code_stands_in_the_queue_once() {
    let code = |lab: &Lab| lab.right("pw");
    let mut lab = Lab::new();
    for (login, literal, expected) in [
        ("alice", code(&lab), Reason::NewDevice),
        ("alice", code(&lab).replace('@', " "), Reason::UsedCode),
        ("alice", lab.wrong("pw", 1), Reason::WrongCode),
        ("bob", code(&lab), Reason::UnknownPerson),
        ("admin", code(&lab), Reason::Decoy),
    ] {
        let before = lab.hashes + lab.turns;
        let verdict = lab.run(attempt(login, &literal, AWAY));
        assert_eq!(reason(&verdict), expected);
        assert_eq!(lab.hashes + lab.turns - before, 1, "{login} {expected:?}");
    }
    // Where the password alone is enough nobody stands in it, but for whom even that is not.
    let mut lab = Lab::learning();
    lab.person(|person| person.suspended = true);
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::Suspended);
    assert_eq!(lab.turns, 1);
}

#[test]
fn an_unknown_clock_says_the_same_to_everybody_who_brings_a_code() {
    let mut lab = Lab::new();
    lab.now.clock_known = false;
    for login in ["alice", "bob", "nobody@example.org"] {
        let verdict = lab.run(attempt(login, "pw@123456", HOME));
        assert_eq!(reason(&verdict), Reason::ClockUnknown, "{login}");
    }
    assert_eq!(lab.reason("pw", HOME), Reason::NoCode);
    lab.now.clock_known = true;
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
}

proptest! {
    /// Whatever is typed at an enforced person without a right code, the upstream hears nothing.
    #[test]
    fn no_literal_without_a_right_code_reaches_the_upstream(literal in ".{0,20}", digits in "[0-9 ]{0,9}") {
        let mut lab = Lab::new();
        let literal = format!("{literal}{digits}");
        let right = (-2..=2).any(|offset| {
            let code = lab.code(offset);
            literal.chars().filter(char::is_ascii_digit).collect::<String>().ends_with(&code)
        });
        prop_assume!(!right);
        lab.sign_in(&literal, HOME);
        prop_assert!(lab.proved.is_empty());
    }
}
