//! Certificates of upstreams, as pinning reads them.

use gatepost::net::spki_pin;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

/// Nothing is read out of bounds, and where rustls sees a certificate, both see the same public key.
pub fn certificates(input: &[u8]) {
    let pin = spki_pin(input);
    let certificate = CertificateDer::from(input);
    if let Ok(parsed) = ParsedCertificate::try_from(&certificate) {
        let key = parsed.subject_public_key_info();
        assert_eq!(
            pin.as_ref().map(<[u8; 32]>::as_slice),
            Some(digest(&SHA256, &key).as_ref())
        );
    }
}
