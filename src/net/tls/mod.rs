//! TLS by rustls with ring: [`ServerTls`] towards clients, [`ClientTls`] towards an upstream.
//!
//! Deliberately absent: TLS 1.0 and 1.1, RSA key exchange, early data (a replayed sign-in is one too many), renegotiation,
//! a process-wide provider, and a server session cache (tickets do without).

mod client;
mod der;
mod driver;
mod server;

pub use client::ClientTls;
pub use der::spki_pin;
pub use driver::End;
pub(super) use driver::{Driver, Socket};
pub use server::ServerTls;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// What may go wrong with certificates and handshakes. Each says what to do where something can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// A file could not be read.
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// A file could not be written.
    Write {
        /// Which.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// A file holds no usable PEM of the kind that is expected.
    Pem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// Certificate and key cannot be used together.
    Pair {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        why: String,
    },
    /// The self-signed certificate could not be made.
    SelfSigned {
        /// Why not.
        why: String,
    },
    /// A configured host is neither a DNS name nor an address.
    Host {
        /// The host.
        host: String,
    },
    /// The TLS library refuses the settings.
    Setup {
        /// Why.
        why: String,
    },
    /// The upstream's certificate is out of date.
    Expired {
        /// The upstream.
        host: String,
        /// Seconds since 1970 of its end, where known.
        not_after: Option<u64>,
    },
    /// The upstream's certificate is not valid yet.
    NotYetValid {
        /// The upstream.
        host: String,
    },
    /// The upstream's certificate is for other names.
    Name {
        /// The configured host.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The upstream's certificate comes from an authority that is not trusted.
    Authority {
        /// The upstream.
        host: String,
        /// SHA-256 of its public key, for a pin.
        pin: Option<[u8; 32]>,
    },
    /// The upstream's key is none of the pinned ones.
    Pin {
        /// The upstream.
        host: String,
        /// SHA-256 of the key it has now.
        seen: Option<[u8; 32]>,
    },
    /// The upstream's certificate is refused for another reason.
    Certificate {
        /// The upstream.
        host: String,
        /// Why.
        why: String,
    },
    /// The handshake did not end in time.
    Deadline,
    /// The peer closed in the middle of the handshake.
    Closed,
    /// The peer does not speak TLS here.
    NotTls,
    /// The peer sent an alert; `no_application_protocol`, `handshake_failure` and their like.
    Alert {
        /// Its name.
        alert: String,
    },
    /// The peers could not agree, or one of them broke the protocol.
    Protocol {
        /// What happened.
        why: String,
    },
    /// The socket failed.
    Io {
        /// The kind of failure.
        kind: io::ErrorKind,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TlsError::*;
        match self {
            Read { path, why } => write!(f, "cannot read {}: {why}", path.display()),
            Write { path, why } => write!(f, "cannot write {}: {why}", path.display()),
            Pem { path, expected } => {
                write!(f, "{} holds no {expected}; it must be a PEM file", path.display())
            }
            Pair { chain, key, why } => {
                write!(
                    f,
                    "{} and {} do not belong together: {why}",
                    chain.display(),
                    key.display()
                )
            }
            SelfSigned { why } => write!(f, "cannot make a self-signed certificate: {why}"),
            Host { host } => write!(f, "{host:?} is neither a DNS name nor an address"),
            Setup { why } => write!(f, "the TLS settings cannot be used: {why}"),
            Expired { host, not_after } => {
                write!(f, "the certificate of {host} has expired")?;
                if let Some(seconds) = not_after {
                    write!(f, " (at {seconds} seconds since 1970)")?;
                }
                write!(f, "; renew it there, or set this machine's clock if it is wrong")
            }
            NotYetValid { host } => {
                write!(
                    f,
                    "the certificate of {host} is not valid yet; is this machine's clock right?"
                )
            }
            Name { expected, presented } => {
                let names = if presented.is_empty() {
                    "no name".to_string()
                } else {
                    presented.join(", ")
                };
                write!(
                    f,
                    "the certificate is for {names}, not for {expected}; configure the host by a name in it"
                )
            }
            Authority { host, pin } => {
                write!(
                    f,
                    "the certificate of {host} comes from an authority that is not trusted here; "
                )?;
                write!(f, "name its CA in ca_file")?;
                write_pin(f, ", or trust this very key by the pin ", pin)
            }
            Pin { host, seen } => {
                write!(f, "the key of {host} is none of the pinned ones")?;
                write_pin(f, "; if it was changed on purpose, pin ", seen)
            }
            Certificate { host, why } => write!(f, "the certificate of {host} is refused: {why}"),
            Deadline => f.write_str("the TLS handshake did not end in time"),
            Closed => f.write_str("the peer closed in the middle of the TLS handshake"),
            NotTls => f.write_str("the peer does not speak TLS on this port; is it the port for STARTTLS?"),
            Alert { alert } => write!(f, "the peer refused the TLS handshake: {alert}"),
            Protocol { why } => write!(f, "TLS failed: {why}"),
            Io { kind } => write!(f, "the connection failed during the TLS handshake: {kind}"),
        }
    }
}

impl std::error::Error for TlsError {}

fn write_pin(f: &mut fmt::Formatter<'_>, words: &str, pin: &Option<[u8; 32]>) -> fmt::Result {
    match pin {
        Some(pin) => write!(f, "{words}{}", data_encoding::HEXLOWER.encode(pin)),
        None => Ok(()),
    }
}

impl TlsError {
    /// What a failed handshake means.
    pub(super) fn of_handshake(error: &io::Error) -> TlsError {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(error) => TlsError::of_library(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsError::Closed,
            None => TlsError::Io { kind: error.kind() },
        }
    }

    fn of_library(error: &rustls::Error) -> TlsError {
        use rustls::{CertificateError, Error, InvalidMessage};
        match error {
            // The verifier's own words travel inside rustls' error.
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<TlsError>() {
                    Some(ours) => ours.clone(),
                    None => TlsError::Protocol {
                        why: error.to_string(),
                    },
                }
            }
            Error::AlertReceived(alert) => TlsError::Alert {
                alert: format!("{alert:?}"),
            },
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => TlsError::NotTls,
            _ => TlsError::Protocol {
                why: error.to_string(),
            },
        }
    }
}

/// The one provider of cryptography, passed explicitly everywhere.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    PROVIDER.clone()
}

fn setup(error: rustls::Error) -> TlsError {
    TlsError::Setup {
        why: error.to_string(),
    }
}

/// Reads the certificates of a PEM file, at least one.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(bytes.expose()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Pem {
            path: path.to_path_buf(),
            expected: "certificate",
        }),
    }
}

/// Reads the private key of a PEM file (PKCS#8, PKCS#1 or SEC1).
fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(bytes.expose()).map_err(|_| TlsError::Pem {
        path: path.to_path_buf(),
        expected: "unencrypted private key",
    })
}

fn read(path: &Path) -> Result<crate::secret::Secret<Vec<u8>>, TlsError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(TlsError::Read {
            path: path.to_path_buf(),
            why: error.to_string(),
        }),
    }
}
