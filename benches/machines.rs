//! What the machines of one sign-in cost: from the greeting to the upstream's success in the client's words, without
//! sockets, TLS and the decision.

use criterion::Criterion;
use gatepost::reason::Protocol;
use gatepost::secret::Secret;
use gatepost::wire::{
    ClientEvent, ClientFacts, ClientMachine, ClientTls, Credentials, Limits, Machine, OutBuf, Ready,
    ServerEvent, ServerFacts, ServerMachine, Step, UpstreamTls, dialect,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

const LOGIN: &[&[u8]] = &[b"a LOGIN alice@example.org \"correct horse@123456\"\r\n"];

/// What Thunderbird says: it looks first, tells who it is, and uses SASL.
const SASL: &[&[u8]] = &[
    b"1 CAPABILITY\r\n",
    b"2 ID (\"name\" \"Thunderbird\" \"version\" \"140.0\")\r\n",
    b"3 AUTHENTICATE PLAIN AGFsaWNlQGV4YW1wbGUub3JnAGNvcnJlY3QgaG9yc2VAMTIzNDU2\r\n",
];

/// What Dovecot answers to a sign-in with a ready tag; each line is the answer to one of ours.
const UPSTREAM: &[&[u8]] = &[
    b"* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN] Dovecot ready.\r\n",
    b"* ID (\"name\" \"Dovecot\")\r\ngp1 OK ID completed.\r\n",
    b"gp2 OK [CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE SORT THREAD=REFERENCES MULTIAPPEND NAMESPACE UIDPLUS \
      CONDSTORE QRESYNC ESEARCH WITHIN LITERAL+ NOTIFY SPECIAL-USE] Logged in\r\n",
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, said) in [
        ("machines/login", LOGIN),
        ("machines/capability-id-authenticate", SASL),
    ] {
        criterion.bench_function(name, |bencher| {
            let now = Instant::now();
            bencher.iter(|| dialogue(black_box(said), now));
        });
    }
    criterion.final_summary();
}

/// Returns how many bytes both peers were sent.
fn dialogue(said: &[&[u8]], now: Instant) -> usize {
    let mut server = (dialect(Protocol::Imap).server)(ServerFacts {
        tls: ClientTls::On,
        hostname: "mail.example.org".to_owned(),
        limits: Limits::default(),
        deadline: now + Duration::from_secs(60),
    });
    let mut sent = 0;
    assert!(
        run(server.as_mut(), now, &mut sent).is_none(),
        "it greets and waits"
    );
    let mut credentials = None;
    for bytes in said {
        assert_eq!(server.input(bytes), bytes.len());
        credentials = run(server.as_mut(), now, &mut sent);
    }
    let Some(ServerEvent::Credentials(credentials)) = credentials else {
        panic!("no credentials: {credentials:?}")
    };
    let ready = upstream(server.as_ref(), &credentials, now, &mut sent);
    server.admit(ready.success);
    assert!(run(server.as_mut(), now, &mut sent).is_none());
    assert!(server.into_leftover().0.is_empty());
    sent
}

fn upstream(server: &dyn ServerMachine, credentials: &Credentials, now: Instant, sent: &mut usize) -> Ready {
    let mut client: Box<dyn ClientMachine> = (dialect(Protocol::Imap).client)(ClientFacts {
        tls: UpstreamTls::Implicit,
        login: Secret::copy(credentials.login.expose()),
        password: Secret::copy(b"correct horse"),
        introduction: server.introduction(),
        client: ([192, 0, 2, 7], 50_143).into(),
        limits: Limits::default(),
    });
    for bytes in UPSTREAM {
        assert_eq!(client.input(bytes), bytes.len());
        match run(client.as_mut(), now, sent) {
            None => {}
            Some(ClientEvent::Ready) => return client.into_ready(),
            Some(other) => panic!("not let in: {other:?}"),
        }
    }
    panic!("the upstream's script is too short")
}

/// Steps a machine until it rests, or asks for something.
fn run<E>(machine: &mut (impl Machine<Event = E> + ?Sized), now: Instant, sent: &mut usize) -> Option<E> {
    let mut out = OutBuf::new();
    loop {
        let step = machine.step(now, &mut out);
        *sent += out.len();
        out.clear();
        match step {
            Step::Flush => {}
            Step::Wait { .. } => return None,
            Step::Event(event) => return Some(event),
            Step::Close(cause) => panic!("it closes: {cause:?}"),
        }
    }
}
