//! A mail program made of a blocking socket: sends what it is told, reads lines.

use super::segments;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything that a test waits for; reaching it is a failure, never a pace.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    io: BufReader<Box<dyn ReadWrite>>,
    socket: TcpStream,
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

impl Client {
    /// A plain connection; nothing is read yet.
    pub fn plain(address: SocketAddr) -> Client {
        let socket = connect(address);
        Client {
            io: BufReader::new(Box::new(socket.try_clone().unwrap())),
            socket,
        }
    }

    /// The same from another of this machine's addresses.
    pub fn plain_from(source: Ipv4Addr, address: SocketAddr) -> Client {
        let socket = connect_from(source, address);
        Client {
            io: BufReader::new(Box::new(socket.try_clone().unwrap())),
            socket,
        }
    }

    /// A TLS connection that trusts exactly the certificate in `pem`.
    pub fn tls(address: SocketAddr, pem: &Path) -> Client {
        let socket = connect(address);
        let stream = handshake(socket.try_clone().unwrap(), pem);
        Client {
            io: BufReader::new(Box::new(stream)),
            socket,
        }
    }

    /// Goes on under TLS, after STARTTLS's go-ahead.
    pub fn start_tls(self, pem: &Path) -> Client {
        let stream = handshake(self.socket.try_clone().unwrap(), pem);
        Client {
            io: BufReader::new(Box::new(stream)),
            socket: self.socket,
        }
    }

    pub fn send(&mut self, text: &str) {
        self.io.get_mut().write_all(text.as_bytes()).unwrap();
        self.io.get_mut().flush().unwrap();
    }

    /// Sends it and lets it be read, so that it seldom merges with what is sent later.
    pub fn send_alone(&mut self, text: &str) {
        self.send(text);
        segments::let_read();
    }

    /// One line without its CRLF; the end of the stream is an empty string.
    pub fn line(&mut self) -> String {
        self.try_line().expect("a line in time")
    }

    pub fn try_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.io.read_until(b'\n', &mut line)?;
        Ok(String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_owned())
    }

    /// Lines up to and including the one that starts with the tag.
    pub fn until(&mut self, tag: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let last = line.starts_with(&format!("{tag} "));
            assert!(
                !line.is_empty() || last,
                "closed before `{tag}`; so far: {lines:?}"
            );
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// Sends a command and returns its tagged answer.
    pub fn command(&mut self, tag: &str, command: &str) -> String {
        self.send(&format!("{tag} {command}\r\n"));
        self.until(tag).pop().unwrap()
    }

    /// Everything until the peer closes; a reset counts as an end.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            match self.io.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => rest.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("still open"),
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// No more from this side.
    pub fn half_close(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }
}

/// Connects from an address of 127.0.0.0/8, all of which are this machine's.
pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    settled(socket.into())
}

fn connect(address: SocketAddr) -> TcpStream {
    settled(TcpStream::connect(address).unwrap())
}

fn settled(socket: TcpStream) -> TcpStream {
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn handshake(socket: TcpStream, pem: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}
