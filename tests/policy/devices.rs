//! Devices: made, replaced, expired, revoked.

use crate::lab::*;

#[test]
fn a_revoked_literal_is_never_split_nor_created_again() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.revoke_all();
    for _ in 0..4 {
        // At once, when its code is still right; after a start; a year later.
        for _ in 0..20 {
            assert_eq!(lab.reason(&literal, HOME), Reason::Revoked);
        }
        lab.restart();
        lab.pass(120 * DAY);
    }
    assert!(lab.devices().devices.is_empty());
    assert_eq!(lab.proved.len(), 1, "only the sign-in that made it");
    // Never counted: nobody waits, no network is blocked.
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
}

#[test]
fn a_device_revoked_during_the_proof_is_not_made_again() {
    let mut lab = Lab::new();
    let literal = lab.right("pw");
    let mut next = lab.begin(attempt("alice", &literal, HOME));
    loop {
        let Next::Need(sign_in, need) = next else {
            panic!("no proof was asked for")
        };
        let proof = matches!(need, Need::Prove(_));
        let answer = lab.answer(&sign_in, need);
        if proof {
            // Another gateway makes the device, and an administrator revokes it.
            assert_eq!(lab.reason(&literal, HOME), Reason::NewDevice);
            lab.revoke_all();
            next = lab.resume(sign_in, answer);
            break;
        }
        next = lab.resume(sign_in, answer);
    }
    while let Next::Need(sign_in, need) = next {
        let answer = lab.answer(&sign_in, need);
        next = lab.resume(sign_in, answer);
    }
    let Next::Done(verdict, _) = next else {
        unreachable!()
    };
    assert_eq!(hearing(&verdict), Hearing::Told(Reason::Revoked));
    assert!(lab.devices().devices.is_empty());
}

#[test]
fn whoever_is_suspended_or_removed_during_the_proof_gets_no_device() {
    type Change = fn(&mut Lab);
    let changes: [(Reason, Change); 3] = [
        (Reason::NotEnrolled, |lab| {
            drop(lab.store.remove(&Key::Factors(ALICE)))
        }),
        (Reason::Suspended, |lab| {
            lab.person(|person| person.suspended = true)
        }),
        (Reason::UnknownPerson, |lab| {
            drop(lab.store.remove(&Key::Person(ALICE)))
        }),
    ];
    for (expected, change) in changes {
        let mut lab = Lab::new();
        let literal = lab.right("pw");
        let mut next = lab.begin(attempt("alice", &literal, HOME));
        while let Next::Need(sign_in, need) = next {
            let proof = matches!(need, Need::Prove(_));
            let answer = lab.answer(&sign_in, need);
            if proof {
                change(&mut lab);
            }
            next = lab.resume(sign_in, answer);
        }
        let Next::Done(verdict, _) = next else {
            unreachable!()
        };
        assert_eq!(hearing(&verdict), Hearing::Told(expected));
        assert!(lab.devices().devices.is_empty());
    }
}

#[test]
fn an_idle_device_expires_for_good() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.pass(89 * DAY);
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
    lab.pass(91 * DAY);
    lab.now.clock_known = false;
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
    // That sign-in was not dated; now the clock is known.
    lab.now.clock_known = true;
    assert_eq!(lab.reason(&literal, HOME), Reason::Revoked);
    assert!(lab.devices().devices.is_empty());
    assert_eq!(lab.devices().tombstones.len(), 1);
    lab.restart();
    assert_eq!(lab.reason(&literal, HOME), Reason::Revoked);
    let mut lab = Lab::new();
    lab.settings.device_idle = None;
    let literal = lab.device("pw", HOME);
    lab.pass(4000 * DAY);
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
}

#[test]
fn a_suspended_person_hears_so_only_from_a_known_device() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.person(|person| person.suspended = true);
    lab.proved.clear();
    assert_eq!(
        hearing(&lab.sign_in(&literal, HOME)),
        Hearing::Told(Reason::Suspended)
    );
    lab.pass(5 * MINUTE);
    let verdict = lab.sign_in(&lab.right("pw"), HOME);
    assert_eq!(
        (reason(&verdict), hearing(&verdict)),
        (Reason::Suspended, Hearing::Refused)
    );
    assert!(lab.proved.is_empty());
}

#[test]
fn the_device_limit_is_told_after_the_proof() {
    let mut lab = Lab::new();
    lab.settings.max_devices = 2;
    lab.device("pw", HOME);
    lab.device("pw", HOME);
    lab.pass(5 * MINUTE);
    let third = lab.right("pw");
    assert_eq!(
        hearing(&lab.sign_in(&third, HOME)),
        Hearing::Told(Reason::DeviceLimit)
    );
    assert_eq!(lab.devices().devices.len(), 2);
    // Its repetition asks the upstream no more.
    let asked = lab.proved.len();
    assert_eq!(lab.reason(&third, HOME), Reason::RefusedLately);
    assert_eq!(lab.proved.len(), asked);
    // After 30 idle days the one seen least makes room.
    lab.pass(30 * DAY);
    lab.device("pw", HOME);
    assert_eq!(lab.devices().devices.len(), 2);
    assert_eq!(lab.devices().tombstones.len(), 1);
}

#[test]
fn at_the_limit_a_device_that_the_upstream_refuses_makes_room() {
    let mut lab = Lab::new();
    lab.settings.max_devices = 2;
    let old = lab.device("pw", HOME);
    lab.passwords = vec![b"new".to_vec()];
    assert_eq!(lab.reason(&old, HOME), Reason::PasswordChanged);
    lab.device("new", HOME);
    let third = lab.device("new", HOME);
    assert_eq!(lab.reason(&old, HOME), Reason::Revoked);
    assert_eq!(lab.reason(&third, HOME), Reason::KnownDevice);
}

#[test]
fn a_program_that_typed_anew_replaces_itself() {
    let mut lab = Lab::new();
    let with_hint = |lab: &mut Lab, from: &str| {
        let mut attempt = attempt("alice", &lab.right("pw"), from);
        attempt.client_hint = Some("Thunderbird 140".into());
        reason(&lab.run(attempt))
    };
    assert_eq!(with_hint(&mut lab, HOME), Reason::NewDevice);
    lab.pass(HOUR);
    assert_eq!(with_hint(&mut lab, HOME), Reason::NewDevice);
    assert_eq!(lab.devices().devices.len(), 2);
    lab.pass(DAY);
    assert_eq!(with_hint(&mut lab, AWAY), Reason::NewDevice);
    assert_eq!(lab.devices().devices.len(), 3);
    lab.pass(MINUTE * 5);
    assert_eq!(with_hint(&mut lab, HOME), Reason::NewDevice);
    assert_eq!(lab.devices().devices.len(), 3);
}

#[test]
fn the_device_record_says_where_it_came_from() {
    let mut lab = Lab::new();
    let mut attempt = attempt("alice", &lab.right("pw"), "2001:db8:1:2:3:4:5:6");
    attempt.client_hint = Some("mutt".into());
    lab.run(attempt);
    let devices = lab.devices();
    assert!(devices.cost.memory_kib >= 19_456 && devices.cost.passes >= 2);
    assert_ne!(devices.cost.salt, [0; 16]);
    let device = &devices.devices[0];
    assert_eq!(device.password_len, 2);
    assert_eq!(device.client_hint.as_deref(), Some("mutt"));
    assert_eq!(
        device.first_network,
        "2001:db8:1:2::/64".parse::<ipnet::IpNet>().unwrap()
    );
    assert_eq!((device.factor, device.created), (TOKEN, lab.now.unix));
    let Value::DeviceUse(used) = &lab.store[&Key::DeviceUse(ALICE, device.id)].1 else {
        unreachable!()
    };
    assert_eq!(used.networks, [device.first_network]);
    // The tag depends on the salt: a thief cannot test one guess against all people.
    assert_eq!(lab.hashes, 1);
}

#[test]
fn salt_and_cost_stay_while_tombstones_need_them() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    let cost = lab.devices().cost;
    lab.revoke_all();
    lab.device("pw", HOME);
    assert_eq!(lab.devices().cost, cost);
    assert_eq!(lab.reason(&literal, HOME), Reason::Revoked);
}
