//! SASL PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login) as a server, and their encoding as a client.
//!
//! Pure turns: a decoded answer goes in, the next question or an [`Identity`] comes out. How a protocol frames the
//! exchange (`+ `, `334 `, cancelling with `*`) is the protocol's business. Deliberately absent: mechanisms that do not show
//! the password (SCRAM, CRAM-MD5), because the code is inside it, and tokens (access.md).

use super::OutBuf;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use std::fmt;
use zeroize::Zeroizing;

/// A mechanism that we let a client use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616; the one that is advertised.
    Plain,
    /// Old Outlook and many devices fall back to it without being offered it.
    Login,
}

impl Mechanism {
    /// The mechanism of that name, in any letter case.
    pub fn parse(name: &[u8]) -> Option<Mechanism> {
        if name.eq_ignore_ascii_case(b"PLAIN") {
            Some(Mechanism::Plain)
        } else if name.eq_ignore_ascii_case(b"LOGIN") {
            Some(Mechanism::Login)
        } else {
            None
        }
    }
}

/// An exchange, named by the answer that it waits for.
#[derive(Debug)]
pub enum Exchange {
    /// PLAIN's only message.
    ExpectPlain,
    /// LOGIN's user name.
    ExpectLogin,
    /// LOGIN's password, for that user name.
    ExpectPassword(Secret<Vec<u8>>),
}

/// What an answer leads to.
#[derive(Debug)]
pub enum Turn {
    /// Ask [`Exchange::prompt`] and wait.
    Ask(Exchange),
    /// All was said.
    Done(Identity),
}

/// Who somebody says to be, with the password field as it was sent.
#[derive(Debug)]
pub struct Identity {
    /// Authentication identity, never empty, without NUL.
    pub login: Secret<Vec<u8>>,
    /// What was in the password field, never empty, without NUL.
    pub literal: Secret<Vec<u8>>,
    /// Authorization identity, where it is given and differs (P8).
    pub acts_as: Option<Secret<Vec<u8>>>,
}

/// Why an answer is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslError {
    /// Not base64 (RFC 4648 §4).
    Base64,
    /// Not of the mechanism's form.
    Malformed,
    /// Login or password is empty.
    Empty,
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SaslError::Base64 => "not valid base64",
            SaslError::Malformed => "not of the form that the mechanism asks for",
            SaslError::Empty => "login and password must not be empty",
        })
    }
}

impl std::error::Error for SaslError {}

impl Exchange {
    /// The beginning of a mechanism.
    pub fn new(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Plain => Exchange::ExpectPlain,
            Mechanism::Login => Exchange::ExpectLogin,
        }
    }

    /// The question in base64. LOGIN's are exactly these, because some devices compare them (P65).
    pub fn prompt(&self) -> &'static str {
        match self {
            Exchange::ExpectPlain => "",
            Exchange::ExpectLogin => "VXNlcm5hbWU6",
            Exchange::ExpectPassword(_) => "UGFzc3dvcmQ6",
        }
    }

    /// Takes a decoded answer.
    ///
    /// # Errors
    /// [`SaslError::Malformed`] or [`SaslError::Empty`]; the exchange is over then.
    pub fn answer(self, answer: Secret<Vec<u8>>) -> Result<Turn, SaslError> {
        match self {
            Exchange::ExpectPlain => Identity::from_plain(answer.expose()).map(Turn::Done),
            Exchange::ExpectLogin => Ok(Turn::Ask(Exchange::ExpectPassword(answer))),
            Exchange::ExpectPassword(login) => Identity::new(login, answer, None).map(Turn::Done),
        }
    }
}

impl Identity {
    /// Checks what every way to sign in asks for: neither field empty, no NUL in either (RFC 4616 §2, RFC 9051 §4.3).
    ///
    /// # Errors
    /// [`SaslError::Empty`], [`SaslError::Malformed`].
    pub fn new(
        login: Secret<Vec<u8>>,
        literal: Secret<Vec<u8>>,
        acts_as: Option<Secret<Vec<u8>>>,
    ) -> Result<Self, SaslError> {
        if login.expose().is_empty() || literal.expose().is_empty() {
            return Err(SaslError::Empty);
        }
        if [&login, &literal].iter().any(|field| field.expose().contains(&0)) {
            return Err(SaslError::Malformed);
        }
        Ok(Identity {
            login,
            literal,
            acts_as,
        })
    }

    /// `message = [authzid] UTF8NUL authcid UTF8NUL passwd` (RFC 4616 §2), any octets but NUL tolerated in each.
    fn from_plain(message: &[u8]) -> Result<Self, SaslError> {
        let mut fields = message.split(|&byte| byte == 0);
        let (Some(authzid), Some(authcid), Some(password), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(SaslError::Malformed);
        };
        let acts_as = (!authzid.is_empty() && authzid != authcid).then(|| Secret::copy(authzid));
        Identity::new(Secret::copy(authcid), Secret::copy(password), acts_as)
    }
}

/// Decodes one base64 line. Missing padding and stray trailing bits are accepted, because programs send both.
///
/// # Errors
/// [`SaslError::Base64`].
pub fn decode(text: &[u8]) -> Result<Secret<Vec<u8>>, SaslError> {
    // Wiped on the way out of an error as well; the capacity suffices, so that decoding never moves the buffer.
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    LENIENT
        .decode_vec(text, &mut decoded)
        .map_err(|_| SaslError::Base64)?;
    Ok(Secret::new(std::mem::take(&mut *decoded)))
}

/// Appends PLAIN's message in base64, without an authorization identity.
pub fn push_plain(out: &mut OutBuf, login: &[u8], password: &[u8]) {
    let mut message = Zeroizing::new(Vec::with_capacity(login.len() + password.len() + 2));
    message.push(0);
    message.extend_from_slice(login);
    message.push(0);
    message.extend_from_slice(password);
    push_base64(out, &message);
}

/// Appends bytes in base64.
pub fn push_base64(out: &mut OutBuf, bytes: &[u8]) {
    out.push(Zeroizing::new(general_purpose::STANDARD.encode(bytes)).as_bytes());
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    /// `login|literal|acts_as`, or the error.
    fn check(exchange: Exchange, answers: &[&[u8]], expected: &str) {
        let mut exchange = exchange;
        for (index, answer) in answers.iter().enumerate() {
            let turn = decode(answer).and_then(|answer| exchange.answer(answer));
            match turn {
                Ok(Turn::Ask(next)) => exchange = next,
                Ok(Turn::Done(identity)) => {
                    assert_eq!(index + 1, answers.len(), "answers left over");
                    assert_eq!(shown(&identity), expected);
                    return;
                }
                Err(error) => {
                    assert_eq!(format!("{error:?}"), expected);
                    return;
                }
            }
        }
        panic!("asks for more, expected {expected}");
    }

    fn shown(identity: &Identity) -> String {
        let text = |secret: &Secret<Vec<u8>>| String::from_utf8_lossy(secret.expose()).into_owned();
        let acts_as = identity.acts_as.as_ref().map(text).unwrap_or_default();
        format!("{}|{}|{acts_as}", text(&identity.login), text(&identity.literal))
    }

    fn base64(bytes: &[u8]) -> Vec<u8> {
        let mut out = OutBuf::new();
        push_base64(&mut out, bytes);
        out.as_slice().to_vec()
    }

    #[test]
    fn plain_messages() {
        for (message, expected) in [
            (&b"\0joe\0secret@123456"[..], "joe|secret@123456|"),
            (b"joe\0joe\0pw", "joe|pw|"),
            (b"boss\0joe\0pw", "joe|pw|boss"),
            (b"\0joe\0", "Empty"),
            (b"\0\0pw", "Empty"),
            (b"joe", "Malformed"),
            (b"\0joe", "Malformed"),
            (b"\0joe\0pw\0more", "Malformed"),
            (b"", "Malformed"),
            ("\0zo\u{eb}\0p\u{e4}ss".as_bytes(), "zo\u{eb}|p\u{e4}ss|"),
        ] {
            check(Exchange::new(Mechanism::Plain), &[&base64(message)], expected);
        }
    }

    #[test]
    fn padding_does_not_matter() {
        for text in ["AGpvZQBwdw==", "AGpvZQBwdw=", "AGpvZQBwdw", "AGpvZQBwdx"] {
            check(Exchange::new(Mechanism::Plain), &[text.as_bytes()], "joe|pw|");
        }
        for text in ["AGpv ZQBwdw", "AGpvZQBwdw===", "?", "*", "A"] {
            check(Exchange::new(Mechanism::Plain), &[text.as_bytes()], "Base64");
        }
    }

    #[test]
    fn login_asks_twice() {
        let exchange = Exchange::new(Mechanism::Login);
        assert_eq!(
            decode(exchange.prompt().as_bytes()).unwrap().expose(),
            b"Username:"
        );
        check(
            exchange,
            &[&base64(b"joe"), &base64(b"pw 123456")],
            "joe|pw 123456|",
        );
        check(Exchange::new(Mechanism::Login), &[b"", &base64(b"pw")], "Empty");
        check(Exchange::new(Mechanism::Login), &[&base64(b"joe"), b""], "Empty");
        check(
            Exchange::new(Mechanism::Login),
            &[&base64(b"j\0e"), &base64(b"pw")],
            "Malformed",
        );
        let password = Exchange::ExpectPassword(Secret::copy(b"joe"));
        assert_eq!(
            decode(password.prompt().as_bytes()).unwrap().expose(),
            b"Password:"
        );
    }

    #[test]
    fn mechanisms_have_any_letter_case() {
        assert_eq!(Mechanism::parse(b"plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::parse(b"Login"), Some(Mechanism::Login));
        assert_eq!(Mechanism::parse(b"XOAUTH2"), None);
    }

    #[test]
    fn a_pushed_message_reads_back() {
        let mut out = OutBuf::new();
        push_plain(&mut out, b"joe", "p\u{e4}\"\\".as_bytes());
        check(Exchange::ExpectPlain, &[out.as_slice()], "joe|p\u{e4}\"\\|");
    }
}
