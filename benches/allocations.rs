//! How many allocations one warm login makes, from accept to close, and what a session holds that nobody uses: the whole
//! gateway in this process, a mail program and a mail server that allocate nothing themselves.
//!
//! With `PROFILE=login` or `PROFILE=session` it writes `dhat-heap.json` instead, which tells where they are made.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use support::gateway::TestGateway;

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

/// Before counting: caches are filled, buffers are pooled, tables have their size.
const WARM_UP: usize = 200;

/// Logins that are counted; the store's writer and the log's thread take part now and then, hence many.
const COUNTED: usize = 1000;

/// Sessions that are held.
const HELD: usize = 500;

fn main() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = upstream.local_addr().expect("an address").port();
    thread::spawn(move || serve(&upstream));
    let directory = tempfile::tempdir().expect("a directory");
    let table = format!("host = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\npasswords_in_clear = true");
    let gateway = TestGateway::start(directory, &table);
    let phone = gateway.enrol("alice@example.org");
    let login = format!("a LOGIN alice secret@{}\r\n", phone.code());
    let address = gateway.address("clear");
    for _ in 0..WARM_UP {
        log_out(log_in(address, login.as_bytes()));
    }
    counted("login", || {
        (0..COUNTED).for_each(|_| log_out(log_in(address, login.as_bytes())));
        let stats = dhat::HeapStats::get();
        let each = |total: u64| total as f64 / COUNTED as f64;
        let (blocks, bytes) = (each(stats.total_blocks), each(stats.total_bytes));
        println!("a warm login: {blocks:.1} allocations, {bytes:.0} bytes");
    });
    let mut held = Vec::with_capacity(HELD);
    counted("session", || {
        held.extend((0..HELD).map(|_| log_in(address, login.as_bytes())));
        // A write that is waited for takes along to the disk what the log of sign-ins still had in memory.
        gateway.enrol("bob@example.org");
        let stats = dhat::HeapStats::get();
        let each = |now: usize| now as f64 / HELD as f64;
        let (blocks, bytes) = (each(stats.curr_blocks), each(stats.curr_bytes));
        println!("an idle session: {blocks:.1} blocks, {bytes:.0} bytes");
    });
    held.into_iter().for_each(log_out);
}

/// Runs it while allocations are counted, or profiled where the environment asks for that.
fn counted(name: &str, work: impl FnOnce()) {
    let profiled = std::env::var("PROFILE");
    let builder = dhat::Profiler::builder().trim_backtraces(None);
    let _profiler = match profiled {
        Err(_) => builder.testing().build(),
        Ok(asked) if asked == name => builder.build(),
        Ok(_) => return,
    };
    work();
}

/// Connects, logs in and says NOOP.
fn log_in(address: SocketAddr, login: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the gateway accepts");
    expect_line(&mut stream, b"* OK");
    command(&mut stream, login, b"a OK");
    command(&mut stream, b"b NOOP\r\n", b"b OK");
    stream
}

/// Logs out and waits for the end.
fn log_out(mut stream: TcpStream) {
    command(&mut stream, b"c LOGOUT\r\n", b"c OK");
    while stream.read(&mut [0; 256]).expect("the gateway closes in order") > 0 {}
}

fn command(stream: &mut TcpStream, command: &[u8], answer: &[u8]) {
    stream.write_all(command).expect("the gateway reads");
    expect_line(stream, answer);
}

/// Reads until a line begins so and ends.
fn expect_line(stream: &mut TcpStream, beginning: &[u8]) {
    let (mut said, mut length) = ([0; 2048], 0);
    while !said[..length]
        .split_inclusive(|byte| *byte == b'\n')
        .any(|line| line.starts_with(beginning) && line.ends_with(b"\n"))
    {
        let count = stream.read(&mut said[length..]).expect("an answer");
        assert!(count > 0, "closed too early");
        length += count;
    }
}

/// The mail server: any password, every command is fine. One thread looks at all connections in turn, because a thread
/// for each would allocate.
fn serve(listener: &TcpListener) {
    let mut connections: Vec<Option<TcpStream>> = Vec::with_capacity(2 * HELD);
    listener.set_nonblocking(true).expect("a setting");
    loop {
        if let Ok((mut stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("a setting");
            let _ = stream.set_nodelay(true);
            let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n");
            match connections.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(stream),
                None => connections.push(Some(stream)),
            }
        }
        for place in &mut connections {
            if place.as_mut().is_some_and(is_over) {
                *place = None;
            }
        }
        thread::yield_now();
    }
}

/// Answers what was asked; whether the connection is over.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut command = [0; 2048];
    let count = match stream.read(&mut command) {
        Ok(0) => return true,
        Ok(count) => count,
        Err(error) => return error.kind() != ErrorKind::WouldBlock,
    };
    let command = &command[..count];
    let tag = command.split(|byte| *byte == b' ').next().unwrap_or_default();
    let mut answer = [0; 64];
    let mut room = &mut answer[..];
    let _ = room.write_all(tag);
    let _ = room.write_all(b" OK done\r\n");
    let length = 64 - room.len();
    let _ = stream.write_all(&answer[..length]);
    command.windows(6).any(|word| word == b"LOGOUT")
}
