//! A mail server that misbehaves on demand and remembers every byte that it was sent.
//!
//! It runs on plain threads and blocking sockets on purpose: nothing of the product's own stack can hide a fault here.

use super::segments;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// How the fake server behaves.
#[derive(Clone)]
pub struct Script {
    /// `imaps`, `starttls` or `clear`.
    pub transport: Transport,
    /// The greeting without CRLF.
    pub greeting: &'static str,
    /// Capabilities before sign-in.
    pub capabilities: &'static str,
    /// Written before the tagged success of a sign-in, each piece in a segment of its own.
    pub before_success: &'static [&'static str],
    /// The tagged success without its tag.
    pub success: &'static str,
    /// Written right behind the tagged success, in the same segment.
    pub after_success: &'static str,
    /// Written behind STARTTLS's OK, in the same segment.
    pub after_starttls: &'static str,
    /// What happens at the sign-in.
    pub at_login: AtLogin,
    /// The password that [`AtLogin::Check`] takes.
    pub password: &'static str,
    /// Answers to commands after sign-in, by verb; `TAG` in them is replaced.
    pub answers: &'static [(&'static str, &'static str)],
    /// Everything longer than this is sent in two segments, seldom merged.
    pub cut: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Transport {
    Clear,
    StartTls,
    Implicit,
}

#[derive(Clone, Copy, PartialEq)]
pub enum AtLogin {
    /// Compares the password with the script's.
    Check,
    /// Never answers.
    Silent,
    /// Answers `* BYE` and closes.
    Bye,
    /// Closes in the middle of the answer.
    CloseMidReply,
    /// Answers NO with this text.
    No(&'static str),
}

impl Default for Script {
    fn default() -> Self {
        Script {
            transport: Transport::Clear,
            greeting: "* OK [CAPABILITY IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN] ready",
            capabilities: "IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN",
            before_success: &[],
            success: "OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in",
            after_success: "",
            after_starttls: "",
            at_login: AtLogin::Check,
            password: "secret",
            answers: &[],
            cut: None,
        }
    }
}

/// A running fake server; it ends with its owner.
pub struct FakeUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    received: Mutex<Vec<u8>>,
    changed: Condvar,
    connections: AtomicUsize,
    ended: AtomicUsize,
    stopping: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

impl FakeUpstream {
    /// Starts it; with TLS its self-made authority is written to `ca.pem` in `directory`.
    pub fn start(script: Script, directory: &Path) -> FakeUpstream {
        let tls = (script.transport != Transport::Clear).then(|| Arc::new(tls_config(directory)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            received: Mutex::new(Vec::new()),
            changed: Condvar::new(),
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            tls,
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        FakeUpstream { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything that any client has sent so far, TLS removed.
    pub fn received(&self) -> Vec<u8> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Blocks until the needle was received.
    pub fn wait_for(&self, needle: &[u8]) {
        self.wait_for_behind(0, needle);
    }

    /// The same, behind the first `count` bytes.
    pub fn wait_for_behind(&self, count: usize, needle: &[u8]) {
        let mut received = self.shared.received.lock().unwrap();
        while !contains(&received[count..], needle) {
            received = self.shared.changed.wait(received).unwrap();
        }
    }

    /// What came behind the first `count` bytes.
    pub fn received_behind(&self, count: usize) -> Vec<u8> {
        self.shared.received.lock().unwrap()[count..].to_vec()
    }

    /// Blocks until everything is read that any client has sent, and every connection has ended.
    pub fn wait_for_the_end(&self) {
        let mut received = self.shared.received.lock().unwrap();
        while self.shared.ended.load(Ordering::SeqCst) < self.connections() {
            received = self.shared.changed.wait(received).unwrap();
        }
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Changes the behaviour of later connections.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap());
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Whether `needle` occurs in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let script = shared.script.lock().unwrap().clone();
            // A peer that goes away ends this connection, nothing else.
            let _ = socket.and_then(|socket| serve(socket, &script, &shared));
            let _received = shared.received.lock().unwrap();
            shared.ended.fetch_add(1, Ordering::SeqCst);
            shared.changed.notify_all();
        });
    }
}

fn serve(socket: TcpStream, script: &Script, shared: &Arc<Shared>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut wire = Wire {
        io: BufReader::new(Io::Plain(socket)),
        shared: Arc::clone(shared),
        cut: script.cut,
    };
    let mut idling = String::new();
    if script.transport == Transport::Implicit {
        wire = wire.into_tls()?;
    }
    wire.send(&format!("{}\r\n", script.greeting))?;
    loop {
        let line = wire.line()?;
        let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let tag = tag.to_owned();
        let verb = rest.split(' ').next().unwrap_or("").to_ascii_uppercase();
        match verb.as_str() {
            "CAPABILITY" => wire.send(&format!(
                "* CAPABILITY {}\r\n{tag} OK done\r\n",
                script.capabilities
            ))?,
            "ID" => wire.send(&format!("* ID NIL\r\n{tag} OK done\r\n"))?,
            "STARTTLS" => {
                wire.send(&format!("{tag} OK go\r\n{}", script.after_starttls))?;
                wire = wire.into_tls()?;
            }
            "LOGIN" => {
                let arguments = wire.literals(rest.to_owned())?;
                let good = arguments.contains(script.password);
                login(&mut wire, script, &tag, good)?;
            }
            "AUTHENTICATE" => {
                let response = match rest.split(' ').nth(2) {
                    Some(initial) => initial.to_owned(),
                    None => {
                        wire.send("+ \r\n")?;
                        wire.line()?
                    }
                };
                let good = base64_decode(&response).ends_with(format!("\0{}", script.password).as_bytes());
                login(&mut wire, script, &tag, good)?;
            }
            "LOGOUT" => {
                wire.send(&format!("* BYE bye\r\n{tag} OK done\r\n"))?;
                return Ok(());
            }
            "IDLE" => {
                idling = tag;
                wire.send("+ idling\r\n")?;
            }
            "APPEND" if rest.contains("Refused") => wire.send(&format!("{tag} NO not there\r\n"))?,
            "APPEND" if rest.contains("Misread") => wire.send(&format!("{tag} BAD what\r\n"))?,
            "APPEND" => {
                let size = announced(rest).unwrap();
                wire.literals(rest.to_owned())?;
                wire.send(&format!("{tag} OK appended {size}\r\n"))?;
            }
            _ if line.eq_ignore_ascii_case("DONE") => wire.send(&format!("{idling} OK idled\r\n"))?,
            _ if script.answers.iter().any(|(known, _)| *known == verb) => {
                for (_, answer) in script.answers.iter().filter(|(known, _)| *known == verb) {
                    wire.send(&answer.replace("TAG", &tag))?;
                }
            }
            _ => wire.send(&format!("{tag} OK {verb} done\r\n"))?,
        }
    }
}

fn login(wire: &mut Wire, script: &Script, tag: &str, good: bool) -> io::Result<()> {
    match script.at_login {
        AtLogin::Silent => loop {
            wire.line()?;
        },
        AtLogin::Bye => {
            wire.send("* BYE overloaded\r\n")?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        AtLogin::CloseMidReply => {
            wire.send(&format!("{tag} O"))?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        AtLogin::No(text) => wire.send(&format!("{tag} NO {text}\r\n")),
        AtLogin::Check if good => {
            for piece in script.before_success {
                wire.send(piece)?;
            }
            wire.send(&format!("{tag} {}\r\n{}", script.success, script.after_success))
        }
        AtLogin::Check => wire.send(&format!("{tag} NO [AUTHENTICATIONFAILED] no\r\n")),
    }
}

struct Wire {
    io: BufReader<Io>,
    shared: Arc<Shared>,
    cut: Option<usize>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Io {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Io::Plain(socket) => socket.read(buffer),
            Io::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Io {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Io::Plain(socket) => socket.write_all(bytes),
            Io::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let socket = match self {
            Io::Plain(socket) => socket,
            Io::Tls(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                &mut stream.sock
            }
        };
        let _ = socket.shutdown(Shutdown::Both);
    }
}

impl Wire {
    fn into_tls(self) -> io::Result<Wire> {
        let config = Arc::clone(self.shared.tls.as_ref().expect("a script with TLS"));
        let Io::Plain(socket) = self.io.get_ref() else {
            panic!("TLS within TLS")
        };
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let stream = StreamOwned::new(connection, socket.try_clone()?);
        // The clone shares the socket: the plain handle must not shut it down when it is dropped.
        let old = std::mem::ManuallyDrop::new(self);
        Ok(Wire {
            io: BufReader::new(Io::Tls(Box::new(stream))),
            shared: Arc::clone(&old.shared),
            cut: old.cut,
        })
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        let (first, second) = text
            .as_bytes()
            .split_at(self.cut.unwrap_or(text.len()).min(text.len()));
        self.io.get_mut().write(first)?;
        if second.is_empty() {
            return Ok(());
        }
        segments::let_read();
        self.io.get_mut().write(second)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.io.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.record(&line);
        Ok(String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_owned())
    }

    /// Appends literals for as long as the line announces one.
    fn literals(&mut self, mut text: String) -> io::Result<String> {
        let mut size = announced(&text);
        while let Some(octets) = size {
            self.send("+ go\r\n")?;
            let mut literal = vec![0; octets];
            self.io.read_exact(&mut literal)?;
            self.record(&literal);
            let line = self.line()?;
            size = announced(&line);
            text.push_str(&String::from_utf8_lossy(&literal));
            text.push_str(&line);
        }
        Ok(text)
    }

    fn record(&self, bytes: &[u8]) {
        self.shared.received.lock().unwrap().extend_from_slice(bytes);
        self.shared.changed.notify_all();
    }
}

/// The size of the literal that waits behind this line.
fn announced(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit('{').next()?.parse().ok()
}

fn base64_decode(text: &str) -> Vec<u8> {
    data_encoding::BASE64.decode(text.as_bytes()).unwrap_or_default()
}

fn tls_config(directory: &Path) -> ServerConfig {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    std::fs::write(directory.join("ca.pem"), authority_certificate.pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap()
}
