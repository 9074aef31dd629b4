//! TLS towards an upstream: whom to trust, and how to say why not.

use super::{TlsError, der, provider, read_certificates, read_key, setup};
use crate::net::{Roots, UpstreamTlsSettings};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use std::sync::Arc;

/// TLS towards one upstream. Keep it as long as the upstream is configured: sessions are resumed out of it.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTls {
    /// Prepares TLS towards `host`, which is also the name that its certificate must carry (RFC 7817 §3) and the SNI. It
    /// may be an IP address.
    ///
    /// No ALPN is sent: many mail servers refuse names that they do not know.
    ///
    /// # Errors
    /// When the host is no name, a file cannot be used, or the client certificate does not fit its key.
    pub fn new(settings: &UpstreamTlsSettings, host: &str) -> Result<ClientTls, TlsError> {
        let name =
            ServerName::try_from(host.trim_end_matches('.').to_owned()).map_err(|_| TlsError::Host {
                host: host.to_owned(),
            })?;
        let verifier = Verifier {
            authorities: authorities(&settings.roots)?,
            pins: settings.pins.clone(),
            host: host.to_owned(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &settings.client_certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(read_certificates(chain)?, read_key(key)?)
                .map_err(|error| TlsError::Pair {
                    chain: chain.clone(),
                    key: key.clone(),
                    why: error.to_string(),
                })?,
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(ClientTls {
            config: Arc::new(config),
            name,
        })
    }

    /// A fresh connection.
    pub(in crate::net) fn connection(&self) -> Result<UnbufferedClientConnection, TlsError> {
        UnbufferedClientConnection::new(self.config.clone(), self.name.clone()).map_err(setup)
    }
}

fn authorities(roots: &Roots) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Public => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::File(path) => {
            for certificate in read_certificates(path)? {
                store.add(certificate).map_err(|_| TlsError::Pem {
                    path: path.clone(),
                    expected: "certificate of an authority",
                })?;
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .map_err(|error| TlsError::Setup {
            why: error.to_string(),
        })
}

/// Checks chain, name and pins, and explains a refusal.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    pins: Vec<[u8; 32]>,
    host: String,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pin = der::spki_pin(leaf);
        if !self.pins.is_empty() {
            if !pin.is_some_and(|pin| self.pins.contains(&pin)) {
                return Err(wrap(TlsError::Pin {
                    host: self.host.clone(),
                    seen: pin,
                }));
            }
            // The key itself was named, and nobody else vouches for a self-signed certificate anyway: its name and
            // dates add nothing. That the peer holds the key is still proven by the handshake's signature.
            if is_self_signed(leaf) {
                return Ok(ServerCertVerified::assertion());
            }
        }
        self.authorities
            .verify_server_cert(leaf, intermediates, name, ocsp, now)
            .map_err(|error| wrap(self.explain(error, leaf, pin)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

impl Verifier {
    fn explain(&self, error: Error, leaf: &[u8], pin: Option<[u8; 32]>) -> TlsError {
        let host = self.host.clone();
        let Error::InvalidCertificate(error) = error else {
            return TlsError::Certificate {
                host,
                why: error.to_string(),
            };
        };
        match error {
            CertificateError::Expired => TlsError::Expired {
                host,
                not_after: None,
            },
            CertificateError::ExpiredContext { not_after, .. } => TlsError::Expired {
                host,
                not_after: Some(not_after.as_secs()),
            },
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsError::NotYetValid { host }
            }
            CertificateError::NotValidForName => TlsError::Name {
                expected: host,
                presented: Vec::new(),
            },
            CertificateError::NotValidForNameContext { presented, .. } => TlsError::Name {
                expected: host,
                presented,
            },
            // A bad signature is what a private authority that was made anew under its old name looks like.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsError::Authority { host, pin }
            }
            // openssl's self-signed certificates call themselves an authority and are refused for that; the remedy is
            // the same.
            _ if is_self_signed(leaf) => TlsError::Authority { host, pin },
            other => TlsError::Certificate {
                host,
                why: other.to_string(),
            },
        }
    }
}

/// Puts our words where rustls carries them to whoever asked for the handshake.
fn wrap(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn is_self_signed(certificate: &[u8]) -> bool {
    der::fields(certificate).is_some_and(|fields| fields.issuer == fields.subject)
}

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Remembered sessions of one upstream; it has one name, so this is only the list's minimum of a few tickets.
const SESSIONS: usize = 8;
