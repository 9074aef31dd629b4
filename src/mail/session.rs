//! A session from hand-over to close: the splice, and its one line in the log.

use super::drive::now;
use super::relay::Relay;
use crate::gate::sessions::SessionHandle;
use crate::report::session_line::{Seconds, SessionLine};
use std::sync::Arc;
use std::time::Instant;

/// A session that is ready to be spliced.
pub(super) struct Session {
    /// The two streams, the guard and what is left over.
    pub(super) relay: Relay,
    /// Its entry in the registry; who was let in stands there.
    pub(super) handle: SessionHandle,
    /// The upstream's name.
    pub(super) upstream: Arc<str>,
    /// TLS version of the client's leg.
    pub(super) tls: Option<&'static str>,
    /// When it was signed in.
    pub(super) since: Instant,
}

impl Session {
    /// Relays until a side closes or the session is cut, and writes its line.
    ///
    /// Boxed, because an argument keeps its place in the future for as long as the session lasts, and so would the box
    /// if it were not freed first.
    pub(super) async fn run(self: Box<Self>) {
        let Session {
            relay,
            handle,
            upstream,
            tls,
            since,
        } = unboxed(self);
        let ended = relay.run(handle.cut(), handle.traffic()).await;
        let facts = handle.facts();
        let admission = &facts.admission;
        SessionLine {
            session: handle.id(),
            protocol: facts.protocol,
            listener: &facts.listener,
            person: admission.person,
            account: &admission.account,
            device: admission.device,
            factor: admission.factor,
            reason: admission.reason,
            address: facts.address,
            tls,
            upstream: &upstream,
            up: ended.up,
            down: ended.down,
            duration: Seconds(now() - since),
            end: ended.cause.name(),
        }
        .log();
    }
}

fn unboxed(session: Box<Session>) -> Session {
    *session
}
