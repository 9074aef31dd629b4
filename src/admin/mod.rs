//! What an administrator can ask and change, while the gateway runs or when it does not.
//!
//! [`api`] holds the resources: plain functions from a [`Request`](api::Request) to a [`Response`](api::Response), which
//! know neither sockets nor HTTP. [`server`] lets a running gateway answer them on a Unix socket; commands call the same
//! functions in their own process when no gateway runs. Everything here runs on plain threads and enters async code only
//! through the runtime's handle.
//!
//! Deliberately absent: a network listener, and accounts of administrators. Who may open the socket's directory (mode
//! 0700) is the administrator.

pub mod api;
pub mod server;
pub mod when;

use crate::auth::AccessSettings;
use crate::gate::Gate;
use crate::store::Store;
use crate::store::records::UnixTime;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything that handlers work with.
#[derive(Clone)]
pub struct Context {
    /// The store. With a running gateway its gate watches what is written here.
    pub store: Store,
    /// The gate with its live sessions, when a gateway runs.
    pub gate: Option<Gate>,
    /// What the administrator may know of the configuration.
    pub facts: Facts,
    /// By which handlers enter async code.
    pub runtime: tokio::runtime::Handle,
}

/// The part of the configuration that answers depend on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The settings that were read at the start; a running gate may have newer ones.
    pub access: Arc<AccessSettings>,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// This gateway's name.
    pub hostname: String,
    /// One line for each listener, for people.
    pub listeners: Vec<String>,
    /// One line for each upstream, for people.
    pub upstreams: Vec<String>,
    /// When the gateway started; `None` when none runs.
    pub started: Option<UnixTime>,
}

impl Context {
    /// The settings in force: with these logins are normalised and modes are judged.
    fn access(&self) -> Arc<AccessSettings> {
        self.gate
            .as_ref()
            .map_or_else(|| self.facts.access.clone(), |gate| gate.settings())
    }

    /// Waits for a future. Only on plain threads: inside the runtime this panics.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// The wall clock. Times of people, tokens and tombstones are for reading and for 400 days: seconds do.
pub fn now() -> UnixTime {
    UnixTime(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
    )
}
