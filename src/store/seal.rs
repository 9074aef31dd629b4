//! Sealing: nothing lies on the disk in the open, and nothing can be altered or moved there unseen.
//!
//! The *box key* is 32 random bytes in a file of its own. It is never used itself: every use has a key of its own,
//! derived with HKDF-SHA-256 (RFC 5869) from a [`Label`]. Records are sealed with ChaCha20-Poly1305 (RFC 8439) under the
//! key of their kind, with 96 random bits of nonce each; the associated data names format, version and the whole key (kind
//! and person are part of it), so that a record opens only in its own place.
//!
//! ```text
//! offset  0        1          5          17
//!         format   key id     nonce      ciphertext, tag (16)
//! ```
//! Not prevented: putting an *older* sealed record back into its own place. Who can write the disk can restore the disk.

use super::files;
use super::records::{Kind, Version};
use crate::secret::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// What a derived key is for. Two uses never share a label, and a label never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(pub &'static str);

impl Label {
    /// HMAC over the slow hash of a literal: a device's tag.
    pub const DEVICE_TAG: Label = Label("device-tag");
    /// Keyed hash of logins that match no person, for the log: people type passwords there.
    pub const LOGIN_HASH: Label = Label("login-hash");
}

/// Names a box key without telling anything about it: shown in errors, written in front of every sealed record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The one key of this box.
#[derive(Clone, Debug)]
pub struct BoxKey {
    secret: Secret<[u8; BOX_KEY_LEN]>,
    id: KeyId,
}

const BOX_KEY_LEN: usize = 32;

/// Why there is no box key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoxKeyError {
    /// There is no such file.
    Missing(String),
    /// Others than its owner may read or write the file.
    Exposed {
        /// Its path.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not what [`BoxKey::create`] writes.
    Malformed(String),
    /// The operating system refused.
    Io {
        /// The file's path.
        path: String,
        /// What the operating system said.
        cause: String,
    },
    /// The operating system gave no random bytes.
    Random,
}

impl fmt::Display for BoxKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BoxKeyError::Missing(path) => {
                write!(f, "there is no box key at {path}; restore it from a backup")
            }
            BoxKeyError::Exposed { path, mode } => write!(
                f,
                "the box key {path} is open to other users (mode {mode:03o}); run `chmod 600 {path}`, and replace \
                 tokens and mail passwords if a stranger may have read it"
            ),
            BoxKeyError::Malformed(path) => {
                write!(
                    f,
                    "the box key {path} is cut short or altered; restore it from a backup"
                )
            }
            BoxKeyError::Io { path, cause } => write!(f, "the box key {path} cannot be used: {cause}"),
            BoxKeyError::Random => f.write_str("the operating system gave no random bytes"),
        }
    }
}

impl std::error::Error for BoxKeyError {}

impl BoxKey {
    /// A new random key, in memory only.
    ///
    /// # Errors
    /// [`BoxKeyError::Random`].
    pub fn generate() -> Result<BoxKey, BoxKeyError> {
        let mut bytes = [0; BOX_KEY_LEN];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| BoxKeyError::Random)?;
        Ok(BoxKey::from_bytes(&mut bytes))
    }

    /// Makes a new key and writes it to a file that only its owner can read. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`BoxKeyError::Io`], also when the file exists: a box key is never overwritten.
    pub fn create(path: &Path) -> Result<BoxKey, BoxKeyError> {
        let key = BoxKey::generate()?;
        let hex = Zeroizing::new(data_encoding::HEXLOWER.encode(key.secret.expose()));
        let text = Zeroizing::new(format!("{FILE_HEADER}\n{}\n{}\n", hex.as_str(), key.id));
        files::create_private(path, text.as_bytes()).map_err(|error| io_error(path, &error))?;
        Ok(key)
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// Every [`BoxKeyError`]; [`BoxKeyError::Exposed`] when group or others have any permission.
    pub fn load(path: &Path) -> Result<BoxKey, BoxKeyError> {
        let mut file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BoxKeyError::Missing(path.display().to_string()),
            _ => io_error(path, &error),
        })?;
        // Asked of the open file, not of the path: nobody can exchange it in between.
        let mode = file
            .metadata()
            .map_err(|error| io_error(path, &error))?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(BoxKeyError::Exposed {
                path: path.display().to_string(),
                mode,
            });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_MAX));
        file.by_ref()
            .take(FILE_MAX as u64)
            .read_to_end(&mut text)
            .map_err(|error| io_error(path, &error))?;
        BoxKey::parse(&text).ok_or_else(|| BoxKeyError::Malformed(path.display().to_string()))
    }

    /// Which key this is.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key for one use.
    pub fn derive(&self, label: Label) -> Secret<[u8; 32]> {
        derive(self.secret.expose(), &["gatepost use/", label.0])
    }

    /// The key for one use, ready for HMAC-SHA-256.
    pub fn hmac_key(&self, label: Label) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derive(label).expose())
    }

    fn from_bytes(bytes: &mut [u8; BOX_KEY_LEN]) -> BoxKey {
        let secret = Secret::new(*bytes);
        bytes.zeroize();
        let id = derive(secret.expose(), &["gatepost key-id"]);
        let [a, b, c, d, ..] = *id.expose();
        BoxKey {
            secret,
            id: KeyId([a, b, c, d]),
        }
    }

    /// Reads the text that [`BoxKey::create`] writes; `None` for any other.
    pub fn parse(text: &[u8]) -> Option<BoxKey> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let header = lines.next()?;
        let hex = lines.next()?;
        let id = lines.next()?;
        if header != FILE_HEADER.as_bytes() {
            return None;
        }
        let decoded = Zeroizing::new(data_encoding::HEXLOWER.decode(hex).ok()?);
        let mut bytes: [u8; BOX_KEY_LEN] = decoded.as_slice().try_into().ok()?;
        let key = BoxKey::from_bytes(&mut bytes);
        // The id is a checksum as well: a typing mistake must not look like another box's store.
        (key.id.to_string().as_bytes() == id).then_some(key)
    }
}

/// First line of the key's file: what it is, and the version of its form.
const FILE_HEADER: &str = "gatepost box key 1";
/// The file has 93 bytes; more is not read.
const FILE_MAX: usize = 256;

fn io_error(path: &Path, error: &io::Error) -> BoxKeyError {
    BoxKeyError::Io {
        path: path.display().to_string(),
        cause: error.to_string(),
    }
}

fn derive(secret: &[u8; BOX_KEY_LEN], info: &[&str]) -> Secret<[u8; 32]> {
    let info: Vec<&[u8]> = info.iter().map(|part| part.as_bytes()).collect();
    let mut out = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"gatepost box key")
        .extract(secret)
        .expand(&info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out))
        .expect("HKDF-SHA-256 gives 32 bytes, its own output length");
    let key = Secret::new(out);
    out.zeroize();
    key
}

/// Why a sealed record did not open. It never tells content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsealError {
    /// Sealed with another box key.
    OtherKey {
        /// What kind of record it is.
        kind: Kind,
        /// The key that sealed it.
        found: KeyId,
        /// The key at hand.
        ours: KeyId,
    },
    /// Sealed in a form that this version does not know.
    LaterFormat {
        /// What kind of record it is.
        kind: Kind,
        /// Its format.
        found: u8,
    },
    /// Cut short, altered, or moved here from another place.
    Altered(Kind),
}

impl fmt::Display for UnsealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnsealError::OtherKey { kind, found, ours } => write!(
                f,
                "a {kind} record is sealed with box key {found}, but the box key here is {ours}; put the box key of \
                 this store back"
            ),
            UnsealError::LaterFormat { kind, found } => write!(
                f,
                "a {kind} record is sealed in format {found}, this version reads format {FORMAT}; run the version \
                 that wrote it"
            ),
            UnsealError::Altered(kind) => write!(
                f,
                "a {kind} record was altered, cut short, or moved from another place; restore a backup, or remove \
                 the record"
            ),
        }
    }
}

impl std::error::Error for UnsealError {}

/// The operating system gave no random bytes.
pub(super) struct RandomFailed;

/// Seals and opens records.
pub(super) struct Sealer {
    keys: Vec<(Kind, LessSafeKey)>,
    id: KeyId,
    random: SystemRandom,
}

const FORMAT: u8 = 1;
const HEAD: usize = 1 + 4 + NONCE_LEN;

impl Sealer {
    pub(super) fn new(key: &BoxKey) -> Sealer {
        let keys = Kind::ALL
            .into_iter()
            .map(|kind| (kind, record_key(key, kind)))
            .collect();
        Sealer {
            keys,
            id: key.id,
            random: SystemRandom::new(),
        }
    }

    /// A version that no record had before: 64 random bits, so that a record removed and made again differs too.
    pub(super) fn fresh_version(&self) -> Result<Version, RandomFailed> {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes).map_err(|_| RandomFailed)?;
        Ok(Version(u64::from_be_bytes(bytes)))
    }

    pub(super) fn seal(
        &self,
        kind: Kind,
        key: &[u8],
        version: Version,
        plain: &[u8],
    ) -> Result<Vec<u8>, RandomFailed> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| RandomFailed)?;
        let mut out = Vec::with_capacity(HEAD + plain.len() + CHACHA20_POLY1305.tag_len());
        out.push(FORMAT);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = self
            .key(kind)
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place(key, version)),
                &mut out[HEAD..],
            )
            .expect("a record is far below the 256 GiB that one nonce may seal");
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    pub(super) fn open(
        &self,
        kind: Kind,
        key: &[u8],
        version: Version,
        sealed: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let mut sealed = Zeroizing::new(sealed);
        let (head, body) = sealed
            .split_at_mut_checked(HEAD)
            .ok_or(UnsealError::Altered(kind))?;
        if head[0] != FORMAT {
            return Err(UnsealError::LaterFormat { kind, found: head[0] });
        }
        let found = KeyId([head[1], head[2], head[3], head[4]]);
        if found != self.id {
            return Err(UnsealError::OtherKey {
                kind,
                found,
                ours: self.id,
            });
        }
        let nonce = Nonce::try_assume_unique_for_key(&head[5..]).map_err(|_| UnsealError::Altered(kind))?;
        let length = self
            .key(kind)
            .open_in_place(nonce, Aad::from(place(key, version)), body)
            .map_err(|_| UnsealError::Altered(kind))?
            .len();
        sealed.copy_within(HEAD..HEAD + length, 0);
        // The bytes behind are plain text too; they are wiped with the buffer, not here.
        sealed.truncate(length);
        Ok(sealed)
    }

    fn key(&self, kind: Kind) -> &LessSafeKey {
        let found = self.keys.iter().find(|(of, _)| *of == kind);
        &found.expect("made for every kind in `new`").1
    }
}

fn record_key(key: &BoxKey, kind: Kind) -> LessSafeKey {
    let bytes = derive(key.secret.expose(), &["gatepost record/", kind.name()]);
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, bytes.expose()).expect("a ChaCha20 key has 32 bytes");
    LessSafeKey::new(unbound)
}

/// The associated data: format, version, and the key, whose first byte is the kind.
fn place(key: &[u8], version: Version) -> Vec<u8> {
    [&[FORMAT], version.0.to_be_bytes().as_slice(), key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BoxKey {
        BoxKey::from_bytes(&mut std::array::from_fn(|n| n as u8))
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    /// Computed with Python's `hmac`, after RFC 5869. Whoever changes one of these loses every store there is.
    #[test]
    fn derived_keys_never_change() {
        assert_eq!(key().id().to_string(), "ac41783e");
        assert_eq!(
            hex(key().derive(Label::DEVICE_TAG).expose()),
            "9a44d5e6a33856ef38d4f4132c7ed7a3a2abe97a390332872df92953ea511b63"
        );
        assert_eq!(
            hex(key().derive(Label::LOGIN_HASH).expose()),
            "945c9933241c3f0c9a6695121677a65f7cc74a96c3a596e46536ca05b57d4a0e"
        );
        assert_eq!(
            hex(derive(key().secret.expose(), &["gatepost record/", Kind::Claim.name()]).expose()),
            "e8e650332297ada1f192b723cdd785d7b21ac7600b379654de921903f78fdcf6"
        );
    }

    #[test]
    fn a_sealed_record_of_the_first_version_opens_for_ever() {
        let sealed = data_encoding::HEXLOWER.decode(SEALED.as_bytes()).unwrap();
        let plain = Sealer::new(&key())
            .open(Kind::Login, b"\x02alice", Version(7), sealed)
            .unwrap();
        assert_eq!(plain.as_slice(), b"what was sealed");
    }

    const SEALED: &str =
        "01ac41783e6465666768696a6b6c6d6e6f887af151c14308a08473b591537d4c1d31206b5ba01d0c54c8dfb263c570d5";

    #[test]
    fn opens_only_whole_and_in_its_own_place() {
        let sealer = Sealer::new(&key());
        let (kind, place, version) = (Kind::Claim, b"\x07place".as_slice(), Version(9));
        let sealed = sealer.seal(kind, place, version, b"content").ok().unwrap();
        let open = |kind, place, version, sealed: &[u8]| sealer.open(kind, place, version, sealed.to_vec());
        assert_eq!(
            open(kind, place, version, &sealed).unwrap().as_slice(),
            b"content"
        );
        let altered = Some(UnsealError::Altered(kind));
        assert_eq!(open(kind, b"\x07other", version, &sealed).err(), altered);
        assert_eq!(open(kind, place, Version(8), &sealed).err(), altered);
        assert_eq!(
            open(Kind::Budget, place, version, &sealed).err(),
            Some(UnsealError::Altered(Kind::Budget))
        );
        for length in 0..sealed.len() {
            assert_eq!(
                open(kind, place, version, &sealed[..length]).err(),
                altered,
                "cut to {length}"
            );
        }
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 0x40;
            let error = open(kind, place, version, &flipped).unwrap_err();
            match at {
                0 => assert_eq!(error, UnsealError::LaterFormat { kind, found: 0x41 }),
                1..5 => assert!(matches!(error, UnsealError::OtherKey { .. })),
                _ => assert_eq!(error, UnsealError::Altered(kind), "bit of byte {at}"),
            }
        }
    }

    #[test]
    fn another_box_key_is_told_as_such() {
        let (ours, theirs) = (key(), BoxKey::generate().unwrap());
        let sealed = Sealer::new(&theirs)
            .seal(Kind::Meta, b"\x01", Version(1), b"content")
            .ok()
            .unwrap();
        let error = Sealer::new(&ours)
            .open(Kind::Meta, b"\x01", Version(1), sealed)
            .unwrap_err();
        assert_eq!(
            error,
            UnsealError::OtherKey {
                kind: Kind::Meta,
                found: theirs.id(),
                ours: ours.id()
            }
        );
        assert!(error.to_string().contains("put the box key of this store back"));
    }

    #[test]
    fn the_same_record_never_looks_the_same_twice() {
        let sealer = Sealer::new(&key());
        let seal = || {
            sealer
                .seal(Kind::Login, b"\x02a", Version(1), b"content")
                .ok()
                .unwrap()
        };
        let (one, two) = (seal(), seal());
        assert_ne!(one[HEAD..], two[HEAD..]);
    }

    #[test]
    fn the_key_shows_itself_nowhere() {
        let shown = format!("{:?} {:#?}", key(), key());
        assert!(
            !shown.contains("00, 01") && !shown.contains("0001") && !shown.contains("1,\n"),
            "{shown}"
        );
        assert!(shown.contains("[secret]"));
    }
}
