//! The running gateway: start-up, waiting for the end, an orderly stop.

use crate::admin::Context;
use crate::admin::now;
use crate::admin::server::{self, AdminServer, SocketError};
use crate::config::Settings;
use crate::gate::clock::SystemClock;
use crate::gate::slow_hash::{Argon2id, LEAST_MEMORY_KIB, PoolSettings};
use crate::gate::{Gate, NoRandomness, Parts};
use crate::store::{self, OpenError, Opened, StoreError};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Why the gateway could not run, or did not end well.
#[derive(Debug)]
pub enum RunError {
    /// The store cannot be opened.
    Open(OpenError),
    /// The gate cannot start.
    Gate(NoRandomness),
    /// The store could not be brought to the disk at the end.
    Store(StoreError),
    /// The admin socket cannot be bound.
    Socket(SocketError),
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
            RunError::Gate(error) => error.fmt(f),
            RunError::Store(error) => error.fmt(f),
            RunError::Socket(error) => error.fmt(f),
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
    let opened = open(&settings)?;
    if let Some(repaired) = &opened.repaired {
        log::error!("the store was damaged and has been repaired: {repaired}");
    }
    let gate = {
        // Its tasks live in the runtime.
        let _inside = runtime.enter();
        Gate::start(Parts {
            store: opened.store.clone(),
            settings: settings.access.clone(),
            clock: Arc::new(SystemClock),
            slow_hash: Arc::new(Argon2id),
            pool: PoolSettings::of_this_machine(LEAST_MEMORY_KIB),
        })
    }
    .map_err(RunError::Gate)?;
    let socket = server::bind(&settings.admin_socket).map_err(RunError::Socket)?;
    let context = Context {
        store: opened.store.clone(),
        gate: Some(gate.clone()),
        facts: settings.facts(Some(now())),
        runtime: runtime.handle().clone(),
    };
    let admin = AdminServer::start(socket, context);
    log::info!("commands are answered on {}", settings.admin_socket.display());
    let waited = runtime.block_on(end_of_run());
    admin.stop();
    gate.close();
    let flushed = runtime.block_on(gate.flush());
    waited.map_err(RunError::Runtime)?;
    flushed.map_err(RunError::Store)
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

/// Waits for SIGTERM or SIGINT.
async fn end_of_run() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => log::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => log::info!("SIGINT: stopping"),
    }
    Ok(())
}
