//! Peers that stop in the middle.

use crate::support::client::Client;
use crate::support::program::{Program, configuration, phone, said};
use crate::support::upstream::{FakeUpstream, Script};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::thread;

/// What one FETCH brings: far more than sockets and buffers hold.
const LETTER: usize = 16 * 1024 * 1024;

/// How many stop reading.
const STALLED: usize = 8;

#[test]
fn clients_that_stop_reading_cost_the_others_nothing() {
    let letter: &'static str = Box::leak(
        format!(
            "* 1 FETCH (BODY[] {{{LETTER}}}\r\n{})\r\nTAG OK fetched\r\n",
            "x".repeat(LETTER)
        )
        .into_boxed_str(),
    );
    let answers: &'static [(&str, &str)] = Box::leak(Box::new([("FETCH", letter)]));
    let script = Script {
        answers,
        ..Script::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(script, directory.path());
    let config = configuration(&upstream, directory.path(), "", "");
    let gateway = Program::run(&config);
    said(&config, &["person", "add", "alice"]).unwrap();
    let literal = format!("secret@{}", phone(&config, "alice").unwrap().code());
    let signed_in = || {
        let (client, answer) = gateway.sign_in("alice", &literal);
        assert!(answer.starts_with("a OK"), "{answer}");
        client
    };
    let mut other = signed_in();
    let before = resident_kib(&gateway);
    let mut stalled: Vec<Client> = (0..STALLED).map(|_| signed_in()).collect();
    let mut halves: Vec<Client> = (0..STALLED).map(|_| gateway.client()).collect();
    for client in &mut stalled {
        client.send("f FETCH 1 BODY[]\r\n");
        assert!(client.line().starts_with("* 1 FETCH"), "it has begun");
    }
    for client in &mut halves {
        client.send("a LOGIN alice {1000}\r\n");
        assert!(client.line().starts_with('+'), "it waits for a literal");
    }

    assert_eq!(other.command("n", "NOOP"), "n OK NOOP done");
    assert_eq!(signed_in().command("n", "NOOP"), "n OK NOOP done");
    let grown = resident_kib(&gateway).saturating_sub(before);
    assert!(
        grown < 16 * 1024,
        "{grown} KiB for {STALLED} stalled letters of 16 MiB"
    );
    for client in &mut stalled {
        assert_eq!(
            client.until("f").pop().unwrap(),
            "f OK fetched",
            "it goes on where it was"
        );
    }
    for level in [" ERROR ", " WARN "] {
        assert!(gateway.logged(level).is_empty(), "{:#?}", gateway.logged(level));
    }
}

fn resident_kib(gateway: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid().as_raw_pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A mail server that says nothing for three seconds, and the tables that send example.net there in learning mode: a
/// password alone reaches it. The kernel takes connections for it; they can be accepted to see them.
pub(crate) fn silent_upstream() -> (TcpListener, String) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let tables = format!(
        r#"
        [[upstream]]
        name = "silent"
        protocol = "imap"
        host = "127.0.0.1"
        port = {}
        tls = "none"
        passwords_in_clear = true
        login_timeout = "3s"
        [[route]]
        name = "silent"
        domains = ["example.net"]
        upstreams = ["silent"]
        mode = "learning"
        [[route]]
        name = "mail"
        domains = ["example.org"]
        upstreams = ["mail"]
        "#,
        silent.local_addr().unwrap().port()
    );
    (silent, tables)
}

/// How many ask the mail server that says nothing.
const ASKING: usize = 20;

#[test]
fn a_mail_server_that_says_nothing_delays_its_own_people_only() {
    let (silent, tables) = silent_upstream();
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(&upstream, directory.path(), "", &tables);
    let gateway = Program::run(&config);
    said(&config, &["person", "add", "alice"]).unwrap();
    let phone = phone(&config, "alice").unwrap();
    let literal = format!("secret@{}", phone.code());
    let address = gateway.address;

    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        for number in 0..ASKING {
            let tell = tell.clone();
            scope.spawn(move || {
                let source = Ipv4Addr::new(127, 0, 2, u8::try_from(number).unwrap() + 1);
                let mut client = Client::plain_from(source, address);
                client.line();
                tell.send(client.command("a", &format!("LOGIN p{number}@example.net pass")))
                    .unwrap();
            });
        }
        drop(tell);
        let _asked: Vec<_> = silent.incoming().take(ASKING).collect();
        let (mut session, answer) = gateway.sign_in("alice", &literal);
        assert!(answer.starts_with("a OK"), "a new device: {answer}");
        let (_, answer) = gateway.sign_in("alice", &literal);
        assert!(answer.starts_with("a OK"), "a known device: {answer}");
        assert_eq!(session.command("n", "NOOP"), "n OK NOOP done");
        assert!(told.try_recv().is_err(), "the others wait still");
        for answer in told {
            assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{answer}");
        }
    });
    let told = gateway.logged("event=upstream-no-answer");
    assert_eq!(told.len(), ASKING);
    assert!(
        told.iter()
            .all(|line| line.contains("WARN") && line.contains("upstream=silent")),
        "{told:#?}"
    );
}
