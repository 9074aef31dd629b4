//! Connections that never sign in.

use crate::stalled::silent_upstream;
use crate::support::client::{Client, connect_from};
use crate::support::program::{Program, configuration, phone, said};
use crate::support::stage::Stage;
use crate::support::upstream::{FakeUpstream, Script};
use std::collections::VecDeque;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// How many come. They are opened in a wave, because each costs this process a descriptor as well.
const CROWD: usize = 20_000;

/// How many are open at once: more than the gateway has places for.
const WAVE: usize = 700;

/// The places of the default configuration.
const PLACES: usize = 500;

/// From so many addresses; 127.0.0.1 is the office.
const ADDRESSES: usize = 40;

#[test]
fn twenty_thousand_that_never_sign_in_keep_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(&upstream, directory.path(), "", "");
    let gateway = Program::run(&config);
    said(&config, &["person", "add", "alice"]).unwrap();
    let phone = phone(&config, "alice").unwrap();
    let (mut session, answer) = gateway.sign_in("alice", &format!("secret@{}", phone.code()));
    assert!(answer.starts_with("a OK"), "{answer}");

    let crowd = thread::spawn({
        let address = gateway.address;
        move || crowd(address)
    });
    gateway.wait_for_log("event=places-full");
    // In the middle of it: the session goes on, and new ones come in, whether their device is known or not.
    let mut sign_ins = 0;
    while !crowd.is_finished() || sign_ins == 0 {
        assert_eq!(session.command("n", "NOOP"), "n OK NOOP done");
        let (_, answer) = gateway.sign_in("alice", &format!("secret@{}", phone.code()));
        assert!(answer.starts_with("a OK"), "{answer}");
        sign_ins += 1;
        let most = 2 * PLACES + 50;
        assert!(gateway.open_files() < most, "{} files", gateway.open_files());
    }
    let heard = crowd.join().unwrap();
    assert_eq!(heard, CROWD - WAVE, "everybody who had to go heard why");

    let told = gateway.logged("event=places-full");
    assert_eq!(told.len(), 1, "said once and not {CROWD} times: {told:#?}");
    assert!(
        told[0].contains("WARN") && told[0].contains("raise `connections"),
        "{told:?}"
    );
}

/// Opens silent connections, and reads those to their end that must have been evicted; counts the goodbyes.
fn crowd(address: SocketAddr) -> usize {
    let mut open = VecDeque::new();
    let mut heard = 0;
    for number in 0..CROWD {
        if open.len() == WAVE {
            heard += usize::from(hears_goodbye(open.pop_front().unwrap()));
        }
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(number % ADDRESSES).unwrap() + 1);
        open.push_back(connect_from(source, address));
    }
    heard
}

fn hears_goodbye(mut socket: TcpStream) -> bool {
    let mut text = String::new();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.read_to_string(&mut text).is_ok()
        && text.ends_with("* BYE [UNAVAILABLE] Too many connections, try again later\r\n")
}

#[test]
fn who_has_come_as_far_as_the_mail_server_is_not_evicted() {
    let (silent, tables) = silent_upstream();
    let directory = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start(Script::default(), directory.path());
    let config = configuration(
        &upstream,
        directory.path(),
        "connections_per_network = 4",
        &tables,
    );
    let gateway = Program::run(&config);
    let mut asked = Vec::new();
    let clients: Vec<Client> = (0..8)
        .map(|number| {
            let mut client = gateway.client();
            client.send(&format!("a LOGIN p{number}@example.net pass\r\n"));
            asked.push(silent.accept().unwrap());
            client
        })
        .collect();
    // Half of four are left alone, and the last two have their places; those between had to go, and hear so in order.
    for (number, mut client) in clients.into_iter().enumerate() {
        let answer = client.line();
        assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{number}: {answer}");
        if (2..6).contains(&number) {
            let goodbye = client.rest();
            assert!(
                goodbye.starts_with("* BYE [UNAVAILABLE] Too many"),
                "{number}: {goodbye}"
            );
        } else {
            assert!(
                client.command("b", "LOGOUT").starts_with("b OK"),
                "{number} was evicted"
            );
        }
    }
}

#[test]
fn the_goodbye_comes_under_tls_and_not_before_it() {
    let stage = Stage::with(Script::default(), "[limits]\nconnections_per_network = 2");
    let (gateway, certificate) = (&stage.gateway, stage.gateway.certificate());
    let greeted = || {
        let mut client = Client::tls(gateway.address("imaps"), &certificate);
        assert!(client.line().starts_with("* OK"), "a greeting");
        client
    };
    let mut silent = Client::plain(gateway.address("imaps"));
    let (mut first, _second) = (greeted(), greeted());
    assert_eq!(silent.rest(), "", "no clear word where TLS is expected");
    let _third = greeted();
    assert!(first.rest().starts_with("* BYE [UNAVAILABLE] Too many"));
}
