//! SASL answers as a server reads them and as a client writes them.

use gatepost::wire::OutBuf;
use gatepost::wire::sasl::{Exchange, Identity, Mechanism, Turn, decode, push_base64, push_plain};

/// Decoding and the exchanges never panic, an identity has neither empty fields nor NUL, and what a client writes for it is
/// read as the same one.
pub fn sasl(input: &[u8]) {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let lines = input.split(|byte| *byte == b'\n');
        if let Some(identity) = exchange(mechanism, lines) {
            for field in [identity.login.expose(), identity.literal.expose()] {
                assert!(!field.is_empty() && !field.contains(&0));
                assert!(field.len() <= input.len(), "more came out than went in");
            }
            reads_back(&identity);
        }
    }
}

fn exchange<'a>(mechanism: Mechanism, mut lines: impl Iterator<Item = &'a [u8]>) -> Option<Identity> {
    let mut exchange = Exchange::new(mechanism);
    loop {
        let answer = decode(lines.next()?).ok()?;
        match exchange.answer(answer).ok()? {
            Turn::Ask(next) => exchange = next,
            Turn::Done(identity) => return Some(identity),
        }
    }
}

fn reads_back(identity: &Identity) {
    let (login, literal) = (identity.login.expose(), identity.literal.expose());
    let written = |write: &dyn Fn(&mut OutBuf)| {
        let mut out = OutBuf::new();
        write(&mut out);
        out.as_slice().to_vec()
    };
    let plain = written(&|out| push_plain(out, login, literal));
    let words = [login, literal].map(|field| written(&|out| push_base64(out, field)));
    let again = [
        exchange(Mechanism::Plain, [plain.as_slice()].into_iter()),
        exchange(Mechanism::Login, words.iter().map(Vec::as_slice)),
    ];
    for identity in again {
        let identity = identity.expect("what we write is read");
        assert!(identity.login.same(login) && identity.literal.same(literal));
        assert!(identity.acts_as.is_none());
    }
}
