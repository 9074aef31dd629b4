//! Drives wire machines over sockets: one connection from accept to close, and its session line.

mod drive;
mod login;
pub mod relay;
pub mod upstream;

use crate::gate::Gate;
use crate::net::{Accepted, ListenLimits, Listener, ListenerSettings, ServerTls, Shutdown};
use crate::report::session_line::SessionLine;
use crate::wire::{Dialect, Limits};
use login::{Ended, Login, Session};
use std::sync::Arc;
use std::time::Duration;
use upstream::Upstreams;

/// How long last words may take to leave when the deadline is over: a goodbye is worth a moment, not more.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What all connections of one listener share.
pub struct Front {
    /// The listener's settings.
    pub settings: ListenerSettings,
    /// The protocol's row.
    pub dialect: &'static Dialect,
    /// Limits of connections.
    pub limits: ListenLimits,
    /// Limits of machines.
    pub wire_limits: Limits,
    /// Shown in greetings.
    pub hostname: String,
    /// TLS towards clients.
    pub tls: ServerTls,
    /// Who gets in.
    pub gate: Gate,
    /// Where sessions go.
    pub upstreams: Arc<Upstreams>,
    /// The end of all things.
    pub shutdown: Shutdown,
}

impl Front {
    /// Accepts connections until the shutdown begins; each runs in a task of its own, so that a panic ends that
    /// connection only.
    pub async fn serve(self: Arc<Self>, listener: Listener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.draining() => return,
            };
            let front = Arc::clone(&self);
            let alive = self.shutdown.track();
            tokio::spawn(async move {
                front.connection(accepted).await;
                drop(alive);
            });
        }
    }

    /// The login task: ends with the verdict. What was admitted goes on in the relay's own small task.
    async fn connection(self: Arc<Self>, accepted: Accepted) {
        let Accepted { stream, client, admission: unauthenticated } = accepted;
        let line = SessionLine::begin(&self.settings.name, self.dialect.protocol, client);
        let ended = Login::new(&self, client).run(stream).await;
        drop(unauthenticated);
        match ended {
            Ended::Closed(cause) => line.closed(cause.name()),
            Ended::SignedIn(session) => {
                let alive = self.shutdown.track();
                tokio::spawn(async move {
                    relay(line, *session).await;
                    drop(alive);
                });
            }
        }
    }
}

async fn relay(line: SessionLine, session: Session) {
    let Session { relay, handle, admission } = session;
    let ended = relay.run(handle.cut(), handle.traffic()).await;
    line.ended(&admission, handle.id(), ended.up, ended.down, ended.cause.name());
}
