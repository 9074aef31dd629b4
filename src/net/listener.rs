//! Listening: an accept loop that nothing ends, and the places for connections that have not signed in.

use super::stream::{Stream, canonical, tune};
use super::{ListenLimits, ListenerSettings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

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
    /// Whether the current run of failures was reported.
    reported: AtomicBool,
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
            reported: AtomicBool::new(false),
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
                    self.reported.store(false, Ordering::Relaxed);
                    return (Stream::accepted(tcp), canonical(peer));
                }
                Err(error) => {
                    let Some(pause) = pause_after(&error) else {
                        continue;
                    };
                    if !self.reported.swap(true, Ordering::Relaxed) {
                        let listener = self.name.as_str();
                        log::error!(event = "accept-failed", listener = listener; "cannot accept connections: {error}");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
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

/// Places for connections that have not signed in, over all networks and per network (P88, P92). Clones share them.
#[derive(Clone)]
pub struct Admission {
    places: Arc<Places>,
}

struct Places {
    most: usize,
    most_per_network: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Holds only networks with connections, so it is never longer than `all`.
    networks: HashMap<IpAddr, usize>,
}

/// Why there was no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// All are taken.
    Everywhere,
    /// This network has as many as it may.
    Network,
}

/// A place; dropping it, on whatever path, frees it.
pub struct Permit {
    places: Arc<Places>,
    network: IpAddr,
}

impl Admission {
    /// All places free.
    pub fn new(limits: &ListenLimits) -> Admission {
        Admission {
            places: Arc::new(Places {
                most: limits.max_unauthenticated,
                most_per_network: limits.max_unauthenticated_per_network,
                taken: Mutex::default(),
            }),
        }
    }

    /// Takes a place for a connection from `address`.
    ///
    /// # Errors
    /// When there is none; the connection should hear a goodbye and be closed.
    pub fn admit(&self, address: IpAddr) -> Result<Permit, NoPlace> {
        let network = network_of(address);
        let mut taken = self.places.taken();
        if taken.all >= self.places.most {
            return Err(NoPlace::Everywhere);
        }
        let here = taken.networks.get(&network).copied().unwrap_or(0);
        if here >= self.places.most_per_network {
            return Err(NoPlace::Network);
        }
        taken.networks.insert(network, here + 1);
        taken.all += 1;
        Ok(Permit {
            places: self.places.clone(),
            network,
        })
    }
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        match taken.networks.get_mut(&self.network) {
            Some(here) if *here > 1 => *here -= 1,
            _ => {
                taken.networks.remove(&self.network);
            }
        }
    }
}

/// The network that is counted: the IPv4 address itself, the /64 of an IPv6 address (a household has at least that).
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

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

    fn admission(most: usize, most_per_network: usize) -> Admission {
        Admission::new(&ListenLimits {
            max_unauthenticated: most,
            max_unauthenticated_per_network: most_per_network,
            login_deadline: Duration::from_secs(60),
            idle: Duration::from_secs(1860),
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn counts_networks_and_frees_places_when_permits_go() {
        let admission = admission(3, 2);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        let second = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).err(), Some(NoPlace::Network));
        let _third = admission.admit(ip("192.0.2.2")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.3")).err(), Some(NoPlace::Everywhere));
        drop(first);
        let again = admission.admit(ip("192.0.2.1")).unwrap();
        drop((second, again));
        assert_eq!(
            admission.places.taken().networks.len(),
            1,
            "only the third one's network is remembered"
        );
        assert_eq!(admission.places.taken().all, 1);
    }

    #[test]
    fn a_place_is_freed_when_its_task_panics() {
        let admission = admission(1, 1);
        let permit = admission.admit(ip("192.0.2.1")).unwrap();
        let panicked = std::thread::spawn(move || {
            let _permit = permit;
            panic!("a connection's task dies");
        });
        assert!(panicked.join().is_err());
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn networks() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.77"),
            ("::ffff:192.0.2.77", "192.0.2.77"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(network_of(ip(address)), ip(network), "{address}");
        }
    }

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
