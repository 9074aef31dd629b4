//! Drives a rustls unbuffered connection: ciphertext from a socket to plaintext and back, without a buffer of its own.
//!
//! Everything happens in buffers borrowed for one call ([`pool`]). What stays between calls is only what must:
//!
//! | field    | holds                                                     | at most                     |
//! |----------|-----------------------------------------------------------|-----------------------------|
//! | `kept`   | a record (or handshake message) that is not complete yet  | one record; 65 KiB in a handshake |
//! | `plain`  | plaintext that the caller's buffer had no room for         | one record, for callers with small buffers |
//! | `unsent` | ciphertext that the socket has not taken                   | one burst                   |
//!
//! Deliberately absent: tokio. A [`Socket`] says `WouldBlock`, and who waits for it is the caller's business.

use crate::net::pool;
use crate::secret::extend_wiping;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};
use std::io;

/// A non-blocking byte stream.
pub(in crate::net) trait Socket {
    /// Reads what is there; 0 is the end, `WouldBlock` means wait for readiness.
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what fits; `WouldBlock` means wait for readiness.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// What rustls' client and server connections have in common.
pub(in crate::net) trait Session {
    /// The side's own data.
    type Data;

    /// Processes the records in `incoming` until something is to be done.
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What can be known about the connection.
    fn state(&self) -> &CommonState;
}

impl Session for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl Session for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

/// How the peer's bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By FIN on a plain connection, by close_notify under TLS: nothing is missing.
    Complete,
    /// By FIN without close_notify: under TLS something may be missing (P21). Many peers do it all the same.
    Truncated,
}

/// A TLS connection over a [`Socket`] that is handed to each call.
pub(in crate::net) struct Driver<S> {
    session: S,
    kept: Vec<u8>,
    plain: Vec<u8>,
    /// How much of `plain` was handed out.
    plain_taken: usize,
    unsent: Vec<u8>,
    end: Option<End>,
    failed: bool,
}

/// Where rustls stands when it can do nothing more without input.
enum Stand<T> {
    /// The handshake wants more bytes from the peer.
    Handshaking,
    /// Application data may be written; what the caller did with that.
    Open(T),
    /// Both sides have said close_notify.
    Closed,
}

impl<S: Session> Driver<S> {
    /// A driver of a fresh connection.
    pub(in crate::net) fn new(session: S) -> Self {
        Driver {
            session,
            kept: Vec::new(),
            plain: Vec::new(),
            plain_taken: 0,
            unsent: Vec::new(),
            end: None,
            failed: false,
        }
    }

    /// What can be known about the connection.
    pub(in crate::net) fn state(&self) -> &CommonState {
        self.session.state()
    }

    /// Goes on with the handshake until it is done and its last bytes are with the socket.
    ///
    /// # Errors
    /// `WouldBlock`: call again when the socket is readable (or writable, when [`Driver::wants_write`]). `InvalidData`
    /// holds rustls' error; the alert about it was offered to the socket. `UnexpectedEof`: the peer closed.
    pub(in crate::net) fn handshake(&mut self, socket: &mut impl Socket) -> io::Result<()> {
        while self.session.state().is_handshaking() {
            self.flush(socket)?;
            self.receive(socket, &mut [], Until::Open)?;
            if self.end.is_some() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush(socket)
    }

    /// Reads plaintext. 0 is the end; [`Driver::end`] says which.
    ///
    /// After `WouldBlock` no plaintext is left behind here, so that waiting for the socket is right (P83).
    ///
    /// # Errors
    /// As [`Driver::handshake`], without `UnexpectedEof`.
    pub(in crate::net) fn read(&mut self, socket: &mut impl Socket, out: &mut [u8]) -> io::Result<usize> {
        if self.has_plaintext() {
            return Ok(self.take_plain(out));
        }
        if self.end.is_some() || out.is_empty() {
            return Ok(0);
        }
        self.receive(socket, out, Until::Plaintext)
    }

    /// Whether plaintext waits here, so that reading needs no readiness of the socket.
    pub(in crate::net) fn has_plaintext(&self) -> bool {
        self.plain_taken < self.plain.len()
    }

    /// How the peer's bytes ended, once they have.
    pub(in crate::net) fn end(&self) -> Option<End> {
        self.end
    }

    /// Encrypts from the front of `data` and offers the records to the socket. Answers how much of `data` was taken: all
    /// of that is on its way, even where the socket took only a part of it ([`Driver::wants_write`]).
    ///
    /// # Errors
    /// `WouldBlock` while ciphertext from before has not left; nothing of `data` is taken then.
    pub(in crate::net) fn write(&mut self, socket: &mut impl Socket, data: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        let mut out = pool::borrow();
        let mut piece = &data[..data.len().min(pool::BURST)];
        while !piece.is_empty() {
            match self.at_write(|mut traffic| traffic.encrypt(piece, &mut out))? {
                Ok(written) => {
                    self.send(socket, &out[..written])?;
                    return Ok(piece.len());
                }
                // Key updates or alerts take room as well; a smaller piece leaves it to them.
                Err(EncryptError::InsufficientSize(_)) => piece = &piece[..piece.len() / 2],
                Err(EncryptError::EncryptExhausted) => {
                    return Err(io::Error::other(EncryptError::EncryptExhausted));
                }
            }
        }
        if data.is_empty() {
            Ok(0)
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Whether ciphertext waits for the socket.
    pub(in crate::net) fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Offers the socket what it has not taken yet.
    ///
    /// # Errors
    /// `WouldBlock` while something is left.
    pub(in crate::net) fn flush(&mut self, socket: &mut impl Socket) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.unsent.len() {
                break Ok(());
            }
            match socket.send(&self.unsent[sent..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) => break Err(error),
            }
        };
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        result
    }

    /// Queues close_notify behind everything written; [`Driver::flush`] sends it. The peer may go on sending.
    ///
    /// # Errors
    /// When the connection has failed before.
    pub(in crate::net) fn close_notify(&mut self) -> io::Result<()> {
        let mut alert = [0; 128];
        match self.at_write(|mut traffic| traffic.queue_close_notify(&mut alert))? {
            Ok(length) => self.unsent.extend_from_slice(&alert[..length]),
            // rustls has queued it behind something larger and hands both out as records to encode.
            Err(EncryptError::InsufficientSize(_)) => self.at_write(|_| ())?,
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    /// Puts `ciphertext` behind what is unsent, and both into the socket as far as it takes them.
    fn send(&mut self, socket: &mut impl Socket, ciphertext: &[u8]) -> io::Result<()> {
        let mut rest = ciphertext;
        if let Err(error) = self.flush(socket) {
            return self.hold_back(error, rest);
        }
        while !rest.is_empty() {
            match socket.send(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) => return self.hold_back(error, rest),
            }
        }
        Ok(())
    }

    /// Keeps what a full socket did not take; any other error is one.
    fn hold_back(&mut self, error: io::Error, rest: &[u8]) -> io::Result<()> {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        self.unsent.reserve_exact(rest.len());
        self.unsent.extend_from_slice(rest);
        Ok(())
    }

    /// Brings rustls to where it writes application data, and lets `act` do so.
    fn at_write<T>(&mut self, act: impl FnOnce(WriteTraffic<'_, S::Data>) -> T) -> io::Result<T> {
        self.check()?;
        let mut kept = std::mem::take(&mut self.kept);
        let end = kept.len();
        let mut input = Input {
            bytes: &mut kept,
            start: 0,
            end,
            high: end,
        };
        let mut nowhere = Sink { out: &mut [], got: 0 };
        let stand = self.process(&mut input, &mut nowhere, act);
        let discarded = input.start;
        kept.drain(..discarded);
        self.kept = kept;
        match stand.map_err(|error| self.fail(error))? {
            Stand::Open(done) => Ok(done),
            Stand::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Stand::Handshaking => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads from the socket and processes until `until` has come, or the end.
    fn receive(&mut self, socket: &mut impl Socket, out: &mut [u8], until: Until) -> io::Result<usize> {
        self.check()?;
        let mut cipher = pool::borrow();
        let end = self.kept.len();
        cipher[..end].copy_from_slice(&self.kept);
        self.kept = Vec::new();
        let mut input = Input {
            bytes: &mut cipher,
            start: 0,
            end,
            high: end,
        };
        let mut sink = Sink { out, got: 0 };
        let result = self.receive_into(socket, &mut input, &mut sink, until);
        let (got, used) = (sink.got, input.high);
        self.kept = input.rest().to_vec();
        // rustls decrypts in place. A password comes in a short read; a long one is mail, and wiping it would be paid
        // for with every byte that is relayed.
        if used <= MAX_RECORD {
            cipher.wipe_on_return(used);
        }
        match result {
            // What came before a failure is still the peer's word; the next call tells of the failure.
            Err(error) if got == 0 => Err(error),
            _ => Ok(got),
        }
    }

    fn receive_into(
        &mut self,
        socket: &mut impl Socket,
        input: &mut Input<'_>,
        sink: &mut Sink<'_>,
        until: Until,
    ) -> io::Result<()> {
        loop {
            let stand = match self.process(input, sink, |_| ()) {
                Ok(stand) => stand,
                Err(error) => return Err(self.fail_and_tell(socket, error)),
            };
            let come = match until {
                Until::Plaintext => sink.got > 0,
                Until::Open => matches!(stand, Stand::Open(())) && !self.session.state().is_handshaking(),
            };
            if come || self.end.is_some() {
                return Ok(());
            }
            if let Stand::Closed = stand {
                self.end = Some(End::Complete);
                return Ok(());
            }
            match self.flush(socket) {
                // Not being able to send does not keep us from reading.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock && until == Until::Open => {
                    return Err(error);
                }
                _ => {}
            }
            let room = input.room(sink.out.len());
            if room.is_empty() {
                return Err(self.fail_and_tell(socket, Error::PeerSentOversizedRecord));
            }
            match socket.recv(room)? {
                0 => self.end = Some(End::Truncated),
                count => input.received(count),
            }
        }
    }

    /// Lets rustls work on `input` until it wants more of it: plaintext goes to `sink`, records to send to `unsent`.
    fn process<T>(
        &mut self,
        input: &mut Input<'_>,
        sink: &mut Sink<'_>,
        act: impl FnOnce(WriteTraffic<'_, S::Data>) -> T,
    ) -> Result<Stand<T>, Error> {
        loop {
            let UnbufferedStatus { mut discard, state } = self.session.process(input.unread());
            let stand = match state {
                Err(error) => Some(Err(error)),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let rest = sink.take(record.payload);
                        extend_wiping(&mut self.plain, rest);
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append_record(&mut self.unsent, |room| record.encode(room))?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => {
                    // They are in `unsent`, and nothing overtakes them there.
                    transmit.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.end = Some(End::Complete);
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Ok(Stand::Handshaking)),
                Ok(ConnectionState::Closed) => Some(Ok(Stand::Closed)),
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    let done = act(traffic);
                    input.start += discard;
                    return Ok(Stand::Open(done));
                }
                // Early data is not offered, so nothing else comes.
                Ok(_) => Some(Err(Error::General("unexpected state of the TLS library".into()))),
            };
            input.start += discard;
            if let Some(stand) = stand {
                return stand;
            }
        }
    }

    fn take_plain(&mut self, out: &mut [u8]) -> usize {
        let rest = &self.plain[self.plain_taken..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.plain_taken += count;
        if self.plain_taken == self.plain.len() {
            zeroize::Zeroize::zeroize(&mut self.plain);
            self.plain = Vec::new();
            self.plain_taken = 0;
        }
        count
    }

    fn check(&self) -> io::Result<()> {
        if self.failed {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }

    fn fail(&mut self, error: Error) -> io::Error {
        self.failed = true;
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Fails, and offers the socket the alert that tells the peer why.
    fn fail_and_tell(&mut self, socket: &mut impl Socket, error: Error) -> io::Error {
        while self.session.state().wants_write() {
            // What is to be sent comes before any input is looked at.
            let UnbufferedStatus { state, .. } = self.session.process(&mut []);
            match state {
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    if append_record(&mut self.unsent, |room| record.encode(room)).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        // Best effort: the error is what the caller hears either way.
        let _ = self.flush(socket);
        self.fail(error)
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.plain);
    }
}

/// What [`Driver::receive`] waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Plaintext,
    Open,
}

/// Ciphertext received and not consumed: `bytes[start..end]`.
struct Input<'a> {
    bytes: &'a mut [u8],
    start: usize,
    end: usize,
    /// The highest `end` so far.
    high: usize,
}

impl Input<'_> {
    fn unread(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn received(&mut self, count: usize) {
        self.end += count;
        self.high = self.high.max(self.end);
    }

    /// Where to read more to: as much as decrypts into `plaintext` bytes, and a whole record in any case. So plaintext
    /// seldom has to be kept, and bulk data comes in whole records.
    fn room(&mut self, plaintext: usize) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let records = plaintext / MAX_FRAGMENT;
        let wanted = (plaintext + records * RECORD_OVERHEAD).max(MAX_RECORD);
        // A handshake message may be longer than a record.
        let limit = if self.end < wanted {
            wanted.min(self.bytes.len())
        } else {
            self.bytes.len()
        };
        &mut self.bytes[self.end..limit]
    }
}

/// Where plaintext goes.
struct Sink<'a> {
    out: &'a mut [u8],
    got: usize,
}

impl Sink<'_> {
    /// Takes what fits and gives back the rest.
    fn take<'p>(&mut self, plaintext: &'p [u8]) -> &'p [u8] {
        let room = &mut self.out[self.got..];
        let count = room.len().min(plaintext.len());
        room[..count].copy_from_slice(&plaintext[..count]);
        self.got += count;
        &plaintext[count..]
    }
}

/// Appends one encoded record, asking for its size first.
fn append_record(
    unsent: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode(&mut []) else {
        return Err(Error::General(
            "the TLS library encoded a record into nothing".into(),
        ));
    };
    let before = unsent.len();
    unsent.resize(before + required_size, 0);
    match encode(&mut unsent[before..]) {
        Ok(length) => {
            unsent.truncate(before + length);
            Ok(())
        }
        Err(error) => Err(Error::General(error.to_string())),
    }
}

/// Plaintext in one record (RFC 8446 §5.1).
const MAX_FRAGMENT: usize = 16 * 1024;

/// Header, content type and tag of a TLS 1.3 record. The smallest there is costs one byte less, which is not enough to
/// make room for plaintext that would not fit.
const RECORD_OVERHEAD: usize = 22;

/// The longest record that TLS 1.2 allows, with its header (RFC 5246 §6.2.3).
const MAX_RECORD: usize = 5 + MAX_FRAGMENT + 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{
        AlertDescription, ClientConfig, ClientConnection, ConnectionTrafficSecrets, HandshakeKind,
        RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version,
    };
    use std::collections::VecDeque;
    use std::io::{Read, Write};
    use std::sync::Arc;

    const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

    /// A socket in memory. `None` as a limit is none.
    #[derive(Default)]
    struct Pipe {
        incoming: VecDeque<u8>,
        closed: bool,
        outgoing: Vec<u8>,
        recv_limit: Option<usize>,
        /// What the peer's window has left.
        window: Option<usize>,
    }

    impl Socket for Pipe {
        fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(!buffer.is_empty(), "a read into nothing would look like the end");
            if self.incoming.is_empty() {
                return if self.closed {
                    Ok(0)
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                };
            }
            let limit = self.recv_limit.unwrap_or(usize::MAX).min(buffer.len());
            let count = limit.min(self.incoming.len());
            for (to, from) in buffer.iter_mut().zip(self.incoming.drain(..count)) {
                *to = from;
            }
            Ok(count)
        }

        fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.window.unwrap_or(usize::MAX).min(bytes.len());
            if count == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.window = self.window.map(|window| window - count);
            self.outgoing.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
    }

    /// rustls' own, buffered connections are the other end.
    trait Oracle {
        fn receive(&mut self, wire: &mut Vec<u8>) -> Result<(), Error>;
        fn plaintext(&mut self) -> Vec<u8>;
        fn say(&mut self, bytes: &[u8]);
        fn wire(&mut self) -> Vec<u8>;
    }

    macro_rules! oracle {
        ($kind:ty) => {
            impl Oracle for $kind {
                fn receive(&mut self, wire: &mut Vec<u8>) -> Result<(), Error> {
                    let mut rest = wire.as_slice();
                    while !rest.is_empty() {
                        // It takes no more ciphertext while its plaintext is not read, so tests read in time.
                        self.read_tls(&mut rest).unwrap();
                        self.process_new_packets()?;
                    }
                    wire.clear();
                    Ok(())
                }

                fn plaintext(&mut self) -> Vec<u8> {
                    let mut all = Vec::new();
                    let _ = self.reader().read_to_end(&mut all);
                    all
                }

                fn say(&mut self, bytes: &[u8]) {
                    self.set_buffer_limit(None);
                    self.writer().write_all(bytes).unwrap();
                }

                fn wire(&mut self) -> Vec<u8> {
                    let mut wire = Vec::new();
                    while self.wants_write() {
                        self.write_tls(&mut wire).unwrap();
                    }
                    wire
                }
            }
        };
    }
    oracle!(ClientConnection);
    oracle!(ServerConnection);

    struct Authority {
        certificate: CertificateDer<'static>,
        key: Vec<u8>,
    }

    fn authority() -> Authority {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        Authority {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            key: key.serialize_der(),
        }
    }

    fn server_config(authority: &Authority, version: &'static SupportedProtocolVersion) -> ServerConfig {
        let key = PrivateKeyDer::try_from(authority.key.clone()).unwrap();
        let mut config = ServerConfig::builder_with_provider(super::super::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![authority.certificate.clone()], key)
            .unwrap();
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        config
    }

    fn client_config(authority: &Authority, provider: Arc<CryptoProvider>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("localhost").unwrap()
    }

    /// A driver as the server, shaken hands with rustls' client.
    fn server_pair(
        version: &'static SupportedProtocolVersion,
    ) -> (Driver<UnbufferedServerConnection>, Pipe, ClientConnection) {
        let authority = authority();
        let server = UnbufferedServerConnection::new(Arc::new(server_config(&authority, version))).unwrap();
        let config = client_config(&authority, super::super::provider());
        let client = ClientConnection::new(Arc::new(config), name()).unwrap();
        let (driver, pipe, client) = shake(Driver::new(server), Pipe::default(), client).unwrap();
        (driver, pipe, client)
    }

    /// A driver as the client, shaken hands with rustls' server.
    fn client_pair(
        version: &'static SupportedProtocolVersion,
    ) -> (Driver<UnbufferedClientConnection>, Pipe, ServerConnection) {
        let authority = authority();
        let server = ServerConnection::new(Arc::new(server_config(&authority, version))).unwrap();
        let config = client_config(&authority, super::super::provider());
        let client = UnbufferedClientConnection::new(Arc::new(config), name()).unwrap();
        shake(Driver::new(client), Pipe::default(), server).unwrap()
    }

    /// Carries bytes to and fro until both are done.
    fn shake<S: Session, O: Oracle>(
        mut driver: Driver<S>,
        mut pipe: Pipe,
        mut peer: O,
    ) -> io::Result<(Driver<S>, Pipe, O)> {
        for _ in 0..10_000 {
            pipe.incoming.extend(peer.wire());
            let done = match driver.handshake(&mut pipe) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => return Err(error),
            };
            peer.receive(&mut pipe.outgoing).map_err(io::Error::other)?;
            pipe.incoming.extend(peer.wire());
            if done {
                return Ok((driver, pipe, peer));
            }
        }
        panic!("the handshake does not end");
    }

    fn read_all<S: Session>(driver: &mut Driver<S>, pipe: &mut Pipe, out: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; out];
        loop {
            match driver.read(pipe, &mut buffer) {
                Ok(0) => return Ok(all),
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }

    fn assert_holds_nothing<S: Session>(driver: &Driver<S>) {
        assert_eq!(
            (
                driver.kept.capacity(),
                driver.plain.capacity(),
                driver.unsent.capacity()
            ),
            (0, 0, 0)
        );
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    #[test]
    fn shakes_hands_byte_by_byte_on_both_sides() {
        for version in VERSIONS {
            let authority = authority();
            let limited = || Pipe {
                recv_limit: Some(1),
                ..Pipe::default()
            };
            let server = Arc::new(server_config(&authority, version));
            let client = Arc::new(client_config(&authority, super::super::provider()));
            let driver = Driver::new(UnbufferedServerConnection::new(server.clone()).unwrap());
            let peer = ClientConnection::new(client.clone(), name()).unwrap();
            shake(driver, limited(), peer).unwrap();
            let driver = Driver::new(UnbufferedClientConnection::new(client, name()).unwrap());
            let peer = ServerConnection::new(server).unwrap();
            let (mut driver, mut pipe, _) = shake(driver, limited(), peer).unwrap();
            assert_eq!(
                read_all(&mut driver, &mut pipe, 64).unwrap(),
                b"",
                "tickets are no plaintext"
            );
            assert_holds_nothing(&driver);
        }
    }

    #[test]
    fn records_split_at_each_byte_come_out_whole_and_leave_nothing_behind() {
        for version in VERSIONS {
            let (mut driver, mut pipe, mut peer) = server_pair(version);
            peer.say(b"a1 NOOP\r\n");
            let mut wire = peer.wire();
            let first = wire.len();
            peer.say(b"a2 LOGOUT\r\n");
            wire.extend(peer.wire());
            // Each record can be decrypted only once, so every split gets bytes of its own from a fresh pair of records.
            for split in 0..wire.len() {
                let mut out = Vec::new();
                pipe.incoming.extend(&wire[..split]);
                out.extend(read_all(&mut driver, &mut pipe, 100).unwrap());
                assert!(
                    split < first || out == b"a1 NOOP\r\n",
                    "a whole record does not wait for the next ({split})"
                );
                assert!(driver.kept.len() < wire.len() && driver.plain.is_empty());
                pipe.incoming.extend(&wire[split..]);
                out.extend(read_all(&mut driver, &mut pipe, 100).unwrap());
                assert_eq!(out, b"a1 NOOP\r\na2 LOGOUT\r\n", "split at {split}");
                assert_holds_nothing(&driver);
                peer.say(b"a1 NOOP\r\n");
                wire = peer.wire();
                peer.say(b"a2 LOGOUT\r\n");
                wire.extend(peer.wire());
            }
        }
    }

    #[test]
    fn small_buffers_lose_nothing_and_say_that_more_is_here() {
        let (mut driver, mut pipe, mut peer) = server_pair(&version::TLS13);
        let sent = pattern(40_000);
        peer.say(&sent);
        pipe.incoming.extend(peer.wire());
        let mut small = [0; 7];
        assert_eq!(driver.read(&mut pipe, &mut small).unwrap(), 7);
        assert!(driver.has_plaintext(), "waiting for the socket would strand it");
        let rest = read_all(&mut driver, &mut pipe, 7).unwrap();
        assert_eq!([&small[..], &rest].concat(), sent);
        assert!(!driver.has_plaintext());
        assert_holds_nothing(&driver);
    }

    #[test]
    fn large_reads_come_in_whole_bursts() {
        for version in VERSIONS {
            let (mut driver, mut pipe, mut peer) = server_pair(version);
            let sent = pattern(1 << 20);
            peer.say(&sent);
            pipe.incoming.extend(peer.wire());
            let mut out = vec![0; pool::BURST];
            let mut got = Vec::new();
            while let Ok(count) = driver.read(&mut pipe, &mut out) {
                got.extend_from_slice(&out[..count]);
                assert!(
                    driver.plain.is_empty(),
                    "plaintext always fits a whole burst's buffer"
                );
            }
            assert!(got == sent);
            assert_holds_nothing(&driver);
        }
    }

    #[test]
    fn large_writes_come_out_in_order_through_a_narrow_window() {
        for version in VERSIONS {
            let (mut driver, mut pipe, mut peer) = server_pair(version);
            let data = pattern(300_000);
            let (mut rest, mut got) = (&data[..], Vec::new());
            while got.len() < data.len() {
                pipe.window = Some(5_001);
                match driver.write(&mut pipe, rest) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        assert!(driver.wants_write() || rest.is_empty());
                    }
                }
                assert!(
                    driver.unsent.len() <= pool::SIZE,
                    "what a stalled peer costs is bounded"
                );
                peer.receive(&mut pipe.outgoing).unwrap();
                got.extend(peer.plaintext());
                if rest.is_empty() && driver.flush(&mut pipe).is_ok() {
                    peer.receive(&mut pipe.outgoing).unwrap();
                    got.extend(peer.plaintext());
                    break;
                }
            }
            assert!(got == data);
            assert_holds_nothing(&driver);
        }
    }

    #[test]
    fn a_key_update_is_followed_and_answered() {
        let (mut driver, mut pipe, mut peer) = server_pair(&version::TLS13);
        for round in 0..5 {
            peer.refresh_traffic_keys().unwrap();
            peer.say(b"under new keys");
            let wire = peer.wire();
            // The last byte comes later; a write in between must not disturb what is kept.
            pipe.incoming.extend(&wire[..wire.len() - 1]);
            assert_eq!(read_all(&mut driver, &mut pipe, 100).unwrap(), b"");
            assert_eq!(driver.write(&mut pipe, b"meanwhile").unwrap(), 9);
            pipe.incoming.extend(&wire[wire.len() - 1..]);
            assert_eq!(
                read_all(&mut driver, &mut pipe, 100).unwrap(),
                b"under new keys",
                "round {round}"
            );
            assert_eq!(driver.write(&mut pipe, b"answered").unwrap(), 8);
            peer.receive(&mut pipe.outgoing).unwrap();
            assert_eq!(peer.plaintext(), b"meanwhileanswered");
            assert_holds_nothing(&driver);
        }
    }

    #[test]
    fn writing_between_the_bytes_of_tickets_disturbs_neither() {
        for version in VERSIONS {
            let (mut driver, mut pipe, mut peer) = client_pair(version);
            let mut wire: Vec<u8> = pipe.incoming.drain(..).collect();
            peer.say(b"* OK greeting\r\n");
            wire.extend(peer.wire());
            let mut got = Vec::new();
            for byte in wire {
                pipe.incoming.push_back(byte);
                got.extend(read_all(&mut driver, &mut pipe, 100).unwrap());
                assert_eq!(driver.write(&mut pipe, b"x").unwrap(), 1);
                peer.receive(&mut pipe.outgoing).unwrap();
                assert_eq!(peer.plaintext(), b"x");
            }
            assert_eq!(got, b"* OK greeting\r\n");
            assert_holds_nothing(&driver);
        }
    }

    #[test]
    fn a_second_connection_resumes() {
        for version in VERSIONS {
            let authority = authority();
            let server = Arc::new(server_config(&authority, version));
            let client = Arc::new(client_config(&authority, super::super::provider()));
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let driver = Driver::new(UnbufferedClientConnection::new(client.clone(), name()).unwrap());
                let peer = ServerConnection::new(server.clone()).unwrap();
                let (mut driver, mut pipe, _) = shake(driver, Pipe::default(), peer).unwrap();
                read_all(&mut driver, &mut pipe, 100).unwrap();
                kinds.push(driver.state().handshake_kind().unwrap());
            }
            assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
        }
    }

    #[test]
    fn close_notify_is_told_from_a_bare_end_and_writing_goes_on() {
        for version in VERSIONS {
            let (mut driver, mut pipe, mut peer) = server_pair(version);
            peer.say(b"last words");
            peer.send_close_notify();
            pipe.incoming.extend(peer.wire());
            assert_eq!(read_all(&mut driver, &mut pipe, 100).unwrap(), b"last words");
            assert_eq!(driver.end(), Some(End::Complete));
            assert_eq!(driver.write(&mut pipe, b"answer").unwrap(), 6);
            driver.close_notify().unwrap();
            driver.flush(&mut pipe).unwrap();
            let wire = std::mem::take(&mut pipe.outgoing);
            peer.read_tls(&mut wire.as_slice()).unwrap();
            assert!(peer.process_new_packets().unwrap().peer_has_closed());
            assert_eq!(peer.plaintext(), b"answer");
            assert!(
                driver.write(&mut pipe, b"more").is_err(),
                "nothing follows our own close_notify"
            );

            let (mut driver, mut pipe, mut peer) = server_pair(version);
            peer.say(b"cut in the mid");
            pipe.incoming.extend(peer.wire());
            pipe.closed = true;
            assert_eq!(read_all(&mut driver, &mut pipe, 100).unwrap(), b"cut in the mid");
            assert_eq!(driver.end(), Some(End::Truncated));
        }
    }

    #[test]
    fn close_notify_goes_behind_what_the_socket_has_not_taken() {
        let (mut driver, mut pipe, mut peer) = server_pair(&version::TLS13);
        pipe.window = Some(10);
        assert_eq!(driver.write(&mut pipe, &pattern(1000)).unwrap(), 1000);
        driver.close_notify().unwrap();
        assert_eq!(
            driver.flush(&mut pipe).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        pipe.window = None;
        driver.flush(&mut pipe).unwrap();
        let wire = std::mem::take(&mut pipe.outgoing);
        peer.read_tls(&mut wire.as_slice()).unwrap();
        assert!(peer.process_new_packets().unwrap().peer_has_closed());
        assert_eq!(peer.plaintext(), pattern(1000));
    }

    #[test]
    fn nonsense_is_answered_with_an_alert_and_ends_the_connection() {
        let (mut driver, mut pipe, mut peer) = server_pair(&version::TLS13);
        peer.say(b"good");
        pipe.incoming.extend(peer.wire());
        pipe.incoming
            .extend(b"\x17\x03\x03\x00\x20this is not what anybody sealed!");
        let mut out = [0; 100];
        assert_eq!(
            driver.read(&mut pipe, &mut out).unwrap(),
            4,
            "what came before the nonsense counts"
        );
        let error = driver.read(&mut pipe, &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(driver.write(&mut pipe, b"x").is_err());
        let refused = peer.receive(&mut pipe.outgoing).unwrap_err();
        assert_eq!(refused, Error::AlertReceived(AlertDescription::BadRecordMac));
    }

    #[test]
    fn plain_text_instead_of_a_handshake_is_refused_at_once() {
        let config = server_config(&authority(), &version::TLS13);
        let mut driver = Driver::new(UnbufferedServerConnection::new(Arc::new(config)).unwrap());
        let mut pipe = Pipe::default();
        pipe.incoming.extend(b"a1 LOGIN alice secret\r\n");
        let error = driver.handshake(&mut pipe).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_endless_handshake_message_is_refused() {
        let config = server_config(&authority(), &version::TLS13);
        let mut driver = Driver::new(UnbufferedServerConnection::new(Arc::new(config)).unwrap());
        let mut pipe = Pipe::default();
        let record = [&[0x16, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
        let mut first = record.clone();
        first[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
        pipe.incoming.extend(first);
        for _ in 0..20 {
            pipe.incoming.extend(&record);
        }
        assert_eq!(
            driver.handshake(&mut pipe).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert!(driver.kept.len() <= pool::SIZE);
    }

    /// A client's first flight as rustls sends it, and where one octet differs.
    fn hello(at: prop::sample::Index, octet: u8) -> Vec<u8> {
        let config = client_config(&authority(), super::super::provider());
        let mut wire = ClientConnection::new(Arc::new(config), name()).unwrap().wire();
        let at = at.index(wire.len());
        wire[at] = octet;
        wire
    }

    /// How a handshake with these bytes, in pieces, ends.
    fn greeted(config: &Arc<ServerConfig>, bytes: &[u8], piece: Option<usize>) -> String {
        let mut driver = Driver::new(UnbufferedServerConnection::new(config.clone()).unwrap());
        let mut pipe = Pipe {
            incoming: bytes.iter().copied().collect(),
            recv_limit: piece,
            closed: true,
            ..Pipe::default()
        };
        let ended = driver.handshake(&mut pipe);
        assert!(driver.kept.len() <= pool::SIZE && driver.plain.is_empty());
        assert!(pipe.outgoing.len() <= pool::SIZE, "an answer to nothing");
        let error = ended.expect_err("nobody can shake hands so");
        format!("{:?}: {error}", error.kind())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_comes_instead_of_a_handshake_ends_alike_at_every_split(
            (at, octet, piece) in (any::<prop::sample::Index>(), any::<u8>(), 1..9usize),
            records in prop::collection::vec((20..25u8, prop::collection::vec(any::<u8>(), 0..40)), 0..4),
            begins_well: bool,
        ) {
            let config = Arc::new(server_config(&authority(), &version::TLS13));
            let mut bytes = if begins_well { hello(at, octet) } else { Vec::new() };
            for (kind, content) in records {
                bytes.extend([kind, 3, 3, 0, content.len() as u8]);
                bytes.extend(content);
            }
            let whole = greeted(&config, &bytes, None);
            prop_assert_eq!(greeted(&config, &bytes, Some(piece)), whole);
        }

        #[test]
        fn a_damaged_record_and_what_is_behind_it_never_comes_out(
            at: prop::sample::Index,
            change in 1..=u8::MAX,
            (piece, room) in (1..50usize, 1..50usize),
            tls12: bool,
        ) {
            let (mut driver, mut pipe, mut peer) = server_pair(VERSIONS[usize::from(tls12)]);
            peer.say(b"a1 NOOP\r\n");
            let mut wire = peer.wire();
            let good = wire.len();
            peer.say(b"a2 UNAUTHENTICATE\r\n");
            wire.extend(peer.wire());
            // TLS 1.3 ignores the version in a record's header, its second and third octet (RFC 8446 §5.1).
            let behind_version = good + 3;
            let damaged = behind_version + at.index(wire.len() - behind_version);
            wire[damaged] ^= change;
            pipe.incoming.extend(wire);
            pipe.recv_limit = Some(piece);
            pipe.closed = true;
            let (mut out, mut buffer) = (Vec::new(), vec![0; room]);
            while let Ok(count @ 1..) = driver.read(&mut pipe, &mut buffer) {
                out.extend_from_slice(&buffer[..count]);
            }
            prop_assert_eq!(out, b"a1 NOOP\r\n");
            prop_assert!(driver.end() != Some(End::Complete));
            prop_assert!(driver.kept.len() <= MAX_RECORD && driver.plain.len() <= MAX_RECORD);
        }
    }

    /// Renegotiation cannot be asked for through rustls, so the records are sealed by hand (RFC 7905 §2).
    #[test]
    fn renegotiation_is_refused() {
        let authority = authority();
        let provider = CryptoProvider {
            cipher_suites: vec![
                rustls::crypto::ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            ..rustls::crypto::ring::default_provider()
        };
        let mut config = server_config(&authority, &version::TLS12);
        config.enable_secret_extraction = true;
        let client = client_config(&authority, Arc::new(provider));
        let driver = Driver::new(UnbufferedClientConnection::new(Arc::new(client), name()).unwrap());
        let peer = ServerConnection::new(Arc::new(config)).unwrap();
        let (mut driver, mut pipe, peer) = shake(driver, Pipe::default(), peer).unwrap();
        read_all(&mut driver, &mut pipe, 100).unwrap();
        let secrets = peer.dangerous_extract_secrets().unwrap();
        let mut seal = Sealer::new(secrets.tx);
        const HELLO_REQUEST: &[u8] = &[0, 0, 0, 0];

        pipe.incoming.extend(seal.record(0x16, HELLO_REQUEST));
        pipe.incoming.extend(seal.record(0x17, b"goes on"));
        assert_eq!(read_all(&mut driver, &mut pipe, 100).unwrap(), b"goes on");
        assert_eq!(
            Sealer::new(secrets.rx).open(&pipe.outgoing),
            (0x15, vec![1, 100]),
            "a no_renegotiation warning"
        );
        assert_holds_nothing(&driver);

        for _ in 0..3 {
            pipe.incoming.extend(seal.record(0x16, HELLO_REQUEST));
        }
        assert!(
            read_all(&mut driver, &mut pipe, 100).is_err(),
            "nobody may ask for ever"
        );
    }

    struct Sealer {
        key: ring::aead::LessSafeKey,
        iv: [u8; 12],
        sequence: u64,
    }

    impl Sealer {
        fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Sealer {
            let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
                panic!("another cipher was agreed on");
            };
            let key = ring::aead::UnboundKey::new(&ring::aead::CHACHA20_POLY1305, key.as_ref()).unwrap();
            Sealer {
                key: ring::aead::LessSafeKey::new(key),
                iv: iv.as_ref().try_into().unwrap(),
                sequence,
            }
        }

        fn next(&mut self, kind: u8, length: usize) -> (ring::aead::Nonce, ring::aead::Aad<Vec<u8>>) {
            let mut nonce = self.iv;
            for (byte, count) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
                *byte ^= count;
            }
            let mut aad = self.sequence.to_be_bytes().to_vec();
            aad.extend([kind, 3, 3, (length >> 8) as u8, length as u8]);
            self.sequence += 1;
            (
                ring::aead::Nonce::assume_unique_for_key(nonce),
                ring::aead::Aad::from(aad),
            )
        }

        fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
            let (nonce, aad) = self.next(kind, content.len());
            let mut sealed = content.to_vec();
            self.key
                .seal_in_place_append_tag(nonce, aad, &mut sealed)
                .unwrap();
            let mut record = vec![kind, 3, 3, (sealed.len() >> 8) as u8, sealed.len() as u8];
            record.extend(sealed);
            record
        }

        fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
            let (nonce, aad) = self.next(record[0], record.len() - 5 - 16);
            let mut content = record[5..].to_vec();
            (
                record[0],
                self.key.open_in_place(nonce, aad, &mut content).unwrap().to_vec(),
            )
        }
    }
}
