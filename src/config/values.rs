//! Texts of the configuration into types. Each reader answers with the value or with what is accepted.

use super::document::Parsed;
use base64::Engine as _;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::DeValue;

/// A text that is not empty.
pub(super) fn text(value: &DeValue<'_>) -> Parsed<String> {
    match value.as_str() {
        Some(text) if !text.trim().is_empty() => Ok(text.to_string()),
        _ => Err("accepted is a text in quotes".into()),
    }
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| "accepted is true or false".into())
}

/// A text through a further reader.
pub(super) fn text_as<T>(read: impl Fn(&str) -> Parsed<T>) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| read(&text(value)?)
}

/// A whole number within a range.
pub(super) fn count(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<u64> {
    move |value| {
        let number = value.as_integer().and_then(|integer| {
            u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
        });
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            format!(
                "accepted is a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
    }
}

/// A span of time within a range, such as "30s" or "1h30m".
pub(super) fn span(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    move |value| {
        let accepted = || {
            format!(
                "accepted is a time from \"{}\" to \"{}\", as a number and a unit: ms, s, m, h, d",
                show_span(*range.start()),
                show_span(*range.end())
            )
        };
        value
            .as_str()
            .and_then(parse_span)
            .filter(|span| range.contains(span))
            .ok_or_else(accepted)
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(words: &[(&str, T)]) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let given = value.as_str().unwrap_or("");
        let found = words.iter().find(|(word, _)| *word == given);
        found.map(|(_, chosen)| *chosen).ok_or_else(|| {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = super::document::nearest(given, &names)
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            format!("accepted is {}{hint}", quoted.join(" or "))
        })
    }
}

/// "1h30m" and the like; `None` when it is not.
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let milliseconds: u64 = match &rest[..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = rest[unit_end..].trim_start();
    }
    Some(total)
}

/// The shortest text that [`parse_span`] reads back.
pub(super) fn show_span(span: Duration) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ];
    let mut rest = span.as_millis();
    let mut shown = String::new();
    for (size, unit) in units {
        if rest >= size {
            shown.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if shown.is_empty() { "0s".into() } else { shown }
}

/// A network; a single address is a network of one.
pub(super) fn network(text: &str) -> Parsed<IpNet> {
    let accepted =
        || "accepted is a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or one address".to_string();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| accepted())?;
    if network.trunc() != network {
        return Err(format!(
            "the address has bits behind its prefix; accepted is \"{}\"",
            network.trunc()
        ));
    }
    Ok(network)
}

/// An address and a port to bind.
pub(super) fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        "accepted is an address and a port, such as \"0.0.0.0:993\", \"127.0.0.1:1143\" or \"[::]:993\""
            .into()
    })
}

/// SHA-256 of a public key: 64 hex digits, or base64 as `curl --pinnedpubkey` takes it.
pub(super) fn pin(text: &str) -> Parsed<[u8; 32]> {
    let bare = text
        .strip_prefix("sha256")
        .map_or(text, |rest| rest.trim_start_matches(['/', ':']));
    let hex = bare.replace(':', "").to_ascii_lowercase();
    data_encoding::HEXLOWER
        .decode(hex.as_bytes())
        .ok()
        .or_else(|| base64::engine::general_purpose::STANDARD.decode(bare).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            "accepted is the SHA-256 of the server's public key: 64 hex digits, or 44 characters of base64"
                .into()
        })
}

/// A host by name or address, without scheme and port.
pub(super) fn host(text: &str) -> Parsed<String> {
    let accepted = "accepted is a host by its name, such as \"mail.example.org\", or an address";
    let bare = text
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_string());
    }
    if text.contains("://") {
        return Err(format!("{accepted}; leave the scheme out"));
    }
    if text.contains(':') {
        return Err(format!("{accepted}; the port has its own key"));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if is_host_name(name) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(accepted.into())
    }
}

/// A mail domain, or `*` for every other one.
pub(super) fn domain(text: &str) -> Parsed<String> {
    let accepted = "accepted is a mail domain such as \"example.org\", or \"*\" for every other one";
    let name = text.to_lowercase();
    if name == "*" || is_domain(&name) {
        return Ok(name);
    }
    match name.strip_prefix('@').filter(|bare| is_domain(bare)) {
        Some(bare) => Err(format!("{accepted}; write \"{bare}\"")),
        None => Err(accepted.into()),
    }
}

/// A name that the configuration gives to one of its parts; it appears in log lines, so it is one plain word.
pub(super) fn name(text: &str) -> Parsed<String> {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if plain && text.len() <= 40 {
        Ok(text.to_string())
    } else {
        Err("accepted are up to 40 letters, digits, '-', '_' and '.'".into())
    }
}

fn is_host_name(name: &str) -> bool {
    // RFC 1123 §2.1, with the underscore that private zones use.
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn is_domain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_shows_spans_of_time() {
        let check = |text: &str, milliseconds: Option<u64>| {
            assert_eq!(
                parse_span(text),
                milliseconds.map(Duration::from_millis),
                "{text}"
            );
        };
        check("35m", Some(35 * 60_000));
        check("1h30m", Some(90 * 60_000));
        check("1h 30min", Some(90 * 60_000));
        check("250ms", Some(250));
        check("90d", Some(90 * 86_400_000));
        check("2w", Some(14 * 86_400_000));
        check("", None);
        check("35", None);
        check("m", None);
        check("5y", None);
        check("-5m", None);
        check("99999999999999999999d", None);
        check("18446744073709551615d", None);
        for milliseconds in [0, 1, 999, 1_000, 61_001, 86_400_000, 90_061_001] {
            let span = Duration::from_millis(milliseconds);
            assert_eq!(parse_span(&show_span(span)), Some(span));
        }
    }

    proptest! {
        #[test]
        fn spans_and_networks_read_back_as_they_are_shown(milliseconds: u64, address: IpAddr, prefix in 0..=128u8) {
            let span = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_span(&show_span(span)), Some(span));
            let widest = if address.is_ipv4() { 32 } else { 128 };
            let shown = IpNet::new(address, prefix.min(widest)).unwrap().trunc();
            prop_assert_eq!(network(&shown.to_string()), Ok(shown));
        }
    }

    #[test]
    fn reads_networks() {
        assert_eq!(network("192.0.2.0/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        assert!(
            network("192.0.2.7/24")
                .unwrap_err()
                .ends_with("accepted is \"192.0.2.0/24\"")
        );
        assert!(network("192.0.2.0/33").is_err());
        assert!(network("office").is_err());
    }

    #[test]
    fn reads_pins_in_all_their_spellings() {
        let octets = [0xa5; 32];
        let hex = "a5".repeat(32);
        let base64 = base64::engine::general_purpose::STANDARD.encode(octets);
        let colons = vec!["A5"; 32].join(":");
        for text in [
            hex.clone(),
            colons,
            base64.clone(),
            format!("sha256//{base64}"),
            format!("sha256:{hex}"),
        ] {
            assert_eq!(pin(&text), Ok(octets), "{text}");
        }
        for text in ["", "a5", &hex[1..], &base64[1..]] {
            assert!(pin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_hosts_and_domains() {
        assert_eq!(host("Mail.Example.org."), Ok("mail.example.org".into()));
        assert_eq!(host("[2001:db8::1]"), Ok("2001:db8::1".into()));
        assert!(host("imaps://mail.example.org").unwrap_err().contains("scheme"));
        assert!(host("mail.example.org:993").unwrap_err().contains("port"));
        assert!(host("-a.example").is_err());
        assert!(host("a..b").is_err());
        assert_eq!(domain("Example.ORG"), Ok("example.org".into()));
        assert_eq!(domain("*"), Ok("*".into()));
        assert!(
            domain("@example.org")
                .unwrap_err()
                .ends_with("write \"example.org\"")
        );
        assert!(domain("*.example.org").is_err());
    }
}
