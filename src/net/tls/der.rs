//! The few fields of an X.509 certificate that rustls does not show (RFC 5280 §4.1).

use ring::digest::{SHA256, digest};

/// The parts of a certificate that pinning needs, each as whole DER elements.
pub(super) struct Fields<'a> {
    /// Who signed it.
    pub(super) issuer: &'a [u8],
    /// Whom it names.
    pub(super) subject: &'a [u8],
    /// The public key with its algorithm.
    pub(super) spki: &'a [u8],
}

/// Finds the fields of a certificate; `None` when it is not one.
pub(super) fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate.content, SEQUENCE)?;
    if let Some((version, _)) = element(rest.content, VERSION) {
        rest.content = &rest.content[version.whole.len()..];
    }
    let (_serial, rest) = element(rest.content, INTEGER)?;
    let (_signature, rest) = element(rest, SEQUENCE)?;
    let (issuer, rest) = element(rest, SEQUENCE)?;
    let (_validity, rest) = element(rest, SEQUENCE)?;
    let (subject, rest) = element(rest, SEQUENCE)?;
    let (spki, _) = element(rest, SEQUENCE)?;
    Some(Fields {
        issuer: issuer.whole,
        subject: subject.whole,
        spki: spki.whole,
    })
}

/// SHA-256 over a certificate's SubjectPublicKeyInfo; `None` when it is not a certificate.
pub fn spki_pin(certificate: &[u8]) -> Option<[u8; 32]> {
    fields(certificate).map(|fields| sha256(fields.spki))
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

/// Splits one element with this tag off the front (X.690 §8.1, definite lengths only).
fn element(input: &[u8], tag: u8) -> Option<(Element<'_>, &[u8])> {
    let (&first, after_tag) = input.split_first()?;
    if first != tag {
        return None;
    }
    let (&length, after_length) = after_tag.split_first()?;
    let (length, header) = match length {
        short @ 0..=0x7f => (usize::from(short), 2),
        long @ 0x81..=0x84 => {
            let count = usize::from(long & 0x7f);
            let bytes = after_length.get(..count)?;
            (
                bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
                2 + count,
            )
        }
        _ => return None,
    };
    let end = header.checked_add(length)?;
    let whole = input.get(..end)?;
    Some((
        Element {
            whole,
            content: &whole[header..],
        },
        &input[end..],
    ))
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::server::ParsedCertificate;

    fn certificate() -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(vec!["mail.example.org".into()]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn finds_the_same_key_as_webpki() {
        let certificate = certificate();
        let found = fields(&certificate).unwrap();
        let parsed = ParsedCertificate::try_from(&certificate).unwrap();
        assert_eq!(found.spki, parsed.subject_public_key_info().as_ref());
        assert_eq!(found.issuer, found.subject);
    }

    #[test]
    fn no_prefix_and_no_changed_length_is_read_out_of_bounds() {
        let certificate = certificate();
        for end in 0..certificate.len() {
            assert!(fields(&certificate[..end]).is_none());
        }
        for at in 0..certificate.len() {
            let mut changed = certificate.to_vec();
            changed[at] = changed[at].wrapping_add(1);
            let _ = spki_pin(&changed);
            changed[at] = 0xff;
            let _ = spki_pin(&changed);
        }
    }
}
