//! No more files and sockets may be opened.

use crate::support::client::Client;
use crate::support::program::{Program, configuration, phone, said};
use crate::support::upstream::{FakeUpstream, Script};

#[test]
fn without_descriptors_sessions_go_on_and_new_ones_wait() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(&upstream, directory.path(), "", "");
    let gateway = Program::run_limited(&config, "ulimit -n 64");
    said(&config, &["person", "add", "alice"]).unwrap();
    let literal = format!("secret@{}", phone(&config, "alice").unwrap().code());
    let (mut session, answer) = gateway.sign_in("alice", &literal);
    assert!(answer.starts_with("a OK"), "{answer}");

    // The kernel takes connections for a gateway that cannot: these all succeed, and the last of them wait.
    let mut silent: Vec<Client> = (0..64).map(|_| Client::plain(gateway.address)).collect();
    let line = gateway.wait_for_log("event=accept-failed");
    assert!(
        line.contains("ERROR") && line.contains("raise the limit (LimitNOFILE="),
        "{line}"
    );
    let before = upstream.connections();
    assert_eq!(session.command("n", "NOOP"), "n OK NOOP done");

    // As each leaves, another comes in. Whoever signs in takes the descriptor of the next that leaves for the upstream.
    let mut last = Client::plain(gateway.address);
    last.send(&format!("a LOGIN alice {literal}\r\n"));
    silent.clear();
    let answer = last.until("a").pop().unwrap();
    assert!(answer.starts_with("a OK"), "{answer}");
    assert_eq!(upstream.connections(), before + 1);
    assert_eq!(session.command("n", "NOOP"), "n OK NOOP done");
    assert!(
        said(&config, &["status"]).is_some(),
        "commands are answered again"
    );
    assert_eq!(gateway.logged("event=accept-failed").len(), 1, "said once");
}

#[test]
fn who_finds_no_descriptor_for_the_upstream_waits_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(&upstream, directory.path(), "", "");
    let gateway = Program::run_limited(&config, "ulimit -n 64");
    said(&config, &["person", "add", "alice"]).unwrap();
    let literal = format!("secret@{}", phone(&config, "alice").unwrap().code());
    let (session, answer) = gateway.sign_in("alice", &literal);
    assert!(answer.starts_with("a OK"), "{answer}");
    drop(session);
    gateway.wait_for_log("event=session"); // It has closed everything.

    let mut alice = gateway.client();
    let silent: Vec<Client> = (0..64).map(|_| Client::plain(gateway.address)).collect();
    gateway.wait_for_log("event=accept-failed");
    alice.send(&format!("a LOGIN alice {literal}\r\n"));
    let line = gateway.wait_for_log("event=upstream-waits");
    assert!(line.contains("LimitNOFILE="), "{line}");
    drop(silent);
    let answer = alice.until("a").pop().unwrap();
    assert!(answer.starts_with("a OK"), "{answer}");
    assert_eq!(
        gateway.logged("event=upstream-").len(),
        1,
        "said once, and no outage"
    );
}
