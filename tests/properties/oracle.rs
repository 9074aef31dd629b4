//! imap-codec as an oracle, with strings in all of IMAP's forms and with everything that its own types can hold. Known
//! differences stand in `tests/invariants/oracle.rs`.

use crate::invariants::oracle::oracle;
use proptest::prelude::*;

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

/// What the first octet of the oracle's input says.
const COMMAND: u8 = 0;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_login_that_the_oracle_reads_is_read_alike(login in string(), password in string()) {
        let command = [&b"a LOGIN "[..], &login, b" ", &password, b"\r\n"].concat();
        oracle(&[&[COMMAND], &command[..]].concat());
    }

    #[test]
    fn an_id_that_the_oracle_reads_is_read_alike(pairs in prop::collection::vec((string(), string()), 0..3)) {
        let list: Vec<Vec<u8>> = pairs.iter().map(|(key, value)| [&key[..], b" ", value].concat()).collect();
        oracle(&[&[COMMAND], &b"a ID ("[..], &list.join(&b' '), b")\r\n"].concat());
    }

    #[test]
    fn whatever_its_types_can_hold_is_read_alike(what in 3..6u8, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        oracle(&[&[what], bytes.as_slice()].concat());
    }
}
