//! The running gateway's Unix socket: the only file that names tiny_http.
//!
//! tiny_http must never face a network (it buffers header lines without limit, has no read timeout, and reads
//! Content-Length beside Transfer-Encoding in smuggling ways). Here its only peers are programs of the user who runs the
//! gateway: the socket lies in a directory of mode 0700, and [`bind`] refuses a directory that others may enter.
//!
//! Handlers run on a fixed pool of threads. A follower of the sign-in log keeps a thread of its own, because tiny_http's
//! own responses hold back 8 KiB before anything leaves.

use super::Context;
use super::api::sign_in::{Follow, Followed};
use super::api::{self, Failure, Method, Request, Response};
use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Requests that are worked on at the same time; an administrator has one or two.
const HANDLERS: usize = 4;

/// The largest body; a person with hundreds of aliases stays far below.
const MAX_BODY: u64 = 256 * 1024;

/// Followers at the same time, each with a thread.
const MAX_FOLLOWERS: usize = 8;

/// How long a follower's silence lasts before an empty line asks whether its client is still there.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How often the accepting thread is looked after.
const WATCH: Duration = Duration::from_secs(2);

/// Between the end of one server and the next: what makes accepting fail rarely passes within a millisecond.
const REST: Duration = Duration::from_millis(200);

/// How long [`AdminServer::stop`] waits for requests under way. A stopped client must not hold up a shutdown.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bound admin socket that nobody answers yet.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why there is no admin socket.
#[derive(Debug)]
pub enum SocketError {
    /// Another process answers there.
    InUse(PathBuf),
    /// Others than the gateway's user may enter the directory.
    OpenDirectory {
        /// Which.
        directory: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// The directory belongs to somebody else.
    ForeignDirectory {
        /// Which.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Something else is in the socket's place, and is not overwritten.
    NoSocket(PathBuf),
    /// The operating system refused.
    Io {
        /// What was tried on.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketError::InUse(path) => write!(f, "another gateway answers on {} already", path.display()),
            SocketError::OpenDirectory { directory, mode } => write!(
                f,
                "{} has mode {mode:04o}, so others could give commands to the gateway; chmod 700 it, or set admin_socket",
                directory.display()
            ),
            SocketError::ForeignDirectory { directory, owner } => write!(
                f,
                "{} belongs to user {owner}; change its owner, or set admin_socket",
                directory.display()
            ),
            SocketError::NoSocket(path) => write!(
                f,
                "{} is there and is no socket; move it away, or set admin_socket",
                path.display()
            ),
            SocketError::Io { path, cause } => write!(f, "{} cannot be used: {cause}", path.display()),
        }
    }
}

impl std::error::Error for SocketError {}

/// Binds the admin socket: makes its directory (0700) where needed, and takes the place of a socket file that a dead
/// gateway left behind.
///
/// # Errors
/// Every [`SocketError`].
pub fn bind(path: &Path) -> Result<AdminSocket, SocketError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |cause| SocketError::Io { path, cause }
    };
    let directory = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed(directory))?;
    judge_directory(directory)?;
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse(path.to_path_buf()));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
        return Err(SocketError::NoSocket(path.to_path_buf()));
    }
    // Bound under another name and renamed: nobody ever meets a path without a listener, and tiny_http, which removes the
    // path it was bound to whenever a server is dropped, leaves ours alone when the server is rebuilt.
    let unpublished = unpublished(path);
    match std::fs::remove_file(&unpublished) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(&unpublished)(cause)),
        _ => {}
    }
    let listener = UnixListener::bind(&unpublished).map_err(failed(&unpublished))?;
    std::fs::set_permissions(&unpublished, Permissions::from_mode(0o600)).map_err(failed(&unpublished))?;
    std::fs::rename(&unpublished, path).map_err(failed(path))?;
    Ok(AdminSocket {
        listener,
        path: path.to_path_buf(),
    })
}

fn judge_directory(directory: &Path) -> Result<(), SocketError> {
    let metadata = std::fs::metadata(directory).map_err(|cause| SocketError::Io {
        path: directory.to_path_buf(),
        cause,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(SocketError::ForeignDirectory {
            directory: directory.to_path_buf(),
            owner: metadata.uid(),
        });
    }
    if mode & 0o077 != 0 {
        return Err(SocketError::OpenDirectory {
            directory: directory.to_path_buf(),
            mode,
        });
    }
    Ok(())
}

/// A short name, because the path of a Unix socket is at most 107 bytes long.
fn unpublished(path: &Path) -> PathBuf {
    path.with_file_name(".new")
}

/// The answering socket. Call [`AdminServer::stop`] at the end; the socket file goes with it.
pub struct AdminServer {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Nothing is ever sent: it disconnects when the last thread has dropped its end.
    ended: Receiver<Never>,
}

enum Never {}

struct Shared {
    context: Context,
    stopping: AtomicBool,
    followers: AtomicUsize,
    /// The server of the moment, to wake its threads.
    server: Mutex<Option<Arc<tiny_http::Server>>>,
}

impl AdminServer {
    /// Starts answering.
    pub fn start(socket: AdminSocket, context: Context) -> AdminServer {
        let shared = Arc::new(Shared {
            context,
            stopping: AtomicBool::new(false),
            followers: AtomicUsize::new(0),
            server: Mutex::new(None),
        });
        let (end, ended) = mpsc::channel();
        let (keeper, listener) = (shared.clone(), socket.listener);
        thread::spawn(move || {
            keep_serving(&listener, &keeper, &end);
            // The store goes before the sign that all is over.
            drop(keeper);
            drop(end);
        });
        AdminServer {
            shared,
            path: socket.path,
            ended,
        }
    }

    /// Ends: no new request is taken, those under way get a second, the socket file is removed.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(server) = lock(&self.shared.server).take() {
            server.unblock();
        }
        if matches!(self.ended.recv_timeout(FAREWELL), Err(RecvTimeoutError::Timeout)) {
            log::warn!("a command is still under way; it is cut off");
        }
        // tiny_http's accepting thread looks at its close flag only after a connection.
        drop(UnixStream::connect(&self.path));
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Serves until told to stop. tiny_http's accepting thread ends for ever with the first error (too many open files is
/// enough), so a new server takes its place.
fn keep_serving(listener: &UnixListener, shared: &Arc<Shared>, end: &Sender<Never>) {
    while !shared.stopping.load(Ordering::SeqCst) {
        match rebuild(listener) {
            Ok((server, accepting)) => {
                let server = Arc::new(server);
                *lock(&shared.server) = Some(server.clone());
                serve(&server, &accepting, shared, end);
                lock(&shared.server).take();
                answer_the_rest(&server, shared, end);
            }
            Err(error) => {
                log::error!("the admin socket: {error}");
                thread::sleep(REST);
            }
        }
    }
}

fn rebuild(
    listener: &UnixListener,
) -> Result<(tiny_http::Server, Accepting), Box<dyn std::error::Error + Send + Sync>> {
    let clone = listener.try_clone()?;
    let accepting = Accepting::of(&clone);
    Ok((tiny_http::Server::from_listener(clone, None)?, accepting))
}

/// Tells whether tiny_http's accepting thread lives: it owns its descriptor of the socket.
///
/// That thread tells nobody when it panics, and it does when descriptors run out between accepting a connection and
/// duplicating it.
struct Accepting {
    descriptor: PathBuf,
    socket: Option<PathBuf>,
}

impl Accepting {
    fn of(listener: &UnixListener) -> Accepting {
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", listener.as_raw_fd()));
        // Without /proc nothing is known, and nothing is done.
        let socket = std::fs::read_link(&descriptor).ok();
        Accepting { descriptor, socket }
    }

    fn has_ended(&self) -> bool {
        self.socket.is_some() && std::fs::read_link(&self.descriptor).ok() != self.socket
    }
}

/// Runs the pool until one of its threads hears an error or a call to stop, and all have followed.
fn serve(server: &tiny_http::Server, accepting: &Accepting, shared: &Arc<Shared>, end: &Sender<Never>) {
    let keeper = thread::current();
    let working = AtomicUsize::new(HANDLERS);
    thread::scope(|scope| {
        for _ in 0..HANDLERS {
            scope.spawn(|| {
                while !shared.stopping.load(Ordering::SeqCst) {
                    match server.recv() {
                        Ok(request) => answer(request, shared, end),
                        Err(error) => {
                            log::debug!("the admin socket's server ends: {error}");
                            break;
                        }
                    }
                }
                // Each `unblock` wakes one thread: pass it on.
                server.unblock();
                // Counted before the keeper is woken: a thread that has not quite finished would let it sleep on.
                working.fetch_sub(1, Ordering::SeqCst);
                keeper.unpark();
            });
        }
        while working.load(Ordering::SeqCst) > 0 {
            thread::park_timeout(WATCH);
            if accepting.has_ended() {
                server.unblock();
            }
        }
    });
}

/// Answers requests on connections that were accepted before the accepting thread ended.
fn answer_the_rest(server: &tiny_http::Server, shared: &Arc<Shared>, end: &Sender<Never>) {
    let deadline = Instant::now() + REST;
    while !shared.stopping.load(Ordering::SeqCst) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match server.recv_timeout(left) {
            Ok(Some(request)) => answer(request, shared, end),
            // An `unblock` that nobody needed any more.
            Ok(None) => {}
            Err(error) => log::debug!("the admin socket's server has ended: {error}"),
        }
    }
}

fn answer(mut request: tiny_http::Request, shared: &Arc<Shared>, end: &Sender<Never>) {
    match read(&mut request).and_then(|read| carry_out(&read, shared)) {
        Ok(Response::Json(body)) => respond(request, 200, body.expose()),
        Ok(Response::Follow(follow)) => start_following(request, *follow, shared, end),
        Err(failure) => respond(request, failure.status(), &failure.body()),
    }
}

/// What was changed stands in the log, because it may decide who gets in: a mode, a token, a device.
fn carry_out(request: &Request, shared: &Shared) -> Result<Response, Failure> {
    let response = api::handle(request, &shared.context)?;
    if request.method != Method::Get {
        let (method, target) = (request.method.name(), request.target());
        log::info!(event = "administered", request = format!("{method} {target}"); "an administrator changed something");
    }
    Ok(response)
}

fn read(request: &mut tiny_http::Request) -> Result<Request, Failure> {
    let method = match request.method() {
        tiny_http::Method::Get => Method::Get,
        tiny_http::Method::Post => Method::Post,
        tiny_http::Method::Delete => Method::Delete,
        other => return Err(Failure::Bad(format!("{other} is not used here"))),
    };
    let target = request.url().to_string();
    let mut body = Vec::new();
    // One byte more than allowed tells a full body from a longer one.
    let read = request.as_reader().take(MAX_BODY + 1).read_to_end(&mut body);
    if read.is_err() || body.len() as u64 > MAX_BODY {
        return Err(Failure::Bad(format!("a body has at most {MAX_BODY} bytes")));
    }
    Request::from_target(method, &target, body)
        .ok_or_else(|| Failure::Bad("the request target is malformed".into()))
}

fn respond(request: tiny_http::Request, status: u16, body: &[u8]) {
    let json = tiny_http::Header::from_bytes("Content-Type", "application/json");
    let mut response = tiny_http::Response::from_data(body).with_status_code(status);
    response.add_header(json.expect("a constant header is well-formed"));
    // A client that has gone needs no answer.
    let _ = request.respond(response);
}

fn start_following(request: tiny_http::Request, follow: Follow, shared: &Arc<Shared>, end: &Sender<Never>) {
    if shared.followers.fetch_add(1, Ordering::SeqCst) >= MAX_FOLLOWERS {
        shared.followers.fetch_sub(1, Ordering::SeqCst);
        let failure = Failure::Unavailable(format!(
            "{MAX_FOLLOWERS} commands follow the log already; end one of them"
        ));
        return respond(request, failure.status(), &failure.body());
    }
    let (shared, end) = (shared.clone(), end.clone());
    thread::spawn(move || {
        let writer = request.into_writer();
        // An error means that the client has gone.
        let _ = write_lines(writer, follow, &shared.stopping);
        shared.followers.fetch_sub(1, Ordering::SeqCst);
        drop(shared);
        drop(end);
    });
}

fn write_lines(
    mut writer: Box<dyn Write + Send>,
    mut follow: Follow,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\
                Connection: close\r\n\r\n";
    writer.write_all(head.as_bytes())?;
    writer.flush()?;
    while !stopping.load(Ordering::SeqCst) {
        let mut line = match follow.next(HEARTBEAT) {
            Followed::Entry(entry) => serde_json::to_vec(&entry)?,
            Followed::Nothing => Vec::new(),
            Followed::End => break,
        };
        line.push(b'\n');
        write!(writer, "{:x}\r\n", line.len())?;
        line.extend_from_slice(b"\r\n");
        writer.write_all(&line)?;
        writer.flush()?;
    }
    writer.write_all(b"0\r\n\r\n")?;
    writer.flush()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_when_the_accepting_thread_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let clone = listener.try_clone().unwrap();
        let accepting = Accepting::of(&clone);
        assert!(!accepting.has_ended());
        drop(clone);
        assert!(accepting.has_ended());
    }
}
