//! Tokens: what makes a person's codes.
//!
//! `GET|POST /people/{login}/tokens`, `DELETE /people/{login}/tokens/{id}`. The answer to an enrolment is the only place
//! where a seed ever leaves the store.

use super::person::{self, Done};
use super::{Failure, Method, Request, Response, change, fill_random, no_such, random_id};
use crate::admin::{Context, now};
use crate::report::rfc3339;
use crate::secret::Secret;
use crate::store::records::{
    Batch, Expect, FactorId, FactorState, Factors, Key, Mode, Person, Totp, TotpHash, Value,
};
use serde::{Deserialize, Serialize};

/// Who issues the codes, as authenticator programs show it.
const ISSUER: &str = "Gatepost";

/// RFC 4226 §4 (R6) recommends 160 bits.
const SEED_OCTETS: usize = 20;

/// More tokens than this are a mistake; every sign-in tries all of them.
const MAX_TOKENS: usize = 8;

/// A token to be enrolled.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What the administrator calls it.
    pub label: String,
    /// Digits of a code: 6, 7 or 8.
    pub digits: u8,
    /// Seconds of a step: 30 or 60.
    pub period: u32,
    /// The hash: `sha1`, `sha256` or `sha512`.
    pub algorithm: String,
}

/// An enrolled token, with its seed: shown once, to be scanned or typed into the person's authenticator.
#[derive(Serialize, Deserialize)]
pub struct Enrolment {
    /// The token.
    pub token: TokenView,
    /// `otpauth://`, as authenticator programs scan it.
    pub uri: String,
    /// The seed in base32, for typing.
    pub seed: String,
    /// Advice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A token as it may be shown at any time.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenView {
    /// Whose it is.
    pub person: String,
    /// Its identifier.
    pub id: String,
    /// What the administrator calls it.
    pub label: String,
    /// What kind of token it is.
    pub kind: String,
    /// Digits of a code.
    pub digits: u8,
    /// Seconds of a step.
    pub period: u32,
    /// The hash.
    pub algorithm: String,
    /// Whether it counts at sign-in or waits for an administrator's confirmation.
    pub active: bool,
    /// When it was enrolled.
    pub created: String,
}

/// Answers for tokens.
pub(super) fn handle(request: &Request, context: &Context) -> Result<Response, Failure> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (request.method, &path[..]) {
        (Method::Get, ["people", login, "tokens"]) => Response::json(&list(login, context)?),
        (Method::Post, ["people", login, "tokens"]) => {
            Response::json(&enrol(login, request.body()?, context)?)
        }
        (Method::Delete, ["people", login, "tokens", id]) => Response::json(&remove(login, id, context)?),
        _ => Err(no_such(request)),
    }
}

/// The tokens of a person.
pub(super) fn views(person: &Person, factors: &Factors) -> Vec<TokenView> {
    factors.totp.iter().map(|totp| view(person, totp)).collect()
}

fn list(login: &str, context: &Context) -> Result<Vec<TokenView>, Failure> {
    let person = person::find(login, context)?;
    let records = context.wait(context.store.get(vec![Key::Factors(person.id)]))?;
    Ok(person::factors(&records[0])
        .map(|factors| views(&person, factors))
        .unwrap_or_default())
}

fn enrol(login: &str, new: NewToken, context: &Context) -> Result<Enrolment, Failure> {
    let totp = make(new)?;
    let id = person::find(login, context)?.id;
    // The person is written back as she is: were she removed meanwhile, the token would belong to nobody.
    change(context, &[Key::Person(id), Key::Factors(id)], |records| {
        let Some(person) = person::of(&records[0]) else {
            return Err(person::unknown(login));
        };
        let mut factors = person::factors(&records[1]).cloned().unwrap_or_default();
        if factors.totp.len() >= MAX_TOKENS {
            return Err(Failure::Conflict(format!(
                "{} has {MAX_TOKENS} tokens already; remove one",
                person.login
            )));
        }
        let notes = advice(person, &factors, &totp);
        factors.totp.push(totp.clone());
        let enrolment = enrolment(person, &totp, notes)?;
        let batch = Batch::default()
            .put(
                Key::Person(id),
                Expect::unchanged(records[0].as_ref()),
                Value::Person(person.clone()),
            )
            .put(
                Key::Factors(id),
                Expect::unchanged(records[1].as_ref()),
                Value::Factors(factors),
            );
        Ok((batch, enrolment))
    })
}

fn make(new: NewToken) -> Result<Totp, Failure> {
    let label = new.label.trim();
    if label.is_empty() || label.chars().count() > 64 || label.chars().any(char::is_control) {
        return Err(Failure::Bad(
            "accepted as a label are 1 to 64 characters without line breaks".into(),
        ));
    }
    if !(6..=8).contains(&new.digits) {
        return Err(Failure::Bad(format!(
            "{} digits: accepted are 6, 7 or 8",
            new.digits
        )));
    }
    if ![30, 60].contains(&new.period) {
        return Err(Failure::Bad(format!(
            "a period of {} seconds: accepted is 30 or 60",
            new.period
        )));
    }
    let Some((_, hash)) = HASHES.iter().find(|(name, _)| *name == new.algorithm) else {
        return Err(Failure::Bad(format!(
            "\"{}\": accepted is sha1, sha256 or sha512",
            new.algorithm
        )));
    };
    let mut seed = vec![0; SEED_OCTETS];
    fill_random(&mut seed)?;
    Ok(Totp {
        id: FactorId(random_id()?),
        label: label.to_string(),
        seed: Secret::new(seed),
        digits: new.digits,
        period: new.period,
        hash: *hash,
        state: FactorState::Active,
        created: now(),
    })
}

fn enrolment(person: &Person, totp: &Totp, notes: Vec<String>) -> Result<Enrolment, Failure> {
    let algorithm = match totp.hash {
        TotpHash::Sha1 => totp_rs::Algorithm::SHA1,
        TotpHash::Sha256 => totp_rs::Algorithm::SHA256,
        TotpHash::Sha512 => totp_rs::Algorithm::SHA512,
    };
    let uri = totp_rs::Builder::new()
        .with_algorithm(algorithm)
        .with_digits(totp.digits)
        .with_step_duration(u64::from(totp.period))
        .with_secret(totp.seed.expose().clone())
        .with_account_name(person.login.as_str())
        .with_issuer(Some(ISSUER))
        .build()
        .and_then(|token| token.to_url())
        .map_err(|error| {
            Failure::Bad(format!(
                "no otpauth URI can be made for {}: {error}",
                person.login
            ))
        })?;
    Ok(Enrolment {
        token: view(person, totp),
        uri,
        seed: data_encoding::BASE32_NOPAD.encode(totp.seed.expose()),
        notes,
    })
}

fn advice(person: &Person, others: &Factors, new: &Totp) -> Vec<String> {
    let mut notes = Vec::new();
    if others.totp.iter().any(|other| other.digits != new.digits) {
        notes.push(
            "her tokens have codes of different length: she must type a separator, as in password@code"
                .into(),
        );
    }
    if person.suspended {
        notes.push(format!(
            "{} is suspended; gatepost person resume {}",
            person.login, person.login
        ));
    }
    notes
}

fn remove(login: &str, token: &str, context: &Context) -> Result<Done, Failure> {
    let person = person::find(login, context)?;
    let wanted: FactorId = token
        .parse()
        .map_err(|error| Failure::Bad(format!("\"{token}\" is no token: {error}")))?;
    let keys = [Key::Factors(person.id), Key::Devices(person.id)];
    change(context, &keys, |records| {
        let mut factors = person::factors(&records[0]).cloned().unwrap_or_default();
        let Some(index) = factors.totp.iter().position(|totp| totp.id == wanted) else {
            let text = format!(
                "{} has no token {token}; `gatepost token list {}`",
                person.login, person.login
            );
            return Err(Failure::NotFound(text));
        };
        let removed = factors.totp.remove(index);
        let devices = person::devices(&records[1]).map_or(0, |devices| devices.devices.len());
        let done = format!(
            "removed the token {} ({}) of {}",
            removed.id, removed.label, person.login
        );
        let notes = consequences(&person, &factors, devices, context);
        let expect = Expect::unchanged(records[0].as_ref());
        Ok((
            Batch::default().put(keys[0].clone(), expect, Value::Factors(factors)),
            Done { done, notes },
        ))
    })
}

/// What it means that a token is gone, where that is not plain.
fn consequences(person: &Person, left: &Factors, devices: usize, context: &Context) -> Vec<String> {
    if left.totp.iter().any(|totp| totp.state == FactorState::Active) {
        return Vec::new();
    }
    let login = &person.login;
    let mut notes = vec![match person::effective_mode(person, &context.access()) {
        Mode::Enforcing => format!(
            "that was her last token, and the mode is enforcing: no new device can sign in until she has another one; \
             gatepost token enrol {login}"
        ),
        Mode::Learning => {
            "that was her last token; the mode is learning: she signs in by password alone, as before"
                .to_string()
        }
    }];
    if devices > 0 {
        notes.push(format!(
            "{} of hers go on signing in; if the token was lost or stolen: gatepost device revoke {login} --all",
            person::counted(devices, "remembered device")
        ));
    }
    notes
}

fn view(person: &Person, totp: &Totp) -> TokenView {
    let name = HASHES
        .iter()
        .find(|(_, hash)| *hash == totp.hash)
        .map_or("", |(name, _)| name);
    TokenView {
        person: person.login.clone(),
        id: totp.id.to_string(),
        label: totp.label.clone(),
        kind: "totp".into(),
        digits: totp.digits,
        period: totp.period,
        algorithm: name.into(),
        active: totp.state == FactorState::Active,
        created: rfc3339(totp.created),
    }
}

const HASHES: [(&str, TotpHash); 3] = [
    ("sha1", TotpHash::Sha1),
    ("sha256", TotpHash::Sha256),
    ("sha512", TotpHash::Sha512),
];
