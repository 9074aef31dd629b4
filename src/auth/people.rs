//! Logins, domains and modes: from what was typed to one normalised login and a route.
//!
//! The normalised login is the only key of everything (P99): if counters, devices and factors folded names differently, a
//! second spelling would be a second set of guesses.

use super::AccessSettings;
use crate::secret::Secret;
use crate::store::records::Mode;

/// The form in which a route's upstream wants the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginForm {
    /// `alice@example.org`.
    Address,
    /// `alice`.
    LocalPart,
    /// Byte for byte what the client sent.
    AsTyped,
}

/// Which upstreams serve a domain, and how strictly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The configuration's name of it.
    pub name: String,
    /// Domains in lower case; `*` serves every other one.
    pub domains: Vec<String>,
    /// Names of upstreams, at most one a protocol.
    pub upstreams: Vec<String>,
    /// The login form.
    pub login: LoginForm,
    /// The route's mode, where it differs from the box's.
    pub mode: Option<Mode>,
}

/// The normalised form of a login: trimmed, in lower case, `DOM\user` and UPN read as what they mean, with the default
/// domain where none was typed. `None` for what cannot be a login: not UTF-8, empty, too long, with control characters.
pub fn normalise(typed: &[u8], default_domain: Option<&str>) -> Option<String> {
    let typed = std::str::from_utf8(typed).ok()?.trim();
    if typed.is_empty() || typed.len() > MAX_LOGIN || typed.chars().any(char::is_control) {
        return None;
    }
    let typed = typed.to_lowercase();
    let (prefix, user) = typed
        .split_once('\\')
        .map_or((None, typed.as_str()), |(prefix, user)| (Some(prefix), user));
    let (local, domain) = user
        .rsplit_once('@')
        .map_or((user, None), |(local, domain)| (local, Some(domain)));
    let odd_prefix = prefix.is_some_and(|prefix| prefix.is_empty() || prefix.contains('@'));
    if local.is_empty() || domain == Some("") || user.contains('\\') || odd_prefix {
        return None;
    }
    // `EXAMPLE\alice` names a Windows domain, which is no mail domain; `example.org\alice` is one.
    let prefix = prefix.filter(|prefix| prefix.contains('.')).map(str::to_owned);
    let domain = domain
        .map(str::to_owned)
        .or(prefix)
        .or_else(|| default_domain.map(str::to_lowercase));
    let login = match domain {
        Some(domain) => format!("{local}@{domain}"),
        None => local.to_owned(),
    };
    // Normalised once more it must be the same: `EXAMPLE\ alice` would be somebody else, and the domain may make it too long.
    (login.trim() == login && login.len() <= MAX_LOGIN).then_some(login)
}

/// The route that serves a normalised login: by its domain, else the one with `*`.
pub fn route<'a>(settings: &'a AccessSettings, login: &str) -> Option<&'a RouteSettings> {
    let serves = |wanted: &str| {
        settings
            .routes
            .iter()
            .find(|route| route.domains.iter().any(|domain| domain == wanted))
    };
    let domain = login.rsplit_once('@').map(|(_, domain)| domain);
    domain.and_then(serves).or_else(|| serves("*"))
}

/// Whether a login, sent as it was typed, means to the upstream the person whom it means to us. `OTHER\alice` is another
/// account of a Windows domain beside ours, and would be entered with the code of our `alice`. Her own domain's name is
/// the first label of her mail domain, or all of it.
pub(super) fn names_herself(form: LoginForm, normalised: &str, typed: &[u8]) -> bool {
    let prefix = std::str::from_utf8(typed)
        .ok()
        .and_then(|typed| typed.trim().split_once('\\'));
    let (LoginForm::AsTyped, Some((prefix, _))) = (form, prefix) else {
        return true;
    };
    let prefix = prefix.to_lowercase();
    let domain = normalised.rsplit_once('@').map_or("", |(_, domain)| domain);
    prefix == domain || domain.split('.').next() == Some(prefix.as_str())
}

/// The login as the upstream wants it.
pub(super) fn upstream_login(form: LoginForm, normalised: &str, typed: &Secret<Vec<u8>>) -> Secret<Vec<u8>> {
    match form {
        LoginForm::AsTyped => typed.clone(),
        LoginForm::Address => Secret::copy(normalised.as_bytes()),
        LoginForm::LocalPart => {
            let local = normalised.rsplit_once('@').map_or(normalised, |(local, _)| local);
            Secret::copy(local.as_bytes())
        }
    }
}

/// Whether only attackers try this normalised login: a whole login of the list, or a local part that stands there alone.
pub(super) fn is_decoy(settings: &AccessSettings, login: &str) -> bool {
    let local = login.rsplit_once('@').map_or(login, |(local, _)| local);
    settings.decoys.iter().any(|decoy| {
        let decoy = decoy.to_lowercase();
        decoy == login || decoy == local
    })
}

/// RFC 5321 §4.5.3.1: 64 octets of local part, `@`, 255 of domain; and room for a Windows domain before it.
const MAX_LOGIN: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_one_normalised_login() {
        for typed in [
            "alice@example.org",
            " Alice@Example.ORG ",
            "alice",
            "ALICE",
            "EXAMPLE\\alice",
            "example.org\\Alice",
            "EXAMPLE\\alice@example.org",
        ] {
            let normalised = normalise(typed.as_bytes(), Some("Example.org"));
            assert_eq!(normalised.as_deref(), Some("alice@example.org"), "{typed:?}");
        }
    }

    #[test]
    fn other_logins() {
        for (typed, expected) in [
            (&b"alice"[..], Some("alice")),
            (b"EXAMPLE\\alice", Some("alice")),
            ("ÄNNE@bücher.example".as_bytes(), Some("änne@bücher.example")),
            (b"a@b@c.example", Some("a@b@c.example")),
            (b"alice+tag@example.org", Some("alice+tag@example.org")),
            (b"", None),
            (b"   ", None),
            (b"@example.org", None),
            (b"alice@", None),
            (b"a\\b\\c", None),
            (b"victim@example.org\\mallory@example.org", None),
            (b"\\alice", None),
            (b"EXAMPLE\\alice@\\", None),
            (b"EXAMPLE\\ alice", None),
            (b"example.org \\alice", None),
            (b"al\x00ice", None),
            (b"al\rice", None),
            (b"al\xFFice", None),
            (&[b'a'; 401], None),
        ] {
            assert_eq!(normalise(typed, None).as_deref(), expected, "{typed:?}");
        }
    }

    #[test]
    fn with_its_domain_it_must_not_be_too_long() {
        let typed = "a".repeat(MAX_LOGIN - "@example.org".len());
        assert!(normalise(typed.as_bytes(), Some("example.org")).is_some());
        assert_eq!(
            normalise(format!("a{typed}").as_bytes(), Some("example.org")),
            None
        );
    }

    #[test]
    fn as_typed_a_login_of_another_windows_domain_is_not_ours() {
        for (typed, expected) in [
            (&b"alice"[..], true),
            (b"alice@example.org", true),
            (b"EXAMPLE\\alice", true),
            (b"example.org\\alice", true),
            (b"PARTNER\\alice", false),
            (b"PARTNER\\alice@example.org", false),
            (b"\\alice", false),
        ] {
            assert_eq!(
                names_herself(LoginForm::AsTyped, "alice@example.org", typed),
                expected,
                "{typed:?}"
            );
            assert!(
                names_herself(LoginForm::Address, "alice@example.org", typed),
                "{typed:?}"
            );
        }
    }

    #[test]
    fn the_upstream_gets_the_form_it_wants() {
        let typed = Secret::copy(b" Alice@Example.org");
        for (form, expected) in [
            (LoginForm::Address, &b"alice@example.org"[..]),
            (LoginForm::LocalPart, b"alice"),
            (LoginForm::AsTyped, b" Alice@Example.org"),
        ] {
            let login = upstream_login(form, "alice@example.org", &typed);
            assert_eq!(login.expose().as_slice(), expected, "{form:?}");
        }
    }
}
