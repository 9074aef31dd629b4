//! Listening: an accept loop that nothing ends.

use super::stream::{Stream, canonical, tune};
use super::{ListenerSettings, Seldom};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// A listener could not be opened.
#[derive(Debug)]
pub struct ListenError {
    /// The configuration's name of it.
    pub listener: String,
    /// Where it should listen.
    pub address: SocketAddr,
    /// The system's words.
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError {
            listener,
            address,
            error,
        } = self;
        write!(f, "listener {listener} cannot use {address}: {error}")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                f.write_str("; another program listens there, stop it or choose another port")
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("; ports below 1024 need the capability CAP_NET_BIND_SERVICE")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str("; no interface of this machine has that address"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {}

/// An open listener.
pub struct Listener {
    name: String,
    tcp: TcpListener,
    failures: Seldom,
}

impl Listener {
    /// Opens a listener.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn bind(settings: &ListenerSettings) -> Result<Listener, ListenError> {
        let tcp = open(settings.address).map_err(|error| ListenError {
            listener: settings.name.clone(),
            address: settings.address,
            error,
        })?;
        Ok(Listener {
            name: settings.name.clone(),
            tcp,
            failures: Seldom::default(),
        })
    }

    /// Where it listens; tells the port that was picked for port 0.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Waits for the next connection. Failures are survived: connections that died in the queue are skipped, and while
    /// the system is out of descriptors or memory it waits a moment, says so once, and tries again.
    pub async fn accept(&self) -> (Stream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, peer)) => {
                    return (Stream::accepted(tcp), canonical(peer));
                }
                Err(error) => {
                    let Some(pause) = pause_after(&error) else {
                        continue;
                    };
                    self.report(&error);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn report(&self, error: &io::Error) {
        let Some(times) = self.failures.happened(Instant::now().into_std()) else {
            return;
        };
        let listener = self.name.as_str();
        let remedy = if is_out_of_descriptors(error) {
            OPEN_FILES
        } else {
            "those who want to connect wait"
        };
        log::error!(event = "accept-failed", listener = listener, times = times; "cannot accept connections: {error}; {remedy}");
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means every address, whatever the system's default is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    tune(SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// How long to wait after a failed accept; `None` when only that one connection was lost (accept(2), "Error handling").
fn pause_after(error: &io::Error) -> Option<Duration> {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::OPNOTSUPP
            | Errno::TIMEDOUT,
        ) => None,
        _ => Some(PAUSE),
    }
}

/// Whether this process, or the whole system, may open no more files and sockets for now.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// What an administrator can do about it.
pub const OPEN_FILES: &str = "who is signed in goes on, new ones wait until others leave; each session needs two open files: \
                              raise the limit (LimitNOFILE= of the service, `ulimit -Hn`)";

/// Raises the limit of open files as far as it may go without privileges, and says how far that is: each session needs
/// two. `None` is no limit.
///
/// # Errors
/// When the system refuses.
pub fn raise_nofile() -> io::Result<Option<u64>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(maximum)
}

/// Connections that wait for us in the kernel; it lowers this to its own limit. An office that comes back after a power
/// cut should not meet a full queue.
const BACKLOG: i32 = 1024;

/// Long enough not to spin, short enough that nobody notices.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ListenTls;

    #[test]
    fn pauses_only_when_the_system_is_short_of_something() {
        use rustix::io::Errno;
        for (errno, pauses) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::CONNABORTED, false),
            (Errno::INTR, false),
            (Errno::PERM, false),
            (Errno::NETUNREACH, false),
        ] {
            assert_eq!(pause_after(&errno.into()).is_some(), pauses, "{errno}");
        }
    }

    fn listener(address: &str) -> ListenerSettings {
        ListenerSettings {
            name: "imap".into(),
            address: address.parse().unwrap(),
            protocol: crate::reason::Protocol::Imap,
            tls: ListenTls::None,
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_explained() {
        let first = Listener::bind(&listener("127.0.0.1:0")).unwrap();
        let taken = first.local_addr().unwrap();
        let error = Listener::bind(&listener(&taken.to_string()))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with(&format!("listener imap cannot use {taken}: ")),
            "{error}"
        );
        assert!(
            error.ends_with("another program listens there, stop it or choose another port"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_ipv4_client_of_a_dual_listener_has_its_own_form_and_a_tuned_socket() {
        let Ok(listener) = Listener::bind(&listener("[::]:0")) else {
            return; // this machine has no IPv6
        };
        let port = listener.local_addr().unwrap().port();
        let client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (stream, peer) = listener.accept().await;
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(stream.peer_addr().unwrap(), peer);
        let socket = stream.socket();
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert!(socket.tcp_keepalive_time().unwrap() < Duration::from_secs(3600));
        assert!(socket.tcp_user_timeout().unwrap().is_some());
    }
}
