//! The same refusal again is answered from memory.

use crate::lab::*;

#[test]
fn the_same_refusal_again_is_no_new_failure() {
    let mut lab = Lab::new();
    let wrong = lab.wrong("pw", 1);
    assert_eq!(lab.reason(&wrong, HOME), Reason::WrongCode);
    for _ in 0..100 {
        assert_eq!(lab.reason(&wrong, HOME), Reason::RefusedLately);
    }
    assert_eq!(lab.reason(&lab.right("pw"), HOME), Reason::NewDevice);
    assert_eq!(lab.reason(&wrong, AWAY), Reason::WrongCode);
}

#[test]
fn a_refusal_is_remembered_for_ten_minutes_and_until_something_changes() {
    type Change = fn(&mut Lab);
    let changes: &[(&str, Change)] = &[
        ("time", |lab| lab.pass(10 * MINUTE)),
        ("person", |lab| lab.person(|person| person.created = UnixTime(1))),
        ("factors", |lab| {
            lab.put(
                Key::Factors(ALICE),
                Value::Factors(Factors { totp: vec![token(6)] }),
            )
        }),
        ("devices", |lab| {
            let cost = SlowHashCost {
                salt: [1; 16],
                memory_kib: 19_456,
                passes: 2,
            };
            lab.put(
                Key::Devices(ALICE),
                Value::Devices(Devices {
                    cost,
                    devices: Vec::new(),
                    tombstones: Vec::new(),
                }),
            );
        }),
        ("limits", |lab| lab.settings.counting.per_person = 4),
        ("clock", |lab| lab.now.clock_known = false),
    ];
    for (what, change) in changes {
        let mut lab = Lab::new();
        assert_eq!(lab.reason("pw", HOME), Reason::NoCode);
        assert_eq!(lab.reason("pw", HOME), Reason::RefusedLately);
        change(&mut lab);
        assert_eq!(lab.reason("pw", HOME), Reason::NoCode, "{what}");
    }
    let mut lab = Lab::new();
    assert_eq!(lab.reason("pw", HOME), Reason::NoCode);
    lab.settings.mode = Mode::Learning;
    assert_eq!(lab.reason("pw", HOME), Reason::Learning);
}

#[test]
fn unknown_names_are_refused_lately_too_until_they_exist() {
    let mut lab = Lab::new();
    let bob = |lab: &mut Lab| reason(&lab.run(attempt("bob", "pw", HOME)));
    assert_eq!(bob(&mut lab), Reason::UnknownPerson);
    assert_eq!(bob(&mut lab), Reason::RefusedLately);
    lab.put(Key::Login("bob@example.org".into()), Value::Login(ALICE));
    assert_eq!(bob(&mut lab), Reason::NoCode);
}
