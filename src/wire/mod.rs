//! Protocol machines: bytes and `now` in, bytes and events out.
//!
//! **Pure**: no sockets, no files, no clock, no randomness, no log (`tests/layering.rs` keeps it so). A machine is driven by
//! `mail/login.rs`, a guard by `mail/relay.rs`; neither names a protocol. What differs between protocols is one row of
//! [`Dialect`] each.
//!
//! The driver's loop for a [`Machine`]:
//! 1. offer received bytes to [`Machine::input`]; what it does not take stays with the driver or in the socket
//!    (back-pressure), and is offered again after the steps;
//! 2. call [`Machine::step`] until it says [`Step::Wait`], sending what was appended to `out` at each [`Step::Flush`],
//!    before each event is acted upon, and before closing;
//! 3. if it took some of the bytes but not all, start again at once; else wait for more bytes, or until the given instant, and
//!    start again.

pub mod imap;
pub mod line;
pub mod sasl;

use crate::reason::{Outage, Protocol, Refusal, Rejection};
use crate::secret::{Secret, extend_wiping};
use std::net::SocketAddr;
use std::time::Instant;
use zeroize::{Zeroize, Zeroizing};

/// Output on its way to a peer; zeroed when dropped, because it may hold credentials.
#[derive(Default)]
pub struct OutBuf(Vec<u8>);

impl OutBuf {
    /// An empty buffer.
    pub fn new() -> Self {
        OutBuf::default()
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        extend_wiping(&mut self.0, bytes);
    }

    /// Appends a line and its CRLF.
    pub fn line(&mut self, text: &str) {
        self.push(text.as_bytes());
        self.push(b"\r\n");
    }

    /// The bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all bytes, wiping them.
    pub fn clear(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for OutBuf {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for OutBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OutBuf({} bytes)", self.0.len())
    }
}

/// What a machine wants next.
#[derive(Debug)]
#[must_use = "ignoring a step leaves the peer waiting for ever"]
pub enum Step<E> {
    /// Send `out` now, then step again.
    Flush,
    /// Something for the driver to act upon (after sending `out`).
    Event(E),
    /// Nothing to do before more input arrives or the instant comes.
    Wait {
        /// When to step again even without input.
        until: Option<Instant>,
    },
    /// Send `out`, then close.
    Close(CloseCause),
}

/// Why a connection ends; the session line's `end=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The client said goodbye (LOGOUT, QUIT).
    ClientQuit,
    /// The client closed.
    ClientClosed,
    /// The upstream closed.
    UpstreamClosed,
    /// Not signed in within the deadline.
    LoginDeadline,
    /// No byte in either direction for too long.
    Idle,
    /// Too many bad commands before sign-in.
    TooManyErrors,
    /// Too many refused sign-ins on one connection.
    TooManyAttempts,
    /// A line or literal above its limit that could not be answered and skipped.
    TooLong,
    /// Too many connections that have not signed in.
    NoPlace,
    /// TLS on a plain port or plain text on a TLS port.
    WrongTransport,
    /// Bytes where none may be: behind STARTTLS, or a reply that could not be parsed.
    Injection,
    /// The guard cannot tell any more where a command begins.
    Desync,
    /// An administrator, a revoked device or a changed mode cut the session.
    Cut,
    /// The gateway is shutting down.
    Drain,
    /// A socket failed.
    Io,
}

impl CloseCause {
    /// The stable word for the session line.
    pub fn name(self) -> &'static str {
        match self {
            CloseCause::ClientQuit => "client-quit",
            CloseCause::ClientClosed => "client-closed",
            CloseCause::UpstreamClosed => "upstream-closed",
            CloseCause::LoginDeadline => "login-deadline",
            CloseCause::Idle => "idle",
            CloseCause::TooManyErrors => "too-many-errors",
            CloseCause::TooManyAttempts => "too-many-attempts",
            CloseCause::TooLong => "too-long",
            CloseCause::NoPlace => "no-place",
            CloseCause::WrongTransport => "wrong-transport",
            CloseCause::Injection => "injection",
            CloseCause::Desync => "desync",
            CloseCause::Cut => "cut",
            CloseCause::Drain => "drain",
            CloseCause::Io => "io",
        }
    }
}

/// The limits of a machine before sign-in. Worst-case memory of one connection is about
/// `max_line + max_literals + max_output`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest line without literals, octets. 64 KiB, because the largest legal ID command has about 32 KiB (P40).
    pub max_line: usize,
    /// Longest single literal, octets (8 KiB; a token in a password field may have 4 KiB).
    pub max_literal: usize,
    /// Sum of the literals of one command, octets (16 KiB).
    pub max_literals: usize,
    /// Most octets appended to `out` by one step (64 KiB).
    pub max_output: usize,
    /// Bytes taken behind an undecided sign-in; more stay in the socket (16 KiB).
    pub max_pipelined: usize,
    /// Bad commands before the connection ends (10).
    pub max_errors: u32,
    /// Refused sign-ins before the connection ends (5).
    pub max_attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_line: 64 * 1024,
            max_literal: 8 * 1024,
            max_literals: 16 * 1024,
            max_output: 64 * 1024,
            max_pipelined: 16 * 1024,
            max_errors: 10,
            max_attempts: 5,
        }
    }
}

/// The client-side TLS state of a connection when its machine is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// TLS is on (implicit).
    On,
    /// Plain; STARTTLS is offered and a password before it is refused unseen.
    StartTls,
    /// Plain for good, passwords allowed (loopback, or the configuration says so plainly).
    ClearAllowed,
}

/// What a server machine needs to know about its connection.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// TLS towards the client.
    pub tls: ClientTls,
    /// Shown in the greeting; no software name or version.
    pub hostname: String,
    /// See [`Limits`].
    pub limits: Limits,
    /// One total deadline before sign-in (P92).
    pub deadline: Instant,
}

/// A sign-in as a client sent it.
#[derive(Debug)]
pub struct Credentials {
    /// The login, byte for byte. Secret, because people type passwords there.
    pub login: Secret<Vec<u8>>,
    /// What was in the password field, byte for byte.
    pub literal: Secret<Vec<u8>>,
    /// SASL authorization identity when it was given and differs from the login (P8).
    pub acts_as: Option<Secret<Vec<u8>>>,
    /// What the program said about itself (IMAP ID: name and version), cleaned of control characters, at most 80 characters.
    pub client_hint: Option<String>,
}

/// What a server machine asks of its driver.
#[derive(Debug)]
pub enum ServerEvent {
    /// The go-ahead was written: do the TLS handshake, then call [`ServerMachine::tls_started`].
    StartTls,
    /// Decide this sign-in, then call [`ServerMachine::admit`] or [`ServerMachine::refuse`].
    Credentials(Credentials),
    /// A password came before TLS. It was not looked at, and the refusal was written; this is only to be noted (P18).
    PasswordInClear,
}

/// The upstream's success, as its client machine saw it, for the server machine to word for its client. Upstreams say back
/// what they were told, so it may hold a password.
#[derive(Debug, Default)]
pub struct Success {
    /// Untagged lines before the success, filtered, each with its CRLF, in order.
    pub before: Zeroizing<Vec<u8>>,
    /// The upstream's own success line without tag, capabilities and CRLF, for example `OK Logged in`.
    pub line: Zeroizing<Vec<u8>>,
    /// Capabilities that came with the success, filtered, in the upstream's order.
    pub capabilities: Option<Vec<String>>,
}

/// What is left over when a machine has done its work: bytes received but not consumed.
#[derive(Default)]
pub struct Leftover(pub Vec<u8>);

impl Leftover {
    /// More bytes of the same side.
    pub fn extend(&mut self, bytes: &[u8]) {
        extend_wiping(&mut self.0, bytes);
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The common half of every machine.
pub trait Machine {
    /// What it asks of its driver.
    type Event;

    /// Takes what fits under its limits and says how many bytes; 0 leaves the rest in the socket.
    fn input(&mut self, bytes: &[u8]) -> usize;

    /// The peer will send nothing more.
    fn end_of_input(&mut self);

    /// Goes on as far as it can. Spurious calls are safe.
    fn step(&mut self, now: Instant, out: &mut OutBuf) -> Step<Self::Event>;
}

/// Our face to the client: greeting, then credentials, then admitted or refused.
pub trait ServerMachine: Machine<Event = ServerEvent> + Send {
    /// The handshake asked for by [`ServerEvent::StartTls`] is done. Everything known from before is forgotten (P14).
    fn tls_started(&mut self);

    /// The sign-in was let in; the next step writes the upstream's own success in this client's words. After that flush
    /// the machine is finished: take [`ServerMachine::into_leftover`].
    fn admit(&mut self, success: Success);

    /// The sign-in was refused; the words leave at `at`, not earlier.
    fn refuse(&mut self, refusal: Refusal, at: Instant);

    /// Say goodbye in the protocol and close at the next step.
    fn shutting_down(&mut self, cause: CloseCause);

    /// What the client says about itself to the upstream (IMAP ID pairs, EHLO name), for [`ClientFacts::introduction`].
    fn introduction(&self) -> Introduction;

    /// Bytes behind the sign-in, which belong to the upstream, exactly once.
    fn into_leftover(self: Box<Self>) -> Leftover;
}

/// What a client said about itself before sign-in: names and values, already free of `x-` keys (P6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// IMAP ID pairs (RFC 2971); a value may be NIL.
    pub pairs: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Towards the upstream: how TLS is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// TLS was on before the first byte.
    Implicit,
    /// Plain first; the machine must get STARTTLS through or fail.
    StartTls,
    /// No TLS; the route says plainly that passwords may travel in the clear.
    ClearAllowed,
}

/// What a client machine needs to sign in at the upstream.
#[derive(Debug)]
pub struct ClientFacts {
    /// TLS towards the upstream.
    pub tls: UpstreamTls,
    /// The login in the form that the route asks for.
    pub login: Secret<Vec<u8>>,
    /// The person's mail password: the password part of the literal, never the code.
    pub password: Secret<Vec<u8>>,
    /// What the client said about itself.
    pub introduction: Introduction,
    /// The client's own address, told to the upstream where the protocol can (P90).
    pub client: SocketAddr,
    /// See [`Limits`]; `max_line` and `max_literal` bound the upstream's answers as well.
    pub limits: Limits,
}

/// What a client machine reports.
#[derive(Debug)]
pub enum ClientEvent {
    /// The go-ahead came: do the TLS handshake, then call [`ClientMachine::tls_started`].
    StartTls,
    /// Signed in: take [`ClientMachine::into_ready`]. The connection *is* the session.
    Ready,
    /// The upstream refused login and password.
    Rejected(Rejection),
    /// The upstream gave no verdict.
    Unavailable(Outage),
}

/// A client machine's result.
#[derive(Default)]
pub struct Ready {
    /// The success to hand to [`ServerMachine::admit`].
    pub success: Success,
    /// Bytes that came behind the success, first in line for the client.
    pub leftover: Leftover,
}

/// Our face to the upstream: greeting, then ready, rejected or unavailable.
pub trait ClientMachine: Machine<Event = ClientEvent> + Send {
    /// The handshake asked for by [`ClientEvent::StartTls`] is done.
    fn tls_started(&mut self);

    /// The result after [`ClientEvent::Ready`].
    fn into_ready(self: Box<Self>) -> Ready;
}

/// Which way bytes flow through the splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    Up,
    /// From the upstream to the client.
    Down,
}

/// What the guard says about the bytes it was shown. Counts are of bytes at the front of what was shown, never 0 and
/// never more than was shown (except [`Watch::Opaque`]).
#[derive(Debug)]
#[must_use = "bytes that the guard did not pass must not be forwarded"]
pub enum Watch {
    /// Forward this prefix unchanged.
    Pass(usize),
    /// The next n bytes, shown or still to come, are a literal: forward them unseen; the guard already counts them as passed.
    Opaque(u64),
    /// Drop this prefix and forward that instead (it may be empty).
    Replace(usize, OutBuf),
    /// Drop this prefix, a client's command, and send that to the client: never to the upstream.
    AnswerClient(usize, OutBuf),
    /// Not decidable yet: keep the bytes and show them again, together with what follows.
    Hold(HoldFor),
    /// The session must end.
    Close(CloseCause),
}

/// What would make held bytes decidable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldFor {
    /// More bytes in the same direction.
    More,
    /// Something that passes in the other direction first (a continuation, a tagged answer, a line's end).
    OtherSide,
}

/// Watches both directions of a session after the hand-over and keeps the second-factor boundary (P1..P9): whoever came
/// through with one person's code must not be able to sign in as somebody else on the same upstream connection.
///
/// It scans, never copies what passes. Its steady state is small (64 bytes); the owner of the streams keeps held bytes.
pub trait Guard: Send {
    /// Looks at the bytes next in line. Called again for the rest after each answer, and for held bytes whenever what they
    /// were held for has happened. A held partial line is never longer than [`MAX_HELD`].
    fn inspect(&mut self, direction: Direction, bytes: &[u8]) -> Watch;

    /// Whether a line may be spoken to the client now: outside a line and outside a literal of the downward direction, and
    /// where the protocol allows an unsolicited goodbye (P45, P76).
    fn safe_to_speak(&self) -> bool;

    /// The goodbye in the protocol's words for a session that is cut or drained.
    fn goodbye(&self, cause: CloseCause) -> OutBuf;
}

/// The longest partial line that a guard may ask to hold; what is longer is closed as [`CloseCause::TooLong`]. A capability
/// line of an upstream is the longest thing that is held whole.
pub const MAX_HELD: usize = 8 * 1024;

/// One row a protocol: everything that `mail/` needs to know about it.
pub struct Dialect {
    /// Which protocol this is.
    pub protocol: Protocol,
    /// ALPN identifier (RFC 7301 registry).
    pub alpn: &'static [u8],
    /// Port with implicit TLS, the default of a listener and an upstream (RFC 8314).
    pub implicit_port: u16,
    /// Port with STARTTLS.
    pub starttls_port: u16,
    /// Makes our face to a client.
    pub server: fn(ServerFacts) -> Box<dyn ServerMachine>,
    /// Makes our face to the upstream.
    pub client: fn(ClientFacts) -> Box<dyn ClientMachine>,
    /// Makes the guard of a session after the hand-over.
    pub guard: fn() -> Box<dyn Guard>,
    /// What to say, in the clear, to a peer that speaks TLS on a plain port or has no room here: a goodbye as first line.
    pub turned_away: fn(CloseCause) -> OutBuf,
}

/// The table of protocols. A new protocol is a folder and a row here.
pub const DIALECTS: &[Dialect] = &[imap::DIALECT];

/// The row of a protocol.
pub fn dialect(protocol: Protocol) -> &'static Dialect {
    DIALECTS
        .iter()
        .find(|dialect| dialect.protocol == protocol)
        .expect("every Protocol has a row; a test walks them")
}
