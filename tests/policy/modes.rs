//! Learning, grace, trusted networks.

use crate::lab::*;

#[test]
fn learning_admits_as_before_and_says_what_enforcing_would_have_said() {
    type Setup = fn(&mut Lab) -> String;
    let cases: [(Reason, Setup); 5] = [
        (Reason::NoCode, |_| "pw".into()),
        (Reason::NotEnrolled, |lab| {
            lab.store.remove(&Key::Factors(ALICE));
            "pw".into()
        }),
        (Reason::WrongCode, |lab| {
            lab.passwords = vec![b"p@123456".to_vec()];
            "p@123456".into()
        }),
        (Reason::Grace, |lab| {
            lab.store.remove(&Key::Factors(ALICE));
            let until = lab.now.unix.plus(Duration::from_secs(1));
            lab.person(|person| person.grace_until = Some(until));
            "pw".into()
        }),
        (Reason::BudgetSpent, |lab| {
            let budget = Budget {
                spent: Some(lab.now.unix),
                ..Budget::default()
            };
            lab.put(Key::Budget(ALICE), Value::Budget(budget));
            lab.right("pw")
        }),
    ];
    for (expected, setup) in cases {
        let mut lab = Lab::learning();
        let literal = setup(&mut lab);
        for _ in 0..3 {
            let verdict = lab.sign_in(&literal, HOME);
            assert_eq!(
                (reason(&verdict), would(&verdict)),
                (Reason::Learning, Some(expected))
            );
        }
        assert_eq!(lab.remembered(), 0, "{expected:?}");
        assert_eq!(lab.hashes, 0);
    }
    let mut lab = Lab::learning();
    let verdict = lab.sign_in("pw", "10.1.2.3");
    assert_eq!(
        (reason(&verdict), would(&verdict)),
        (Reason::Learning, Some(Reason::TrustedNetwork))
    );
}

#[test]
fn in_learning_a_right_code_makes_a_device_and_a_used_one_locks_nobody_out() {
    let mut lab = Lab::learning();
    let code = lab.code(0);
    assert_eq!(lab.reason(&format!("pw@{code}"), HOME), Reason::NewDevice);
    assert_eq!(lab.reason(&format!("pw@{code}"), HOME), Reason::KnownDevice);
    let verdict = lab.sign_in(&format!("pw {code}"), HOME);
    assert_eq!(
        (reason(&verdict), would(&verdict)),
        (Reason::Learning, Some(Reason::UsedCode))
    );
    lab.settings.max_devices = 1;
    lab.pass(5 * MINUTE);
    let verdict = lab.sign_in(&lab.right("pw"), HOME);
    assert_eq!(
        (reason(&verdict), would(&verdict)),
        (Reason::Learning, Some(Reason::DeviceLimit))
    );
    assert_eq!(lab.devices().devices.len(), 1);
}

#[test]
fn learning_serves_logins_that_are_no_person_yet() {
    let mut lab = Lab::learning();
    let Verdict::Admit(admission) = lab.run(attempt("Bob", "pw", HOME)) else {
        panic!("refused")
    };
    assert_eq!((admission.person, &*admission.account), (None, "bob@example.org"));
    assert_eq!(admission.enforcing_would, Some(Reason::UnknownPerson));
    // Not where nobody serves the domain, and not where the route or the person enforces.
    let verdict = lab.run(attempt("bob@elsewhere.example", "pw", HOME));
    assert_eq!(reason(&verdict), Reason::NoRoute);
    lab.settings.routes[0].mode = Some(Mode::Enforcing);
    assert_eq!(
        reason(&lab.run(attempt("bob", "pw", HOME))),
        Reason::UnknownPerson
    );
    assert_eq!(lab.reason("pw", HOME), Reason::NoCode);
    lab.person(|person| person.mode = Some(Mode::Learning));
    assert_eq!(lab.reason("pw", HOME), Reason::Learning);
}

#[test]
fn wrong_passwords_in_learning_count_and_may_be_tried_again() {
    let mut lab = Lab::learning();
    assert_eq!(lab.reason("late", HOME), Reason::WrongPassword);
    lab.passwords.push(b"late".to_vec());
    assert_eq!(lab.reason("late", HOME), Reason::Learning);
    for _ in 0..20 {
        assert_eq!(lab.reason("guess0", HOME), Reason::WrongPassword);
    }
    for n in 1..4 {
        assert_eq!(lab.reason(&format!("guess{n}"), HOME), Reason::WrongPassword);
    }
    assert_eq!(lab.reason("guess", HOME), Reason::PersonWaits);
}

#[test]
fn grace_and_trusted_networks_let_the_unenrolled_in_and_remember_nothing() {
    let mut lab = Lab::unenrolled();
    assert_eq!(lab.reason("pw", HOME), Reason::NotEnrolled);
    let until = lab.now.unix.plus(Duration::from_secs(DAY));
    lab.person(|person| person.grace_until = Some(until));
    assert_eq!(lab.reason("pw", HOME), Reason::Grace);
    assert_eq!(lab.reason("pw", "10.1.2.3"), Reason::TrustedNetwork);
    lab.now.clock_known = false;
    assert_eq!(lab.reason("pw", HOME), Reason::NotEnrolled);
    lab.now.clock_known = true;
    lab.pass(DAY);
    assert_eq!(lab.reason("pw", HOME), Reason::NotEnrolled);
    assert_eq!(lab.reason("pw", "10.1.2.3"), Reason::TrustedNetwork);
    assert_eq!(lab.remembered(), 0);
}

#[test]
fn a_grace_period_is_nothing_for_the_enrolled() {
    let mut lab = Lab::new();
    let until = lab.now.unix.plus(Duration::from_secs(DAY));
    lab.person(|person| person.grace_until = Some(until));
    assert_eq!(lab.reason("pw", HOME), Reason::NoCode);
    assert!(lab.proved.is_empty());
}

#[test]
fn from_a_trusted_network_a_right_code_still_makes_a_device() {
    let mut lab = Lab::new();
    assert_eq!(lab.reason(&lab.right("pw"), "10.1.2.3"), Reason::NewDevice);
    lab.passwords.push(b"p@123456".to_vec());
    assert_eq!(lab.reason("p@123456", "10.1.2.3"), Reason::TrustedNetwork);
    assert!(lab.proved.last().unwrap().password.same(b"p@123456"));
}

#[test]
fn the_unproven_hear_nothing_of_the_upstream() {
    let mut lab = Lab::new();
    lab.says = Some(Proof::Rejected(Rejection::Password));
    let verdict = lab.sign_in(&lab.right("pw"), HOME);
    assert_eq!(
        (reason(&verdict), hearing(&verdict)),
        (Reason::WrongPassword, Hearing::Refused)
    );
}
