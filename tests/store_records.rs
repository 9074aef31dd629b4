//! Records of schema version 1, as files that must decode for ever.
//!
//! `tests/fixtures/records/<kind>-<what>.txt` holds a key and a value in hexadecimal digits, each behind its name. When
//! the schema gets a version 2, these files stay as they are, and version 2 gets files of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use gatepost::reason::{Protocol, Reason};
use gatepost::store::records::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records")
}

const ALICE: PersonId = PersonId([1, 2, 3, 4, 5, 6, 7, 8]);
const PHONE: DeviceId = DeviceId([0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7]);
const APP: FactorId = FactorId([0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7]);

/// Every record type, every variant, every optional field both ways.
fn samples() -> Vec<(String, Key, Value)> {
    let mut all: Vec<(String, Key, Value)> = vec![
        (
            "plain".into(),
            Key::Meta,
            Value::Meta(Meta {
                layout: 1,
                store_id: std::array::from_fn(|n| n as u8),
                created: UnixTime(1_795_000_000),
            }),
        ),
        (
            "plain".into(),
            Key::Login("alice@example.org".into()),
            Value::Login(ALICE),
        ),
        ("full".into(), Key::Factors(ALICE), factors()),
        ("full".into(), Key::Devices(ALICE), devices()),
        (
            "refused".into(),
            Key::DeviceUse(ALICE, PHONE),
            Value::DeviceUse(DeviceUse {
                last_seen: UnixTime(1_795_000_200),
                last_network: net("192.0.2.7/32"),
                protocols: vec![Protocol::Imap],
                networks: vec![net("192.0.2.7/32"), net("2001:db8:0:1::/64")],
                refused: Some(UnixTime(1_795_000_300)),
            }),
        ),
        (
            "full".into(),
            Key::Budget(ALICE),
            Value::Budget(Budget {
                misses: vec![(20_775, 3), (20_776, 300)],
                unverified: vec![(20_776, 99)],
                first_miss: Some(UnixTime(1_795_000_400)),
                miss_networks: vec![net("198.51.100.0/24")],
                spent: Some(UnixTime(1_795_000_500)),
            }),
        ),
        (
            "empty".into(),
            Key::Budget(ALICE),
            Value::Budget(Budget::default()),
        ),
        (
            "full".into(),
            Key::GoodNetworks(ALICE),
            Value::GoodNetworks(GoodNetworks {
                networks: vec![(net("192.0.2.7/32"), UnixTime(1_795_000_600))],
            }),
        ),
    ];
    for (what, mode, grace_until) in [
        ("plain", None, None),
        ("learning", Some(Mode::Learning), Some(UnixTime(1_796_000_000))),
        ("enforcing", Some(Mode::Enforcing), None),
    ] {
        let person = Person {
            id: ALICE,
            login: "alice@example.org".into(),
            aliases: vec!["al@example.org".into(), "\u{e4}@example.org".into()],
            mode,
            grace_until,
            suspended: mode.is_none(),
            created: UnixTime(1_795_000_000),
        };
        all.push((what.into(), Key::Person(ALICE), Value::Person(person)));
    }
    for state in [
        ClaimState::Claimed,
        ClaimState::Used,
        ClaimState::Released,
        ClaimState::Dead,
    ] {
        let claim = Claim {
            tag: tag(7),
            state,
            rejected: 2,
            expires: UnixTime(1_795_000_060),
        };
        let what = format!("{state:?}").to_lowercase();
        all.push((what, Key::Claim(ALICE, APP, 59_833_333), Value::Claim(claim)));
    }
    for (what, network) in [("v4", "192.0.2.0/24"), ("v6", "2001:db8::/56")] {
        let block = Block {
            reason: Reason::NetworkBlocked,
            until: UnixTime(1_795_003_600),
            level: 2,
        };
        all.push((what.into(), Key::Block(net(network)), Value::Block(block)));
    }
    for (what, full) in [("full", true), ("plain", false)] {
        let entry = SignInEntry {
            at: UnixTime(1_795_000_700),
            protocol: Protocol::Imap,
            address: if full { "2001:db8::1" } else { "192.0.2.7" }.parse().unwrap(),
            person: full.then_some(ALICE),
            login: "alice@example.org".into(),
            device: full.then_some(PHONE),
            reason: if full { Reason::Learning } else { Reason::WrongCode },
            enforcing_would: full.then_some(Reason::NotEnrolled),
            client_hint: full.then(|| "Some Mail 1.0".into()),
        };
        all.push((
            what.into(),
            Key::SignIn(1_795_000_700_123, 4),
            Value::SignIn(entry),
        ));
    }
    all
}

fn factors() -> Value {
    let totp = |n: u8, digits, period, hash, state| Totp {
        id: APP,
        label: format!("app {n}"),
        seed: (0..16 + n).collect::<Vec<u8>>().into(),
        digits,
        period,
        hash,
        state,
        created: UnixTime(1_795_000_000),
    };
    Value::Factors(Factors {
        totp: vec![
            totp(1, 6, 30, TotpHash::Sha1, FactorState::Active),
            totp(2, 7, 60, TotpHash::Sha256, FactorState::Pending),
            totp(3, 8, 30, TotpHash::Sha512, FactorState::Active),
        ],
    })
}

fn devices() -> Value {
    let device = |client_hint| Device {
        id: PHONE,
        tag: tag(1),
        password_len: 300,
        client_hint,
        first_protocol: Protocol::Imap,
        created: UnixTime(1_795_000_100),
        first_network: net("192.0.2.7/32"),
        factor: APP,
    };
    let dead = |n, death| Tombstone {
        tag: tag(n),
        death,
        died: UnixTime(1_795_000_150),
    };
    Value::Devices(Devices {
        cost: SlowHashCost {
            salt: [9; 16],
            memory_kib: 19_456,
            passes: 2,
        },
        devices: vec![device(None), device(Some("Some Mail 1.0".into()))],
        tombstones: vec![
            dead(2, Death::Revoked),
            dead(3, Death::Expired),
            dead(4, Death::Replaced),
        ],
    })
}

fn tag(n: u8) -> Tag {
    Tag([n; 32])
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

/// What a record says, seeds and tags included, which `Debug` hides.
fn whole(value: &Value) -> String {
    let mut text = format!("{value:?}");
    if let Value::Factors(factors) = value {
        factors
            .totp
            .iter()
            .for_each(|totp| text.push_str(&format!(" {:?}", totp.seed.expose())));
    }
    if let Value::Devices(devices) = value {
        devices
            .devices
            .iter()
            .for_each(|device| text.push_str(&format!(" {:?}", device.tag.0)));
        devices
            .tombstones
            .iter()
            .for_each(|tombstone| text.push_str(&format!(" {:?}", tombstone.tag.0)));
    }
    if let Value::Claim(claim) = value {
        text.push_str(&format!(" {:?}", claim.tag.0));
    }
    text
}

fn file_of(what: &str, key: &Key) -> String {
    format!("{}-{what}.txt", key.kind())
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let mut kinds = BTreeSet::new();
    for (what, key, value) in samples() {
        kinds.insert(key.kind());
        assert_eq!(key.kind(), value.kind());
        assert_eq!(Key::decode(&key.encode()).as_ref(), Ok(&key));
        let back = Value::decode(value.kind(), &value.encode()).unwrap();
        assert_eq!(whole(&back), whole(&value), "{}", file_of(&what, &key));
    }
    assert_eq!(kinds, BTreeSet::from(Kind::ALL));
}

#[test]
fn what_version_1_wrote_is_read_for_ever() {
    let hex = &data_encoding::HEXLOWER;
    let mut expected = BTreeSet::new();
    for (what, key, value) in samples() {
        let file = file_of(&what, &key);
        let text = fs::read_to_string(fixtures().join(&file)).unwrap_or_else(|error| {
            let now = hex.encode(&value.encode());
            panic!(
                "{file}: {error}; today it would hold\nkey {}\nvalue {now}",
                hex.encode(&key.encode())
            )
        });
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            hex.decode(line.trim().as_bytes()).unwrap()
        };
        assert_eq!(Key::decode(&field("key ")), Ok(key.clone()), "{file}");
        let stored = field("value ");
        assert_eq!(stored[0], 1, "{file} is of version 1");
        assert_eq!(
            whole(&Value::decode(key.kind(), &stored).unwrap()),
            whole(&value),
            "{file}"
        );
        expected.insert(file);
    }
    let there = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), expected, "each file is checked");
}

#[test]
fn every_reason_can_be_stored() {
    for reason in Reason::ALL {
        let block = Value::Block(Block {
            reason: *reason,
            until: UnixTime(0),
            level: 1,
        });
        let back = Value::decode(Kind::Block, &block.encode()).unwrap();
        assert_eq!(whole(&back), whole(&block));
    }
}

/// Reasons are stored by name. A name that was ever stored stays readable: renaming one needs `serde(alias)`.
#[test]
fn every_name_ever_stored_is_read() {
    let names = "known_device new_device learning grace trusted_network plaintext_password denied_network \
        unknown_person refused_lately revoked no_code wrong_code used_code wrong_password \
        password_changed password_expired account_disabled not_enrolled suspended device_limit \
        budget_spent acts_as_other decoy person_waits network_blocked known_device_waits \
        upstream_unreachable upstream_silent upstream_unavailable upstream_limit upstream_in_use \
        upstream_tls upstream_misconfigured clock_unknown store_unavailable busy shutting_down";
    for name in names.split(' ') {
        assert!(
            serde_json::from_str::<Reason>(&format!("\"{name}\"")).is_ok(),
            "{name}"
        );
    }
    assert_eq!(
        serde_json::from_str::<Protocol>("\"imap\"").ok(),
        Some(Protocol::Imap)
    );
}
