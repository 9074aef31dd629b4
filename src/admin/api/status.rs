//! The state of the gateway and its store: `GET /status`.

use super::{Failure, Method, Request, Response, no_such, person};
use crate::admin::{Context, now};
use crate::report::rfc3339;
use crate::store::records::Mode;
use serde::{Deserialize, Serialize};

/// The state.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// This program's version.
    pub version: String,
    /// The gateway's name.
    pub hostname: String,
    /// Where the store is.
    pub data_dir: String,
    /// The running gateway; nothing when none runs.
    pub gateway: Option<Gateway>,
    /// The box's mode.
    pub mode: Mode,
    /// Where mail programs connect.
    pub listeners: Vec<String>,
    /// The mail servers behind.
    pub upstreams: Vec<String>,
    /// Routes: name, domains, upstreams.
    pub routes: Vec<String>,
    /// How many people there are.
    pub people: usize,
}

/// A running gateway.
#[derive(Debug, Serialize, Deserialize)]
pub struct Gateway {
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: String,
    /// For how many seconds it runs.
    pub uptime: u64,
    /// Live sessions.
    pub sessions: usize,
    /// The state of the clock, by which codes are checked and devices expire.
    pub clock: String,
}

/// Answers for the state.
pub(super) fn handle(request: &Request, context: &Context) -> Result<Response, Failure> {
    match request.method {
        Method::Get => Response::json(&status(context)?),
        _ => Err(no_such(request)),
    }
}

fn status(context: &Context) -> Result<Status, Failure> {
    let (facts, access) = (&context.facts, context.access());
    let gateway = facts.started.map(|started| Gateway {
        pid: std::process::id(),
        started: rfc3339(started),
        uptime: now().since(started).as_secs(),
        sessions: super::session::count(context),
        clock: context
            .gate
            .as_ref()
            .map_or("", |gate| gate.clock().meaning())
            .into(),
    });
    let route = |route: &crate::auth::people::RouteSettings| {
        format!(
            "{}: {} -> {}",
            route.name,
            route.domains.join(", "),
            route.upstreams.join(", ")
        )
    };
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        hostname: facts.hostname.clone(),
        data_dir: facts.data_dir.display().to_string(),
        gateway,
        mode: access.mode,
        listeners: facts.listeners.clone(),
        upstreams: facts.upstreams.clone(),
        routes: access.routes.iter().map(route).collect(),
        people: person::everyone(context)?.len(),
    })
}
