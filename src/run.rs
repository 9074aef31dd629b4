//! The running gateway: start-up, waiting for the end, an orderly stop.

use crate::admin::server::{self, AdminServer, SocketError};
use crate::admin::{Context, now};
use crate::config::{self, Settings, Surroundings};
use crate::gate::clock::SystemClock;
use crate::gate::sessions::Selector;
use crate::gate::slow_hash::{Argon2id, LEAST_MEMORY_KIB, PoolSettings};
use crate::gate::{Gate, NoRandomness, Parts};
use crate::mail::Front;
use crate::mail::upstream::Upstreams;
use crate::net::{
    ListenError, Listener, ListenerSettings, Places, ServerTls, Shutdown, TlsError, raise_nofile,
};
use crate::store::{self, OpenError, Opened, StoreError};
use crate::wire::{DIALECTS, Limits, dialect};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout_at;

/// How long sessions may take to reach a good moment for a goodbye.
const GRACE: Duration = Duration::from_secs(10);

/// How long those may take that are cut after that.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// How often the certificate's files are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(10);

/// Why the gateway could not run, or did not end well.
#[derive(Debug)]
pub enum RunError {
    /// The store cannot be opened.
    Open(OpenError),
    /// The store could not be brought to the disk at the end.
    Store(StoreError),
    /// The admin socket cannot be bound.
    Socket(SocketError),
    /// A certificate, key, authority or pin cannot be used.
    Tls(TlsError),
    /// A listener cannot be opened.
    Listen(ListenError),
    /// The operating system gave no random bytes.
    Random(NoRandomness),
    /// The runtime or its signals.
    Runtime(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Open(OpenError::Locked { pid }) => {
                let holder = pid.map_or("another process".to_string(), |pid| format!("process {pid}"));
                write!(
                    f,
                    "{holder} uses this data directory; a gateway runs already, or a command is under way"
                )
            }
            RunError::Open(error) => error.fmt(f),
            RunError::Store(error) => error.fmt(f),
            RunError::Socket(error) => error.fmt(f),
            RunError::Tls(error) => error.fmt(f),
            RunError::Listen(error) => error.fmt(f),
            RunError::Random(error) => error.fmt(f),
            RunError::Runtime(error) => write!(f, "the runtime cannot start: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// Every [`RunError`].
pub fn run(settings: Settings) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(async {
        let gateway = Gateway::start(settings).await?;
        let waited = gateway.serve().await;
        gateway.drain().await?;
        waited.map_err(RunError::Runtime)
    })
}

/// A gateway that serves.
pub struct Gateway {
    gate: Gate,
    admin: AdminServer,
    context: Context,
    shutdown: Shutdown,
    certificate: ServerTls,
    /// Where the settings came from, to be read again.
    file: Option<PathBuf>,
    addresses: Vec<(String, SocketAddr)>,
}

impl Gateway {
    /// Opens the store and the listeners, and begins to serve in tasks of the current runtime.
    ///
    /// # Errors
    /// Every [`RunError`]; nothing goes on then.
    pub async fn start(settings: Settings) -> Result<Gateway, RunError> {
        if let Err(error) = raise_nofile() {
            log::warn!("the limit of open files stays as it is: {error}");
        }
        let opened = open(&settings)?;
        if let Some(repaired) = &opened.repaired {
            log::error!(event = "store-repaired"; "the store was damaged and has been repaired: {repaired}");
        }
        let alpn: Vec<&[u8]> = DIALECTS.iter().map(|dialect| dialect.alpn).collect();
        let certificate = ServerTls::load(&settings.certificate, &alpn).map_err(RunError::Tls)?;
        let upstreams =
            Upstreams::new(&settings.upstreams, &settings.access.routes).map_err(RunError::Tls)?;
        let listeners = settings
            .listeners
            .iter()
            .map(Listener::bind)
            .collect::<Result<Vec<_>, _>>();
        let listeners = listeners.map_err(RunError::Listen)?;
        let socket = server::bind(&settings.admin_socket).map_err(RunError::Socket)?;
        let gate = Gate::start(Parts {
            store: opened.store.clone(),
            settings: settings.access.clone(),
            clock: Arc::new(SystemClock),
            slow_hash: Arc::new(Argon2id),
            pool: PoolSettings::of_this_machine(LEAST_MEMORY_KIB),
        })
        .map_err(RunError::Random)?;
        let context = Context {
            store: opened.store.clone(),
            gate: Some(gate.clone()),
            facts: settings.facts(Some(now())),
            runtime: tokio::runtime::Handle::current(),
        };
        let mut gateway = Gateway {
            admin: AdminServer::start(socket, context.clone()),
            gate,
            context,
            shutdown: Shutdown::new(),
            certificate,
            file: settings.file.clone(),
            addresses: Vec::new(),
        };
        gateway.open_fronts(&settings, listeners, Arc::new(upstreams))?;
        gateway.greet(&settings);
        Ok(gateway)
    }

    fn open_fronts(
        &mut self,
        settings: &Settings,
        listeners: Vec<Listener>,
        upstreams: Arc<Upstreams>,
    ) -> Result<(), RunError> {
        let places = Places::new(&settings.limits);
        for (listener, of) in listeners.into_iter().zip(&settings.listeners) {
            let address = listener.local_addr().map_err(RunError::Runtime)?;
            self.addresses.push((of.name.clone(), address));
            let front = self.front(of, settings, &places, &upstreams);
            tokio::spawn(Arc::new(front).serve(listener));
        }
        tokio::spawn(self.certificate.clone().watch(CERTIFICATE_LOOK));
        Ok(())
    }

    fn front(
        &self,
        listener: &ListenerSettings,
        settings: &Settings,
        places: &Places,
        upstreams: &Arc<Upstreams>,
    ) -> Front {
        Front {
            settings: listener.clone(),
            dialect: dialect(listener.protocol),
            limits: settings.limits.clone(),
            places: places.clone(),
            wire_limits: Limits::default(),
            hostname: settings.hostname.clone(),
            tls: self.certificate.clone(),
            gate: self.gate.clone(),
            upstreams: Arc::clone(upstreams),
            shutdown: self.shutdown.clone(),
        }
    }

    /// Says where everything is.
    fn greet(&self, settings: &Settings) {
        for ((name, address), of) in self.addresses.iter().zip(&settings.listeners) {
            log::info!(event = "listening", listener = name.as_str(), address:% = address, tls:? = of.tls; "{} for mail programs", of.protocol);
        }
        let fingerprint = data_encoding::HEXUPPER.encode(&self.certificate.fingerprint());
        log::info!(event = "certificate", sha256 = fingerprint.as_str(); "the certificate that mail programs see");
        log::info!("commands are answered on {}", settings.admin_socket.display());
    }

    /// Where a listener listens; tells the port that was picked for port 0.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses
            .iter()
            .find(|(name, _)| name == listener)
            .map(|(_, address)| *address)
    }

    /// What the admin API works with.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP reads the certificate's files and the access settings again.
    async fn serve(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    log::info!("SIGTERM: draining");
                    return Ok(());
                }
                _ = interrupt.recv() => {
                    log::info!("SIGINT: draining");
                    return Ok(());
                }
                _ = hang_up.recv() => self.reload(),
            }
        }
    }

    fn reload(&self) {
        self.reload_certificate();
        match self
            .file
            .as_deref()
            .map(|file| config::load_file(file, &Surroundings::of_this_machine()))
        {
            Some(Ok(loaded)) => {
                self.gate.reload(loaded.settings.access);
                log::info!(event = "access-reloaded"; "SIGHUP: modes, routes' domains, networks and limits of access are in force; everything else needs a restart");
            }
            Some(Err(error)) => {
                log::error!(event = "configuration-kept"; "SIGHUP: the old configuration stays: {error}")
            }
            None => {}
        }
    }

    fn reload_certificate(&self) {
        match self.certificate.reload() {
            Ok(()) => {
                log::info!(event = "certificate-reloaded"; "SIGHUP: the certificate's files were read again")
            }
            Err(error) => {
                log::error!(event = "certificate-kept"; "SIGHUP: the old certificate stays: {error}")
            }
        }
    }

    /// Stops accepting, lets sessions say goodbye at a good moment, cuts what is left, and brings the store to the disk.
    /// Ends early when nothing is left.
    ///
    /// # Errors
    /// When the store cannot be brought to the disk.
    pub async fn drain(self) -> Result<(), RunError> {
        let until = Instant::now() + GRACE;
        self.gate.close();
        self.shutdown.drain(until);
        self.gate.sessions().drain();
        if timeout_at(until.into(), self.shutdown.drained()).await.is_err() {
            let cut = self.gate.sessions().cut(Selector::All);
            log::warn!(event = "drain-cut", sessions = cut; "sessions that found no good moment were cut");
            let _ = timeout_at((until + CUT_GRACE).into(), self.shutdown.drained()).await;
        }
        // It joins plain threads, which may be waiting for this runtime.
        let admin = self.admin;
        let _ = tokio::task::spawn_blocking(move || admin.stop()).await;
        self.gate.flush().await.map_err(RunError::Store)
    }
}

/// Opens the store. A command that works on it while no gateway runs has it for milliseconds: that is waited for.
fn open(settings: &Settings) -> Result<Opened, RunError> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 1..TRIES {
        match store::open(&settings.store()) {
            Err(OpenError::Locked { .. }) => std::thread::sleep(PAUSE),
            decided => return decided.map_err(RunError::Open),
        }
    }
    store::open(&settings.store()).map_err(RunError::Open)
}
