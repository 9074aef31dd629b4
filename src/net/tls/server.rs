//! TLS towards clients: one configuration for ever, one certificate that can be changed under it.

use super::{TlsError, der, provider, read_certificates, read_key, setup};
use crate::net::CertificateSource;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// TLS towards clients of one protocol. Clones share everything.
///
/// A reload changes the certificate and nothing else: session tickets issued before go on being good.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
    files: Files,
    /// The files as they were when they were last read, whether they could be used or not.
    seen: Mutex<Stamps>,
}

impl ServerTls {
    /// Loads the certificate, making a self-signed one where the source says so and there is none yet.
    ///
    /// `alpn` are the names of the one protocol served (RFC 7301). A client that names none is welcome; one that names
    /// only others is refused with `no_application_protocol`, so that nobody can be tricked into speaking HTTP to a
    /// mail server (ALPACA).
    ///
    /// # Errors
    /// When a file cannot be read, written or used, with the file's name.
    pub fn load(source: &CertificateSource, alpn: &[&[u8]]) -> Result<ServerTls, TlsError> {
        let files = Files::of(source)?;
        let seen = files.stamps();
        let certificate = Arc::new(Certificate {
            current: ArcSwap::from_pointee(files.read()?),
        });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(setup)?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.ticketer = Ticketer::new().map_err(setup)?;
        // Each connection gives a new one, and mail programs that open several at once may use one twice: the second one
        // that rustls would send costs every login and is seldom used.
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let shared = Shared {
            config: Arc::new(config),
            certificate,
            files,
            seen: Mutex::new(seen),
        };
        Ok(ServerTls {
            shared: Arc::new(shared),
        })
    }

    /// Reads the files again. Connections and tickets are not touched.
    ///
    /// # Errors
    /// When the new files cannot be used; the old certificate stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        *self.seen() = self.shared.files.stamps();
        self.shared
            .certificate
            .current
            .store(Arc::new(self.shared.files.read()?));
        Ok(())
    }

    /// Whether the files differ from when they were last read, by time, size or inode.
    pub fn changed(&self) -> bool {
        let now = self.shared.files.stamps();
        *self.seen() != now
    }

    /// Looks at the files every `interval` and reloads when they changed; never ends. Files that cannot be used are
    /// reported once, and looked at again when they change again: a chain is often written before its key.
    pub async fn watch(self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.changed() {
                continue;
            }
            match self.reload() {
                Ok(()) => {
                    log::info!(event = "certificate-reloaded", sha256 = self.fingerprint_hex().as_str(); "")
                }
                Err(error) => log::warn!(event = "certificate-kept"; "the old certificate stays: {error}"),
            }
        }
    }

    /// SHA-256 of the leaf certificate, as mail programs show it.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.leaf(der::sha256)
    }

    /// SHA-256 over the leaf's SubjectPublicKeyInfo; stays the same when the certificate is renewed with its key.
    pub fn spki_pin(&self) -> [u8; 32] {
        self.leaf(|leaf| der::spki_pin(leaf).expect("rustls has parsed this certificate"))
    }

    /// A fresh connection.
    pub(in crate::net) fn connection(&self) -> Result<UnbufferedServerConnection, TlsError> {
        UnbufferedServerConnection::new(self.shared.config.clone()).map_err(setup)
    }

    fn fingerprint_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.fingerprint())
    }

    fn leaf<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        let current = self.shared.certificate.current.load();
        look(
            current
                .cert
                .first()
                .expect("a chain is read with at least one certificate"),
        )
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Stamps> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The certificate in use: one for all names (SNI), because a gateway has one host name.
#[derive(Debug)]
struct Certificate {
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Where chain and key are.
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

type Stamps = [Option<Stamp>; 2];

/// What tells a changed file: inode, size, seconds and nanoseconds of its last change.
type Stamp = (u64, u64, i64, i64);

impl Files {
    fn of(source: &CertificateSource) -> Result<Files, TlsError> {
        match source {
            CertificateSource::Files { chain, key } => Ok(Files {
                chain: chain.clone(),
                key: key.clone(),
            }),
            CertificateSource::SelfSigned { directory, names } => {
                let files = Files {
                    chain: directory.join("tls.crt"),
                    key: directory.join("tls.key"),
                };
                if !files.chain.exists() || !files.key.exists() {
                    make_self_signed(directory, &files, names)?;
                }
                Ok(files)
            }
        }
    }

    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let chain = read_certificates(&self.chain)?;
        let key = read_key(&self.key)?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError::Pair {
            chain: self.chain.clone(),
            key: self.key.clone(),
            why: error.to_string(),
        })
    }

    fn stamps(&self) -> Stamps {
        [&self.chain, &self.key].map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
        })
    }
}

/// Makes a key and a certificate for it, and writes them so that a crash leaves either none or both whole.
fn make_self_signed(directory: &Path, files: &Files, names: &[String]) -> Result<(), TlsError> {
    let failed = |error: rcgen::Error| TlsError::SelfSigned {
        why: error.to_string(),
    };
    let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(failed)?;
    if let Some(name) = names.first() {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name.as_str());
    }
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    // People trust it by an exception or a pin, each of which a renewal would break. The day before forgives clocks; the
    // floor is for a box that starts before it knows the time, whose certificate would be over once it does.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .max(NOT_BEFORE_FLOOR);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + (now - DAY);
    params.not_after = epoch + (now + 3650 * DAY);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;

    let wrote = |path: &Path, result: std::io::Result<()>| {
        result.map_err(|error| TlsError::Write {
            path: path.to_path_buf(),
            why: error.to_string(),
        })
    };
    wrote(
        directory,
        DirBuilder::new().recursive(true).mode(0o700).create(directory),
    )?;
    let key = crate::secret::Secret::new(key.serialize_pem());
    wrote(
        &files.key,
        write_whole(directory, &files.key, key.expose().as_bytes()),
    )?;
    wrote(
        &files.chain,
        write_whole(directory, &files.chain, certificate.pem().as_bytes()),
    )
}

/// Writes beside the file, syncs, and renames over it. Only the owner may read it, at no moment anybody else.
fn write_whole(directory: &Path, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let new = path.with_added_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// 1 January 2026.
const NOT_BEFORE_FLOOR: Duration = Duration::from_secs(1_767_225_600);
