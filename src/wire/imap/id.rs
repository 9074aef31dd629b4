//! ID (RFC 2971): what a program says about itself. Read from a client before and after its sign-in, told to the upstream
//! without the keys by which an upstream that trusts us would take an address from us (P6).

use super::{Args, Malformed};

/// A field and its value; NIL is none.
pub(super) type Pair = (Vec<u8>, Option<Vec<u8>>);

/// Most pairs of an ID command (RFC 2971 §3.3).
pub(super) const MAX_PAIRS: usize = 30;

/// Longest ID command that we send, octets. Some upstreams read short lines only before sign-in; 4 KiB hold every ID that a
/// real program sends.
const MAX_COMMAND: usize = 4 * 1024;

/// Reads the pairs of an ID command up to its end: `id-params-list = "(" #(string SP nstring) ")" / nil` (RFC 2971 §4).
///
/// # Errors
/// [`Malformed`]: it is something else, or has too many.
pub(super) fn pairs(args: &mut Args<'_>) -> Result<Vec<Pair>, Malformed> {
    let mut pairs = Vec::new();
    if !args.take(b'(') {
        return match args.nstring()? {
            None if args.at_end() => Ok(pairs),
            _ => Err(Malformed),
        };
    }
    args.spaces();
    while !args.take(b')') {
        let key = args.nstring()?.ok_or(Malformed)?;
        args.spaces();
        let value = args.nstring()?;
        args.spaces();
        if pairs.len() == MAX_PAIRS {
            return Err(Malformed);
        }
        pairs.push((key.to_vec(), value.map(|value| value.to_vec())));
    }
    if args.at_end() { Ok(pairs) } else { Err(Malformed) }
}

/// Whether a pair may be told to the upstream: within the lengths of RFC 2971 §3.3, and not one of the `x-` keys by which
/// an upstream that trusts us takes an address from us (P6). A key must look like a key, so that no reading of it can begin
/// with `x-` after all.
pub(super) fn may_introduce((key, value): &Pair) -> bool {
    let is_key_char = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let key_fits = (1..=30).contains(&key.len())
        && key[0].is_ascii_alphabetic()
        && key.iter().all(is_key_char)
        && !(key.len() > 1 && key[..2].eq_ignore_ascii_case(b"x-"));
    key_fits && value.as_ref().is_none_or(|value| value.len() <= 1024)
}

/// The command that tells these pairs, as far as there is room, in one line without literals.
pub(super) fn command<'a>(pairs: impl Iterator<Item = &'a Pair>) -> String {
    let mut command = String::from("ID (");
    for (key, value) in pairs.take(MAX_PAIRS) {
        let value = value.as_deref().map_or("NIL".to_owned(), quoted);
        let pair = format!("{} {value}", quoted(key));
        if command.len() + pair.len() >= MAX_COMMAND {
            continue;
        }
        if !command.ends_with('(') {
            command.push(' ');
        }
        command.push_str(&pair);
    }
    match command.ends_with('(') {
        true => "ID NIL".to_owned(),
        false => command + ")",
    }
}

/// A key or value between quotes; what does not fit there becomes `?`.
fn quoted(text: &[u8]) -> String {
    let fits = |byte: &u8| *byte == b' ' || (byte.is_ascii_graphic() && !b"\"\\".contains(byte));
    let inside: String = text
        .iter()
        .map(|byte| if fits(byte) { char::from(*byte) } else { '?' })
        .collect();
    format!("\"{inside}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_which_an_upstream_is_told_addresses_are_not_introduced() {
        for (key, expected) in [
            ("name", true),
            ("os-version", true),
            ("x", true),
            ("x-originating-ip", false),
            ("X-Connected-Port", false),
            (" x-originating-ip", false),
            ("\tx-proxy-ttl", false),
            ("", false),
            ("-x", false),
            ("os version", false),
            ("na\"me", false),
            (&"k".repeat(31), false),
        ] {
            assert_eq!(
                may_introduce(&(key.as_bytes().to_vec(), None)),
                expected,
                "{key:?}"
            );
        }
        assert!(!may_introduce(&(b"name".to_vec(), Some(vec![b'v'; 1025]))));
    }

    #[test]
    fn a_command_is_clean_and_short() {
        let pair = |key: &str, value: &[u8]| (key.as_bytes().to_vec(), Some(value.to_vec()));
        assert_eq!(command([].iter()), "ID NIL");
        assert_eq!(
            command([(b"os".to_vec(), None), pair("name", b"a\"b\\c\r\n\xe4")].iter()),
            "ID (\"os\" NIL \"name\" \"a?b?c???\")"
        );
        let long = vec![pair("address", &[b'v'; 1024]); MAX_PAIRS];
        let command = command(long.iter());
        assert!(
            command.len() <= MAX_COMMAND && command.ends_with("\")"),
            "{}",
            command.len()
        );
    }
}
