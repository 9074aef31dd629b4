//! What is remembered between attempts, and when refusals leave.

use crate::lab::*;

#[test]
fn refusals_leave_at_the_same_instant_whatever_the_reason() {
    let mut lab = Lab::new();
    let arrived = lab.now.mono;
    for upstream_takes in [10, 500, 1500, 2400] {
        let now = arrived + Duration::from_millis(upstream_takes);
        let pace = lab.settings.pace.clone();
        let leaves = lab.memory.refusal_leaves(&pace, arrived, Some("office"), now, 5);
        assert_eq!(
            leaves - arrived,
            Duration::from_nanos(2_500_000_005),
            "{upstream_takes}"
        );
    }
    // An upstream that takes three seconds moves all refusals of its route, those decided at once as well.
    let took = Duration::from_secs(3);
    lab.memory.upstream_refused("office", took, arrived + took);
    for decided in [0, 10, 3000] {
        let pace = lab.settings.pace.clone();
        let now = arrived + Duration::from_millis(decided);
        let leaves = lab.memory.refusal_leaves(&pace, arrived, Some("office"), now, 0);
        assert_eq!(leaves - arrived, Duration::from_millis(3500), "{decided}");
    }
}

#[test]
fn a_sign_in_knows_its_route_whoever_asks() {
    let mut lab = Lab::new();
    for login in ["alice", "bob"] {
        let Next::Need(sign_in, _) = lab.begin(attempt(login, "pw", HOME)) else {
            panic!("ended")
        };
        assert_eq!(sign_in.route(), Some("office"));
        assert_eq!(sign_in.person(), None);
    }
}

#[test]
fn a_device_is_warm_until_the_watch_says_otherwise() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    let sign_in = |lab: &mut Lab, expected: Reason| {
        let before = lab.hashes;
        assert_eq!(lab.reason(&literal, HOME), expected);
        lab.hashes - before
    };
    assert_eq!(sign_in(&mut lab, Reason::KnownDevice), 0);
    // What is learnt from the store is forgotten when the watch lagged.
    lab.memory.forget_all();
    assert_eq!(sign_in(&mut lab, Reason::KnownDevice), 1);
    assert_eq!(sign_in(&mut lab, Reason::KnownDevice), 0);
    // Another of her devices comes: this one stays warm.
    lab.device("pw", HOME);
    assert_eq!(sign_in(&mut lab, Reason::KnownDevice), 0);
    // The person is gone, and comes back.
    lab.memory.person_changed(ALICE, None);
    assert_eq!(sign_in(&mut lab, Reason::KnownDevice), 1);
    // A revoked device's literal is known to be dead without another hash.
    lab.revoke_all();
    assert_eq!(sign_in(&mut lab, Reason::Revoked), 0);
    lab.memory.forget_all();
    assert_eq!(sign_in(&mut lab, Reason::Revoked), 1);
    assert_eq!(sign_in(&mut lab, Reason::Revoked), 0);
}

#[test]
fn a_literal_is_dead_no_longer_than_its_tombstone() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    lab.revoke_all();
    assert_eq!(lab.reason(&literal, HOME), Reason::Revoked);
    lab.pass(HOUR);
    let mut devices = lab.devices();
    devices.tombstones.clear();
    lab.put(Key::Devices(ALICE), Value::Devices(devices));
    lab.watch(&Key::Devices(ALICE));
    assert_eq!(lab.reason(&literal, HOME), Reason::WrongCode);
}

#[test]
fn a_revocation_counts_before_the_watch_has_told_of_it() {
    let mut lab = Lab::new();
    let literal = lab.device("pw", HOME);
    assert_eq!(lab.reason(&literal, HOME), Reason::KnownDevice);
    let mut devices = lab.devices();
    let device = devices.devices.remove(0);
    devices.tombstones.push(Tombstone {
        tag: device.tag,
        death: Death::Revoked,
        died: lab.now.unix,
    });
    lab.put(Key::Devices(ALICE), Value::Devices(devices));
    let asked = lab.proved.len();
    assert_eq!(lab.reason(&literal, HOME), Reason::Revoked);
    assert_eq!(lab.proved.len(), asked);
}

/// Two people may choose the same password, and for half a minute have the same code.
#[test]
fn what_is_dead_for_one_person_is_not_dead_for_another() {
    const BOB: PersonId = PersonId([3; 8]);
    let mut lab = Lab::new();
    lab.put(Key::Login("bob@example.org".into()), Value::Login(BOB));
    let bob = Person {
        id: BOB,
        login: "bob@example.org".into(),
        ..alice()
    };
    lab.put(Key::Person(BOB), Value::Person(bob));
    lab.put(
        Key::Factors(BOB),
        Value::Factors(Factors { totp: vec![token(6)] }),
    );
    let bobs = lab.right("pw");
    let verdict = lab.run(attempt("bob", &bobs, HOME));
    assert_eq!(reason(&verdict), Reason::NewDevice, "he has devices of his own");
    let literal = lab.device("pw", HOME);
    lab.revoke_all();
    assert_eq!(lab.reason(&literal, HOME), Reason::Revoked);
    let verdict = lab.run(attempt("bob", &literal, HOME));
    assert_eq!(reason(&verdict), Reason::NewDevice);
}

#[test]
fn flights_differ_by_person_literal_and_route() {
    let memory = Memory::new([7; 32]);
    let key = memory.flight_key(ALICE, b"pw@1", "office");
    assert_eq!(key, memory.flight_key(ALICE, b"pw@1", "office"));
    assert_ne!(key, memory.flight_key(PersonId([9; 8]), b"pw@1", "office"));
    assert_ne!(key, memory.flight_key(ALICE, b"pw@2", "office"));
    assert_ne!(key, memory.flight_key(ALICE, b"epw@1", "offic"));
    assert_ne!(key, Memory::new([8; 32]).flight_key(ALICE, b"pw@1", "office"));
}
