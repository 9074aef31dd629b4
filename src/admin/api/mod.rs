//! The resources of the admin API, one file each: [`person`], [`token`], [`device`], [`session`], [`sign_in`], [`status`].
//!
//! A handler is `fn(&Request, &Context) -> Result<Response, Failure>` and knows neither sockets nor HTTP. Requests name a
//! resource by path segments and carry JSON; answers are JSON, or lines that follow as they happen.

pub mod device;
pub mod person;
pub mod session;
pub mod sign_in;
pub mod status;
pub mod token;

use super::Context;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::store::records::{Batch, Durability, Key, Outcome, Record};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is to be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Look.
    Get,
    /// Make or change.
    Post,
    /// Take away.
    Delete,
}

impl Method {
    /// The method's name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// One question or order.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// The resource: decoded segments of the path, without empty ones.
    pub path: Vec<String>,
    /// Decoded parameters, in order.
    pub query: Vec<(String, String)>,
    /// JSON, or nothing.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without parameters and body.
    pub fn new(method: Method, path: &[&str]) -> Request {
        let path = path.iter().map(|segment| segment.to_string()).collect();
        Request {
            method,
            path,
            query: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a parameter, where there is a value.
    pub fn with(mut self, name: &str, value: Option<impl ToString>) -> Request {
        self.query
            .extend(value.map(|value| (name.to_string(), value.to_string())));
        self
    }

    /// Gives it a body. Bodies are our own plain structures, which always have a JSON form.
    pub fn with_body(mut self, body: &impl Serialize) -> Request {
        self.body = serde_json::to_vec(body).expect("request bodies have text keys only");
        self
    }

    /// Reads a request target (RFC 9112 §3.2.1, origin form).
    pub fn from_target(method: Method, target: &str, body: Vec<u8>) -> Option<Request> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(percent_decode)
            .collect::<Option<_>>()?;
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((percent_decode(name)?, percent_decode(value)?))
            })
            .collect::<Option<_>>()?;
        Some(Request {
            method,
            path,
            query,
            body,
        })
    }

    /// The request target that [`Request::from_target`] reads back.
    pub fn target(&self) -> String {
        let mut target: String = self
            .path
            .iter()
            .map(|segment| format!("/{}", percent_encode(segment)))
            .collect();
        for (index, (name, value)) in self.query.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            target.push_str(&format!(
                "{separator}{}={}",
                percent_encode(name),
                percent_encode(value)
            ));
        }
        target
    }

    /// The last value of a parameter.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter through a reader that says what is accepted.
    fn parsed<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Failure> {
        let wrong = |text: &str, accepted: String| Failure::Bad(format!("{name} \"{text}\": {accepted}"));
        self.parameter(name)
            .map(|text| read(text).map_err(|accepted| wrong(text, accepted)))
            .transpose()
    }

    fn body<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::Bad(format!("the request's body: {error}")))
    }
}

/// An answer.
pub enum Response {
    /// JSON. Secret, because the answer to an enrolment holds the token's seed: it must not end in a log by accident.
    Json(Secret<Vec<u8>>),
    /// Lines of JSON as they happen.
    Follow(Box<sign_in::Follow>),
}

impl Response {
    /// An answer in JSON.
    fn json(view: &impl Serialize) -> Result<Response, Failure> {
        let body =
            serde_json::to_vec(view).map_err(|error| Failure::Unavailable(format!("the answer: {error}")))?;
        Ok(Response::Json(Secret::new(body)))
    }
}

/// Why a request was not carried out, in words for the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request makes no sense; the text says what is accepted.
    Bad(String),
    /// There is no such thing.
    NotFound(String),
    /// It collides with what is there.
    Conflict(String),
    /// Not now.
    Unavailable(String),
}

impl Failure {
    /// The HTTP status code of it.
    pub fn status(&self) -> u16 {
        match self {
            Failure::Bad(_) => 400,
            Failure::NotFound(_) => 404,
            Failure::Conflict(_) => 409,
            Failure::Unavailable(_) => 503,
        }
    }

    /// Reads a failure from status and body of an answer.
    pub fn from_answer(status: u16, body: &[u8]) -> Failure {
        let message = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) => body.error,
            Err(_) => format!("the gateway answered with status {status}"),
        };
        match status {
            400 => Failure::Bad(message),
            404 => Failure::NotFound(message),
            409 => Failure::Conflict(message),
            _ => Failure::Unavailable(message),
        }
    }

    /// The body that [`Failure::from_answer`] reads.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&ErrorBody {
            error: self.to_string(),
        })
        .unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
struct ErrorBody {
    error: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Bad(text)
        | Failure::NotFound(text)
        | Failure::Conflict(text)
        | Failure::Unavailable(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Unavailable(error.to_string())
    }
}

/// Carries out a request. Its answer shows every sign-in that was decided before it.
///
/// # Errors
/// Every [`Failure`], with words for the administrator.
pub fn handle(request: &Request, context: &Context) -> Result<Response, Failure> {
    if let Some(gate) = &context.gate {
        context.wait(gate.settle());
    }
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match path[..] {
        ["status"] => status::handle(request, context),
        ["people"] | ["people", _] | ["people", _, "mode" | "suspended" | "budget"] => {
            person::handle(request, context)
        }
        ["people", _, "tokens"] | ["people", _, "tokens", _] => token::handle(request, context),
        ["devices"] | ["people", _, "devices"] | ["people", _, "devices", _] => {
            device::handle(request, context)
        }
        ["sessions"] | ["sessions", _] => session::handle(request, context),
        ["sign-ins"] | ["sign-ins", "follow"] => sign_in::handle(request, context),
        _ => Err(no_such(request)),
    }
}

fn no_such(request: &Request) -> Failure {
    Failure::NotFound(format!(
        "there is no {} {}",
        request.method.name(),
        request.target()
    ))
}

/// Reads records, lets `decide` make a batch of them, and commits it; once more when somebody else was quicker.
///
/// `decide` puts the condition of each write that depends on what it read (`Expect::unchanged`).
fn change<T>(
    context: &Context,
    keys: &[Key],
    mut decide: impl FnMut(&[Option<Record>]) -> Result<(Batch, T), Failure>,
) -> Result<T, Failure> {
    /// More than anybody loses in a row against sign-ins of one person.
    const ATTEMPTS: usize = 16;
    for _ in 0..ATTEMPTS {
        let records = context.wait(context.store.get(keys.to_vec()))?;
        let (batch, done) = decide(&records)?;
        match context.wait(context.store.commit(batch, Durability::Synced))? {
            Outcome::Done => return Ok(done),
            Outcome::Conflict(_) => {}
        }
    }
    Err(Failure::Unavailable(
        "somebody else changes this all the time; try again".into(),
    ))
}

/// A fresh identifier.
fn random_id() -> Result<[u8; 8], Failure> {
    let mut id = [0; 8];
    fill_random(&mut id)?;
    Ok(id)
}

fn fill_random(bytes: &mut [u8]) -> Result<(), Failure> {
    use ring::rand::{SecureRandom, SystemRandom};
    let failed = |_| Failure::Unavailable("the operating system gave no random bytes".into());
    SystemRandom::new().fill(bytes).map_err(failed)
}

/// RFC 3986 §2.1: everything but unreserved characters.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.extend(data_encoding::HEXUPPER_PERMISSIVE.decode(digits).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_back() {
        let request = Request::new(Method::Get, &["people", "ä/b?c@example.org", "100%"])
            .with("since", Some("2026-11-23 21:06&x=y"))
            .with("person", None::<String>)
            .with("n", Some(5));
        let target = request.target();
        assert_eq!(
            target,
            "/people/%C3%A4%2Fb%3Fc%40example.org/100%25?since=2026-11-23%2021%3A06%26x%3Dy&n=5"
        );
        let back = Request::from_target(Method::Get, &target, Vec::new()).unwrap();
        assert_eq!((back.path, back.query), (request.path, request.query));
    }

    #[test]
    fn refuses_broken_targets() {
        for target in [
            "/people/%",
            "/people/%4",
            "/people/%zz",
            "/people/%FF",
            "/status?x=%C3",
        ] {
            assert!(
                Request::from_target(Method::Get, target, Vec::new()).is_none(),
                "{target}"
            );
        }
    }

    #[test]
    fn failures_read_back_from_their_answer() {
        let text = || "say \"please\"".to_string();
        for failure in [
            Failure::Bad(text()),
            Failure::NotFound(text()),
            Failure::Conflict(text()),
            Failure::Unavailable(text()),
        ] {
            assert_eq!(Failure::from_answer(failure.status(), &failure.body()), failure);
        }
        assert_eq!(
            Failure::from_answer(500, b"<html>"),
            Failure::Unavailable("the gateway answered with status 500".into())
        );
    }
}
