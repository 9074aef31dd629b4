//! Before the verdict: one connection from its first byte to admitted or closed. Names no protocol.
//!
//! This is a task of its own. When it hands over, it ends and is dropped whole (machines, credentials, buffers), so that
//! nothing of it weighs on the hours that the session may last.

use super::drive::{Drive, Turn, now};
use super::relay::Relay;
use super::session::Session;
use super::upstream::{MailProver, Proven};
use super::{Front, LAST_WORDS};
use crate::auth::Attempt;
use crate::gate::SignedIn;
use crate::gate::sessions::SessionHandle;
use crate::net::{ListenTls, Place, Standing, Stream};
use crate::wire::{ClientTls, CloseCause, Credentials, ServerEvent, ServerFacts, ServerMachine};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How the time before the verdict ended.
pub(super) enum Ended {
    /// Admitted: the splice and who it is for.
    SignedIn(Box<Session>),
    /// Closed before that.
    Closed(CloseCause),
}

/// One connection before sign-in.
pub(super) struct Login<'a> {
    front: &'a Front,
    client: SocketAddr,
    place: Place,
    deadline: Instant,
}

impl<'a> Login<'a> {
    pub(super) fn new(front: &'a Front, client: SocketAddr, place: Place) -> Self {
        Login {
            front,
            client,
            place,
            deadline: now() + front.limits.login_deadline,
        }
    }

    /// Runs the connection until it is signed in or closed.
    pub(super) async fn run(&self, stream: Stream) -> Ended {
        let (stream, tls) = match self.while_placed(self.transport(stream)).await.flatten() {
            Ok(ready) => ready,
            Err(cause) => return Ended::Closed(cause),
        };
        let machine = (self.front.dialect.server)(self.facts(tls));
        self.converse(Drive::new(stream, machine)).await
    }

    /// Waits for something that has no words for who must make room: then it is dropped, and the connection with it.
    async fn while_placed<T>(&self, something: impl Future<Output = T>) -> Result<T, CloseCause> {
        tokio::select! {
            biased; // What needs no waiting is done, so that the goodbye can follow.
            done = something => Ok(done),
            () = self.place.evicted() => Err(CloseCause::NoPlace),
        }
    }

    /// Starts TLS where it is implicit; who speaks plain text there hears so at once (P20).
    async fn transport(&self, stream: Stream) -> Result<(Stream, ClientTls), CloseCause> {
        match self.front.settings.tls {
            ListenTls::None => Ok((stream, ClientTls::ClearAllowed)),
            ListenTls::StartTls => Ok((stream, ClientTls::StartTls)),
            ListenTls::Implicit => {
                if !stream
                    .looks_like_tls(self.deadline)
                    .await
                    .map_err(|_| CloseCause::ClientClosed)?
                {
                    return Err(self.front.turn_away(stream).await);
                }
                let stream = self.handshake(stream).await?;
                Ok((stream, ClientTls::On))
            }
        }
    }

    async fn handshake(&self, stream: Stream) -> Result<Stream, CloseCause> {
        Stream::accept_tls(stream, &self.front.tls, self.deadline).await.map_err(|error| {
            log::info!(event = "tls-failed", listener = &*self.front.settings.name, address:% = self.client.ip(); "{error}");
            CloseCause::Io
        })
    }

    fn facts(&self, tls: ClientTls) -> ServerFacts {
        ServerFacts {
            tls,
            hostname: self.front.hostname.clone(),
            limits: self.front.wire_limits.clone(),
            deadline: self.deadline,
        }
    }

    async fn converse(&self, mut drive: Drive<dyn ServerMachine>) -> Ended {
        let mut draining = false;
        loop {
            let turn = tokio::select! {
                turn = drive.turn(self.deadline) => turn,
                _ = self.front.shutdown.draining(), if !draining => {
                    draining = true;
                    drive.machine().shutting_down(CloseCause::Drain);
                    continue;
                }
                () = self.place.evicted() => return self.make_room(drive).await,
            };
            match turn {
                Err(_) => return Ended::Closed(CloseCause::Io),
                Ok(Turn::Close(cause)) => {
                    let _ = self.while_placed(drive.close()).await;
                    return Ended::Closed(cause);
                }
                Ok(Turn::Event(ServerEvent::StartTls)) => {
                    match self.while_placed(self.upgrade(drive)).await.flatten() {
                        Ok(upgraded) => drive = upgraded,
                        Err(cause) => return Ended::Closed(cause),
                    }
                }
                Ok(Turn::Event(ServerEvent::PasswordInClear)) => {
                    let (front, address) = (self.front, self.client.ip());
                    front
                        .gate
                        .password_in_clear(front.dialect.protocol, &front.settings.name, address);
                }
                Ok(Turn::Event(ServerEvent::Credentials(credentials))) => {
                    match self.decide(&mut drive, credentials).await {
                        Decided::Refused => self.place.stand(Standing::Silent),
                        Decided::Gone => return Ended::Closed(CloseCause::ClientClosed),
                        Decided::Evicted => return self.make_room(drive).await,
                        Decided::Admitted(handle, proven) => {
                            return self.hand_over(drive, handle, *proven).await;
                        }
                    }
                }
            }
        }
    }

    /// Says goodbye in the protocol because the place is another's now.
    async fn make_room(&self, mut drive: Drive<dyn ServerMachine>) -> Ended {
        drive.machine().shutting_down(CloseCause::NoPlace);
        let goodbye = async {
            if let Ok(Turn::Close(_)) = drive.turn(now()).await {
                drive.close().await;
            }
        };
        let patience = if self.place.is_goodbye_short() {
            Duration::ZERO // What the socket takes at once is sent all the same.
        } else {
            LAST_WORDS
        };
        let _ = tokio::time::timeout(patience, goodbye).await;
        Ended::Closed(CloseCause::NoPlace)
    }

    /// STARTTLS. Anything received behind the command came in the clear and would be run as if it had been protected
    /// (CVE-2011-0411, P12): the connection ends instead.
    async fn upgrade(&self, drive: Drive<dyn ServerMachine>) -> Result<Drive<dyn ServerMachine>, CloseCause> {
        let (stream, mut machine, unread) = drive.into_parts();
        if !unread.is_empty() {
            return Err(CloseCause::Injection);
        }
        let stream = self.handshake(stream).await?;
        machine.tls_started();
        Ok(Drive::new(stream, machine))
    }

    async fn decide(&self, drive: &mut Drive<dyn ServerMachine>, credentials: Credentials) -> Decided {
        self.place.stand(Standing::Deciding);
        let mut prover = MailProver::new(
            &self.front.upstreams,
            self.front.dialect,
            self.client,
            &self.place,
            drive.machine().introduction(),
            self.front.wire_limits.clone(),
        );
        let signed_in = tokio::select! {
            signed_in = self.front.gate.sign_in(self.attempt(credentials), &mut prover) => signed_in,
            _ = drive.listen() => return Decided::Gone,
            () = self.place.evicted() => return Decided::Evicted,
        };
        match signed_in {
            SignedIn::Refused { refusal, leaves_at } => {
                drive.machine().refuse(refusal, leaves_at);
                Decided::Refused
            }
            SignedIn::Admitted { session, .. } => {
                let proven = prover
                    .into_proven()
                    .expect("an admitted trial was accepted by this prover");
                Decided::Admitted(session, proven)
            }
        }
    }

    fn attempt(&self, credentials: Credentials) -> Attempt {
        Attempt {
            protocol: self.front.dialect.protocol,
            listener: self.front.settings.name.as_str().into(),
            address: self.client.ip(),
            login: credentials.login,
            literal: credentials.literal,
            acts_as_other: credentials.acts_as.is_some(),
            client_hint: credentials.client_hint,
            arrived: now(),
        }
    }

    /// The upstream's own success goes to the client; then both streams, the guard and every byte that either side has
    /// already sent go to the relay.
    async fn hand_over(
        &self,
        mut drive: Drive<dyn ServerMachine>,
        handle: SessionHandle,
        proven: Proven,
    ) -> Ended {
        let Proven {
            stream: upstream,
            ready,
            name,
        } = proven;
        drive.machine().admit(ready.success);
        match self.while_placed(drive.step(self.deadline)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Ended::Closed(CloseCause::ClientClosed),
            Err(cause) => return Ended::Closed(cause),
        }
        let (client, machine, unread) = drive.into_parts();
        let mut to_upstream = machine.into_leftover();
        to_upstream.extend(&unread);
        let tls = client.tls_version();
        let relay = Relay {
            client,
            upstream,
            guard: (self.front.dialect.guard)(),
            to_upstream,
            to_client: ready.leftover,
            idle: self.front.limits.idle,
        };
        Ended::SignedIn(Box::new(Session {
            relay,
            handle,
            upstream: name,
            tls,
            since: now(),
        }))
    }
}

enum Decided {
    Refused,
    Gone,
    Evicted,
    Admitted(SessionHandle, Box<Proven>),
}
