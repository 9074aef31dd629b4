//! What the guard costs: bytes that it looks at, and bytes that it waves through.
//!
//! 64 KiB are read at once where a session is busy; 16 KiB is what one TLS record brings. Nothing is copied here, as
//! nothing is copied in the relay while the guard passes whole pieces.

use criterion::{Criterion, Throughput};
use gatepost::reason::Protocol;
use gatepost::wire::{Direction, Guard, HoldFor, Watch, dialect};
use std::hint::black_box;

const PIECE: usize = 16 * 1024;
const MIB: usize = 1024 * 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    down(&mut criterion, "guard_down/fetch-literal-1MiB", &message());
    down(&mut criterion, "guard_down/flags-of-10000", &flags(10_000));
    round_trips(&mut criterion);
    appends(&mut criterion);
    criterion.final_summary();
}

fn down(criterion: &mut Criterion, name: &str, bytes: &[u8]) {
    let mut group = criterion.benchmark_group("guard");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(name, |bencher| {
        let mut guard = new_guard();
        bencher.iter(|| through(guard.as_mut(), Direction::Down, black_box(bytes)));
    });
    group.finish();
}

/// One command up and its tagged answer down, as a mail program in use does all day.
fn round_trips(criterion: &mut Criterion) {
    criterion.bench_function("guard/guard_up/command-and-answer", |bencher| {
        let mut guard = new_guard();
        bencher.iter(|| {
            through(
                guard.as_mut(),
                Direction::Up,
                black_box(b"a107 UID FETCH 1:* (FLAGS)\r\n"),
            );
            through(
                guard.as_mut(),
                Direction::Down,
                black_box(b"a107 OK Fetch completed.\r\n"),
            );
        });
    });
}

/// A message of 1 MiB on its way up, once the upstream asks for it.
fn appends(criterion: &mut Criterion) {
    let command = format!("a107 APPEND Sent {{{MIB}}}\r\n").into_bytes();
    let mut message = vec![b'm'; MIB];
    message.extend_from_slice(b"\r\n");
    let mut group = criterion.benchmark_group("guard");
    group.throughput(Throughput::Bytes(MIB as u64));
    group.bench_function("guard_up/append-1MiB", |bencher| {
        let mut guard = new_guard();
        bencher.iter(|| {
            through(guard.as_mut(), Direction::Up, black_box(&command));
            through(guard.as_mut(), Direction::Down, b"+ OK\r\n");
            through(guard.as_mut(), Direction::Up, black_box(&message));
            through(guard.as_mut(), Direction::Down, b"a107 OK Append completed.\r\n");
        });
    });
    group.finish();
}

fn new_guard() -> Box<dyn Guard> {
    (dialect(Protocol::Imap).guard)()
}

fn message() -> Vec<u8> {
    let mut response = format!("* 1 FETCH (UID 1 BODY[] {{{MIB}}}\r\n").into_bytes();
    let body = b"The quick brown fox jumps over the lazy dog, and a107 OK is no answer here.\r\n";
    let body = body.iter().cycle().take(MIB);
    response.extend(body);
    response.extend_from_slice(b")\r\n");
    response
}

fn flags(messages: usize) -> Vec<u8> {
    let lines = (1..=messages).map(|n| format!("* {n} FETCH (UID {} FLAGS (\\Seen))\r\n", n + 7));
    lines.collect::<String>().into_bytes()
}

/// Shows the guard everything, piece by piece; all of it must pass.
fn through(guard: &mut dyn Guard, direction: Direction, bytes: &[u8]) {
    let (mut at, mut end) = (0, bytes.len().min(PIECE));
    while at < bytes.len() {
        match guard.inspect(direction, &bytes[at..end]) {
            Watch::Pass(count) => at += count,
            Watch::Opaque(count) => at += usize::try_from(count).expect("within the bytes"),
            Watch::Hold(HoldFor::More) => end = bytes.len().min(end + PIECE),
            other => panic!("the guard does not let it pass: {other:?}"),
        }
        if at >= end {
            end = bytes.len().min(at + PIECE);
        }
    }
}
