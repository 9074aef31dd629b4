//! How a command reaches the store: through the running gateway, or, when none runs, by opening it itself.
//!
//! The store belongs to one process. So: connect to the socket. No such file, or nobody listening: open the store. In use:
//! somebody else has it after all (a gateway that is just starting, another command): connect again, a few times, then say
//! who holds it.

use crate::admin::Context;
use crate::admin::api::{self, Failure, Method, Request, Response};
use crate::config::Settings;
use crate::report::sign_in::SignInView;
use crate::secret::Secret;
use crate::store::{self, OpenError};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// How often and after what pause a command tries again while somebody else has the store. Opening a store takes
/// milliseconds; a repair takes longer, and then the answer names the process that is at it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries, at least one.
    pub tries: u32,
    /// Between two of them.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            tries: 15,
            pause: Duration::from_millis(200),
        }
    }
}

/// A way to the store.
pub(super) enum Reach {
    /// Through the running gateway.
    Gateway { path: PathBuf, runtime: Runtime },
    /// In this process. The context goes before the runtime that it uses.
    Here { context: Box<Context>, runtime: Runtime },
}

/// Why there is none, or why it ended.
#[derive(Debug)]
pub(super) enum ReachError {
    /// The socket is there, but we may not use it.
    Forbidden(PathBuf),
    /// The socket cannot be used for another reason.
    Socket { path: PathBuf, cause: io::Error },
    /// The store cannot be opened.
    Store(OpenError),
    /// Another process has the store and answers nowhere.
    Held { pid: Option<u32>, socket: PathBuf },
    /// No gateway runs, and there is no store where one should be.
    NoStore(PathBuf),
    /// The data directory belongs to another user, and we are root: files made now would lock that user out.
    OtherOwner { directory: PathBuf, owner: u32 },
    /// The conversation with the gateway broke off.
    Broken(String),
    /// The gateway said no.
    Refused(Failure),
    /// Our own output cannot be written.
    Output(io::Error),
}

impl fmt::Display for ReachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReachError::Forbidden(path) => write!(
                f,
                "no permission for {}; run this as the user that runs the gateway, for example with sudo",
                path.display()
            ),
            ReachError::Socket { path, cause } => {
                write!(f, "the gateway's socket {}: {cause}", path.display())
            }
            ReachError::Store(error) => error.fmt(f),
            ReachError::Held { pid, socket } => {
                match pid {
                    Some(pid) => write!(f, "process {pid}{} has the store open", command_of(*pid))?,
                    None => f.write_str("another process has the store open")?,
                }
                write!(f, ", but nobody answers on {}; ", socket.display())?;
                f.write_str("if that is a gateway with another admin_socket, name it with --socket, else wait until it ends")
            }
            ReachError::NoStore(directory) => write!(
                f,
                "no gateway runs, and there is no store in {}; start with: gatepost run, or gatepost person add, or name a \
                 configuration with --config",
                directory.display()
            ),
            ReachError::OtherOwner { directory, owner } => write!(
                f,
                "no gateway runs, and {} belongs to user {owner}; run this as that user: sudo -u '#{owner}' gatepost ...",
                directory.display()
            ),
            ReachError::Broken(cause) => write!(f, "the conversation with the gateway broke off: {cause}"),
            ReachError::Refused(failure) => failure.fmt(f),
            ReachError::Output(cause) => write!(f, "the output cannot be written: {cause}"),
        }
    }
}

impl From<Failure> for ReachError {
    fn from(failure: Failure) -> ReachError {
        ReachError::Refused(failure)
    }
}

impl Reach {
    /// Finds a way. `may_create`: whether a store may come into being by this command.
    pub(super) fn find(
        settings: &Settings,
        may_create: bool,
        patience: Patience,
    ) -> Result<Reach, ReachError> {
        let runtime = runtime().map_err(|cause| ReachError::Broken(cause.to_string()))?;
        let path = &settings.admin_socket;
        let mut holder = None;
        for attempt in 0..patience.tries.max(1) {
            if attempt > 0 {
                std::thread::sleep(patience.pause);
            }
            if answers(path)? {
                return Ok(Reach::Gateway {
                    path: path.clone(),
                    runtime,
                });
            }
            judge_directory(&settings.data_dir, may_create)?;
            match store::open(&settings.store()) {
                Ok(opened) => {
                    let context = Context {
                        store: opened.store,
                        gate: None,
                        facts: settings.facts(None),
                        runtime: runtime.handle().clone(),
                    };
                    return Ok(Reach::Here {
                        context: Box::new(context),
                        runtime,
                    });
                }
                Err(OpenError::Locked { pid }) => holder = pid,
                Err(error) => return Err(ReachError::Store(error)),
            }
        }
        Err(ReachError::Held {
            pid: holder,
            socket: path.clone(),
        })
    }

    /// Asks, and waits for the whole answer.
    pub(super) fn ask(&self, request: &Request) -> Result<Secret<Vec<u8>>, ReachError> {
        match self {
            Reach::Gateway { path, runtime } => runtime.block_on(ask_gateway(path, request)),
            Reach::Here { context, .. } => match api::handle(request, context)? {
                Response::Json(body) => Ok(body),
                Response::Follow(_) => Err(ReachError::Broken("an answer without an end".into())),
            },
        }
    }

    /// Asks for lines that follow as they happen; ends when the gateway does. Whoever holds the store alone has nothing to
    /// follow: no gateway decides anything.
    pub(super) fn follow(
        &self,
        request: &Request,
        each: &mut dyn FnMut(SignInView) -> io::Result<()>,
    ) -> Result<(), ReachError> {
        match self {
            Reach::Gateway { path, runtime } => runtime.block_on(follow_gateway(path, request, each)),
            Reach::Here { .. } => Ok(()),
        }
    }

    /// Whether a gateway runs.
    pub(super) fn is_gateway(&self) -> bool {
        matches!(self, Reach::Gateway { .. })
    }

    /// Ends: what was written is on the disk when this returns.
    pub(super) fn close(self) -> Result<(), ReachError> {
        match self {
            Reach::Gateway { .. } => Ok(()),
            Reach::Here { context, runtime } => runtime
                .block_on(context.store.flush())
                .map_err(|error| ReachError::Refused(error.into())),
        }
    }
}

/// A runtime with one worker: handlers block on it from this thread.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

/// Whether a gateway listens on the socket.
fn answers(path: &Path) -> Result<bool, ReachError> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(cause) => match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(false),
            io::ErrorKind::PermissionDenied => Err(ReachError::Forbidden(path.to_path_buf())),
            _ => Err(ReachError::Socket {
                path: path.to_path_buf(),
                cause,
            }),
        },
    }
}

fn judge_directory(directory: &Path, may_create: bool) -> Result<(), ReachError> {
    let Ok(metadata) = std::fs::metadata(directory) else {
        return if may_create {
            Ok(())
        } else {
            Err(ReachError::NoStore(directory.to_path_buf()))
        };
    };
    let me = rustix::process::geteuid();
    if me.is_root() && metadata.uid() != me.as_raw() {
        return Err(ReachError::OtherOwner {
            directory: directory.to_path_buf(),
            owner: metadata.uid(),
        });
    }
    Ok(())
}

/// " (name)" of a process, where the system tells.
fn command_of(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => String::new(),
        name => format!(" ({name})"),
    }
}

/// The largest answer that is read: a list of 10 000 people.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How long a gateway may think. An answer takes milliseconds; a machine that swaps takes longer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

async fn ask_gateway(path: &Path, request: &Request) -> Result<Secret<Vec<u8>>, ReachError> {
    let answered = tokio::time::timeout(ANSWER_TIME, exchange(path, request)).await;
    answered.unwrap_or_else(|_| Err(ReachError::Broken("it does not answer".into())))
}

async fn exchange(path: &Path, request: &Request) -> Result<Secret<Vec<u8>>, ReachError> {
    let (status, body) = send(path, request).await?;
    let body = read_whole(body).await?;
    if status != 200 {
        return Err(Failure::from_answer(status, &body).into());
    }
    Ok(Secret::new(body))
}

async fn follow_gateway(
    path: &Path,
    request: &Request,
    each: &mut dyn FnMut(SignInView) -> io::Result<()>,
) -> Result<(), ReachError> {
    let (status, mut body) = send(path, request).await?;
    if status != 200 {
        return Err(Failure::from_answer(status, &read_whole(body).await?).into());
    }
    let mut pending: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(broken)?;
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
        while let Some(end) = memchr::memchr(b'\n', &pending) {
            let line: Vec<u8> = pending.drain(..=end).collect();
            // Empty lines only ask whether we are still here.
            if line.len() > 1 {
                each(serde_json::from_slice(&line).map_err(broken)?).map_err(ReachError::Output)?;
            }
        }
    }
    Ok(())
}

async fn send(path: &Path, request: &Request) -> Result<(u16, Incoming), ReachError> {
    let failed = |cause| ReachError::Socket {
        path: path.to_path_buf(),
        cause,
    };
    let stream = UnixStream::connect(path).await.map_err(failed)?;
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // The connection ends with its one exchange; what goes wrong on it shows in the exchange.
    tokio::spawn(connection);
    let method = match request.method {
        Method::Get => hyper::Method::GET,
        Method::Post => hyper::Method::POST,
        Method::Delete => hyper::Method::DELETE,
    };
    let http = hyper::Request::builder()
        .method(method)
        .uri(request.target())
        .header(hyper::header::HOST, "gatepost")
        .header(hyper::header::CONNECTION, "close")
        .body(Full::new(Bytes::from(request.body.clone())))
        .map_err(broken)?;
    let response = sender.send_request(http).await.map_err(broken)?;
    Ok((response.status().as_u16(), response.into_body()))
}

async fn read_whole(body: Incoming) -> Result<Vec<u8>, ReachError> {
    let whole = Limited::new(body, MAX_ANSWER).collect().await;
    Ok(whole
        .map_err(|error| ReachError::Broken(error.to_string()))?
        .to_bytes()
        .to_vec())
}

fn broken(error: impl fmt::Display) -> ReachError {
    ReachError::Broken(error.to_string())
}
