//! Drives wire machines over sockets: one connection from accept to close, and its session line.

mod drive;
mod login;
pub mod relay;
pub mod upstream;

use crate::gate::Gate;
use crate::net::{Admission, ListenLimits, ListenTls, Listener, ListenerSettings, ServerTls, Shutdown, Stream};
use crate::report::session_line::SessionLine;
use crate::wire::{CloseCause, Dialect, Limits};
use login::{Ended, Login, Session};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use upstream::Upstreams;

/// How long a connection that is turned away may take to hear why: a goodbye is worth a moment, not more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What all connections of one listener share.
pub struct Front {
    /// The listener's settings.
    pub settings: ListenerSettings,
    /// The protocol's row.
    pub dialect: &'static Dialect,
    /// Limits of connections.
    pub limits: ListenLimits,
    /// Places for connections that have not signed in; shared by all listeners.
    pub places: Admission,
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
            let (stream, client) = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.shutdown.draining() => return,
            };
            let front = Arc::clone(&self);
            let alive = self.shutdown.track();
            tokio::spawn(async move {
                front.connection(stream, client).await;
                drop(alive);
            });
        }
    }

    /// The login task: ends with the verdict. What was admitted goes on in the relay's own small task.
    async fn connection(self: Arc<Self>, stream: Stream, client: SocketAddr) {
        let line = SessionLine::begin(&self.settings.name, self.dialect.protocol, client);
        let Ok(place) = self.places.admit(client.ip()) else {
            return line.closed(self.turn_away(stream, CloseCause::NoPlace).await.name());
        };
        let ended = Login::new(&self, client).run(stream).await;
        drop(place);
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

    /// Says why in plain text and closes; behind implicit TLS only to those who do not speak TLS.
    async fn turn_away(&self, mut stream: Stream, cause: CloseCause) -> CloseCause {
        if self.settings.tls != ListenTls::Implicit || cause == CloseCause::WrongTransport {
            let words = (self.dialect.turned_away)(cause);
            let deadline = drive::now() + LAST_WORDS;
            let _ = stream.write_all(words.as_slice(), deadline).await;
            let _ = stream.shutdown_write(deadline).await;
        }
        cause
    }
}

async fn relay(line: SessionLine, session: Session) {
    let Session { relay, handle, admission } = session;
    let ended = relay.run(handle.cut(), handle.traffic()).await;
    line.ended(&admission, handle.id(), ended.up, ended.down, ended.cause.name());
}
