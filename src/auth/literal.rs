//! Password and code in one string.
//!
//! ```text
//!  s e c r e t @ 1 2 3 4 5 6
//!  └─password─┘ │ └──code──┘
//!           separator: one of @ + , ; space, or none
//! ```
//!
//! There is exactly one reading, or none: several readings would be several guesses for the price of one. The tail may
//! hold full-width digits and inner spaces, as a Chinese keyboard and an authenticator app write them; the password part
//! stays byte for byte (P94).

use crate::secret::Secret;

/// The one reading of a literal that holds a code.
#[derive(Debug)]
pub struct Split {
    /// Where the password part ends, in octets; never 0.
    pub password_len: usize,
    /// The code in ASCII digits.
    pub code: Secret<Vec<u8>>,
}

/// Reads a literal as password and code, for codes of the given lengths. With one length the separator may be missing;
/// with several it may not, or `pw12345678` would have two readings.
pub fn split(literal: &[u8], lengths: &[u8]) -> Option<Split> {
    let (first, rest) = lengths.split_first()?;
    if rest.iter().all(|length| length == first) {
        split_off(literal, usize::from(*first))
    } else {
        split_at_separator(literal, lengths)
    }
}

/// Whether the literal could hold a code of anybody: it ends in six digits and something stands before them. Looser than
/// [`split`], so that a remembered literal is looked up whatever became of the person's factors.
pub fn code_shaped(literal: &[u8]) -> bool {
    split_off(literal, SHORTEST).is_some()
}

/// The last `length` digits; what stands before them is the password, without one separator.
fn split_off(literal: &[u8], length: usize) -> Option<Split> {
    let mut digits = Vec::with_capacity(length);
    let mut end = literal.len();
    while digits.len() < length {
        let (glyph, start) = last_glyph(&literal[..end])?;
        match glyph {
            Glyph::Digit(digit) => digits.push(digit),
            Glyph::Space if !digits.is_empty() => {}
            Glyph::Space | Glyph::Separator | Glyph::Other => return None,
        }
        end = start;
    }
    let password_len = match last_glyph(&literal[..end]) {
        Some((Glyph::Space | Glyph::Separator, start)) => start,
        _ => end,
    };
    finish(password_len, digits)
}

/// The digits after the last separator behind which there are as many as one of `lengths`. A space is a separator too,
/// so `pw@123 456` is looked at from behind: three digits are no code, six are.
fn split_at_separator(literal: &[u8], lengths: &[u8]) -> Option<Split> {
    let mut digits = Vec::with_capacity(LONGEST);
    let mut end = literal.len();
    loop {
        let (glyph, start) = last_glyph(&literal[..end])?;
        match glyph {
            Glyph::Digit(_) if digits.len() == LONGEST => return None,
            Glyph::Digit(digit) => digits.push(digit),
            Glyph::Other => return None,
            Glyph::Space | Glyph::Separator => {
                if digits.is_empty() {
                    return None;
                }
                if lengths.iter().any(|length| usize::from(*length) == digits.len()) {
                    return finish(start, digits);
                }
                if matches!(glyph, Glyph::Separator) {
                    return None;
                }
            }
        }
        end = start;
    }
}

fn finish(password_len: usize, mut reversed_digits: Vec<u8>) -> Option<Split> {
    reversed_digits.reverse();
    let code = Secret::new(reversed_digits);
    (password_len > 0).then_some(Split { password_len, code })
}

enum Glyph {
    /// ASCII, whichever way it was written.
    Digit(u8),
    Space,
    Separator,
    Other,
}

/// The last character, read as NFKC would, and where it starts. Only the forms that an input method produces: full-width
/// ASCII (U+FF01..U+FF5E) and the ideographic and no-break spaces. A password need not be UTF-8; other bytes are `Other`.
fn last_glyph(bytes: &[u8]) -> Option<(Glyph, usize)> {
    let (last, before) = bytes.split_last()?;
    let wide = |width: usize| {
        bytes
            .len()
            .checked_sub(width)
            .map(|start| (&bytes[start..], start))
    };
    if let Some((&[0xEF, 0xBC, third @ 0x81..=0xBF], start)) = wide(3) {
        return Some((ascii_glyph(third - 0x81 + b'!'), start));
    }
    if let Some((&[0xE3, 0x80, 0x80], start)) = wide(3) {
        return Some((Glyph::Space, start));
    }
    if let Some((&[0xC2, 0xA0], start)) = wide(2) {
        return Some((Glyph::Space, start));
    }
    Some((ascii_glyph(*last), before.len()))
}

fn ascii_glyph(byte: u8) -> Glyph {
    match byte {
        b'0'..=b'9' => Glyph::Digit(byte),
        b' ' => Glyph::Space,
        b'@' | b'+' | b',' | b';' => Glyph::Separator,
        _ => Glyph::Other,
    }
}

/// RFC 4226 §5.3: a code has six digits at least.
const SHORTEST: usize = 6;
/// The longest code of a factor.
const LONGEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(literal: &str, lengths: &[u8], expected: Option<(&str, &str)>) {
        let split = split(literal.as_bytes(), lengths);
        let read = split.as_ref().map(|split| {
            let password = &literal.as_bytes()[..split.password_len];
            let code = std::str::from_utf8(split.code.expose()).unwrap();
            (std::str::from_utf8(password).unwrap(), code)
        });
        assert_eq!(read, expected, "{literal:?} with {lengths:?}");
    }

    #[test]
    fn one_length_reads_the_tail() {
        let six = |literal, expected| check(literal, &[6], expected);
        six("pw@123456", Some(("pw", "123456")));
        six("pw+123456", Some(("pw", "123456")));
        six("pw,123456", Some(("pw", "123456")));
        six("pw;123456", Some(("pw", "123456")));
        six("pw 123456", Some(("pw", "123456")));
        six("pw123456", Some(("pw", "123456")));
        six("pw 123 456", Some(("pw", "123456")));
        six("pw@123 456", Some(("pw", "123456")));
        six("pw@1 2 3 4 5 6", Some(("pw", "123456")));
        six("pw@12345", None);
        six("pw@12345x", None);
        six("pw@123456 ", None);
        six("pw@123 456@", None);
        six("pw", None);
        six("", None);
        check("pw@12345678", &[8], Some(("pw", "12345678")));
        check("pw@1234567", &[8], None);
        check("pw@1234567", &[7], Some(("pw", "1234567")));
        // Two factors with the same length are one length.
        check("pw123456", &[6, 6], Some(("pw", "123456")));
        check("pw@123456", &[], None);
    }

    #[test]
    fn the_password_part_is_byte_for_byte_and_never_empty() {
        let six = |literal, expected| check(literal, &[6], expected);
        six("123456", None);
        six("@123456", None);
        six(" 123456", None);
        six("a b@123456", Some(("a b", "123456")));
        six("pw @123456", Some(("pw ", "123456")));
        six("pw@@123456", Some(("pw@", "123456")));
        six("ｐｗ１@123456", Some(("ｐｗ１", "123456")));
        let latin1 = b"\xE9t\xE9@123456";
        assert_eq!(split(latin1, &[6]).map(|s| s.password_len), Some(3));
        // A byte that looks like the end of a full-width digit is not one.
        let cut = b"\xBC\x91123456";
        assert_eq!(split(cut, &[6]).map(|s| s.password_len), Some(2));
    }

    #[test]
    fn passwords_that_end_like_codes() {
        let six = |literal, expected| check(literal, &[6], expected);
        // `p@123456` may be a real password: alone it is read as password `p`, with a code behind it as itself.
        six("p@123456", Some(("p", "123456")));
        six("p@123456@654321", Some(("p@123456", "654321")));
        six("p@123456654321", Some(("p@123456", "654321")));
        six("p@123456 654321", Some(("p@123456", "654321")));
        six("pw@1234567", Some(("pw@1", "234567")));
        six("pw 12 123456", Some(("pw 12", "123456")));
    }

    #[test]
    fn several_lengths_need_a_separator() {
        let both = |literal, expected| check(literal, &[6, 8], expected);
        both("pw@123456", Some(("pw", "123456")));
        both("pw@12345678", Some(("pw", "12345678")));
        both("pw123456", None);
        both("pw12345678", None);
        both("pw@1234567", None);
        both("pw@123 456", Some(("pw", "123456")));
        both("pw 123 456", Some(("pw", "123456")));
        both("pw@1234 5678", Some(("pw", "12345678")));
        // The last separator that leaves a code decides.
        both("pw@12 345678", Some(("pw@12", "345678")));
        both("pw@123456789", None);
        both("p@123456@654321", Some(("p@123456", "654321")));
        both("@123456", None);
        both("pw@", None);
    }

    #[test]
    fn full_width_tails() {
        let six = |literal, expected| check(literal, &[6], expected);
        six("pw@１２３４５６", Some(("pw", "123456")));
        six("pw＠１２３４５６", Some(("pw", "123456")));
        six("pw\u{3000}１２３\u{3000}４５６", Some(("pw", "123456")));
        six("pw@123\u{a0}456", Some(("pw", "123456")));
        six("pw@12３4５6", Some(("pw", "123456")));
        // Other scripts' digits are not what NFKC folds.
        six("pw@١٢٣٤٥٦", None);
        check("密码＋１２３４５６", &[6, 8], Some(("密码", "123456")));
    }

    #[test]
    fn code_shaped_is_looser_than_any_split() {
        for (literal, expected) in [
            ("pw@123456", true),
            ("pw12345678", true),
            ("pw@１２３ ４５６", true),
            ("pw", false),
            ("123456", false),
            ("pw@12345", false),
            ("pw@123456!", false),
        ] {
            assert_eq!(code_shaped(literal.as_bytes()), expected, "{literal:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_was_put_together(
            password in proptest::collection::vec(any::<u8>(), 1..40),
            code in "[0-9]{6}",
            separator in proptest::sample::select(vec!["@", "+", ",", ";", " "]),
        ) {
            let literal = [&password[..], separator.as_bytes(), code.as_bytes()].concat();
            for lengths in [&[6][..], &[6, 8]] {
                // With two lengths, digits and spaces at the password's end may make a longer code; not with a letter there.
                if lengths.len() > 1 && !password.ends_with(b"x") {
                    continue;
                }
                let split = split(&literal, lengths).unwrap();
                prop_assert_eq!(split.password_len, password.len());
                prop_assert_eq!(split.code.expose().as_slice(), code.as_bytes());
            }
        }

        #[test]
        fn never_panics_and_every_split_is_code_shaped(literal in proptest::collection::vec(any::<u8>(), 0..24)) {
            for lengths in [&[6][..], &[7], &[8], &[6, 8], &[6, 7, 8]] {
                if let Some(split) = split(&literal, lengths) {
                    prop_assert!(split.password_len > 0 && split.password_len < literal.len());
                    prop_assert!(lengths.contains(&(split.code.expose().len() as u8)));
                    prop_assert!(split.code.expose().iter().all(u8::is_ascii_digit));
                    prop_assert!(code_shaped(&literal) );
                }
            }
        }

        #[test]
        fn digits_and_spaces_have_one_reading(literal in "[a@ 1２]{0,16}") {
            // Whatever the tail, the reading for one length takes exactly its last digits.
            if let Some(split) = split(literal.as_bytes(), &[6]) {
                let tail = &literal.as_bytes()[split.password_len..];
                let tail = std::str::from_utf8(tail).unwrap();
                let digits = tail.chars().filter(|c| matches!(c, '1' | '２')).count();
                prop_assert_eq!(digits, 6);
            }
        }
    }
}
