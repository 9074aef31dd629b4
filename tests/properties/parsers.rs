//! Inputs for the invariants: text made of the pieces that matter, bytes near what is right, and anything.

use crate::invariants::*;
use base64::Engine;
use gatepost::store::records::{
    Block, Budget, Claim, ClaimState, Death, Device, DeviceId, DeviceUse, Devices, FactorId, FactorState,
    Factors, GoodNetworks, Meta, Mode, Person, PersonId, SignInEntry, SlowHashCost, Tag, Tombstone, Totp,
    TotpHash, UnixTime, Value,
};
use proptest::prelude::*;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Fragments in any order, and now and then some octets of no meaning.
fn pieces(fragments: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        16 => prop::sample::select(fragments).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat())
}

/// One of these, with some octets changed, the end cut off, or as it is.
fn nearly(good: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (
        prop::sample::select(good),
        changes,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut bytes, changes, end, cut)| {
            for (at, octet) in changes {
                let at = at.index(bytes.len());
                bytes[at] = octet;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
}

fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files: Vec<Vec<u8>> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sasl_answers(bytes in pieces(&["AGpvZQBwdw==", "Ym9zcwBqb2UAcHc=", "\n", "=", "AA", "am9l", "*"])) {
        sasl::sasl(&bytes);
    }

    #[test]
    fn sasl_messages(fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 2..4)) {
        let lines: Vec<String> = fields.iter().map(|field| base64::engine::general_purpose::STANDARD.encode(field)).collect();
        sasl::sasl(lines.join("\n").as_bytes());
        let message = base64::engine::general_purpose::STANDARD.encode([&[0], &fields.join(&0)[..]].concat());
        sasl::sasl(message.as_bytes());
    }

    #[test]
    fn received_bytes(bytes: Vec<u8>) {
        lines::lines(&bytes);
    }

    #[test]
    fn both_machines_understand_each_other(mode: u8, fields in prop::collection::vec("[^\0]{1,12}", 3), octets: bool) {
        let fields: Vec<Vec<u8>> = fields
            .iter()
            .map(|field| match octets {
                // Latin-1, as some mail programs still send it.
                true => field.chars().map(|char| (u32::from(char) % 255 + 1) as u8).collect(),
                false => field.as_bytes().to_vec(),
            })
            .collect();
        both_machines::both_machines(&[&[mode][..], &fields.join(&0)].concat());
    }

    #[test]
    fn logins_and_literals(bytes in pieces(LOGINS)) {
        texts::logins(&bytes);
    }

    #[test]
    fn short_texts(bytes in pieces(TEXTS)) {
        texts::texts(&bytes);
    }

    #[test]
    fn any_text(text: String) {
        texts::texts(text.as_bytes());
        texts::logins(text.as_bytes());
    }

    #[test]
    fn any_octets_as_records(bytes: Vec<u8>, kind in 0..13u8) {
        records::records(&[&[kind], bytes.as_slice()].concat());
        records::records(&[&[1], bytes.as_slice()].concat());
    }

    #[test]
    fn every_record_reads_back(value in record(), cut in any::<prop::sample::Index>(), octet: u8) {
        let mut bytes = value.encode().to_vec();
        records::records(&bytes);
        let at = cut.index(bytes.len());
        records::records(&bytes[..at]);
        bytes[at] = octet;
        records::records(&bytes);
    }

    #[test]
    fn sealed_records(bytes: Vec<u8>) {
        records::sealed(&bytes);
    }

    #[test]
    fn files_of_box_keys(bytes in nearly(files("fuzz/corpus/box_key"))) {
        records::box_key(&bytes);
    }

    #[test]
    fn certificates_of_upstreams(bytes in nearly(files("fuzz/corpus/certificates"))) {
        certificates::certificates(&bytes);
    }
}

proptest! {
    // Each case does much.
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn configurations(bytes in pieces(CONFIG)) {
        config::config(&bytes);
    }

    #[test]
    fn nearly_right_configurations(bytes in nearly(files("fuzz/corpus/config"))) {
        config::config(&bytes);
    }

    #[test]
    fn requests_of_administrators(bytes in pieces(REQUESTS)) {
        admin::admin(&bytes);
    }

    #[test]
    fn sign_ins_and_what_goes_wrong_meanwhile(events in prop::collection::vec((any::<u8>(), any::<u8>()), 0..48)) {
        let bytes: Vec<u8> = events.into_iter().flat_map(|(what, how)| [what, how]).collect();
        sign_in::sign_in(&bytes);
    }
}

const LOGINS: &[&str] = &[
    "a",
    "A",
    "@",
    "\\",
    ".",
    " ",
    "\t",
    "alice",
    "EXAMPLE",
    "example.org",
    "\u{c4}",
    "\u{130}",
    "\u{2126}",
    "1",
    "12345",
    "123456",
    "7",
    "+",
    ",",
    ";",
    "\u{ff11}",
    "\u{ff20}",
    "\u{3000}",
    "\u{a0}",
    "pw",
    "\0",
    "\r",
];

const TEXTS: &[&str] = &[
    "2026",
    "1970",
    "9999",
    "0001",
    "-",
    "02",
    "29",
    "30",
    "12",
    "T",
    " ",
    ":",
    "23",
    "59",
    "60",
    "Z",
    "1h",
    "30",
    "m",
    "ms",
    "w",
    "s",
    "90d",
    "18446744073709551615",
    "aeaqcaibaeaqc",
    "AEAQCAIBAEAQC",
    "\u{1b}[",
    "\n",
    "\u{202e}",
    "\\u{1b}",
    "{\"error\":",
    "\"no\"",
    "}",
];

const CONFIG: &[&str] = &[
    "\n",
    "[tls]\n",
    "[[listener]]\n",
    "[[upstream]]\n",
    "[[route]]\n",
    "[access]\n",
    "[limits]\n",
    "[limits.counting]\n",
    "[limits.refusals]\n",
    "[log]\n",
    "name = 'a'\n",
    "name = 'b'\n",
    "address = '127.0.0.1:1'\n",
    "address = '[::]:0'\n",
    "protocol = 'imap'\n",
    "tls = 'implicit'\n",
    "tls = 'starttls'\n",
    "tls = 'none'\n",
    "passwords_in_clear = true\n",
    "host = 'Mail.Example.org.'\n",
    "host = '::1'\n",
    "port = 0x3E1\n",
    "port = 1_0\n",
    "domains = '*'\n",
    "domains = ['a.example', 'b.example']\n",
    "upstreams = ['a']\n",
    "login = 'as-typed'\n",
    "mode = 'learning'\n",
    "hostname = 'h'\n",
    "names = ['a', '192.0.2.1']\n",
    "default_domain = 'Example.org'\n",
    "data_dir = 'd'\n",
    "admin_socket = \"s\\u0007\"\n",
    "denied = ['192.0.2.0/24']\n",
    "trusted = ['10.0.0.0/8', '::1']\n",
    "decoys = [' Admin ']\n",
    "max_devices = 1\n",
    "device_idle = 'never'\n",
    "device_idle = '90d 1ms'\n",
    "idle = '31m'\n",
    "idle = '1h30m'\n",
    "connections = 1\n",
    "blocks = ['5m', '1h', '24h']\n",
    "window = '1h'\n",
    "floor = '1s'\n",
    "ceiling = '100ms'\n",
    "level = 'trace'\n",
    "log.level = 'warn'\n",
    "misses_a_day = 1\n",
    "pin = '",
    "\u{e4}",
    "= 1\n",
    "[",
    "]",
    "'",
    "\"",
];

const REQUESTS: &[&str] = &[
    "\n",
    "G ",
    "P ",
    "D ",
    "/people",
    "/alice",
    "/alice",
    "/%C3%84",
    "/%20",
    "/bob@example.org",
    "/tokens",
    "/devices",
    "/mode",
    "/suspended",
    "/budget",
    "/status",
    "/sessions",
    "/1",
    "/sign-ins",
    "/follow",
    "?limit=1",
    "?since=2026-11-23",
    "&reason=wrong_code",
    "&address=192.0.2.0/24",
    "?person=alice",
    "%",
    "%2F",
    "%3F",
    "%2",
    " {\"login\":\"alice\"}\n",
    " {\"login\":\"alice\",\"aliases\":[\"bob\",\"al\"]}\n",
    "P /people {\"login\":\"alice\"}\n",
    " {\"mode\":\"learning\"}\n",
    " {\"mode\":null}\n",
    " {\"suspended\":true}\n",
    "P /people/alice/tokens {\"label\":\"x\",\"digits\":6,\"period\":30,\"algorithm\":\"sha1\"}\n",
    " {\"label\":\"x\",\"digits\":9,\"period\":0,\"algorithm\":\"md5\"}\n",
    "{",
    "}",
    "\"",
    "\\u0000",
    "/aeaqcaibaeaqc",
];

fn id() -> impl Strategy<Value = [u8; 8]> {
    any::<[u8; 8]>()
}

fn time() -> impl Strategy<Value = UnixTime> {
    any::<u64>().prop_map(UnixTime)
}

fn network() -> impl Strategy<Value = ipnet::IpNet> {
    (any::<IpAddr>(), 0..=128u8).prop_map(|(address, prefix)| {
        let widest = if address.is_ipv4() { 32 } else { 128 };
        ipnet::IpNet::new(address, prefix.min(widest)).unwrap()
    })
}

fn many<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(of, 0..4)
}

/// Any record of any kind.
fn record() -> impl Strategy<Value = Value> {
    prop_oneof![
        (any::<u32>(), any::<[u8; 16]>(), time()).prop_map(|(layout, store_id, created)| Value::Meta(Meta {
            layout,
            store_id,
            created
        })),
        id().prop_map(|id| Value::Login(PersonId(id))),
        person().prop_map(Value::Person),
        many(totp()).prop_map(|totp| Value::Factors(Factors { totp })),
        (cost(), many(device()), many(tombstone())).prop_map(|(cost, devices, tombstones)| Value::Devices(
            Devices {
                cost,
                devices,
                tombstones
            }
        )),
        device_use().prop_map(Value::DeviceUse),
        claim().prop_map(Value::Claim),
        budget().prop_map(Value::Budget),
        many((network(), time())).prop_map(|networks| Value::GoodNetworks(GoodNetworks { networks })),
        (reason(), time(), any::<u8>()).prop_map(|(reason, until, level)| Value::Block(Block {
            reason,
            until,
            level
        })),
        sign_in_entry().prop_map(Value::SignIn),
    ]
}

fn reason() -> impl Strategy<Value = gatepost::reason::Reason> {
    prop::sample::select(gatepost::reason::Reason::ALL)
}

fn tag() -> impl Strategy<Value = Tag> {
    any::<[u8; 32]>().prop_map(Tag)
}

fn person() -> impl Strategy<Value = Person> {
    let mode = prop::option::of(prop::sample::select(vec![Mode::Learning, Mode::Enforcing]));
    (
        id(),
        any::<String>(),
        many(any::<String>()),
        mode,
        prop::option::of(time()),
        any::<bool>(),
        time(),
    )
        .prop_map(
            |(id, login, aliases, mode, grace_until, suspended, created)| Person {
                id: PersonId(id),
                login,
                aliases,
                mode,
                grace_until,
                suspended,
                created,
            },
        )
}

fn totp() -> impl Strategy<Value = Totp> {
    let hash = prop::sample::select(vec![TotpHash::Sha1, TotpHash::Sha256, TotpHash::Sha512]);
    let state = prop::sample::select(vec![FactorState::Active, FactorState::Pending]);
    (
        id(),
        any::<String>(),
        any::<Vec<u8>>(),
        any::<u8>(),
        any::<u32>(),
        hash,
        state,
        time(),
    )
        .prop_map(|(id, label, seed, digits, period, hash, state, created)| Totp {
            id: FactorId(id),
            label,
            seed: seed.into(),
            digits,
            period,
            hash,
            state,
            created,
        })
}

fn cost() -> impl Strategy<Value = SlowHashCost> {
    (any::<[u8; 16]>(), any::<u32>(), any::<u32>()).prop_map(|(salt, memory_kib, passes)| SlowHashCost {
        salt,
        memory_kib,
        passes,
    })
}

fn device() -> impl Strategy<Value = Device> {
    (
        id(),
        tag(),
        any::<u32>(),
        any::<Option<String>>(),
        time(),
        network(),
        id(),
    )
        .prop_map(
            |(id, tag, password_len, client_hint, created, first_network, factor)| Device {
                id: DeviceId(id),
                tag,
                password_len,
                client_hint,
                first_protocol: gatepost::reason::Protocol::Imap,
                created,
                first_network,
                factor: FactorId(factor),
            },
        )
}

fn tombstone() -> impl Strategy<Value = Tombstone> {
    let death = prop::sample::select(vec![Death::Revoked, Death::Expired, Death::Replaced]);
    (tag(), death, time()).prop_map(|(tag, death, died)| Tombstone { tag, death, died })
}

fn device_use() -> impl Strategy<Value = DeviceUse> {
    (time(), network(), many(network()), prop::option::of(time())).prop_map(
        |(last_seen, last_network, networks, refused)| DeviceUse {
            last_seen,
            last_network,
            protocols: vec![gatepost::reason::Protocol::Imap],
            networks,
            refused,
        },
    )
}

fn claim() -> impl Strategy<Value = Claim> {
    let state = prop::sample::select(vec![
        ClaimState::Claimed,
        ClaimState::Used,
        ClaimState::Released,
        ClaimState::Dead,
    ]);
    (tag(), state, any::<u8>(), time()).prop_map(|(tag, state, rejected, expires)| Claim {
        tag,
        state,
        rejected,
        expires,
    })
}

fn budget() -> impl Strategy<Value = Budget> {
    let days = || many(any::<(u64, u32)>());
    let maybe = || prop::option::of(time());
    (days(), days(), maybe(), many(network()), maybe()).prop_map(
        |(misses, unverified, first_miss, miss_networks, spent)| Budget {
            misses,
            unverified,
            first_miss,
            miss_networks,
            spent,
        },
    )
}

fn sign_in_entry() -> impl Strategy<Value = SignInEntry> {
    let ids = (prop::option::of(id()), prop::option::of(id()));
    (
        time(),
        any::<IpAddr>(),
        ids,
        any::<String>(),
        reason(),
        prop::option::of(reason()),
        any::<Option<String>>(),
    )
        .prop_map(
            |(at, address, (person, device), login, reason, enforcing_would, client_hint)| SignInEntry {
                at,
                protocol: gatepost::reason::Protocol::Imap,
                address,
                person: person.map(PersonId),
                login,
                device: device.map(DeviceId),
                reason,
                enforcing_would,
                client_hint,
            },
        )
}
