//! Known devices that the upstream refuses.

use crate::lab::*;

#[test]
fn a_changed_password_is_asked_after_one_five_thirty_and_sixty_minutes() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.passwords.clear();
    lab.proved.clear();
    assert_eq!(
        hearing(&lab.sign_in(&literal, HOME)),
        Hearing::Told(Reason::PasswordChanged)
    );
    for minutes in [1, 5, 30, 60, 60] {
        lab.pass(minutes * MINUTE - 1);
        let Verdict::Refuse(refusal) = lab.sign_in(&literal, HOME) else {
            panic!("let in")
        };
        assert_eq!(refusal.hearing(), Hearing::Told(Reason::KnownDeviceWaits));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
        lab.pass(1);
        assert_eq!(lab.reason(&literal, HOME), Reason::PasswordChanged, "{minutes}");
    }
    assert_eq!(lab.proved.len(), 6);
    // Nothing of it was counted: others from there are not hindered.
    assert_eq!(reason(&lab.run(attempt("bob", "x", HOME))), Reason::UnknownPerson);
    assert!(
        !lab.store
            .contains_key(&Key::Block("192.0.2.1/32".parse().unwrap()))
    );
    // The password comes back: the device goes on at its next question.
    lab.passwords = vec![b"pw".to_vec()];
    lab.pass(HOUR);
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
}

#[test]
fn five_programs_with_an_old_password_do_not_lock_her_out_upstream() {
    let mut lab = Lab::new();
    let literals: Vec<String> = (0..5).map(|_| lab.device("pw", HOME)).collect();
    lab.passwords = vec![b"new".to_vec()];
    lab.proved.clear();
    for _ in 0..12 {
        for literal in &literals {
            lab.reason(literal, HOME);
        }
        lab.pass(5 * MINUTE);
    }
    assert!(lab.proved.len() <= 4, "{} questions in an hour", lab.proved.len());
    // Her new literal is another password: it is asked at once.
    lab.device("new", HOME);
}

#[test]
fn programs_that_come_at_once_do_not_all_ask_again() {
    let mut lab = Lab::new();
    let literals = [lab.device("pw", HOME), lab.device("pw", HOME)];
    lab.passwords.clear();
    assert_eq!(lab.reason(&literals[0], HOME), Reason::PasswordChanged);
    lab.pass(MINUTE);
    let mut next = lab.begin(attempt("alice", &literals[0], HOME));
    while let Next::Need(sign_in, need) = next {
        if matches!(need, Need::Prove(_)) {
            // The upstream has not answered yet.
            assert_eq!(lab.reason(&literals[1], HOME), Reason::KnownDeviceWaits);
        }
        let answer = lab.answer(&sign_in, need);
        next = lab.resume(sign_in, answer);
    }
}

#[test]
fn different_old_passwords_share_the_hourly_limit() {
    let mut lab = Lab::new();
    let mut literals = Vec::new();
    for n in 0..8 {
        let password = format!("old{n}");
        lab.passwords = vec![password.clone().into_bytes()];
        literals.push(lab.device(&password, HOME));
    }
    lab.passwords.clear();
    lab.restart();
    lab.proved.clear();
    let waiting = literals
        .iter()
        .filter(|literal| lab.reason(literal, HOME) == Reason::KnownDeviceWaits)
        .count();
    assert_eq!((lab.proved.len(), waiting), (4, 4));
}

#[test]
fn an_outage_tells_a_known_device_which() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.says = Some(Proof::Unavailable(Outage::Unreachable));
    for _ in 0..10 {
        assert_eq!(
            hearing(&lab.sign_in(&literal, HOME)),
            Hearing::Told(Reason::UpstreamUnreachable)
        );
    }
    lab.says = None;
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
}

#[test]
fn an_outage_does_not_use_up_a_question() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.passwords.clear();
    assert_eq!(lab.reason(&literal, HOME), Reason::PasswordChanged);
    lab.pass(MINUTE);
    lab.says = Some(Proof::Unavailable(Outage::Silent));
    assert_eq!(lab.reason(&literal, HOME), Reason::UpstreamSilent);
    lab.says = None;
    assert_eq!(lab.reason(&literal, HOME), Reason::PasswordChanged);
}

#[test]
fn an_abandoned_question_about_a_refused_device_makes_it_wait_longer() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.passwords.clear();
    assert_eq!(lab.reason(&literal, HOME), Reason::PasswordChanged);
    lab.pass(MINUTE);
    abandon_proof(&mut lab, attempt("alice", &literal, HOME));
    lab.pass(MINUTE);
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDeviceWaits);
    lab.pass(4 * MINUTE);
    assert_eq!(lab.reason(&literal, HOME), Reason::PasswordChanged);
}

#[test]
fn hanging_up_before_the_answer_is_counted_as_a_guess() {
    let mut lab = Lab::learning();
    for n in 0..4 {
        abandon_proof(&mut lab, attempt("alice", &format!("guess{n}"), HOME));
    }
    assert_eq!(lab.reason("guess5", HOME), Reason::PersonWaits);
    for n in 0..7 {
        abandon_proof(&mut lab, attempt(&format!("bob{n}"), "guess", HOME));
    }
    assert_eq!(
        reason(&lab.run(attempt("carol", "guess", HOME))),
        Reason::NetworkBlocked
    );
}
