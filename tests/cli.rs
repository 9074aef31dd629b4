//! Commands, through a running gateway's admin socket and without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use gatepost::admin::Context;
use gatepost::admin::server::{self, AdminServer, SocketError};
use gatepost::auth::Admission;
use gatepost::cli::{self, Console, Patience};
use gatepost::config::{self, Settings, Surroundings};
use gatepost::gate::clock::SystemClock;
use gatepost::gate::sessions::{self, Cut, SessionHandle};
use gatepost::gate::slow_hash::{Argon2id, LEAST_MEMORY_KIB, PoolSettings};
use gatepost::gate::{Gate, Parts};
use gatepost::reason::{Protocol, Reason};
use gatepost::store::records::{
    Batch, Budget, Claim, ClaimState, Death, Device, DeviceId, DeviceUse, Devices, Durability, Expect,
    FactorId, Factors, Key, Outcome, PersonId, SignInEntry, SlowHashCost, Tag, Tombstone, UnixTime, Value,
};
use gatepost::store::{self, Store};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// One configured data directory.
struct Place {
    directory: TempDir,
    settings: Settings,
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: u8,
    out: String,
    err: String,
}

const CONFIGURATION: &str = r#"
data_dir = "data"
hostname = "box.example.org"
default_domain = "example.org"

[[listener]]
name = "imap"
address = "127.0.0.1:0"
protocol = "imap"
tls = "starttls"

[[upstream]]
name = "office"
protocol = "imap"
host = "mail.example.org"
tls = "implicit"

[[route]]
name = "office"
domains = ["example.org"]
upstreams = ["office"]
"#;

fn around() -> Surroundings {
    Surroundings {
        root: false,
        home: None,
        xdg_data_home: None,
        xdg_runtime_dir: None,
        hostname: "box".into(),
        ipv6: false,
        gateways: Vec::new(),
    }
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gatepost.toml");
        std::fs::write(&file, CONFIGURATION).unwrap();
        let settings = config::load_file(&file, &around()).unwrap().settings;
        Place { directory, settings }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("gatepost.toml")
    }

    fn run(&self, line: &str) -> Said {
        self.run_patiently(
            line,
            Patience {
                tries: 1,
                pause: Duration::ZERO,
            },
        )
    }

    fn run_patiently(&self, line: &str, patience: Patience) -> Said {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            out: &mut out,
            err: &mut err,
            is_terminal: false,
            around: around(),
            patience,
        };
        let file = self.file();
        let words = ["gatepost"]
            .into_iter()
            .chain(line.split_whitespace())
            .map(Into::into);
        let code = cli::execute(words.chain(["--config".into(), file.into()]), &mut console);
        Said {
            code,
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
        }
    }

    fn json(&self, line: &str) -> serde_json::Value {
        let said = self.run(line);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"))
    }

    fn open(&self) -> Store {
        store::open(&self.settings.store()).unwrap().store
    }
}

/// A gateway that answers commands, in this process.
struct Running {
    server: AdminServer,
    gate: Gate,
    store: Store,
    runtime: Runtime,
}

impl Running {
    fn start(place: &Place) -> Running {
        let store = place.open();
        Running::with_store(place, store)
    }

    fn with_store(place: &Place, store: Store) -> Running {
        let runtime = runtime();
        let gate = {
            let _inside = runtime.enter();
            Gate::start(Parts {
                store: store.clone(),
                settings: place.settings.access.clone(),
                clock: Arc::new(SystemClock),
                slow_hash: Arc::new(Argon2id),
                pool: PoolSettings::of_this_machine(LEAST_MEMORY_KIB),
            })
            .unwrap()
        };
        let context = Context {
            store: store.clone(),
            gate: Some(gate.clone()),
            facts: place.settings.facts(Some(gatepost::admin::now())),
            runtime: runtime.handle().clone(),
        };
        let socket = server::bind(&place.settings.admin_socket).unwrap();
        Running {
            server: AdminServer::start(socket, context),
            gate,
            store,
            runtime,
        }
    }

    fn commit(&self, batch: Batch) {
        commit(&self.runtime, &self.store, batch);
    }

    fn stop(self) {
        self.server.stop();
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn commit(runtime: &Runtime, store: &Store, batch: Batch) {
    assert_eq!(
        runtime.block_on(store.commit(batch, Durability::Synced)),
        Ok(Outcome::Done)
    );
}

fn person_of(runtime: &Runtime, store: &Store, login: &str) -> PersonId {
    match runtime
        .block_on(store.get(vec![Key::Login(login.into())]))
        .unwrap()
        .remove(0)
        .unwrap()
        .value
    {
        Value::Login(id) => id,
        other => panic!("{other:?}"),
    }
}

fn device(number: u8) -> Device {
    Device {
        id: DeviceId([number; 8]),
        tag: Tag([number; 32]),
        password_len: 8,
        client_hint: Some("Thunderbird\x1b[2J 128".into()),
        first_protocol: Protocol::Imap,
        created: UnixTime(1_795_000_000),
        first_network: "192.0.2.7/32".parse().unwrap(),
        factor: FactorId([9; 8]),
    }
}

/// Two devices for a person, one of them in use, and two entries in the sign-in log.
fn history(person: PersonId) -> Batch {
    let devices = Devices {
        cost: SlowHashCost {
            salt: [3; 16],
            memory_kib: 19_456,
            passes: 2,
        },
        devices: vec![device(1), device(2)],
        tombstones: vec![Tombstone {
            tag: Tag([7; 32]),
            death: Death::Expired,
            died: gatepost::admin::now(),
        }],
    };
    let used = DeviceUse {
        last_seen: UnixTime(1_795_000_500),
        last_network: "198.51.100.0/24".parse().unwrap(),
        protocols: vec![Protocol::Imap],
        networks: Vec::new(),
        refused: None,
    };
    let claim = Claim {
        tag: Tag([1; 32]),
        state: ClaimState::Used,
        rejected: 0,
        expires: UnixTime(1_795_000_150),
    };
    let spent = Budget {
        first_miss: Some(UnixTime(1_795_000_300)),
        spent: Some(UnixTime(1_795_000_400)),
        ..Budget::default()
    };
    Batch::default()
        .put(Key::Devices(person), Expect::Absent, Value::Devices(devices))
        .put(
            Key::DeviceUse(person, device(1).id),
            Expect::Absent,
            Value::DeviceUse(used),
        )
        .put(claim_key(person), Expect::Absent, Value::Claim(claim))
        .put(Key::Budget(person), Expect::Absent, Value::Budget(spent))
        .put(
            Key::SignIn(1_795_000_000_000, 0),
            Expect::Any,
            entry(person, 1_795_000_000, Reason::NewDevice),
        )
        .put(
            Key::SignIn(1_795_000_500_000, 0),
            Expect::Any,
            entry(person, 1_795_000_500, Reason::WrongCode),
        )
}

fn claim_key(person: PersonId) -> Key {
    Key::Claim(person, FactorId([9; 8]), 59_833_333)
}

fn entry(person: PersonId, at: u64, reason: Reason) -> Value {
    Value::SignIn(SignInEntry {
        at: UnixTime(at),
        protocol: Protocol::Imap,
        address: "192.0.2.7".parse().unwrap(),
        person: Some(person),
        login: "alice@example.org".into(),
        device: None,
        reason,
        enforcing_would: None,
        client_hint: Some("curl".into()),
    })
}

/// Every command in an order in which each has something to do; `{token}` is alice's second token.
const SCRIPT: &[&str] = &[
    "person list",
    "person add Alice --alias a.smith --alias alice@EXAMPLE.org",
    "person add bob@example.net",
    "person add a.smith",
    "person add alice",
    "person list",
    "person mode alice learning",
    "person mode a.smith inherit",
    "person mode bob@example.net learning",
    "person suspend bob@example.net",
    "person list --json",
    "person resume bob@example.net",
    "token enrol alice",
    "token enrol alice --label fob --digits 8 --period 60 --algorithm sha512 --json",
    "token enrol nobody",
    "token enrol alice --digits 5",
    "token list alice",
    "token list alice --json",
    "token remove alice {token}",
    "token remove alice {token}",
    "token remove alice not-an-id",
    "person show alice",
    "person show alice --json",
    "HISTORY",
    "person show alice",
    "person restore a.smith",
    "person restore alice",
    "person restore nobody",
    "person show alice --json",
    "device list",
    "device list alice",
    "device list alice --json",
    "device list bob@example.net",
    "device revoke alice aeaqcaibaeaqc",
    "device revoke alice aeaqcaibaeaqc",
    "device revoke alice --all",
    "device revoke alice --all",
    "device list --json",
    "session list",
    "session list --json",
    "session cut --all",
    "session cut 17",
    "session cut --person alice",
    "sign-ins",
    "sign-ins --json -n 1",
    "sign-ins --reason wrong_code --person alice",
    "sign-ins --reason wrong",
    "sign-ins --since 2026-11-18T00:00 --address 192.0.2.0/24",
    "sign-ins --since 1h",
    "sign-ins --since lately",
    "sign-ins --address nowhere",
    "sign-ins --person nobody",
    "status",
    "status --json",
    "person remove bob@example.net",
    "person remove alice",
    "person remove alice",
    "person show alice",
];

#[test]
fn every_command_says_the_same_with_and_without_a_gateway() {
    let (with, without) = (Place::new(), Place::new());
    // `person list` on nothing at all would refuse to make a store.
    drop(without.open());
    let gateway = Running::start(&with);
    for line in SCRIPT {
        if *line == "HISTORY" {
            gateway.commit(history(person_of(
                &gateway.runtime,
                &gateway.store,
                "alice@example.org",
            )));
            let (runtime, store) = (runtime(), without.open());
            commit(
                &runtime,
                &store,
                history(person_of(&runtime, &store, "alice@example.org")),
            );
            continue;
        }
        let token = |place: &Place| match line.contains("{token}") {
            false => String::new(),
            true => place.json("token list alice --json")[1]["id"]
                .as_str()
                .unwrap_or("aaaaaaaaaaaaa")
                .to_string(),
        };
        let run = |place: &Place| comparable(place.run(&line.replace("{token}", &token(place))), place);
        let (one, other) = (run(&with), run(&without));
        if line.starts_with("status") {
            assert_eq!((one.code, other.code), (cli::DONE, cli::ABSENT), "{line}");
            continue;
        }
        assert_eq!(one, other, "{line}");
        assert!(one.out.len() + one.err.len() > 0, "{line} said nothing");
    }
    gateway.stop();
}

/// Without what differs between two stores: identifiers, times of now, seeds, directories.
fn comparable(said: Said, place: &Place) -> Said {
    let mask = |text: &str| {
        let text = text.replace(&place.directory.path().display().to_string(), "DIRECTORY");
        let lines = text.lines().map(|line| {
            // A QR code is as random as its seed.
            if line.contains(['█', '▀', '▄']) {
                return "QR".to_string();
            }
            line.split_inclusive([' ', '"', ';', '=', '&', '(', ')', ','])
                .map(|word| {
                    let bare = word.trim_end_matches([' ', '"', ';', '=', '&', '(', ')', ',', '.']);
                    let is_id =
                        bare.len() == 13 && bare.parse::<PersonId>().is_ok() && !bare.starts_with("aeaq");
                    let is_now =
                        bare.len() == 20 && bare.starts_with("20") && !bare.starts_with("2026-11-18");
                    let is_seed = bare.len() == 32 && data_encoding::BASE32.decode(bare.as_bytes()).is_ok();
                    if is_id || is_now || is_seed {
                        word.replace(bare, "X")
                    } else {
                        word.to_string()
                    }
                })
                .collect()
        });
        lines.collect::<Vec<String>>().join("\n")
    };
    Said {
        code: said.code,
        out: mask(&said.out),
        err: mask(&said.err),
    }
}

#[test]
fn the_same_store_reads_the_same_to_the_letter() {
    let place = Place::new();
    for line in [
        "person add alice",
        "token enrol alice",
        "person add carol --alias c",
    ] {
        assert_eq!(place.run(line).code, cli::DONE);
    }
    let gateway = Running::start(&place);
    gateway.commit(history(person_of(
        &gateway.runtime,
        &gateway.store,
        "alice@example.org",
    )));
    let lines = [
        "person list",
        "person show c --json",
        "person show alice",
        "device list --json",
        "token list alice",
        "sign-ins",
    ];
    let through: Vec<Said> = lines.iter().map(|line| place.run(line)).collect();
    gateway.stop();
    let here: Vec<Said> = lines.iter().map(|line| place.run(line)).collect();
    assert_eq!(through, here);
    assert!(
        here.iter()
            .all(|said| said.code == cli::DONE && said.err.is_empty()),
        "{here:?}"
    );
    assert!(
        here[2].out.contains("Thunderbird\\u{1b}[2J 128"),
        "{}",
        here[2].out
    );
}

#[test]
fn exit_codes_are_as_documented() {
    let place = Place::new();
    let check = |line: &str, code: u8, said: &str| {
        let answer = place.run(line);
        assert_eq!(answer.code, code, "{line}: {answer:?}");
        assert!(
            answer.out.contains(said) || answer.err.contains(said),
            "{line}: {answer:?}"
        );
    };
    check("person list", cli::FAILED, "there is no store in");
    check("person add alice", cli::DONE, "added alice@example.org");
    check(
        "person add alice",
        cli::FAILED,
        "there is a person with the login alice@example.org already",
    );
    check("person show bob", cli::ABSENT, "nobody has the login \"bob\"");
    check(
        "token enrol alice --period 31",
        cli::USAGE,
        "accepted is 30 or 60",
    );
    check("token enrol alice --algorithm md5", cli::USAGE, "sha1");
    check("person mode alice strict", cli::USAGE, "learning");
    check("device revoke alice", cli::USAGE, "required");
    check("session cut", cli::USAGE, "required");
    check("status", cli::ABSENT, "not running");
    check("sign-ins --follow", cli::ABSENT, "no gateway runs");
    check("frobnicate", cli::USAGE, "unrecognized subcommand");
    check("--help", cli::DONE, "Exit codes: 0 done");
    check(
        "token enrol --help",
        cli::DONE,
        "gatepost token enrol alice@example.org --label fob",
    );
    check(
        "check",
        cli::DONE,
        "upstream       office: imap at mail.example.org:993, TLS",
    );

    std::fs::write(place.file(), "mod = 'learning'\nhostname = 7\n").unwrap();
    check(
        "check",
        cli::USAGE,
        "gatepost.toml:1:1: mod: unknown key; did you mean \"mode\"?",
    );
    check("person list", cli::USAGE, "2 mistakes in the configuration");
    std::fs::remove_file(place.file()).unwrap();
    check("check", cli::USAGE, "cannot be read");
}

#[test]
fn an_enrolment_is_what_the_store_holds() {
    let place = Place::new();
    place.run("person add alice");
    let enrolment =
        place.json("token enrol alice --label fob --digits 8 --period 60 --algorithm sha256 --json");
    let (uri, seed) = (
        enrolment["uri"].as_str().unwrap(),
        enrolment["seed"].as_str().unwrap(),
    );
    let token = totp_rs::Totp::from_url(uri).unwrap();
    assert_eq!(token.issuer(), Some("Gatepost"));
    assert!(
        uri.starts_with("otpauth://totp/Gatepost:alice%40example.org?"),
        "{uri}"
    );

    let (runtime, store) = (runtime(), place.open());
    let person = person_of(&runtime, &store, "alice@example.org");
    let factors = match runtime
        .block_on(store.get(vec![Key::Factors(person)]))
        .unwrap()
        .remove(0)
        .unwrap()
        .value
    {
        Value::Factors(Factors { totp }) => totp,
        other => panic!("{other:?}"),
    };
    assert_eq!((factors.len(), factors[0].digits, factors[0].period), (1, 8, 60));
    assert_eq!(factors[0].seed.expose().len(), 20);
    assert_eq!(data_encoding::BASE32_NOPAD.encode(factors[0].seed.expose()), seed);
    let kept = totp_rs::Builder::new()
        .with_algorithm(totp_rs::Algorithm::SHA256)
        .with_digits(8)
        .with_step_duration(60)
        .with_secret(factors[0].seed.expose().clone())
        .build()
        .unwrap();
    for time in [0, 1_795_000_000] {
        assert_eq!(token.generate(time).to_string(), kept.generate(time).to_string());
    }
    drop(store);

    let shown = place.run("token enrol alice").out;
    assert!(
        shown.contains("█") && shown.contains("URI   otpauth://totp/"),
        "{shown}"
    );
    // Nothing shows a seed later.
    let all = [
        place.run("token list alice --json").out,
        place.run("person show alice --json").out,
    ]
    .concat();
    assert!(!all.contains(seed), "{all}");
}

#[test]
fn revoking_leaves_a_tombstone_and_keeps_the_cost() {
    let place = Place::new();
    place.run("person add alice");
    let gateway = Running::start(&place);
    let person = person_of(&gateway.runtime, &gateway.store, "alice@example.org");
    gateway.commit(history(person));
    let said = place.run("device revoke alice aeaqcaibaeaqc");
    assert!(
        said.out
            .starts_with("revoked the device aeaqcaibaeaqc of alice@example.org\n"),
        "{said:?}"
    );
    let keys = vec![Key::Devices(person), Key::DeviceUse(person, device(1).id)];
    let read = || gateway.runtime.block_on(gateway.store.get(keys.clone())).unwrap();
    let mut records = read();
    assert!(records.remove(1).is_none());
    let Value::Devices(left) = records.remove(0).unwrap().value else {
        panic!()
    };
    assert_eq!(left.devices, [device(2)]);
    assert_eq!(left.cost.salt, [3; 16]);
    let tombs: Vec<(Tag, Death)> = left
        .tombstones
        .iter()
        .map(|tombstone| (tombstone.tag, tombstone.death))
        .collect();
    assert_eq!(
        tombs,
        [(Tag([7; 32]), Death::Expired), (Tag([1; 32]), Death::Revoked)]
    );

    assert_eq!(place.run("device revoke alice --all").code, cli::DONE);
    let Value::Devices(left) = read().remove(0).unwrap().value else {
        panic!()
    };
    assert_eq!(
        (left.devices.len(), left.tombstones.len(), left.cost.salt),
        (0, 3, [3; 16])
    );
    gateway.stop();
}

#[test]
fn removing_a_person_leaves_nothing_of_hers() {
    let place = Place::new();
    place.run("person add alice --alias a");
    place.run("token enrol alice");
    let gateway = Running::start(&place);
    let person = person_of(&gateway.runtime, &gateway.store, "alice@example.org");
    gateway.commit(history(person));
    assert_eq!(
        place.run("person remove a").out,
        "removed alice@example.org with 1 token and 2 devices\n"
    );
    let keys = vec![
        Key::Login("alice@example.org".into()),
        Key::Login("a@example.org".into()),
        Key::Person(person),
        Key::Factors(person),
        Key::Devices(person),
        Key::DeviceUse(person, device(1).id),
        Key::Budget(person),
        claim_key(person),
    ];
    let records = gateway.runtime.block_on(gateway.store.get(keys)).unwrap();
    assert!(records.iter().all(Option::is_none), "{records:?}");
    gateway.stop();
}

#[test]
fn a_spent_budget_is_shown_and_restored() {
    let place = Place::new();
    place.run("person add alice");
    let gateway = Running::start(&place);
    let person = person_of(&gateway.runtime, &gateway.store, "alice@example.org");
    gateway.commit(history(person));
    let spent = || {
        place
            .run("person show alice")
            .out
            .contains("person restore alice@example.org")
    };
    assert!(spent());
    assert_eq!(
        place.run("person restore alice").out,
        "alice@example.org has her whole guessing budget again\n\
         note: somebody may know her mail password: change it, if that was not done yet\n"
    );
    assert!(!spent());
    let budget = gateway.store.get(vec![Key::Budget(person)]);
    assert!(gateway.runtime.block_on(budget).unwrap()[0].is_none());
    gateway.stop();
}

#[test]
fn the_last_token_says_what_its_removal_means() {
    let place = Place::new();
    place.run("person add alice");
    let check = |mode: &str, expected: &str| {
        place.run(&format!("person mode alice {mode}"));
        let token = place.json("token enrol alice --json")["token"]["id"]
            .as_str()
            .unwrap()
            .to_string();
        let said = place.run(&format!("token remove alice {token}")).out;
        assert!(said.contains(expected), "{said}");
    };
    check("enforcing", "no new device can sign in until she has another one");
    check("learning", "she signs in by password alone, as before");
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let place = Place::new();
    place.run("person add alice");
    let gateway = Running::start(&place);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(place.run("token enrol alice").code, cli::DONE));
        }
    });
    assert_eq!(place.json("token list alice --json").as_array().unwrap().len(), 6);
    gateway.stop();
}

#[test]
fn a_stale_socket_hinders_neither_a_command_nor_a_gateway() {
    let place = Place::new();
    let socket = &place.settings.admin_socket;
    let directory = socket.parent().unwrap();
    std::fs::create_dir_all(directory).unwrap();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    drop(UnixListener::bind(socket).unwrap());
    assert!(socket.exists(), "the dead gateway's socket is there");
    assert_eq!(place.run("person add alice").code, cli::DONE);
    let gateway = Running::start(&place);
    assert_eq!(place.run("status").code, cli::DONE);
    assert!(matches!(server::bind(socket), Err(SocketError::InUse(_))));
    gateway.stop();
    assert!(!socket.exists(), "the socket goes with its gateway");
}

#[test]
fn a_store_in_use_names_its_user() {
    let place = Place::new();
    let store = place.open();
    let said = place.run("person list");
    assert_eq!(said.code, cli::FAILED);
    assert!(
        said.err.contains(&format!("process {} (", std::process::id())),
        "{said:?}"
    );
    assert!(said.err.contains("but nobody answers on"), "{said:?}");
    drop(store);
}

#[test]
fn a_command_waits_for_a_gateway_that_is_just_starting() {
    let place = Place::new();
    place.run("person add alice");
    let store = place.open();
    let gateway = thread::scope(|scope| {
        let patience = Patience {
            tries: 1_000,
            pause: Duration::from_millis(10),
        };
        let place = &place;
        let command = scope.spawn(move || place.run_patiently("person list", patience));
        let gateway = Running::with_store(place, store);
        let said = command.join().unwrap();
        assert!(
            said.code == cli::DONE && said.out.contains("alice@example.org"),
            "{said:?}"
        );
        gateway
    });
    gateway.stop();
}

#[test]
fn the_socket_is_for_its_user_only() {
    let place = Place::new();
    let socket = &place.settings.admin_socket;
    let directory = socket.parent().unwrap();
    let gateway = Running::start(&place);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(directory), mode(socket)), (0o700, 0o600));
    gateway.stop();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o750)).unwrap();
    let error = server::bind(socket).unwrap_err();
    assert!(
        matches!(error, SocketError::OpenDirectory { mode: 0o750, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn sessions_are_listed_and_cut() {
    let place = Place::new();
    place.run("person add alice");
    place.run("person add bob");
    let gateway = Running::start(&place);
    let register = |login: &str, device: Option<u8>| -> SessionHandle {
        let account = format!("{login}@example.org");
        gateway.gate.sessions().register(sessions::Facts {
            admission: Admission {
                person: Some(person_of(&gateway.runtime, &gateway.store, &account)),
                account: account.into(),
                route: "office".into(),
                device: device.map(|number| DeviceId([number; 8])),
                factor: None,
                reason: Reason::KnownDevice,
                enforcing_would: None,
            },
            protocol: Protocol::Imap,
            address: "192.0.2.7".parse().unwrap(),
            listener: "imap".into(),
            since: UnixTime(1_795_000_000),
        })
    };
    let handles = [
        register("alice", Some(1)),
        register("alice", Some(2)),
        register("bob", None),
    ];
    let is_cut = || {
        handles
            .each_ref()
            .map(|handle| *handle.cut().borrow() == Some(Cut::Cut))
    };
    let listed = place.json("session list --person alice --json");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["device"], "aeaqcaibaeaqc");
    assert_eq!(listed[0]["since"], "2026-11-18T11:06:40Z");
    assert_eq!(place.run("session list").out.lines().count(), 4);
    assert_eq!(place.json("status --json")["gateway"]["sessions"], 3);

    let check = |line: &str, code: u8, said: &str, cut: [bool; 3]| {
        let answer = place.run(line);
        assert_eq!((answer.code, is_cut()), (code, cut), "{line}: {answer:?}");
        assert!(
            answer.out.contains(said) || answer.err.contains(said),
            "{line}: {answer:?}"
        );
    };
    check(
        "session cut 99",
        cli::ABSENT,
        "there is no session 99",
        [false; 3],
    );
    check("session cut x", cli::USAGE, "accepted is a number", [false; 3]);
    check(
        "session cut --device aibaeaqcaibae",
        cli::DONE,
        "cut 1 session\n",
        [false, true, false],
    );
    check("session cut 1", cli::DONE, "cut session 1\n", [true, true, false]);
    check(
        "session cut --person alice",
        cli::DONE,
        "cut 0 sessions\n",
        [true, true, false],
    );
    check(
        "session cut --person nobody",
        cli::ABSENT,
        "nobody has the login",
        [true, true, false],
    );
    check("session cut --all", cli::DONE, "cut 1 session\n", [true; 3]);
    gateway.stop();
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let place = Place::new();
    Running::start(&place).stop();
    let socket = &place.settings.admin_socket;
    std::fs::write(socket, "precious").unwrap();
    assert!(matches!(server::bind(socket), Err(SocketError::NoSocket(_))));
    assert_eq!(std::fs::read_to_string(socket).unwrap(), "precious");
}

#[test]
fn root_does_not_lock_the_gateways_user_out() {
    // Only root can give a directory away, and only root could do the harm.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    place.run("person add alice");
    std::os::unix::fs::chown(&place.settings.data_dir, Some(12_345), None).unwrap();
    let said = place.run("person add bob");
    assert_eq!(said.code, cli::FAILED);
    assert!(
        said.err
            .contains("belongs to user 12345; run this as that user: sudo -u '#12345'"),
        "{said:?}"
    );
}

/// A writer that hands over whole lines.
struct Lines(mpsc::Sender<String>, Vec<u8>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.extend_from_slice(bytes);
        while let Some(end) = self.1.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.1.drain(..=end).collect();
            let _ = self.0.send(String::from_utf8(line).unwrap());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn following_shows_the_last_and_then_each_new_entry() {
    let place = Place::new();
    place.run("person add alice");
    let gateway = Running::start(&place);
    let person = person_of(&gateway.runtime, &gateway.store, "alice@example.org");
    gateway.commit(history(person));
    let (lines, heard) = mpsc::channel();
    let file = place.file();
    let follower = thread::spawn(move || {
        let patience = Patience {
            tries: 1,
            pause: Duration::ZERO,
        };
        let mut console = Console {
            out: &mut Lines(lines, Vec::new()),
            err: &mut Vec::new(),
            is_terminal: false,
            around: around(),
            patience,
        };
        let words = [
            "gatepost", "sign-ins", "--follow", "-n", "1", "--person", "alice", "--config",
        ];
        cli::execute(
            words.into_iter().map(Into::into).chain([file.into()]),
            &mut console,
        )
    });
    // Refusals are followed by a line that says what helps.
    let next = || {
        loop {
            let line = heard.recv_timeout(Duration::from_secs(20)).unwrap();
            if !line.starts_with(' ') {
                return line;
            }
        }
    };
    assert!(next().contains("wrong_code"));
    let other = PersonId([8; 8]);
    gateway.commit(Batch::default().put(Key::SignIn(1, 1), Expect::Any, entry(other, 1, Reason::Decoy)));
    gateway.commit(Batch::default().put(
        Key::SignIn(1_795_000_600_000, 0),
        Expect::Any,
        entry(person, 1_795_000_600, Reason::KnownDevice),
    ));
    let line = next();
    assert_eq!(
        line,
        "2026-11-18T11:16:40Z  admitted   known_device          alice@example.org  192.0.2.7  imap  \"curl\"\n"
    );
    gateway.stop();
    assert_eq!(follower.join().unwrap(), cli::DONE);
}

/// Sends bytes as they are and reads the answer's first line.
fn raw(place: &Place, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(&place.settings.admin_socket).unwrap();
    stream.write_all(bytes).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn at_most_eight_follow() {
    let place = Place::new();
    let gateway = Running::start(&place);
    let request = b"GET /sign-ins/follow?limit=0 HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut following = Vec::new();
    for _ in 0..8 {
        let mut stream = UnixStream::connect(&place.settings.admin_socket).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        following.push(stream);
    }
    assert!(raw(&place, request).starts_with("HTTP/1.1 503"));
    // A place is free again once a follower's heartbeat finds nobody.
    drop(following.pop());
    let mut tries = 0;
    while !raw(&place, request).starts_with("HTTP/1.1 200") {
        tries += 1;
        assert!(
            tries < 100_000,
            "the place of a client that has gone is never free"
        );
    }
    gateway.stop();
}

#[test]
fn refuses_requests_that_make_no_sense() {
    let place = Place::new();
    let gateway = Running::start(&place);
    let check = |request: &str, status: &str| {
        let line = raw(&place, request.as_bytes());
        assert!(line.contains(status), "{request}: {line}");
    };
    check(
        "PUT /people HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        " 400 ",
    );
    check("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", " 404 ");
    check("DELETE /people HTTP/1.1\r\nHost: x\r\n\r\n", " 404 ");
    check(
        "POST /people HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{",
        " 400 ",
    );
    check(
        "POST /people HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\n{\"login\":\"a\",\"x\":true}",
        " 400 ",
    );
    check("GET /people/%zz HTTP/1.1\r\nHost: x\r\n\r\n", " 400 ");
    let long = "x".repeat(300 * 1024);
    check(
        &format!(
            "POST /people HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{long}",
            long.len()
        ),
        " 400 ",
    );
    assert_eq!(place.run("status").code, cli::DONE, "it goes on answering");
    gateway.stop();
}

/// The program itself, running; killed when the test ends early.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    said: String,
}

impl Process {
    /// Starts `gatepost run` and waits until it says that it answers.
    fn start(place: &Place) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .args(["run", "--config"])
            .arg(place.file())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut process = Process {
            child,
            log,
            said: String::new(),
        };
        while !process.said.contains("commands are answered on") {
            assert_ne!(
                process.log.read_line(&mut process.said).unwrap(),
                0,
                "{}",
                process.said
            );
        }
        process
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Ends it with a signal and gives its standard error.
    fn end(mut self, signal: rustix::process::Signal) -> String {
        rustix::process::kill_process(self.pid(), signal).unwrap();
        let mut said = std::mem::take(&mut self.said);
        self.log.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_program_runs_and_ends_in_order() {
    let place = Place::new();
    std::fs::write(
        place.file(),
        format!("{CONFIGURATION}\n[log]\nlevel = \"trace\"\n"),
    )
    .unwrap();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let process = Process::start(&place);
        place.run("person add alice");
        let enrolment = place.json("token enrol alice --json");
        let status = place.json("status --json");
        assert_eq!(status["gateway"]["pid"], process.pid().as_raw_nonzero().get());

        let second = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .args(["run", "--config"])
            .arg(place.file())
            .output();
        let said = String::from_utf8(second.unwrap().stderr).unwrap();
        assert!(
            said.contains(&format!(
                "process {} uses this data directory",
                process.child.id()
            )),
            "{said}"
        );

        let log = process.end(signal);
        assert!(log.contains("commands are answered on"), "{log}");
        let seed = enrolment["seed"].as_str().unwrap();
        assert!(!log.contains(seed), "a seed is in the log");
        assert!(!place.settings.admin_socket.exists());
        assert_eq!(
            place.run("person show alice").code,
            cli::DONE,
            "the store is free and whole"
        );
    }
}

#[test]
fn a_lack_of_descriptors_does_not_end_the_admin_socket() {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let place = Place::new();
    let process = Process::start(&place);
    // Below every descriptor that is free.
    let none = Rlimit {
        current: Some(3),
        ..getrlimit(Resource::Nofile)
    };
    let usual = prlimit(Some(process.pid()), Resource::Nofile, none).unwrap();
    // The accepting thread holds a descriptor for the next connection already, and fails on the one after; or, in tiny_http,
    // on duplicating the first. Neither is answered.
    let mut waiting = UnixStream::connect(&place.settings.admin_socket).unwrap();
    let _ = waiting.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    waiting
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let answered = waiting.read(&mut [0]);
    assert!(!matches!(answered, Ok(1)), "an answer without descriptors");
    prlimit(Some(process.pid()), Resource::Nofile, usual).unwrap();
    assert_eq!(place.run("status").code, cli::DONE);
    let log = process.end(rustix::process::Signal::TERM);
    let felt = ["Too many open files", "the admin socket: ", "panicked at"];
    assert!(
        felt.iter().any(|words| log.contains(words)),
        "the lack was never felt: {log}"
    );
}
