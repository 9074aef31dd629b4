//! Sockets: the only room that names rustls or a file descriptor.

mod listener;
mod places;
pub mod pool;
mod seldom;
mod shutdown;
mod stream;
mod tls;

pub use listener::{ListenError, Listener, OPEN_FILES, is_out_of_descriptors, raise_nofile};
pub use places::{Place, Places, Standing, network_of};
pub use seldom::Seldom;
pub use shutdown::{Phase, Shutdown, Tracked};
pub use stream::Stream;
pub use tls::{ClientTls, End, ServerTls, TlsError, spki_pin};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a listener does TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenTls {
    /// TLS before the first byte (RFC 8314).
    Implicit,
    /// Plain first; a password only after STARTTLS.
    StartTls,
    /// No TLS: passwords travel in the clear. Only on loopback, unless the configuration says so plainly.
    None,
}

/// Limits of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenLimits {
    /// Connections that have not signed in, over all networks; protects memory: about 100 KiB each at worst.
    pub max_unauthenticated: usize,
    /// The same from one network (/32 IPv4, /64 IPv6).
    pub max_unauthenticated_per_network: usize,
    /// From accept to signed in (P92).
    pub login_deadline: Duration,
    /// No byte in either direction; above 30 minutes (P44).
    pub idle: Duration,
}

/// Where the server certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files of chain and key; read again on SIGHUP and when they change.
    Files {
        /// The chain, leaf first.
        chain: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// Made at first start and kept in this directory as `tls.crt` and `tls.key`.
    SelfSigned {
        /// The data directory.
        directory: PathBuf,
        /// The names in it.
        names: Vec<String>,
    },
}

/// Which authorities an upstream's certificate must come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The public ones (webpki-roots).
    Public,
    /// Those in a PEM file, and no others.
    File(PathBuf),
}

/// How TLS towards one upstream is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTlsSettings {
    /// Trusted authorities.
    pub roots: Roots,
    /// SHA-256 over the SubjectPublicKeyInfo of the leaf (survives renewals with the same key). When set, the leaf must
    /// match one of them in addition to chain and name, and a self-signed leaf is accepted on the pin alone.
    pub pins: Vec<[u8; 32]>,
    /// Client certificate: chain and key, PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// A bound address and how to serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The configuration's name of it, for log and policy.
    pub name: String,
    /// Where to bind; port 0 picks a free one.
    pub address: SocketAddr,
    /// Which protocol it speaks.
    pub protocol: crate::reason::Protocol,
    /// How it does TLS.
    pub tls: ListenTls,
}
