//! Upstreams: where a person's mail server is, how to reach it, and the sign-in there that proves a password.

use super::drive::{Drive, Turn, now};
use crate::auth::people::RouteSettings;
use crate::auth::{Proof, Trial};
use crate::gate::Prover;
use crate::net::{
    ClientTls, OPEN_FILES, Place, Seldom, Standing, Stream, TlsError, UpstreamTlsSettings,
    is_out_of_descriptors,
};
use crate::reason::{Outage, Protocol, Rejection};
use crate::store::BoxFuture;
use crate::wire::{
    ClientEvent, ClientFacts, ClientMachine, CloseCause, Dialect, Introduction, Limits, Ready, UpstreamTls,
};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// One mail server for one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The configuration's name of it.
    pub name: String,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// DNS name (or address); also the reference identifier of its certificate and the SNI (P22).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How TLS is started.
    pub tls: UpstreamTls,
    /// How its certificate is verified.
    pub verify: UpstreamTlsSettings,
    /// TCP connect, over all addresses together.
    pub connect_timeout: Duration,
    /// From connected to ready or refused.
    pub login_timeout: Duration,
}

/// All upstreams, ready to be dialled.
pub struct Upstreams {
    by_route: HashMap<(String, Protocol), Arc<Upstream>>,
}

/// One upstream with its TLS configuration, whose session tickets make later handshakes cheap.
struct Upstream {
    settings: UpstreamSettings,
    tls: Option<ClientTls>,
    /// How often no file could be opened to connect.
    shortages: Seldom,
}

/// Between two tries to open a connection while no file may be opened.
const PAUSE: Duration = Duration::from_millis(50);

impl Upstreams {
    /// Loads certificates and pins. Routes name upstreams; the configuration has checked that the names exist.
    pub fn new(settings: &[UpstreamSettings], routes: &[RouteSettings]) -> Result<Upstreams, TlsError> {
        let mut upstreams = HashMap::new();
        for settings in settings {
            upstreams.insert(settings.name.as_str(), Arc::new(Upstream::new(settings)?));
        }
        let by_route = routes
            .iter()
            .flat_map(|route| route.upstreams.iter().map(move |name| (route, name)))
            .filter_map(|(route, name)| {
                let upstream = upstreams.get(name.as_str())?;
                Some((
                    (route.name.clone(), upstream.settings.protocol),
                    Arc::clone(upstream),
                ))
            })
            .collect();
        Ok(Upstreams { by_route })
    }

    fn find(&self, route: &str, protocol: Protocol) -> Option<&Arc<Upstream>> {
        self.by_route.get(&(route.to_owned(), protocol))
    }
}

impl Upstream {
    fn new(settings: &UpstreamSettings) -> Result<Upstream, TlsError> {
        let tls = match settings.tls {
            UpstreamTls::ClearAllowed => None,
            UpstreamTls::Implicit | UpstreamTls::StartTls => {
                Some(ClientTls::new(&settings.verify, &settings.host)?)
            }
        };
        Ok(Upstream {
            settings: settings.clone(),
            tls,
            shortages: Seldom::default(),
        })
    }

    /// Connects, trying each of the host's addresses until the deadline, and starts TLS where it is implicit.
    async fn dial(&self) -> Result<Stream, Outage> {
        let deadline = now() + self.settings.connect_timeout;
        let stream = self.connect(deadline).await.map_err(|error| {
            let (name, host, port) = (self.settings.name.as_str(), self.settings.host.as_str(), self.settings.port);
            log::warn!(event = "upstream-unreachable", upstream = name; "cannot connect to {host}:{port}: {error}");
            Outage::Unreachable
        })?;
        match self.settings.tls {
            UpstreamTls::Implicit => self.start_tls(stream, deadline).await,
            UpstreamTls::StartTls | UpstreamTls::ClearAllowed => Ok(stream),
        }
    }

    /// Connects; while no file may be opened it waits until others have left.
    async fn connect(&self, deadline: Instant) -> io::Result<Stream> {
        loop {
            match self.try_connect(deadline).await {
                Err(error) if is_out_of_descriptors(&error) && now() + PAUSE < deadline => {
                    if let Some(times) = self.shortages.happened(now()) {
                        let name = self.settings.name.as_str();
                        log::error!(event = "upstream-waits", upstream = name, times = times; "cannot connect: {error}; {OPEN_FILES}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                tried => return tried,
            }
        }
    }

    async fn try_connect(&self, deadline: Instant) -> io::Result<Stream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let resolving = tokio::net::lookup_host((self.settings.host.as_str(), self.settings.port));
        for address in timeout_at(deadline.into(), resolving).await?? {
            match Stream::connect(address, deadline).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn start_tls(&self, stream: Stream, deadline: Instant) -> Result<Stream, Outage> {
        let Some(tls) = &self.tls else {
            return Err(Outage::Misconfigured);
        };
        Stream::connect_tls(stream, tls, deadline).await.map_err(|error| {
            log::warn!(event = "upstream-tls", upstream = self.settings.name.as_str(); "{error}");
            Outage::Tls
        })
    }

    /// Signs in as far as it goes. The connection that comes back *is* the session.
    async fn sign_in(&self, mut drive: Drive<dyn ClientMachine>, deadline: Instant) -> Signed {
        loop {
            match drive.turn(deadline).await {
                Ok(Turn::Event(ClientEvent::Ready)) => return self.signed_in(drive),
                Ok(Turn::Event(ClientEvent::Rejected(rejection))) => return Signed::Refused(rejection),
                Ok(Turn::Event(ClientEvent::Unavailable(outage))) => return Signed::Unanswered(outage),
                Ok(Turn::Event(ClientEvent::StartTls)) => match self.upgrade(drive).await {
                    Ok(upgraded) => drive = upgraded,
                    Err(outage) => return Signed::Unanswered(outage),
                },
                Ok(Turn::Close(CloseCause::Injection)) => return Signed::Unanswered(Outage::Tls),
                Ok(Turn::Close(_)) | Err(_) => return Signed::Unanswered(Outage::Silent),
            }
        }
    }

    async fn upgrade(&self, drive: Drive<dyn ClientMachine>) -> Result<Drive<dyn ClientMachine>, Outage> {
        let (stream, mut machine, unread) = drive.into_parts();
        if !unread.is_empty() {
            // Bytes behind the go-ahead came in the clear: somebody on the way wants them read as TLS-protected (P13).
            return Err(Outage::Tls);
        }
        let stream = self
            .start_tls(stream, now() + self.settings.connect_timeout)
            .await?;
        machine.tls_started();
        Ok(Drive::new(stream, machine))
    }
}

impl Upstream {
    fn signed_in(&self, drive: Drive<dyn ClientMachine>) -> Signed {
        let (stream, machine, unread) = drive.into_parts();
        let mut ready = machine.into_ready();
        ready.leftover.extend(&unread);
        Signed::In(Box::new(Proven {
            stream,
            ready,
            name: self.settings.name.as_str().into(),
        }))
    }
}

/// How a sign-in at the upstream ended.
enum Signed {
    In(Box<Proven>),
    Refused(Rejection),
    Unanswered(Outage),
}

/// A signed-in upstream connection.
pub(super) struct Proven {
    /// The connection.
    pub(super) stream: Stream,
    /// What the upstream said, and what it sent after that.
    pub(super) ready: Ready,
    /// The upstream's name.
    pub(super) name: Arc<str>,
}

/// Proves a trial by the session's own login at the upstream, and keeps the proven connection for the session.
pub(super) struct MailProver<'a> {
    upstreams: &'a Upstreams,
    dialect: &'static Dialect,
    client: SocketAddr,
    place: &'a Place,
    introduction: Introduction,
    limits: Limits,
    proven: Option<Box<Proven>>,
}

impl<'a> MailProver<'a> {
    pub(super) fn new(
        upstreams: &'a Upstreams,
        dialect: &'static Dialect,
        client: SocketAddr,
        place: &'a Place,
        introduction: Introduction,
        limits: Limits,
    ) -> Self {
        MailProver {
            upstreams,
            dialect,
            client,
            place,
            introduction,
            limits,
            proven: None,
        }
    }

    /// The connection of the last accepted trial.
    pub(super) fn into_proven(self) -> Option<Box<Proven>> {
        self.proven
    }

    async fn ask(&mut self, trial: &Trial) -> Proof {
        self.proven = None;
        self.place.stand(Standing::Proving);
        let Some(upstream) = self.upstreams.find(&trial.route, self.dialect.protocol) else {
            log::warn!(event = "no-upstream", route = &*trial.route; "the route has no upstream for {}", self.dialect.protocol);
            return Proof::Unavailable(Outage::Misconfigured);
        };
        let stream = match upstream.dial().await {
            Ok(stream) => stream,
            Err(outage) => return Proof::Unavailable(outage),
        };
        let machine = (self.dialect.client)(self.facts(trial, upstream.settings.tls));
        let deadline = now() + upstream.settings.login_timeout;
        let signing_in = upstream.sign_in(Drive::new(stream, machine), deadline);
        match timeout_at(deadline.into(), signing_in)
            .await
            .unwrap_or(Signed::Unanswered(Outage::Silent))
        {
            Signed::In(proven) => {
                self.proven = Some(proven);
                Proof::Accepted
            }
            Signed::Refused(rejection) => Proof::Rejected(rejection),
            Signed::Unanswered(outage) => {
                log::warn!(event = "upstream-no-answer", upstream = upstream.settings.name.as_str(), outage:? = outage; "no verdict");
                Proof::Unavailable(outage)
            }
        }
    }

    fn facts(&self, trial: &Trial, tls: UpstreamTls) -> ClientFacts {
        ClientFacts {
            tls,
            login: trial.upstream_login.clone(),
            password: trial.password.clone(),
            introduction: self.introduction.clone(),
            client: self.client,
            limits: self.limits.clone(),
        }
    }
}

impl Prover for MailProver<'_> {
    fn prove<'a>(&'a mut self, trial: &'a Trial) -> BoxFuture<'a, Proof> {
        Box::pin(self.ask(trial))
    }
}
