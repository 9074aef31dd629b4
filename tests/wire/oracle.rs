//! imap-codec as an oracle: what it reads as LOGIN or ID, our lenient tokenizer reads alike. Not the other way round: it
//! refuses much that mail programs send.

use gatepost::reason::Protocol;
use gatepost::wire::{ClientTls, Limits, OutBuf, ServerEvent, ServerFacts, ServerMachine, Step, dialect};
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_codec::imap_types::command::CommandBody;
use proptest::prelude::*;
use std::time::{Duration, Instant};

type Pair = (Vec<u8>, Option<Vec<u8>>);

/// A string in one of IMAP's forms, good or nearly good.
fn string() -> impl Strategy<Value = Vec<u8>> {
    let letters = prop::sample::select(b"abZ09 .-_@+%*(){}[]\"\\\r\n\t\xe4~,;:'=".to_vec());
    (prop::collection::vec(letters, 0..8), 0..5).prop_map(|(text, form)| match form {
        0 => text,
        1 => [&b"\""[..], &text, b"\""].concat(),
        2 => {
            let escaped: Vec<u8> = text
                .iter()
                .flat_map(|byte| {
                    if b"\"\\".contains(byte) {
                        vec![b'\\', *byte]
                    } else {
                        vec![*byte]
                    }
                })
                .collect();
            [&b"\""[..], &escaped, b"\""].concat()
        }
        3 => [format!("{{{}}}\r\n", text.len()).as_bytes(), &text].concat(),
        _ => [format!("{{{}+}}\r\n", text.len()).as_bytes(), &text].concat(),
    })
}

/// A command as the server machine read it.
struct Read {
    sign_in: Option<(Vec<u8>, Vec<u8>)>,
    pairs: Vec<Pair>,
    accepted: bool,
}

fn read_by_us(command: &[u8]) -> Read {
    let now = Instant::now();
    let facts = ServerFacts {
        tls: ClientTls::On,
        hostname: "mx".to_owned(),
        limits: Limits::default(),
        deadline: now + Duration::from_secs(60),
    };
    let mut machine: Box<dyn ServerMachine> = (dialect(Protocol::Imap).server)(facts);
    assert_eq!(machine.input(command), command.len());
    let mut said = Vec::new();
    loop {
        let mut out = OutBuf::new();
        let step = machine.step(now, &mut out);
        said.extend_from_slice(out.as_slice());
        match step {
            Step::Flush => {}
            Step::Event(ServerEvent::Credentials(credentials)) => {
                let sign_in = (
                    credentials.login.expose().clone(),
                    credentials.literal.expose().clone(),
                );
                return Read {
                    sign_in: Some(sign_in),
                    pairs: Vec::new(),
                    accepted: true,
                };
            }
            _ => {
                let accepted = said.windows(6).any(|window| window == b"\r\na OK");
                return Read {
                    sign_in: None,
                    pairs: machine.introduction().pairs,
                    accepted,
                };
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_login_that_the_oracle_reads_is_read_alike(login in string(), password in string()) {
        let command = [&b"a LOGIN "[..], &login, b" ", &password, b"\r\n"].concat();
        let Ok((b"", decoded)) = CommandCodec::default().decode(&command) else { return Ok(()) };
        let CommandBody::Login { username, password } = decoded.body else { return Ok(()) };
        let expected = (username.as_ref().to_vec(), password.declassify().as_ref().to_vec());
        // Empty fields are grammar for the oracle and a mistake for us.
        let empty = expected.0.is_empty() || expected.1.is_empty();
        prop_assert_eq!(read_by_us(&command).sign_in, (!empty).then_some(expected));
    }

    #[test]
    fn an_id_that_the_oracle_reads_is_read_alike(pairs in prop::collection::vec((string(), string()), 0..4)) {
        let list: Vec<Vec<u8>> = pairs.iter().map(|(key, value)| [&key[..], b" ", value].concat()).collect();
        let command = [&b"a ID ("[..], &list.join(&b' '), b")\r\n"].concat();
        let Ok((b"", decoded)) = CommandCodec::default().decode(&command) else { return Ok(()) };
        let CommandBody::Id { parameters } = decoded.body else { return Ok(()) };
        let read = read_by_us(&command);
        prop_assert!(read.accepted, "{:?}", String::from_utf8_lossy(&command));
        // Only keys that look like keys are kept; those must be the oracle's.
        for pair in parameters.unwrap_or_default() {
            let expected = (pair.0.as_ref().to_vec(), pair.1.0.map(|value| value.as_ref().to_vec()));
            let looks_like_a_key = |key: &[u8]| {
                key.first().is_some_and(u8::is_ascii_alphabetic)
                    && key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
            };
            prop_assert_eq!(read.pairs.contains(&expected), looks_like_a_key(&expected.0), "{:?}", expected);
        }
    }
}
