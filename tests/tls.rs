//! TLS over real sockets: whom we trust, what we say when we do not, and certificates that change under way.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use gatepost::net::{CertificateSource, ClientTls, Roots, ServerTls, Stream, TlsError, UpstreamTlsSettings};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// An authority and a directory for what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "a private authority");
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    fn roots(&self) -> Roots {
        Roots::File(self.directory.path().join("ca.pem"))
    }

    /// Signs a certificate for these names and leaves it as `name.crt` and `name.key`.
    fn sign(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateSource {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a leaf");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (chain, key_file) = self.paths(file);
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        CertificateSource::Files { chain, key: key_file }
    }

    fn paths(&self, file: &str) -> (PathBuf, PathBuf) {
        (
            self.directory.path().join(format!("{file}.crt")),
            self.directory.path().join(format!("{file}.key")),
        )
    }
}

fn self_signed(directory: &Path, names: &[&str]) -> CertificateSource {
    CertificateSource::SelfSigned {
        directory: directory.to_path_buf(),
        names: names.iter().map(|name| name.to_string()).collect(),
    }
}

fn trusting(roots: Roots, pins: &[[u8; 32]]) -> UpstreamTlsSettings {
    UpstreamTlsSettings {
        roots,
        pins: pins.to_vec(),
        client_certificate: None,
    }
}

async fn pair() -> (Stream, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (
        Stream::plain(near.unwrap()).unwrap(),
        Stream::plain(far.unwrap().0).unwrap(),
    )
}

/// Both ends shake hands; what the client thinks of it.
async fn shake(server: &ServerTls, client: &ClientTls) -> Result<(Stream, Stream), TlsError> {
    let (near, far) = pair().await;
    let (near, far) = tokio::join!(
        Stream::connect_tls(near, client, soon()),
        Stream::accept_tls(far, server, soon())
    );
    Ok((near?, far.expect("the client had nothing to say against it")))
}

async fn carries(mut ends: (Stream, Stream)) {
    ends.0.write_all(b"ping", soon()).await.unwrap();
    let mut buffer = [0; 16];
    assert_eq!(ends.1.read_some(&mut buffer).await.unwrap(), 4);
    ends.1.write_all(b"pong!", soon()).await.unwrap();
    assert_eq!(ends.0.read_some(&mut buffer).await.unwrap(), 5);
}

async fn refusal(server: &ServerTls, settings: &UpstreamTlsSettings, host: &str) -> TlsError {
    let (near, far) = pair().await;
    let client = ClientTls::new(settings, host).unwrap();
    let (near, far) = tokio::join!(
        Stream::connect_tls(near, &client, soon()),
        Stream::accept_tls(far, server, soon())
    );
    assert!(
        matches!(far, Err(TlsError::Alert { .. } | TlsError::Closed)),
        "the peer is told"
    );
    near.err().expect("trusted")
}

#[tokio::test]
async fn a_chain_to_the_authority_with_the_right_name_is_trusted() {
    let authority = Authority::new();
    let server = ServerTls::load(
        &authority.sign("leaf", &["mail.example.org", "127.0.0.1"], |_| ()),
        &[],
    )
    .unwrap();
    for host in ["mail.example.org", "mail.example.org.", "127.0.0.1"] {
        let client = ClientTls::new(&trusting(authority.roots(), &[]), host).unwrap();
        let ends = shake(&server, &client).await.unwrap();
        assert_eq!(ends.0.tls_version(), Some("TLSv1_3"));
        carries(ends).await;
    }
    let pinned = trusting(authority.roots(), &[[7; 32], server.spki_pin()]);
    carries(
        shake(&server, &ClientTls::new(&pinned, "mail.example.org").unwrap())
            .await
            .unwrap(),
    )
    .await;
}

#[tokio::test]
async fn each_distrust_is_told_with_its_remedy() {
    let authority = Authority::new();
    let good = ServerTls::load(&authority.sign("good", &["mail.example.org"], |_| ()), &[]).unwrap();
    let old = authority.sign("old", &["mail.example.org"], |params| {
        params.not_after = date_time_ymd(2020, 1, 1)
    });
    let old = ServerTls::load(&old, &[]).unwrap();
    let early = authority.sign("early", &["mail.example.org"], |params| {
        params.not_before = date_time_ymd(2100, 1, 1)
    });
    let early = ServerTls::load(&early, &[]).unwrap();
    let (pin, host) = (good.spki_pin(), "mail.example.org".to_string());
    let hex: String = pin.iter().map(|byte| format!("{byte:02x}")).collect();

    let error = refusal(&good, &trusting(Roots::Public, &[]), &host).await;
    assert_eq!(
        error,
        TlsError::Authority {
            host: host.clone(),
            pin: Some(pin)
        }
    );
    assert!(
        error.to_string().contains("ca_file") && error.to_string().contains(&hex),
        "{error}"
    );

    let error = refusal(&good, &trusting(authority.roots(), &[]), "imap.example.org").await;
    assert!(
        matches!(&error, TlsError::Name { presented, .. } if presented.len() == 1),
        "{error:?}"
    );
    assert!(error.to_string().contains("mail.example.org"), "{error}");
    assert!(error.to_string().contains("not for imap.example.org"), "{error}");

    let error = refusal(&old, &trusting(authority.roots(), &[]), &host).await;
    assert_eq!(
        error,
        TlsError::Expired {
            host: host.clone(),
            not_after: Some(1_577_836_800)
        }
    );

    let error = refusal(&early, &trusting(authority.roots(), &[]), &host).await;
    assert_eq!(error, TlsError::NotYetValid { host: host.clone() });

    let error = refusal(&good, &trusting(authority.roots(), &[[7; 32]]), &host).await;
    assert_eq!(
        error,
        TlsError::Pin {
            host: host.clone(),
            seen: Some(pin)
        }
    );
    assert!(error.to_string().contains(&hex), "{error}");
}

#[tokio::test]
async fn a_pin_replaces_neither_authority_nor_name_of_a_signed_certificate() {
    let authority = Authority::new();
    let server = ServerTls::load(&authority.sign("leaf", &["mail.example.org"], |_| ()), &[]).unwrap();
    let pins = [server.spki_pin()];
    let error = refusal(&server, &trusting(Roots::Public, &pins), "mail.example.org").await;
    assert!(matches!(error, TlsError::Authority { .. }), "{error:?}");
    let error = refusal(&server, &trusting(authority.roots(), &pins), "imap.example.org").await;
    assert!(matches!(error, TlsError::Name { .. }), "{error:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_by_its_pin_alone() {
    let directory = tempfile::tempdir().unwrap();
    let server = ServerTls::load(&self_signed(directory.path(), &["another.name"]), &[]).unwrap();
    let pinned = trusting(Roots::Public, &[server.spki_pin()]);
    carries(
        shake(&server, &ClientTls::new(&pinned, "mail.example.org").unwrap())
            .await
            .unwrap(),
    )
    .await;
    let error = refusal(&server, &trusting(Roots::Public, &[]), "another.name").await;
    assert_eq!(
        error,
        TlsError::Authority {
            host: "another.name".into(),
            pin: Some(server.spki_pin())
        }
    );
}

/// openssl marks its self-signed certificates as those of an authority.
#[tokio::test]
async fn a_self_signed_authority_as_a_server_is_explained_and_can_be_pinned() {
    let directory = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec!["mail.example.org".to_string()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let (chain, key_file) = (directory.path().join("chain"), directory.path().join("key"));
    std::fs::write(&chain, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let server = ServerTls::load(&CertificateSource::Files { chain, key: key_file }, &[]).unwrap();
    let error = refusal(&server, &trusting(Roots::Public, &[]), "mail.example.org").await;
    assert_eq!(
        error,
        TlsError::Authority {
            host: "mail.example.org".into(),
            pin: Some(server.spki_pin())
        }
    );
    let pinned = trusting(Roots::Public, &[server.spki_pin()]);
    carries(
        shake(&server, &ClientTls::new(&pinned, "mail.example.org").unwrap())
            .await
            .unwrap(),
    )
    .await;
}

/// Whoever shows a pinned certificate without its key is refused by the handshake's signature.
#[tokio::test]
async fn a_pinned_certificate_without_its_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = ServerTls::load(&self_signed(directory.path(), &["localhost"]), &[]).unwrap();
    let stolen = CertificateDer::from_pem_file(directory.path().join("tls.crt")).unwrap();
    let other_key = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
    let signing = rustls::crypto::ring::sign::any_supported_type(&other_key).unwrap();
    let mismatched = rustls::sign::CertifiedKey::new(vec![stolen], signing);
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(mismatched)));
    let (address, peer) = serve(config);
    let client = ClientTls::new(&trusting(Roots::Public, &[server.spki_pin()]), "localhost").unwrap();
    let near = Stream::connect(address, soon()).await.unwrap();
    let error = Stream::connect_tls(near, &client, soon()).await.err().unwrap();
    assert!(matches!(error, TlsError::Protocol { .. }), "{error:?}");
    assert!(peer.join().unwrap().is_err());
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_asked_for() {
    let authority = Authority::new();
    authority.sign("server", &["localhost"], |_| ());
    authority.sign("client", &["gatepost"], |_| ());
    let (chain, key) = authority.paths("server");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.directory.path().join("ca.pem")).unwrap())
        .unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), default_provider().into())
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(chain).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    for shows in [true, false] {
        let (address, peer) = serve(config.clone());
        let client_certificate = shows.then(|| authority.paths("client"));
        let settings = UpstreamTlsSettings {
            roots: authority.roots(),
            pins: Vec::new(),
            client_certificate,
        };
        let client = ClientTls::new(&settings, "localhost").unwrap();
        let near = Stream::connect(address, soon()).await.unwrap();
        // In TLS 1.3 the client is done before the server has looked.
        let mut near = Stream::connect_tls(near, &client, soon()).await.unwrap();
        let greeting = near.read_some(&mut [0; 100]).await;
        assert_eq!(greeting.is_ok(), shows, "{greeting:?}");
        assert_eq!(peer.join().unwrap().is_ok(), shows);
    }
}

/// rustls' own, blocking server: one handshake, then a greeting. Says the ALPN that was offered.
fn serve(config: ServerConfig) -> (std::net::SocketAddr, std::thread::JoinHandle<std::io::Result<()>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (socket, _) = listener.accept()?;
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, socket);
        stream.write_all(b"* OK\r\n")?;
        stream.flush()
    });
    (address, serving)
}

/// rustls' own, blocking client: a handshake and a greeting, so that it has its tickets.
fn call(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<HandshakeKind> {
    let connection =
        ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, std::net::TcpStream::connect(address)?);
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting)?;
    Ok(stream.conn.handshake_kind().unwrap())
}

/// Our server: each connection gets a greeting.
async fn greet(server: ServerTls) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let accepted = Stream::accept_tls(Stream::plain(socket).unwrap(), &server, soon()).await;
            if let Ok(mut stream) = accepted {
                stream.write_all(b"* OK", soon()).await.unwrap();
                let _ = stream.shutdown_write(soon()).await;
            }
        }
    });
    address
}

fn client_of(authority: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.directory.path().join("ca.pem")).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn a_reload_changes_the_certificate_and_keeps_the_tickets() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let authority = Authority::new();
        let server = ServerTls::load(&authority.sign("leaf", &["localhost"], |_| ()), &[b"imap"]).unwrap();
        let before = server.fingerprint();
        let address = greet(server.clone()).await;
        let config = Arc::new(client_of(&authority, &[version]));
        let call = || {
            let config = config.clone();
            async move {
                tokio::task::spawn_blocking(move || call(address, &config))
                    .await
                    .unwrap()
            }
        };
        assert_eq!(call().await.unwrap(), HandshakeKind::Full);
        assert!(!server.changed());
        authority.sign("leaf", &["localhost"], |_| ());
        assert!(server.changed());
        server.reload().unwrap();
        assert!(!server.changed());
        assert_ne!(server.fingerprint(), before);
        assert_eq!(call().await.unwrap(), HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_certificate() {
    let authority = Authority::new();
    let server = ServerTls::load(&authority.sign("leaf", &["localhost"], |_| ()), &[]).unwrap();
    let (before, (chain, key)) = (server.fingerprint(), authority.paths("leaf"));
    let old_key = std::fs::read(&key).unwrap();

    std::fs::write(&chain, "not a certificate").unwrap();
    assert_eq!(
        server.reload(),
        Err(TlsError::Pem {
            path: chain.clone(),
            expected: "certificate"
        })
    );
    authority.sign("leaf", &["localhost"], |_| ());
    std::fs::write(&key, old_key).unwrap();
    assert!(
        matches!(server.reload(), Err(TlsError::Pair { .. })),
        "the key of another certificate"
    );
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(server.reload(), Err(TlsError::Read { path, .. }) if path == key));

    assert_eq!(server.fingerprint(), before);
    assert!(
        !server.changed(),
        "looked at, and not looked at again before it changes again"
    );
    let client = ClientTls::new(&trusting(authority.roots(), &[]), "localhost").unwrap();
    carries(shake(&server, &client).await.unwrap()).await;
}

#[tokio::test]
async fn the_watch_takes_up_a_changed_certificate() {
    let authority = Authority::new();
    let server = ServerTls::load(&authority.sign("leaf", &["localhost"], |_| ()), &[]).unwrap();
    let before = server.fingerprint();
    let watching = tokio::spawn(server.clone().watch(Duration::from_millis(5)));
    authority.sign("leaf", &["localhost"], |_| ());
    let changed = async {
        while server.fingerprint() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), changed)
        .await
        .expect("never reloaded");
    watching.abort();
}

#[test]
fn a_self_signed_certificate_is_made_once_and_only_its_owner_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("tls.key.new"), "left by a crash").unwrap();
    let first = ServerTls::load(&self_signed(&data, &["gate.example.org", "192.0.2.1"]), &[]).unwrap();
    for file in ["tls.crt", "tls.key"] {
        let mode = std::fs::metadata(data.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(
        std::fs::read_dir(&data).unwrap().count(),
        2,
        "nothing else is left behind"
    );
    let again = ServerTls::load(&self_signed(&data, &["gate.example.org"]), &[]).unwrap();
    assert_eq!(again.fingerprint(), first.fingerprint());
    std::fs::remove_file(data.join("tls.crt")).unwrap();
    let other = ServerTls::load(&self_signed(&data, &["gate.example.org"]), &[]).unwrap();
    assert_ne!(other.fingerprint(), first.fingerprint());
}

#[tokio::test]
async fn alpn_may_be_missing_but_not_wrong() {
    let authority = Authority::new();
    let server = ServerTls::load(&authority.sign("leaf", &["localhost"], |_| ()), &[b"imap"]).unwrap();
    let address = greet(server).await;
    for (offered, welcome) in [
        (&[][..], true),
        (&[&b"imap"[..]], true),
        (&[b"h2", b"imap"], true),
        (&[b"h2"], false),
    ] {
        let mut config = client_of(&authority, &[&rustls::version::TLS13, &rustls::version::TLS12]);
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        let called = tokio::task::spawn_blocking(move || call(address, &config))
            .await
            .unwrap();
        match called {
            Ok(_) => assert!(welcome, "{offered:?}"),
            Err(error) => {
                assert!(!welcome, "{offered:?}: {error}");
                assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn starttls_upgrades_in_place_and_bytes_before_the_handshake_fail_it() {
    let authority = Authority::new();
    let server = ServerTls::load(&authority.sign("leaf", &["localhost"], |_| ()), &[]).unwrap();
    let client = ClientTls::new(&trusting(authority.roots(), &[]), "localhost").unwrap();
    for injects in [false, true] {
        let (mut near, mut far) = pair().await;
        near.write_all(b"a1 STARTTLS\r\n", soon()).await.unwrap();
        let mut line = [0; 13];
        assert_eq!(far.read_some(&mut line).await.unwrap(), 13);
        if injects {
            near.write_all(b"a2 LOGIN mallory x\r\n", soon()).await.unwrap();
        }
        let (near, far) = tokio::join!(
            Stream::connect_tls(near, &client, soon()),
            Stream::accept_tls(far, &server, soon())
        );
        if injects {
            assert_eq!(far.err(), Some(TlsError::NotTls));
            assert!(near.is_err());
        } else {
            carries((near.unwrap(), far.unwrap())).await;
        }
    }
}

#[tokio::test]
async fn tls_is_not_started_twice() {
    let authority = Authority::new();
    let server = ServerTls::load(&authority.sign("leaf", &["localhost"], |_| ()), &[]).unwrap();
    let client = ClientTls::new(&trusting(authority.roots(), &[]), "localhost").unwrap();
    let (near, far) = pair().await;
    let (near, far) = tokio::join!(
        Stream::connect_tls(near, &client, soon()),
        Stream::accept_tls(far, &server, soon())
    );
    let why = "TLS is on already".to_owned();
    let again = Stream::connect_tls(near.unwrap(), &client, soon()).await;
    assert_eq!(again.err(), Some(TlsError::Protocol { why: why.clone() }));
    let again = Stream::accept_tls(far.unwrap(), &server, soon()).await;
    assert_eq!(again.err(), Some(TlsError::Protocol { why }));
}

#[tokio::test]
async fn peers_that_say_nothing_or_the_wrong_thing_end_the_handshake() {
    let authority = Authority::new();
    let client = ClientTls::new(&trusting(authority.roots(), &[]), "localhost").unwrap();

    let (near, _silent) = pair().await;
    let deadline = Instant::now() + Duration::from_millis(50);
    assert_eq!(
        Stream::connect_tls(near, &client, deadline).await.err(),
        Some(TlsError::Deadline)
    );

    let (near, mut far) = pair().await;
    far.write_all(b"* OK ready for STARTTLS\r\n", soon())
        .await
        .unwrap();
    assert_eq!(
        Stream::connect_tls(near, &client, soon()).await.err(),
        Some(TlsError::NotTls)
    );

    let (near, mut far) = pair().await;
    far.shutdown_write(soon()).await.unwrap();
    assert_eq!(
        Stream::connect_tls(near, &client, soon()).await.err(),
        Some(TlsError::Closed)
    );
}

#[tokio::test]
async fn the_first_byte_tells_tls_from_plain_text_without_being_taken() {
    for (says, tls) in [(&b"\x16\x03\x01"[..], true), (b"a1 LOGIN", false)] {
        let (mut near, mut far) = pair().await;
        near.write_all(says, soon()).await.unwrap();
        assert_eq!(far.looks_like_tls(soon()).await.unwrap(), tls);
        let mut buffer = [0; 16];
        let count = far.read_some(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], says);
    }
    let (_near, far) = pair().await;
    let nothing = far
        .looks_like_tls(Instant::now() + Duration::from_millis(20))
        .await;
    assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    let (near, far) = pair().await;
    drop(near);
    assert_eq!(
        far.looks_like_tls(soon()).await.unwrap_err().kind(),
        std::io::ErrorKind::UnexpectedEof
    );
}

#[tokio::test]
async fn try_calls_and_readiness_work_together() {
    let authority = Authority::new();
    let server = ServerTls::load(&authority.sign("leaf", &["localhost"], |_| ()), &[]).unwrap();
    let client = ClientTls::new(&trusting(authority.roots(), &[]), "localhost").unwrap();
    let (mut near, mut far) = shake(&server, &client).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            match far.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => far.writable().await.unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
        while far.try_flush().is_err() {
            far.writable().await.unwrap();
        }
        far
    });
    let mut got = Vec::new();
    let mut small = [0; 777];
    while got.len() < expected.len() {
        near.readable().await.unwrap();
        loop {
            match near.try_read(&mut small) {
                Ok(count) => got.extend_from_slice(&small[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            if got.len() % 3 == 0 {
                break; // leaves plaintext behind: readable must know
            }
        }
    }
    assert!(got == expected);
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_write_to_a_peer_that_does_not_read_ends_at_the_deadline() {
    let (mut near, _far) = pair().await;
    let piece = vec![0; 64 << 20];
    let error = near
        .write_all(&piece, Instant::now() + Duration::from_millis(200))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn settings_that_cannot_work_are_told_at_once() {
    let missing = PathBuf::from("/nonexistent/ca.pem");
    let error = ClientTls::new(&trusting(Roots::File(missing.clone()), &[]), "localhost")
        .err()
        .unwrap();
    assert!(
        error.to_string().starts_with("cannot read /nonexistent/ca.pem: "),
        "{error}"
    );
    let error = ClientTls::new(&trusting(Roots::Public, &[]), "mail example")
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "\"mail example\" is neither a DNS name nor an address"
    );
    let authority = Authority::new();
    authority.sign("one", &["localhost"], |_| ());
    authority.sign("two", &["localhost"], |_| ());
    let mixed = CertificateSource::Files {
        chain: authority.paths("one").0,
        key: authority.paths("two").1,
    };
    let error = ServerTls::load(&mixed, &[]).err().unwrap().to_string();
    assert!(error.contains("do not belong together"), "{error}");
}
