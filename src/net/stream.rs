//! [`Stream`]: one connection, plain or under TLS, that keeps no buffer while nothing happens.
//!
//! It is not `AsyncRead`: that invites a buffer that is held while waiting. Who wants to be cheap waits for
//! [`Stream::readable`], borrows a buffer ([`super::pool`]), reads until `WouldBlock`, and gives it back; or polls
//! ([`Stream::poll_read`]), which is the same without the extra system call.
//!
//! | call says              | then                                                                            |
//! |------------------------|---------------------------------------------------------------------------------|
//! | `try_read` > 0         | read again: there may be more, decrypted or not                                  |
//! | `try_read` = 0         | the peer has finished; [`Stream::end`] tells how; writing still works            |
//! | `try_read` WouldBlock  | nothing is left, neither in the socket nor decrypted: wait with `readable` (P83) |
//! | `try_write` = n        | n bytes are on their way; under TLS some may still be here, see `wants_write`    |
//! | `try_write` WouldBlock | nothing was taken: wait with `writable`                                          |
//! | `wants_write`          | call `try_flush` when `writable`, or they do not leave                           |

use super::tls::{ClientTls, Driver, End, ServerTls, Socket, TlsError};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use socket2::{SockRef, TcpKeepalive};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

/// A TCP connection, plain or under TLS on either side.
pub struct Stream {
    tcp: TcpStream,
    layer: Layer,
    closing: Closing,
}

enum Layer {
    Plain {
        ended: bool,
    },
    /// We are the server of the TLS connection.
    Server(Box<Driver<UnbufferedServerConnection>>),
    /// We are the client of the TLS connection.
    Client(Box<Driver<UnbufferedClientConnection>>),
}

/// How far our own end of the stream is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    Open,
    Notified,
    Shut,
}

impl Stream {
    /// Takes a connected socket as a plain stream and sets it up: no Nagle delay, keepalive, and an end to peers that
    /// stop acknowledging (P86).
    ///
    /// # Errors
    /// When the socket refuses its options, because it is closed already.
    pub fn plain(tcp: TcpStream) -> io::Result<Stream> {
        tune(SockRef::from(&tcp))?;
        Ok(Stream::accepted(tcp))
    }

    /// Takes a socket that a [tuned](tune) listener has accepted: Linux hands such a listener's options on, which saves
    /// six system calls a connection.
    pub(super) fn accepted(tcp: TcpStream) -> Stream {
        Stream {
            tcp,
            layer: Layer::Plain { ended: false },
            closing: Closing::Open,
        }
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// The system's, or `TimedOut` at the deadline.
    pub async fn connect(address: SocketAddr, deadline: Instant) -> io::Result<Stream> {
        Stream::plain(before(deadline, TcpStream::connect(address)).await?)
    }

    /// Does the TLS handshake as the server: on a fresh connection, or in place for STARTTLS. A plain stream holds no
    /// bytes back; that nothing came before the handshake is the protocol machine's to check (P12).
    ///
    /// # Errors
    /// When the peers do not agree, the peer closes, or the deadline passes. The connection is closed then.
    pub async fn accept_tls(stream: Stream, tls: &ServerTls, deadline: Instant) -> Result<Stream, TlsError> {
        let driver = Box::new(Driver::new(tls.connection()?));
        stream.handshake(Layer::Server(driver), deadline).await
    }

    /// Does the TLS handshake as the client, as [`Stream::accept_tls`].
    ///
    /// # Errors
    /// As there, and when the certificate is not trusted.
    pub async fn connect_tls(stream: Stream, tls: &ClientTls, deadline: Instant) -> Result<Stream, TlsError> {
        let driver = Box::new(Driver::new(tls.connection()?));
        stream.handshake(Layer::Client(driver), deadline).await
    }

    /// The socket, to look at its options.
    #[cfg(test)]
    pub(super) fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.tcp)
    }

    async fn handshake(mut self, layer: Layer, deadline: Instant) -> Result<Stream, TlsError> {
        if !matches!(self.layer, Layer::Plain { .. }) {
            return Err(TlsError::Protocol {
                why: "TLS is on already".into(),
            });
        }
        self.layer = layer;
        match before(deadline, poll_fn(|cx| self.poll_handshake(cx))).await {
            Ok(()) => Ok(self),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(TlsError::Deadline),
            Err(error) => Err(TlsError::of_handshake(&error)),
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Polled {
            tcp: &mut self.tcp,
            cx,
        };
        polled(match &mut self.layer {
            Layer::Plain { .. } => Ok(()),
            Layer::Server(driver) => driver.handshake(&mut socket),
            Layer::Client(driver) => driver.handshake(&mut socket),
        })
    }

    /// Whether the first byte is that of a TLS handshake (P20), without taking it.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `UnexpectedEof` when the peer closes first.
    pub async fn looks_like_tls(&self, deadline: Instant) -> io::Result<bool> {
        let mut first = [0];
        match before(deadline, self.tcp.peek(&mut first)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0] == HANDSHAKE_RECORD),
        }
    }

    /// The peer's address; IPv4 in its own form even on an IPv6 socket.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr().map(canonical)
    }

    /// The TLS version, `None` on a plain stream.
    pub fn tls_version(&self) -> Option<&'static str> {
        let state = match &self.layer {
            Layer::Plain { .. } => return None,
            Layer::Server(driver) => driver.state(),
            Layer::Client(driver) => driver.state(),
        };
        state.protocol_version()?.as_str()
    }

    /// Waits until [`Stream::try_read`] has something to say; at once when plaintext waits here. Spurious returns are
    /// possible. Meanwhile unsent ciphertext leaves as far as the socket takes it.
    ///
    /// # Errors
    /// When the socket failed.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            if self.has_plaintext() || self.end().is_some() {
                return Poll::Ready(Ok(()));
            }
            // A failure to send is told by the next write.
            let _ = self.poll_flush(cx);
            self.tcp.poll_read_ready(cx)
        })
        .await
    }

    /// Reads what is there. 0 is the end; see the table above.
    ///
    /// # Errors
    /// `WouldBlock`; `InvalidData` for broken TLS; or the socket's.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Stream { tcp, layer, .. } = self;
        layer.read(&mut Direct { tcp }, buffer)
    }

    /// As [`Stream::try_read`], and has the task woken when there is more to say.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Stream { tcp, layer, .. } = self;
        polled(layer.read(&mut Polled { tcp, cx }, buffer))
    }

    /// Waits for bytes and reads them. For exchanges of lines; a relay would hold its buffer too long.
    ///
    /// # Errors
    /// As [`Stream::try_read`], without `WouldBlock`.
    pub async fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// How the peer's bytes ended, once reading said 0.
    pub fn end(&self) -> Option<End> {
        match &self.layer {
            Layer::Plain { ended } => ended.then_some(End::Complete),
            Layer::Server(driver) => driver.end(),
            Layer::Client(driver) => driver.end(),
        }
    }

    /// Waits until the socket takes bytes again.
    ///
    /// # Errors
    /// When the socket failed.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Writes from the front of `bytes` and says how many were taken; see the table above.
    ///
    /// # Errors
    /// `WouldBlock`, or the socket's.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stream { tcp, layer, .. } = self;
        layer.write(&mut Direct { tcp }, bytes)
    }

    /// As [`Stream::try_write`], and has the task woken when the socket takes more.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Stream { tcp, layer, .. } = self;
        polled(layer.write(&mut Polled { tcp, cx }, bytes))
    }

    /// Whether bytes that were taken are still here, because the socket is full.
    pub fn wants_write(&self) -> bool {
        match &self.layer {
            Layer::Plain { .. } => false,
            Layer::Server(driver) => driver.wants_write(),
            Layer::Client(driver) => driver.wants_write(),
        }
    }

    /// Offers the socket what is still here.
    ///
    /// # Errors
    /// `WouldBlock` while something is left.
    pub fn try_flush(&mut self) -> io::Result<()> {
        let Stream { tcp, layer, .. } = self;
        layer.flush(&mut Direct { tcp })
    }

    /// As [`Stream::try_flush`], and has the task woken when the socket takes more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stream { tcp, layer, .. } = self;
        polled(layer.flush(&mut Polled { tcp, cx }))
    }

    /// Writes all bytes and waits until the socket has them.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, or the socket's.
    pub async fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let mut rest = bytes;
        let all = poll_fn(|cx| {
            while !rest.is_empty() {
                match ready!(self.poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    taken => rest = &rest[taken..],
                }
            }
            self.poll_flush(cx)
        });
        before(deadline, all).await
    }

    /// Ends our side: what is unsent, close_notify under TLS (P21), then FIN. Reading still works.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, or the socket's.
    pub async fn shutdown_write(&mut self, deadline: Instant) -> io::Result<()> {
        before(deadline, poll_fn(|cx| self.poll_shutdown_write(cx))).await
    }

    /// As [`Stream::shutdown_write`]; call it again until it is ready.
    pub fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing == Closing::Open {
            match &mut self.layer {
                Layer::Plain { .. } => {}
                Layer::Server(driver) => driver.close_notify()?,
                Layer::Client(driver) => driver.close_notify()?,
            }
            self.closing = Closing::Notified;
        }
        ready!(self.poll_flush(cx))?;
        if self.closing == Closing::Notified {
            SockRef::from(&self.tcp).shutdown(Shutdown::Write)?;
            self.closing = Closing::Shut;
        }
        Poll::Ready(Ok(()))
    }

    fn has_plaintext(&self) -> bool {
        match &self.layer {
            Layer::Plain { .. } => false,
            Layer::Server(driver) => driver.has_plaintext(),
            Layer::Client(driver) => driver.has_plaintext(),
        }
    }
}

impl Layer {
    fn read(&mut self, socket: &mut impl Socket, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Layer::Plain { ended } => {
                let count = socket.recv(buffer)?;
                *ended = count == 0 && !buffer.is_empty();
                Ok(count)
            }
            Layer::Server(driver) => driver.read(socket, buffer),
            Layer::Client(driver) => driver.read(socket, buffer),
        }
    }

    fn write(&mut self, socket: &mut impl Socket, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Layer::Plain { .. } => socket.send(bytes),
            Layer::Server(driver) => driver.write(socket, bytes),
            Layer::Client(driver) => driver.write(socket, bytes),
        }
    }

    fn flush(&mut self, socket: &mut impl Socket) -> io::Result<()> {
        match self {
            Layer::Plain { .. } => Ok(()),
            Layer::Server(driver) => driver.flush(socket),
            Layer::Client(driver) => driver.flush(socket),
        }
    }
}

/// A socket whose `WouldBlock` also registers the task. Unlike a try, tokio's poll knows from a short read that the
/// socket is empty, which saves the system call that would say so.
struct Polled<'a, 'c> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

impl Socket for Polled<'_, '_> {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.tcp).poll_read(self.cx, &mut buffer) {
            Poll::Ready(result) => result.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.tcp).poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// A socket as it is.
struct Direct<'a> {
    tcp: &'a TcpStream,
}

impl Socket for Direct<'_> {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.try_read(buffer)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.try_write(bytes)
    }
}

/// `WouldBlock` of a [`Polled`] socket has registered the task.
fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

async fn before<T>(deadline: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout_at(deadline.into(), work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// IPv4 in its own form, also where an IPv6 socket shows it as `::ffff:a.b.c.d`.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Sets a connection up, or a listener for all that it will accept.
pub(super) fn tune(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 2)
            .with_retries(4),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Silence after which a peer is probed; short enough for the address translators of mobile networks.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long sent bytes may stay unacknowledged (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The content type of a ClientHello's record (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;
