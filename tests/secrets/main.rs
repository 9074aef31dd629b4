//! No secret in the log at its loudest, in the store's files, in what the admin API answers, in the command line, or in the
//! memory of a program whose sign-ins are over, whichever way they were made and however they ended.
//!
//! What memory keeps all the same, by intention or because it is not ours to wipe:
//! - **Seeds and the box key.** Codes are checked without reading the store, so factors of people who signed in lately are in
//!   the gate's cache. Whoever reads the memory has the key to the store as well. An enrolment's answer leaves the seed in
//!   base32 on the stack of the thread that sent it, where tiny_http copies answers.
//! - **Mail.** What comes down from the mail server stays in a buffer until the next burst overwrites it.
//! - **The kernel's socket buffers and what TLS peers have**, which no core of this program holds.
//!
//! What libraries free unwiped, such as rustls' copy of each record's plaintext, the program's allocator wipes.
//!
//! hyper has no log lines in the features that the program uses, and commands, which are its only user, keep no log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod needles;
mod program;
#[path = "../support/mod.rs"]
mod support;

use needles::{Needle, forms};
use program::Program;
use std::path::Path;
use support::client::Client;
use support::gateway::Phone;
use support::upstream::{AtLogin, FakeUpstream, Script, Transport, contains};

/// A person behind a mail server of her own.
struct Person {
    login: &'static str,
    password: &'static str,
    upstream: FakeUpstream,
    seed: String,
    phone: Phone,
}

impl Person {
    fn literal(&self, code: &str) -> String {
        format!("{}@{code}", self.password)
    }
}

/// Everybody: login, password, and how her mail server is signed in to.
const EVERYBODY: [(&str, &str, Transport, &str); 3] = [
    // LOGIN with a literal, because of the quote.
    (
        "alice@clear.example",
        "corr\"ect-horse",
        Transport::Clear,
        "IMAP4rev1 ID",
    ),
    // AUTHENTICATE PLAIN in two steps.
    (
        "bob@starttls.example",
        "battery-staple-x7",
        Transport::StartTls,
        "IMAP4rev1 STARTTLS AUTH=PLAIN",
    ),
    // AUTHENTICATE PLAIN with an initial response.
    (
        "carol@implicit.example",
        "Tr0ub4dor-and-3",
        Transport::Implicit,
        "IMAP4rev1 SASL-IR AUTH=PLAIN",
    ),
];

const WRONG_PASSWORD: &str = "mistyped-passw0rd";
const TYPED_AS_LOGIN: &str = "typed-in-the-login-field";
const AUTHZID: &str = "typed-as-an-authzid";
const NOBODYS: &str = "password-of-nobody";
const BROKEN: &str = "in-a-broken-line-9q";
const IN_CLEAR: &str = "sent-before-tls-4w";
const LATE: &str = "said-again-after-sign-in";

const LISTENERS: [&str; 3] = ["clear", "starttls", "implicit"];

/// A way to sign in.
#[derive(Clone, Copy)]
enum Way {
    Quoted,
    Literals,
    EagerLiterals,
    PlainInitial,
    PlainAsked,
    LoginInitial,
    LoginAsked,
}

const WAYS: [Way; 7] = [
    Way::Quoted,
    Way::Literals,
    Way::EagerLiterals,
    Way::PlainInitial,
    Way::PlainAsked,
    Way::LoginInitial,
    Way::LoginAsked,
];

impl Way {
    /// The client's lines, each of which but the last is answered by a continuation.
    fn lines(self, login: &str, literal: &str) -> Vec<String> {
        let plain = base64(&format!("\0{login}\0{literal}"));
        let quoted = literal.replace('"', "\\\"");
        let (n, m) = (login.len(), literal.len());
        match self {
            Way::Quoted => vec![format!("a LOGIN \"{login}\" \"{quoted}\"")],
            Way::Literals => vec![
                format!("a LOGIN {{{n}}}"),
                format!("{login} {{{m}}}"),
                literal.to_owned(),
            ],
            Way::EagerLiterals => vec![format!("a LOGIN {{{n}+}}\r\n{login} {{{m}+}}\r\n{literal}")],
            Way::PlainInitial => vec![format!("a AUTHENTICATE PLAIN {plain}")],
            Way::PlainAsked => vec!["a AUTHENTICATE PLAIN".to_owned(), plain],
            Way::LoginInitial => vec![format!("a AUTHENTICATE LOGIN {}", base64(login)), base64(literal)],
            Way::LoginAsked => vec!["a AUTHENTICATE LOGIN".to_owned(), base64(login), base64(literal)],
        }
    }

    /// Signs in; gives the tagged answer.
    fn sign_in(self, client: &mut Client, login: &str, literal: &str) -> String {
        let lines = self.lines(login, literal);
        let (last, asked) = lines.split_last().unwrap();
        for line in asked {
            client.send(&format!("{line}\r\n"));
            assert!(client.line().starts_with('+'));
        }
        client.send(&format!("{last}\r\n"));
        client.until("a").pop().unwrap()
    }
}

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

/// A program at its loudest, with everybody enrolled.
struct World {
    directory: tempfile::TempDir,
    program: Program,
    everybody: Vec<Person>,
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let upstreams = EVERYBODY.map(|(_, password, transport, capabilities)| {
            let script = Script {
                transport,
                greeting: "* OK ready",
                capabilities,
                password,
                ..Script::default()
            };
            // Each has an authority of its own.
            let home = directory.path().join(name_of(transport));
            std::fs::create_dir(&home).unwrap();
            FakeUpstream::start(script, &home)
        });
        let config = directory.path().join("gatepost.toml");
        std::fs::write(&config, configuration(directory.path(), &upstreams)).unwrap();
        let program = Program::start(&config, &LISTENERS);
        let everybody = EVERYBODY.iter().zip(upstreams).map(|(person, upstream)| {
            let (login, password, ..) = *person;
            program.says(&["person", "add", login]);
            let enrolment = program.says(&["token", "enrol", login, "--digits", "8", "--json"]);
            let enrolment: serde_json::Value = serde_json::from_str(&enrolment).unwrap();
            let seed = enrolment["seed"].as_str().unwrap().to_owned();
            let phone = Phone::with_digits(&seed, 8);
            Person {
                login,
                password,
                upstream,
                seed,
                phone,
            }
        });
        let everybody = everybody.collect();
        World {
            directory,
            program,
            everybody,
        }
    }

    /// A connection on which a password is welcome.
    fn client(&self, listener: &str) -> Client {
        let address = self.program.address(listener);
        let certificate = self.directory.path().join("data/tls.crt");
        match listener {
            "implicit" => {
                let mut client = Client::tls(address, &certificate);
                client.line();
                client
            }
            "starttls" => {
                let mut client = Client::plain(address);
                client.line();
                assert!(client.command("s", "STARTTLS").starts_with("s OK"));
                client.start_tls(&certificate)
            }
            _ => {
                let mut client = Client::plain(address);
                client.line();
                client
            }
        }
    }

    /// A client that may try again.
    fn refused(&self, listener: &str, way: Way, login: &str, literal: &str) -> Client {
        let mut client = self.client(listener);
        let answer = way.sign_in(&mut client, login, literal);
        assert!(answer.starts_with("a NO"), "{answer}");
        client
    }

    fn admitted(&self, listener: &str, way: Way, login: &str, literal: &str) -> Client {
        let mut client = self.client(listener);
        let answer = way.sign_in(&mut client, login, literal);
        assert!(answer.starts_with("a OK"), "{answer}");
        client
    }
}

fn name_of(transport: Transport) -> &'static str {
    match transport {
        Transport::Clear => "clear",
        Transport::StartTls => "starttls",
        Transport::Implicit => "implicit",
    }
}

fn configuration(directory: &Path, upstreams: &[FakeUpstream]) -> String {
    let mut text = r#"
        data_dir = "data"
        hostname = "localhost"
        [log]
        level = "trace"
        libraries = "trace"
        [limits.refusals]
        floor = "100ms"
        ceiling = "100ms"
        [limits.counting]
        per_person = 1000
        per_network = 1000
        "#
    .to_owned();
    for (listener, tls) in LISTENERS.iter().zip(["none", "starttls", "implicit"]) {
        text += &format!(
            "[[listener]]\nname = \"{listener}\"\naddress = \"127.0.0.1:0\"\nprotocol = \"imap\"\ntls = \"{tls}\"\n"
        );
    }
    for ((login, _, transport, _), upstream) in EVERYBODY.iter().zip(upstreams) {
        let name = name_of(*transport);
        let (_, domain) = login.split_once('@').unwrap();
        let tls = match transport {
            Transport::Clear => "tls = \"none\"\npasswords_in_clear = true".to_owned(),
            _ => format!(
                "tls = \"{name}\"\nca_file = \"{}/{name}/ca.pem\"",
                directory.display()
            ),
        };
        text += &format!(
            "[[upstream]]\nname = \"{name}\"\nprotocol = \"imap\"\nhost = \"localhost\"\nport = {}\n{tls}\n\
             login_timeout = \"1s\"\n[[route]]\nname = \"{name}\"\ndomains = [\"{domain}\"]\nupstreams = [\"{name}\"]\n",
            upstream.port()
        );
    }
    text
}

/// Every way in which a sign-in goes wrong or a secret comes astray, for each person in turn. Who was refused is still there.
fn go_wrong(world: &World) -> Vec<Client> {
    let mut refused = Vec::new();
    for (person, listener) in world.everybody.iter().zip(LISTENERS) {
        let (login, code) = (person.login, person.phone.code());
        let nobody = format!("nobody-{login}");
        let literal = person.literal(&code);
        let wrong_code = person.literal(&person.phone.wrong_code());
        for (way, login, literal) in [
            (Way::Quoted, login, &*wrong_code),
            (Way::PlainInitial, login, person.password),
            (Way::LoginAsked, &nobody, NOBODYS),
            (Way::PlainAsked, TYPED_AS_LOGIN, &literal),
            (Way::LoginInitial, &literal, TYPED_AS_LOGIN),
        ] {
            refused.push(world.refused(listener, way, login, literal));
        }
        // A mail server that says back what it was told. Each literal is another, or it would not be asked again, and has a
        // code that was not used yet.
        for (n, words) in ["[ALERT] not", "[EXPIRED] no longer", "no"].iter().enumerate() {
            let echo = format!("{words} {WRONG_PASSWORD}{n}").leak();
            person
                .upstream
                .change(|script| script.at_login = AtLogin::No(echo));
            let mistyped = format!("{WRONG_PASSWORD}{n}@{}", person.phone.code_at(1));
            refused.push(world.refused(listener, Way::EagerLiterals, login, &mistyped));
        }
        person.upstream.change(|script| script.at_login = AtLogin::Check);
        stray(world, listener, login);
    }
    refused
}

/// Secrets in places where nobody expects them.
fn stray(world: &World, listener: &str, login: &str) {
    let authzid = base64(&format!("{AUTHZID}\0{login}\0{BROKEN}"));
    for line in [
        format!("a AUTHENTICATE PLAIN {authzid}"),
        format!("a LOGIN \"{login}\" \"{BROKEN}"),
        format!("a LOGIN {login} {BROKEN} {BROKEN}"),
        format!("a LOGN {login} {BROKEN}"),
        format!("{BROKEN} {login} a"),
        format!("\"{BROKEN}\""),
        format!("a AUTHENTICATE PLAIN {}!", base64(BROKEN)),
        format!("a AUTHENTICATE {BROKEN}"),
        format!("a LOGIN {login} {BROKEN}\0"),
        format!("a LOGIN {login} {{99999+}}\r\n{BROKEN}"),
        format!("a LOGIN {login} {BROKEN}{}", "x".repeat(70_000)),
        format!("a ID (\"{BROKEN}\" \"{BROKEN}\""),
        // Not finished at all.
        format!("a LOGIN {login} {{20}}\r\n{BROKEN}"),
    ] {
        let mut client = world.client(listener);
        client.send(&format!("{line}\r\n"));
        client.half_close();
        let answer = client.rest();
        assert!(!answer.contains("a OK"), "{line}: {answer}");
    }
    // Before TLS it is not even looked at.
    for line in [
        format!("a LOGIN {login} {IN_CLEAR}"),
        format!("a AUTHENTICATE PLAIN {}", base64(IN_CLEAR)),
    ] {
        let mut client = Client::plain(world.program.address("starttls"));
        client.line();
        assert!(
            client
                .command("a", line.strip_prefix("a ").unwrap())
                .starts_with("a NO")
        );
    }
}

/// A session of each person, listener and way. Whoever has it is sure that the relay is at work.
fn sessions(world: &World, literals: &[String]) -> Vec<Client> {
    let mut sessions = Vec::new();
    for (at, listener) in LISTENERS.iter().enumerate() {
        for (offset, way) in WAYS.iter().enumerate() {
            let who = (at + offset) % EVERYBODY.len();
            let mut client = world.admitted(listener, *way, world.everybody[who].login, &literals[who]);
            assert!(client.command("n", "NOOP").starts_with("n OK"));
            // A program that has lost its way; the guard answers.
            assert!(
                client
                    .command("l", &format!("LOGIN x {LATE}"))
                    .starts_with("l BAD")
            );
            sessions.push(client);
        }
    }
    sessions
}

/// Everything that was ever typed.
fn typed(world: &World, literals: &[String], codes: &[String]) -> Vec<Needle> {
    let mut secrets: Vec<(String, Vec<u8>)> = [
        WRONG_PASSWORD,
        TYPED_AS_LOGIN,
        AUTHZID,
        NOBODYS,
        BROKEN,
        IN_CLEAR,
        LATE,
    ]
    .map(|typed| (typed.to_owned(), typed.into()))
    .to_vec();
    for ((person, literal), code) in world.everybody.iter().zip(literals).zip(codes) {
        let name = person.login;
        secrets.extend([
            (format!("the password of {name}"), person.password.into()),
            (format!("the literal of {name}"), literal.as_bytes().to_vec()),
            (format!("the code of {name}"), code.as_bytes().to_vec()),
            (
                format!("a wrong code of {name}"),
                person.phone.wrong_code().into_bytes(),
            ),
        ]);
    }
    all_forms(&secrets)
}

/// What codes are made from, as it is and as an enrolment shows it.
fn seeds(world: &World) -> Vec<Needle> {
    let mut secrets = Vec::new();
    for person in &world.everybody {
        let (name, shown) = (person.login, person.seed.as_bytes());
        let seed = data_encoding::BASE32_NOPAD.decode(shown);
        secrets.push((format!("the seed of {name}"), seed.unwrap()));
        secrets.push((format!("the seed of {name} in base32"), shown.to_vec()));
    }
    all_forms(&secrets)
}

fn all_forms(secrets: &[(String, Vec<u8>)]) -> Vec<Needle> {
    secrets
        .iter()
        .flat_map(|(name, secret)| forms(name, secret))
        .collect()
}

/// That a search of the memory finds a password while there is one: a sign-in waits for its mail server.
fn assert_found_while_needed(world: &World, person: &Person, literal: &str, needles: &[Needle]) {
    person.upstream.change(|script| script.at_login = AtLogin::Silent);
    let mut client = world.client("clear");
    let before = person.upstream.received().len();
    for line in Way::PlainInitial.lines(person.login, literal) {
        client.send(&format!("{line}\r\n"));
    }
    person
        .upstream
        .wait_for_behind(before, person.password.as_bytes());
    let memory = world.program.memory();
    let is_found = |needle: &Needle| memory.iter().any(|(_, content)| needle.is_in(content));
    let what = format!("the password of {} in clear", person.login);
    assert!(
        needles
            .iter()
            .any(|needle| needle.what == what && is_found(needle)),
        "{what}"
    );
    person.upstream.change(|script| script.at_login = AtLogin::Check);
    // The mail server never answers, so the sign-in ends when the client has gone.
    drop(client);
    person.upstream.wait_for_the_end();
}

/// What every resource of the admin API answers, to people and to programs.
fn answers(world: &World) -> String {
    let mut commands = vec![
        vec!["person", "list"],
        vec!["sign-ins", "--last", "500"],
        vec!["session", "list"],
        vec!["status"],
        vec!["check"],
    ];
    for person in &world.everybody {
        commands.extend([
            vec!["person", "show", person.login],
            vec!["token", "list", person.login],
            vec!["device", "list", person.login],
        ]);
    }
    let mut answers = String::new();
    for command in commands {
        answers += &world.program.says(&command);
        if command[0] != "check" {
            answers += &world.program.says(&[&command[..], &["--json"]].concat());
        }
    }
    answers
}

/// Asserts that none of the needles is in any of the places.
fn assert_absent(needles: &[Needle], places: &[(String, Vec<u8>)]) {
    let mut found = Vec::new();
    for (place, content) in places {
        for needle in needles {
            for at in needle.places(content) {
                let from = at.saturating_sub(48);
                let around = &content[from..content.len().min(at + 80)];
                found.push(format!(
                    "{} is in {place} at {at}: {}",
                    needle.what,
                    around.escape_ascii()
                ));
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} places:\n{}",
        found.len(),
        found[..found.len().min(20)].join("\n")
    );
}

#[test]
fn no_secret_lies_about() {
    let world = World::new();
    let codes: Vec<String> = world.everybody.iter().map(|person| person.phone.code()).collect();
    let literals: Vec<String> = world
        .everybody
        .iter()
        .zip(&codes)
        .map(|(person, code)| person.literal(code))
        .collect();
    let typed = typed(&world, &literals, &codes);
    for (person, literal) in world.everybody.iter().zip(&literals) {
        let echo = format!("* OK [ALERT] nobody but you knows {}\r\n", person.password).leak();
        let pieces: &'static [&'static str] = vec![&*echo].leak();
        person.upstream.change(|script| script.before_success = pieces);
        drop(world.admitted("clear", Way::Quoted, person.login, literal));
    }
    assert_found_while_needed(&world, &world.everybody[0], &literals[0], &typed);
    let refused = go_wrong(&world);
    let sessions = sessions(&world, &literals);
    assert_absent(&typed, &world.program.memory());
    let answers = answers(&world);
    drop((sessions, refused));
    for reason in [
        "new_device",
        "known_device",
        "wrong_code",
        "no_code",
        "unknown_person",
        "no_route",
        "acts_as_other",
        "plaintext_password",
        "upstream_silent",
        "wrong_password",
        "password_expired",
    ] {
        assert!(answers.contains(reason), "{reason} has happened");
    }

    let seeds = seeds(&world);
    let mut places = world.program.facts();
    places.push(("an admin answer".to_owned(), answers.into_bytes()));
    let World {
        directory, program, ..
    } = world;
    let log = program.end();
    for loud in [" DEBUG gatepost", " TRACE rustls", " TRACE sled", "event=sign-in"] {
        assert!(contains(&log, loud.as_bytes()), "{loud} is in the log");
    }
    assert!(
        !contains(&log, b"lines of the log were dropped"),
        "the log is whole"
    );
    places.push(("the log".to_owned(), log));
    let files = files(&directory.path().join("data"));
    assert!(files.len() > 2, "the store's files were found");
    places.extend(files);
    assert_absent(&typed, &places);
    assert_absent(&seeds, &places);
}

/// Every file under a directory, with its content.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}
