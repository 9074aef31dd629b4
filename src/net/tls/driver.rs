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
                        self.plain.extend_from_slice(rest);
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
