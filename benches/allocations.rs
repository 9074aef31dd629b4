//! How many allocations one warm login makes, from accept to close, and how many bytes they are: the whole gateway in this
//! process, a mail program and a mail server that allocate nothing themselves.
//!
//! With `PROFILE=1` it writes `dhat-heap.json` instead, which tells where they are made.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use support::gateway::TestGateway;

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

/// Before counting: caches are filled, buffers are pooled, tables have their size.
const WARM_UP: usize = 200;

/// Logins that are counted; the store's writer and the log's thread take part now and then, hence many.
const COUNTED: usize = 1000;

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
        log_in(address, login.as_bytes());
    }
    let profiling = std::env::var_os("PROFILE").is_some();
    let builder = dhat::Profiler::builder();
    let profiler = if profiling {
        builder.trim_backtraces(None).build()
    } else {
        builder.testing().build()
    };
    for _ in 0..COUNTED {
        log_in(address, login.as_bytes());
    }
    if !profiling {
        let stats = dhat::HeapStats::get();
        let each = |total: u64| total as f64 / COUNTED as f64;
        println!(
            "a warm login: {:.1} allocations, {:.0} bytes",
            each(stats.total_blocks),
            each(stats.total_bytes)
        );
    }
    drop(profiler);
}

/// Connects, logs in, says NOOP and LOGOUT, as a mail program that looks for new mail.
fn log_in(address: SocketAddr, login: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the gateway accepts");
    expect_line(&mut stream, b"* OK");
    for (command, answer) in [
        (login, &b"a OK"[..]),
        (b"b NOOP\r\n", b"b OK"),
        (b"c LOGOUT\r\n", b"c OK"),
    ] {
        stream.write_all(command).expect("the gateway reads");
        expect_line(&mut stream, answer);
    }
    while stream.read(&mut [0; 256]).expect("the gateway closes in order") > 0 {}
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

/// The mail server: one connection after the other, any password, every command is fine.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let _ = stream.set_nodelay(true);
        let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n");
        let mut command = [0; 2048];
        while let Ok(count @ 1..) = stream.read(&mut command) {
            let tag_end = command[..count]
                .iter()
                .position(|byte| *byte == b' ')
                .unwrap_or(0);
            let mut answer = [0; 64];
            let mut rest = &mut answer[..];
            let _ = rest.write_all(&command[..tag_end]);
            let _ = rest.write_all(b" OK done\r\n");
            let length = 64 - rest.len();
            let _ = stream.write_all(&answer[..length]);
            if command[..count].windows(6).any(|word| word == b"LOGOUT") {
                break;
            }
        }
    }
}
