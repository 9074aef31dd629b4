//! Drives wire machines over sockets: one connection from accept to close, and its session line.

mod drive;
mod login;
pub mod relay;
mod session;
pub mod upstream;

use crate::gate::Gate;
use crate::net::{
    ListenLimits, Listener, ListenerSettings, Place, Places, ServerTls, Shutdown, Stream, Tracked,
};
use crate::wire::{CloseCause, Dialect, Limits};
use login::{Ended, Login};
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
    pub places: Places,
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
            let alive = Alive::new(&self, client);
            // Here and not in the task: tasks begin in any order, and who came first should go first.
            let place = self.places.take(client.ip(), drive::now());
            tokio::spawn(async move {
                front.connection(stream, client, place).await;
                drop(alive);
            });
        }
    }

    /// The login task: ends with the verdict. What was admitted goes on in the relay's own small task.
    async fn connection(self: Arc<Self>, stream: Stream, client: SocketAddr, place: Place) {
        match Login::new(&self, client, place).run(stream).await {
            Ended::Closed(cause) => self.never_signed_in(client, cause),
            Ended::SignedIn(session) => {
                let alive = Alive::new(&self, client);
                tokio::spawn(async move {
                    session.run().await;
                    drop(alive);
                });
            }
        }
    }

    /// The line of a connection that was no session. Scanners make many of them: only for who wants to look.
    fn never_signed_in(&self, client: SocketAddr, cause: CloseCause) {
        let (listener, address, end) = (self.settings.name.as_str(), client.ip(), cause.name());
        log::debug!(event = "connection", listener = listener, address:% = address, end = end; "closed before sign-in");
    }

    /// Says in plain text to who does not speak TLS that this is the wrong port, and closes.
    async fn turn_away(&self, mut stream: Stream) -> CloseCause {
        let words = (self.dialect.turned_away)(CloseCause::WrongTransport);
        let deadline = drive::now() + LAST_WORDS;
        let _ = stream.write_all(words.as_slice(), deadline).await;
        drive::close(stream, deadline).await;
        CloseCause::WrongTransport
    }
}

/// A connection's task: the shutdown waits for it, and a panic in it does not go by without a word.
struct Alive {
    front: Arc<Front>,
    client: SocketAddr,
    _tracked: Tracked,
}

impl Alive {
    fn new(front: &Arc<Front>, client: SocketAddr) -> Alive {
        Alive {
            front: Arc::clone(front),
            client,
            _tracked: front.shutdown.track(),
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (listener, address) = (self.front.settings.name.as_str(), self.client.ip());
            log::error!(event = "connection-panicked", listener = listener, address:% = address;
                "a fault of gatepost's ended this connection, and no other; please report it with the words on standard error");
        }
    }
}
