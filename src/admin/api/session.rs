//! Live sessions: who is signed in right now.
//!
//! `GET /sessions` (parameter `person`), `DELETE /sessions/{id}`, `DELETE /sessions` (parameters `person`, `device`; without
//! them all sessions). A cut session's device may sign in again; to keep it out, it is revoked.

use super::person::{self, Done, counted};
use super::{Failure, Method, Request, Response, no_such};
use crate::admin::Context;
use crate::gate::sessions::{self, Selector};
use crate::report::rfc3339;
use crate::store::records::{DeviceId, Person};
use serde::{Deserialize, Serialize};

/// A live session.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Its number; never used twice while the gateway runs.
    pub id: u64,
    /// Who.
    pub account: String,
    /// Which device, if any.
    pub device: Option<String>,
    /// By which route.
    pub route: String,
    /// By which protocol.
    pub protocol: String,
    /// From where.
    pub address: String,
    /// At which listener.
    pub listener: String,
    /// Since when.
    pub since: String,
    /// Bytes from the mail program so far.
    pub up: u64,
    /// Bytes to the mail program so far.
    pub down: u64,
}

/// Answers for sessions.
pub(super) fn handle(request: &Request, context: &Context) -> Result<Response, Failure> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let person = request
        .parameter("person")
        .map(|login| person::find(login, context))
        .transpose()?;
    match (request.method, &path[..]) {
        (Method::Get, ["sessions"]) => Response::json(&list(person.as_ref(), context)),
        (Method::Delete, ["sessions"]) => {
            let device = request.parsed("device", |id| {
                id.parse::<DeviceId>().map_err(|error| error.to_string())
            })?;
            Response::json(&cut_many(person.as_ref(), device, context))
        }
        (Method::Delete, ["sessions", id]) => Response::json(&cut_one(id, context)?),
        _ => Err(no_such(request)),
    }
}

/// How many there are.
pub(super) fn count(context: &Context) -> usize {
    context.gate.as_ref().map_or(0, |gate| gate.sessions().count())
}

fn list(person: Option<&Person>, context: &Context) -> Vec<SessionView> {
    let live = context
        .gate
        .as_ref()
        .map(|gate| gate.sessions().list())
        .unwrap_or_default();
    let wanted = |session: &sessions::SessionView| {
        person.is_none_or(|person| session.facts.admission.person == Some(person.id))
    };
    live.into_iter().filter(wanted).map(view).collect()
}

fn cut_one(id: &str, context: &Context) -> Result<Done, Failure> {
    let accepted = || {
        Failure::Bad(format!(
            "\"{id}\" is no session: accepted is a number, as `list` shows it"
        ))
    };
    let number: u64 = id.parse().map_err(|_| accepted())?;
    match cut(Selector::Session(number), context) {
        0 => Err(Failure::NotFound(format!(
            "there is no session {number}; `gatepost session list` shows them"
        ))),
        _ => Ok(Done {
            done: format!("cut session {number}"),
            notes: Vec::new(),
        }),
    }
}

fn cut_many(person: Option<&Person>, device: Option<DeviceId>, context: &Context) -> Done {
    let selector = match (person, device) {
        (_, Some(device)) => Selector::Device(device),
        (Some(person), None) => Selector::Person(person.id),
        (None, None) => Selector::All,
    };
    Done {
        done: format!("cut {}", counted(cut(selector, context), "session")),
        notes: Vec::new(),
    }
}

fn cut(which: Selector, context: &Context) -> usize {
    context.gate.as_ref().map_or(0, |gate| gate.sessions().cut(which))
}

fn view(session: sessions::SessionView) -> SessionView {
    let facts = session.facts;
    SessionView {
        id: session.id,
        account: facts.admission.account.to_string(),
        device: facts.admission.device.map(|device| device.to_string()),
        route: facts.admission.route.to_string(),
        protocol: facts.protocol.to_string(),
        address: facts.address.to_string(),
        listener: facts.listener.to_string(),
        since: rfc3339(facts.since),
        up: session.up,
        down: session.down,
    }
}
