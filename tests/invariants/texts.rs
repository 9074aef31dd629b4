//! Small readers of one text each: logins, literals, times, identifiers; and what makes a stranger's text harmless.

use gatepost::admin::api::Failure;
use gatepost::admin::when;
use gatepost::auth::literal::{code_shaped, split};
use gatepost::auth::people::normalise;
use gatepost::config::parse_span;
use gatepost::report::sign_in::clean_hint;
use gatepost::report::{escape, rfc3339};
use gatepost::store::records::{DeviceId, UnixTime};
use std::time::Duration;

/// What was typed as a login has one normalised form, and as a literal one reading.
pub fn logins(input: &[u8]) {
    for domain in [None, Some("Example.ORG")] {
        if let Some(login) = normalise(input, domain) {
            login_is_normal(&login, input, domain);
        }
    }
    for lengths in [&[6][..], &[7], &[8], &[6, 8], &[6, 7, 8]] {
        literal_has_one_reading(input, lengths);
    }
    assert!(split(input, &[]).is_none(), "without a token there is no code");
}

fn login_is_normal(login: &str, typed: &[u8], domain: Option<&str>) {
    assert_eq!(
        normalise(login.as_bytes(), domain).as_deref(),
        Some(login),
        "twice is once"
    );
    assert!(!login.is_empty() && !login.chars().any(char::is_control) && !login.contains('\\'));
    assert_eq!(login, login.trim());
    assert!(login.len() <= 400, "{login}");
    let upper: Vec<u8> = typed.to_ascii_uppercase();
    assert_eq!(
        normalise(&upper, domain).as_deref(),
        Some(login),
        "another case is the same login"
    );
    let spaced = [b"  ", typed, b" "].concat();
    assert_eq!(normalise(&spaced, domain).as_deref(), Some(login));
}

fn literal_has_one_reading(literal: &[u8], lengths: &[u8]) {
    let Some(read) = split(literal, lengths) else {
        return;
    };
    let code = read.code.expose();
    assert!((1..literal.len()).contains(&read.password_len));
    assert!(lengths.contains(&(code.len() as u8)) && code.iter().all(u8::is_ascii_digit));
    assert!(
        code_shaped(literal),
        "a remembered literal would not be looked up"
    );
    // The same password and code, written plainly, have the same reading.
    let password = &literal[..read.password_len];
    let plain = [password, b"@", code].concat();
    let again = split(&plain, lengths).expect("a separator and a code");
    assert_eq!(
        (again.password_len, again.code.expose()),
        (read.password_len, code)
    );
}

/// Times, spans, identifiers and answers read back as they are shown; shown text steers no terminal.
pub fn texts(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    time(&text);
    identifier(&text);
    harmless(&text);
    answer(input);
    if let Some(span) = parse_span(&text) {
        let shown = format!("{}ms", span.as_millis());
        assert_eq!(parse_span(&shown), Some(span), "{text}");
    }
    if let Some(number) = input.first_chunk() {
        moment(UnixTime(u64::from_be_bytes(*number) % (YEAR_10000 + 1)));
    }
}

/// 9999-12-31 is the last day that RFC 3339 can write.
const YEAR_10000: u64 = 253_402_300_800;

fn time(text: &str) {
    if let Some(time) = when::parse(text) {
        assert!(time.0 < YEAR_10000);
        // The same numbers, as far as they were written.
        let shown = rfc3339(time);
        assert!(numbers(&shown).starts_with(&numbers(text)), "{text} {shown}");
        moment(time);
    }
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|char: char| !char.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn moment(time: UnixTime) {
    let shown = rfc3339(time);
    let expected = (time.0 < YEAR_10000).then_some(time);
    assert_eq!(when::parse(&shown), expected, "{shown}");
    assert_eq!(
        time.plus(Duration::from_secs(1)).since(time),
        Duration::from_secs(1)
    );
}

fn identifier(text: &str) {
    if let Ok(id) = text.parse::<DeviceId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

fn harmless(text: &str) {
    let escaped = escape(text);
    assert!(!escaped.chars().any(char::is_control));
    assert_eq!(escape(&escaped), escaped, "twice is once");
    let hint = clean_hint(text);
    assert!(hint.chars().count() <= 200 && !hint.chars().any(char::is_control));
}

/// An answer of the admin API that is a failure.
fn answer(body: &[u8]) {
    for status in [400, 404, 409, 500, 503] {
        let failure = Failure::from_answer(status, body);
        assert_eq!(Failure::from_answer(failure.status(), &failure.body()), failure);
    }
}
