//! What is looked for, in every form in which it might lie about, and the search for it.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use memchr::memmem::Finder;

/// Something that must not be found.
pub(crate) struct Needle {
    /// Which secret in which form.
    pub(crate) what: String,
    finder: Finder<'static>,
}

impl Needle {
    fn new(what: String, octets: &[u8]) -> Needle {
        Needle {
            what,
            finder: Finder::new(octets).into_owned(),
        }
    }

    pub(crate) fn is_in(&self, place: &[u8]) -> bool {
        self.finder.find(place).is_some()
    }

    /// Where it is.
    pub(crate) fn places<'a>(&'a self, place: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.finder.find_iter(place)
    }
}

/// A secret in clear, in hex, in base64 wherever it begins in the encoded text, and as Rust's `Debug` shows octets.
pub(crate) fn forms(name: &str, secret: &[u8]) -> Vec<Needle> {
    let mut needles = vec![
        Needle::new(format!("{name} in clear"), secret),
        Needle::new(format!("{name} in hex"), HEXLOWER.encode(secret).as_bytes()),
        Needle::new(format!("{name} in HEX"), HEXUPPER.encode(secret).as_bytes()),
        Needle::new(format!("{name} as octets"), listed(secret).as_bytes()),
    ];
    for offset in 0..3 {
        for (alphabet, encoding) in [("base64", BASE64_NOPAD), ("base64url", BASE64URL_NOPAD)] {
            let what = format!("{name} in {alphabet} at {offset}");
            needles.push(Needle::new(what, inner(&encoding, secret, offset).as_bytes()));
        }
    }
    needles
}

fn listed(secret: &[u8]) -> String {
    let octets: Vec<String> = secret.iter().map(u8::to_string).collect();
    octets.join(", ")
}

/// The letters that depend on nothing but the secret, where it stands that many octets behind a multiple of three.
fn inner(encoding: &data_encoding::Encoding, secret: &[u8], offset: usize) -> String {
    let encoded = encoding.encode(&[&vec![0; offset][..], secret].concat());
    let from = (offset * 8).div_ceil(6);
    let to = (offset + secret.len()) * 8 / 6;
    encoded[from..to].to_owned()
}

#[test]
fn every_form_is_found_wherever_it_begins() {
    let secret = b"canary-in-the-coal-mine";
    let needles = forms("the canary", secret);
    for before in 0..4 {
        for after in 0..3 {
            let message = [&vec![b'x'; before][..], secret, &vec![b'y'; after]].concat();
            for hidden in [
                message.clone(),
                HEXLOWER.encode(&message).into_bytes(),
                HEXUPPER.encode(&message).into_bytes(),
                BASE64_NOPAD.encode(&message).into_bytes(),
                data_encoding::BASE64.encode(&message).into_bytes(),
                BASE64URL_NOPAD.encode(&message).into_bytes(),
                format!("{message:?}").into_bytes(),
            ] {
                assert!(
                    needles.iter().any(|needle| needle.is_in(&hidden)),
                    "{}",
                    String::from_utf8_lossy(&hidden)
                );
            }
        }
    }
    assert!(!needles.iter().any(|needle| needle.is_in(b"canary-in-the-coal")));
}
