//! The way in: password and code, then the literal for good.

use crate::lab::*;

#[test]
fn password_and_code_make_a_device_and_its_literal_stays_good() {
    let mut lab = Lab::new();
    let literal = lab.right("pw");
    let Verdict::Admit(admission) = lab.sign_in(&literal, HOME) else {
        panic!("refused")
    };
    assert_eq!(admission.reason, Reason::NewDevice);
    assert_eq!(admission.factor, Some(TOKEN));
    assert_eq!(
        (&*admission.account, &*admission.route),
        ("alice@example.org", "office")
    );
    assert!(lab.proved[0].password.same(b"pw"));
    assert!(lab.proved[0].upstream_login.same(b"alice@example.org"));
    lab.pass(30 * DAY);
    assert_eq!(lab.reason(&literal, AWAY), Reason::KnownDevice);
    assert!(lab.proved[1].password.same(b"pw"));
    assert_eq!(lab.proved[1].device, admission.device);
    // Warm: one slow hash in all.
    assert_eq!(lab.hashes, 1);
    lab.restart();
    assert_eq!(lab.reason(&literal, AWAY), Reason::KnownDevice);
    assert_eq!(lab.reason(&literal, AWAY), Reason::KnownDevice);
    assert_eq!(lab.hashes, 2);
}

#[test]
fn a_warm_sign_in_writes_nothing_most_times() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    let writes = |lab: &mut Lab| {
        let before = lab.version;
        assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
        lab.version - before
    };
    assert_eq!(writes(&mut lab), 0);
    lab.pass(59);
    assert_eq!(writes(&mut lab), 0);
    lab.pass(1);
    assert_eq!(writes(&mut lab), 1);
    assert_eq!(writes(&mut lab), 0);
}

#[test]
fn every_spelling_of_a_login_is_one_person() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.put(Key::Login("a.liddell@example.org".into()), Value::Login(ALICE));
    for login in ["ALICE@Example.org", " alice ", "EXAMPLE\\alice", "a.liddell"] {
        let verdict = lab.run(attempt(login, &literal, HOME));
        assert_eq!(reason(&verdict), Reason::KnownDevice, "{login}");
        assert!(
            lab.proved
                .last()
                .unwrap()
                .upstream_login
                .same(b"alice@example.org")
        );
    }
    lab.settings.routes[0].login = LoginForm::AsTyped;
    lab.run(attempt(" aLice ", &literal, HOME));
    assert!(lab.proved.last().unwrap().upstream_login.same(b" aLice "));
}

#[test]
fn a_new_device_is_admitted_by_codes_two_steps_early_or_late() {
    for (offset, expected) in [
        (-3, Reason::WrongCode),
        (-2, Reason::NewDevice),
        (2, Reason::NewDevice),
        (3, Reason::WrongCode),
    ] {
        let mut lab = Lab::new();
        let literal = format!("pw{}", lab.code(offset));
        assert_eq!(lab.reason(&literal, HOME), expected, "{offset}");
    }
}
