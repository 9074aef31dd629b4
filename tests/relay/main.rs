//! The splice over real sockets, plain and under TLS, with a small guard that does everything a guard may do.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod idle;

use gatepost::gate::sessions::{Cut, Traffic};
use gatepost::mail::relay::{CUT_WITHIN, Ended, Relay};
use gatepost::net::{CertificateSource, ClientTls, End, Roots, ServerTls, Stream, UpstreamTlsSettings};
use gatepost::wire::{CloseCause, Direction, Guard, HoldFor, Leftover, MAX_HELD, OutBuf, Watch};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A guard of lines, each a word and maybe something behind it:
///
/// - `LITERAL n`: the line and n bytes behind it pass unseen;
/// - `ANSWER x` (upward): the client is answered `ANSWERED x`;
/// - `HIDE`: replaced by nothing; `SWAP`: replaced by `SWAPPED`;
/// - `WAIT`: held once until something passed the other way;
/// - `STOP`: the session is closed as desynchronised; `WRONG`: a count that cannot be;
/// - anything else passes. Partial lines are held.
#[derive(Default)]
struct Lines {
    waiting: [bool; 2],
}

impl Guard for Lines {
    fn inspect(&mut self, direction: Direction, bytes: &[u8]) -> Watch {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            return Watch::Hold(HoldFor::More);
        };
        let line = std::str::from_utf8(&bytes[..end]).unwrap().trim_end();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let waiting = &mut self.waiting[direction as usize];
        match word {
            "LITERAL" => Watch::Opaque(end as u64 + 1 + rest.parse::<u64>().unwrap()),
            "ANSWER" => Watch::AnswerClient(end + 1, words(&format!("ANSWERED {rest}"))),
            "HIDE" => Watch::Replace(end + 1, OutBuf::new()),
            "SWAP" => Watch::Replace(end + 1, words("SWAPPED")),
            "WAIT" if !std::mem::replace(waiting, true) => Watch::Hold(HoldFor::OtherSide),
            "STOP" => Watch::Close(CloseCause::Desync),
            "WRONG" => Watch::Pass(bytes.len() + 1),
            _ => {
                *waiting = false;
                Watch::Pass(end + 1)
            }
        }
    }

    fn safe_to_speak(&self) -> bool {
        true // between lines; that a literal is still on its way is for the relay to know
    }

    fn goodbye(&self, cause: CloseCause) -> OutBuf {
        words(&format!("BYE {}", cause.name()))
    }
}

fn words(text: &str) -> OutBuf {
    let mut out = OutBuf::new();
    out.line(text);
    out
}

/// Passes everything in pieces of all sizes, some of them as literals, and never wants to speak.
struct Pieces(u32);

impl Guard for Pieces {
    fn inspect(&mut self, _: Direction, bytes: &[u8]) -> Watch {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = 1 + (self.0 >> 8) as usize % 50_000;
        match self.0 >> 30 {
            0 => Watch::Opaque(size as u64),
            _ => Watch::Pass(size.min(bytes.len())),
        }
    }

    fn safe_to_speak(&self) -> bool {
        false
    }

    fn goodbye(&self, _: CloseCause) -> OutBuf {
        panic!("it was not safe to speak");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Plain,
    Tls,
    /// Plain, with small kernel buffers.
    Narrow,
}

struct Plan {
    legs: [Leg; 2],
    guard: Box<dyn Guard>,
    to_upstream: &'static [u8],
    to_client: &'static [u8],
    idle: Duration,
}

impl Plan {
    fn new(legs: [Leg; 2], guard: impl Guard + 'static) -> Plan {
        Plan {
            legs,
            guard: Box::new(guard),
            to_upstream: b"",
            to_client: b"",
            idle: Duration::from_secs(1800),
        }
    }

    async fn start(self) -> Session {
        let tls = Tls::new();
        let (client, ours_to_client) = connect(self.legs[0], &tls).await;
        let (ours_to_upstream, upstream) = connect(self.legs[1], &tls).await;
        let relay = Relay {
            client: ours_to_client,
            upstream: ours_to_upstream,
            guard: self.guard,
            to_upstream: Leftover(self.to_upstream.to_vec()),
            to_client: Leftover(self.to_client.to_vec()),
            idle: self.idle,
        };
        let (cut, cut_seen) = watch::channel(None);
        let traffic = Arc::new(Traffic::default());
        let task = tokio::spawn({
            let traffic = traffic.clone();
            async move { relay.run(cut_seen, &traffic).await }
        });
        Session {
            client,
            upstream,
            cut,
            traffic,
            task,
        }
    }
}

struct Session {
    client: Stream,
    upstream: Stream,
    cut: watch::Sender<Option<Cut>>,
    traffic: Arc<Traffic>,
    task: JoinHandle<Ended>,
}

impl Session {
    async fn lines() -> Session {
        Plan::new([Leg::Plain, Leg::Plain], Lines::default())
            .start()
            .await
    }

    /// A message through and back, so that everything before it has been inspected.
    async fn settle(&mut self) {
        say(&mut self.client, b"settle\n").await;
        expect(&mut self.upstream, b"settle\n").await;
    }
}

struct Tls {
    server: ServerTls,
    client: ClientTls,
    _directory: tempfile::TempDir,
}

impl Tls {
    fn new() -> Tls {
        let directory = tempfile::tempdir().unwrap();
        let source = CertificateSource::SelfSigned {
            directory: directory.path().to_path_buf(),
            names: vec!["localhost".into()],
        };
        let server = ServerTls::load(&source, &[b"imap"]).unwrap();
        let settings = UpstreamTlsSettings {
            roots: Roots::Public,
            pins: vec![server.spki_pin()],
            client_certificate: None,
        };
        let client = ClientTls::new(&settings, "localhost").unwrap();
        Tls {
            server,
            client,
            _directory: directory,
        }
    }
}

/// A connection: its connecting and its accepting end.
async fn connect(leg: Leg, tls: &Tls) -> (Stream, Stream) {
    let [listening, connecting] = [TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap()];
    if leg == Leg::Narrow {
        // Before there is a window that they would have to fit.
        for socket in [&listening, &connecting] {
            socket.set_send_buffer_size(16 * 1024).unwrap();
            socket.set_recv_buffer_size(16 * 1024).unwrap();
        }
    }
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let (near, far) = tokio::join!(
        connecting.connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    let (near, far) = (Stream::plain(near).unwrap(), Stream::plain(far).unwrap());
    if leg != Leg::Tls {
        return (near, far);
    }
    let (near, far) = tokio::join!(
        Stream::connect_tls(near, &tls.client, soon()),
        Stream::accept_tls(far, &tls.server, soon())
    );
    (near.unwrap(), far.unwrap())
}

/// In the runtime's time, which is another than the world's where a test stops the clock.
fn soon() -> Instant {
    tokio::time::Instant::now().into_std() + Duration::from_secs(20)
}

async fn say(stream: &mut Stream, bytes: &[u8]) {
    stream.write_all(bytes, soon()).await.unwrap();
}

/// Reads exactly these bytes.
async fn expect(stream: &mut Stream, expected: &[u8]) {
    let mut got = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while got.len() < expected.len() {
        let most = buffer.len().min(expected.len() - got.len());
        let read = stream.read_some(&mut buffer[..most]);
        let count = tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("nothing comes")
            .unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..count]);
    }
    assert!(
        got == expected,
        "{:?} instead of {:?}",
        String::from_utf8_lossy(&got[..got.len().min(500)]),
        String::from_utf8_lossy(&expected[..expected.len().min(500)])
    );
}

/// Reads to the end.
async fn rest(stream: &mut Stream) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read_some(&mut buffer);
        match tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("no end comes")
            .unwrap()
        {
            0 => return got,
            count => got.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Both peers close, and the session ends.
async fn ended(session: Session) -> Ended {
    let Session {
        client,
        upstream,
        task,
        ..
    } = session;
    drop((client, upstream));
    tokio::time::timeout(Duration::from_secs(20), task)
        .await
        .expect("the session goes on")
        .unwrap()
}

/// Writes the piece again and again until the peer takes nothing for a while; answers how much it took.
async fn write_until_stalled(stream: &mut Stream, piece: &[u8], most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        match tokio::time::timeout(
            Duration::from_millis(300),
            poll_fn(|cx| stream.poll_write(cx, &piece[taken % piece.len()..])),
        )
        .await
        {
            Ok(count) => taken += count.unwrap(),
            Err(_) => return taken,
        }
    }
    taken
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 253 + seed) as u8).collect()
}

/// Sends and receives at once, as far as either goes.
async fn exchange(stream: &mut Stream, send: &[u8], receive: usize) -> Vec<u8> {
    let mut got = Vec::with_capacity(receive);
    let mut sent = 0;
    let mut buffer = vec![0; 50_000];
    let mut size = 1;
    poll_fn(|cx| {
        loop {
            let mut idle = true;
            if sent < send.len() {
                size = (size * 7 + 13) % 70_001 + 1;
                let end = send.len().min(sent + size);
                if let Poll::Ready(taken) = stream.poll_write(cx, &send[sent..end]) {
                    sent += taken.unwrap();
                    idle = false;
                }
            }
            if got.len() < receive
                && let Poll::Ready(count) = stream.poll_read(cx, &mut buffer[..size.min(50_000)])
            {
                let count = count.unwrap();
                assert!(count > 0, "closed after {} of {receive}", got.len());
                got.extend_from_slice(&buffer[..count]);
                idle = false;
            }
            if sent == send.len() && got.len() == receive {
                return stream.poll_flush(cx).map(Result::unwrap);
            }
            if idle {
                let _ = stream.poll_flush(cx);
                return Poll::Pending;
            }
        }
    })
    .await;
    got
}

async fn carries_both_ways(legs: [Leg; 2], size: usize) {
    let mut session = Plan::new(legs, Pieces(1)).start().await;
    let (up, down) = (pattern(size, 1), pattern(size - 4321, 2));
    let (got_down, got_up) = tokio::join!(
        exchange(&mut session.client, &up, down.len()),
        exchange(&mut session.upstream, &down, up.len())
    );
    assert!(got_up == up && got_down == down, "{legs:?}");
    assert_eq!(session.traffic.up.load(Ordering::Relaxed), up.len() as u64);
    assert_eq!(session.traffic.down.load(Ordering::Relaxed), down.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_mebibytes_both_ways_under_tls() {
    carries_both_ways([Leg::Tls, Leg::Tls], 16 << 20).await;
}

#[tokio::test]
async fn every_pair_of_legs_carries_both_ways() {
    for client in [Leg::Plain, Leg::Tls, Leg::Narrow] {
        for upstream in [Leg::Plain, Leg::Tls, Leg::Narrow] {
            carries_both_ways([client, upstream], 1 << 20).await;
        }
    }
}

#[tokio::test]
async fn the_future_is_small() {
    let tls = Tls::new();
    let (_client, client) = connect(Leg::Tls, &tls).await;
    let (upstream, _upstream) = connect(Leg::Tls, &tls).await;
    let relay = Relay {
        client,
        upstream,
        guard: Box::new(Lines::default()),
        to_upstream: Leftover::default(),
        to_client: Leftover::default(),
        idle: Duration::from_secs(1800),
    };
    let traffic = Traffic::default();
    let (_cut, cut_seen) = watch::channel(None);
    let size = size_of_val(&relay.run(cut_seen, &traffic));
    assert!(size <= 1024, "a session costs {size} bytes for ever");
}

#[tokio::test]
async fn leftovers_go_first_and_in_order() {
    let mut plan = Plan::new([Leg::Tls, Leg::Plain], Lines::default());
    plan.to_upstream = b"a2 SELECT inbox\na3 ID";
    plan.to_client = b"* 5 EXISTS\n* OK rea";
    let mut session = plan.start().await;
    expect(&mut session.upstream, b"a2 SELECT inbox\n").await;
    expect(&mut session.client, b"* 5 EXISTS\n").await;
    say(&mut session.client, b"LE\na4 LOGOUT\n").await;
    expect(&mut session.upstream, b"a3 IDLE\na4 LOGOUT\n").await;
    say(&mut session.upstream, b"dy\n").await;
    expect(&mut session.client, b"* OK ready\n").await;
}

#[tokio::test]
async fn an_answer_goes_behind_the_leftover_of_the_upstream() {
    let mut plan = Plan::new([Leg::Plain, Leg::Plain], Lines::default());
    plan.to_upstream = b"ANSWER a2\nnext\n";
    plan.to_client = b"* CAPABILITY\n";
    let mut session = plan.start().await;
    expect(&mut session.client, b"* CAPABILITY\nANSWERED a2\r\n").await;
    expect(&mut session.upstream, b"next\n").await;
}

#[tokio::test]
async fn lines_are_held_replaced_and_answered() {
    let mut session = Session::lines().await;
    for byte in b"one\nHIDE this\ntwo\nSWAP\nANSWER me\nthree\n" {
        say(&mut session.client, &[*byte]).await;
    }
    expect(&mut session.upstream, b"one\ntwo\nSWAPPED\r\nthree\n").await;
    expect(&mut session.client, b"ANSWERED me\r\n").await;
    say(&mut session.client, b"LITERAL 12\nHIDE\nSTOP\n!\nHIDE\nlast\n").await;
    expect(&mut session.upstream, b"LITERAL 12\nHIDE\nSTOP\n!\nlast\n").await;
}

#[tokio::test]
async fn an_answer_waits_for_the_end_of_a_literal_on_its_way_down() {
    let mut session = Session::lines().await;
    say(&mut session.upstream, b"LITERAL 10\n01234").await;
    expect(&mut session.client, b"LITERAL 10\n01234").await;
    say(&mut session.client, b"ANSWER me\n").await;
    session.settle().await;
    say(&mut session.upstream, b"56789)\n").await;
    expect(&mut session.client, b"LITERAL 10\n01234".get(16..).unwrap()).await;
    expect(&mut session.client, b"56789ANSWERED me\r\n)\n").await;
}

#[tokio::test]
async fn what_waits_for_the_other_side_goes_on_when_that_has_passed() {
    let mut session = Session::lines().await;
    say(&mut session.client, b"before\nWAIT\nbehind\n").await;
    expect(&mut session.upstream, b"before\n").await;
    say(&mut session.upstream, b"LITERAL 3\nabc").await;
    expect(&mut session.upstream, b"WAIT\nbehind\n").await;
    expect(&mut session.client, b"LITERAL 3\nabc").await;
}

#[tokio::test]
async fn two_sides_that_wait_for_each_other_are_ended() {
    let mut session = Session::lines().await;
    say(&mut session.client, b"WAIT\n").await;
    say(&mut session.upstream, b"WAIT\n").await;
    assert_eq!(rest(&mut session.client).await, b"BYE desync\r\n");
    assert_eq!(ended(session).await.cause, CloseCause::Desync);
}

#[tokio::test]
async fn a_line_longer_than_may_be_held_ends_the_session() {
    let mut session = Session::lines().await;
    say(&mut session.client, &[b'x'; MAX_HELD]).await;
    say(&mut session.upstream, b"still here\n").await;
    expect(&mut session.client, b"still here\n").await;
    say(&mut session.client, b"x").await;
    assert_eq!(rest(&mut session.client).await, b"BYE too-long\r\n");
    assert_eq!(rest(&mut session.upstream).await, b"");
    assert_eq!(ended(session).await.cause, CloseCause::TooLong);
}

#[tokio::test]
async fn a_guard_that_lost_count_ends_the_session() {
    let mut session = Session::lines().await;
    say(&mut session.client, b"good\nWRONG\n").await;
    expect(&mut session.upstream, b"good\n").await;
    assert_eq!(rest(&mut session.upstream).await, b"");
    assert_eq!(ended(session).await.cause, CloseCause::Desync);
}

#[tokio::test]
async fn what_passed_before_a_close_arrives_and_the_goodbye_is_not_lost_to_unread_bytes() {
    for leg in [Leg::Plain, Leg::Tls] {
        let mut session = Plan::new([leg, Leg::Plain], Lines::default()).start().await;
        say(&mut session.client, b"good\nSTOP\n").await;
        // More than the kernel holds: if they were left unread, our close would reset the connection under the client.
        say(&mut session.client, &pattern(16 << 20, 0)).await;
        assert_eq!(rest(&mut session.client).await, b"BYE desync\r\n");
        assert_eq!(session.client.end(), Some(End::Complete));
        assert_eq!(rest(&mut session.upstream).await, b"good\n");
        let end = ended(session).await;
        assert_eq!(
            end,
            Ended {
                cause: CloseCause::Desync,
                up: 5,
                down: 12
            }
        );
    }
}

#[tokio::test]
async fn after_the_clients_end_the_upstream_is_still_heard() {
    for legs in [[Leg::Plain, Leg::Plain], [Leg::Tls, Leg::Tls]] {
        let mut session = Plan::new(legs, Lines::default()).start().await;
        say(&mut session.client, b"a9 LOGOUT\nhalf a li").await;
        session.client.shutdown_write(soon()).await.unwrap();
        assert_eq!(
            rest(&mut session.upstream).await,
            b"a9 LOGOUT\n",
            "half a line is nobody's"
        );
        assert_eq!(session.upstream.end(), Some(End::Complete));
        say(&mut session.upstream, b"* BYE\na9 OK\n").await;
        session.upstream.shutdown_write(soon()).await.unwrap();
        assert_eq!(rest(&mut session.client).await, b"* BYE\na9 OK\n");
        assert_eq!(session.client.end(), Some(End::Complete));
        assert_eq!(
            ended(session).await,
            Ended {
                cause: CloseCause::ClientClosed,
                up: 10,
                down: 12
            }
        );
    }
}

#[tokio::test]
async fn after_the_upstreams_end_an_idle_client_is_closed() {
    for legs in [[Leg::Plain, Leg::Plain], [Leg::Tls, Leg::Tls]] {
        let mut session = Plan::new(legs, Lines::default()).start().await;
        say(&mut session.upstream, b"* BYE shutting down\nhalf").await;
        session.upstream.shutdown_write(soon()).await.unwrap();
        assert_eq!(rest(&mut session.client).await, b"* BYE shutting down\n");
        // The client does not close, and the session ends all the same.
        let Session { task, .. } = &mut session;
        assert_eq!(task.await.unwrap().cause, CloseCause::UpstreamClosed);
    }
}

#[tokio::test]
async fn an_upstream_that_resets_is_heard_to_its_last_word() {
    let mut session = Session::lines().await;
    // Unread bytes make the close a reset.
    say(&mut session.client, b"unread\n").await;
    expect(&mut session.upstream, b"unr").await;
    say(&mut session.upstream, b"WAIT\n* BYE\n").await;
    let Session {
        mut client,
        upstream,
        task,
        ..
    } = session;
    drop(upstream);
    // This cannot be delivered any more, and what waited for it is heard all the same.
    say(&mut client, b"more\n").await;
    assert_eq!(rest(&mut client).await, b"WAIT\n* BYE\n");
    drop(client);
    assert_eq!(task.await.unwrap().cause, CloseCause::UpstreamClosed);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_only_its_own_downward_direction() {
    let mut session = Plan::new([Leg::Narrow, Leg::Narrow], Lines::default())
        .start()
        .await;
    let mut other = Session::lines().await;
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let offered = 64 << 20;
    let taken = write_until_stalled(&mut session.upstream, &line, offered).await;
    assert!(taken < 2 << 20, "{taken} bytes are held somewhere");
    session.settle().await;
    other.settle().await;
    // What was taken arrives once it reads.
    session.upstream.shutdown_write(soon()).await.unwrap();
    assert_eq!(rest(&mut session.client).await.len(), taken / 1000 * 1000);
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_not_read_from() {
    let mut session = Plan::new([Leg::Narrow, Leg::Plain], Lines::default())
        .start()
        .await;
    let line = [b"ANSWER ", &[b'x'; 992][..], b"\n"].concat();
    let taken = write_until_stalled(&mut session.client, &line, 64 << 20).await;
    assert!(taken < 2 << 20, "answers to {taken} bytes are held somewhere");
    say(&mut session.upstream, b"* news\n").await;
    let whole = taken / line.len() * line.len();
    let mut got = Vec::new();
    while !got.ends_with(b"* news\n") && got.len() < whole * 2 {
        let mut buffer = [0; 8192];
        let count = session.client.read_some(&mut buffer).await.unwrap();
        got.extend_from_slice(&buffer[..count]);
        if got.windows(7).any(|window| window == b"* news\n") {
            break;
        }
    }
    assert!(
        got.windows(7).any(|window| window == b"* news\n"),
        "the upstream is heard behind them"
    );
}

#[tokio::test]
async fn a_cut_says_goodbye_at_a_boundary() {
    for leg in [Leg::Plain, Leg::Tls] {
        let mut session = Plan::new([leg, leg], Lines::default()).start().await;
        session.settle().await;
        session.cut.send(Some(Cut::Cut)).unwrap();
        assert_eq!(rest(&mut session.client).await, b"BYE cut\r\n");
        assert_eq!(session.client.end(), Some(End::Complete));
        assert_eq!(rest(&mut session.upstream).await, b"");
        assert_eq!(ended(session).await.cause, CloseCause::Cut);
    }
}

#[tokio::test]
async fn a_session_that_was_cut_before_it_began_ends() {
    let tls = Tls::new();
    let (mut peer, client) = connect(Leg::Plain, &tls).await;
    let (upstream, _upstream) = connect(Leg::Plain, &tls).await;
    let (_cut, cut_seen) = watch::channel(Some(Cut::Cut));
    let relay = Relay {
        client,
        upstream,
        guard: Box::new(Lines::default()),
        to_upstream: Leftover::default(),
        to_client: Leftover::default(),
        idle: Duration::from_secs(1800),
    };
    let traffic = Traffic::default();
    let (end, heard) = tokio::join!(relay.run(cut_seen, &traffic), async {
        let heard = rest(&mut peer).await;
        drop(peer);
        heard
    });
    assert_eq!(
        (end.cause, heard.as_slice()),
        (CloseCause::Cut, &b"BYE cut\r\n"[..])
    );
}

#[tokio::test]
async fn a_cut_inside_a_literal_says_nothing_and_takes_no_more_commands() {
    let mut session = Session::lines().await;
    say(&mut session.upstream, b"LITERAL 10\n01234").await;
    expect(&mut session.client, b"LITERAL 10\n01234").await;
    let began = Instant::now();
    session.cut.send(Some(Cut::Cut)).unwrap();
    // The relay has seen the cut once it no longer forwards.
    say(&mut session.client, b"a1 DELETE everything\n").await;
    assert_eq!(rest(&mut session.client).await, b"");
    assert_eq!(ended_cause(&mut session).await, CloseCause::Cut);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(rest(&mut session.upstream).await, b"");
}

async fn ended_cause(session: &mut Session) -> CloseCause {
    let ended = tokio::time::timeout(Duration::from_secs(20), &mut session.task).await;
    ended.expect("the session ends").unwrap().cause
}

#[tokio::test]
async fn a_cut_waits_a_moment_for_the_end_of_a_literal() {
    let mut session = Session::lines().await;
    say(&mut session.upstream, b"LITERAL 10\n01234").await;
    expect(&mut session.client, b"LITERAL 10\n01234").await;
    session.cut.send(Some(Cut::Cut)).unwrap();
    say(&mut session.upstream, b"56789a line of which nothing is sent\n").await;
    assert_eq!(rest(&mut session.client).await, b"56789BYE cut\r\n");
    assert_eq!(ended_cause(&mut session).await, CloseCause::Cut);
}

#[tokio::test]
async fn a_cut_ends_a_stalled_session_within_a_second() {
    for leg in [Leg::Narrow, Leg::Tls] {
        let mut session = Plan::new([leg, Leg::Narrow], Lines::default()).start().await;
        write_until_stalled(
            &mut session.upstream,
            &[&[b'x'; 999][..], b"\n"].concat(),
            64 << 20,
        )
        .await;
        let began = Instant::now();
        session.cut.send(Some(Cut::Cut)).unwrap();
        assert_eq!(ended_cause(&mut session).await, CloseCause::Cut);
        assert!(
            began.elapsed() < CUT_WITHIN + Duration::from_millis(200),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_cut_ends_a_busy_session_within_a_second() {
    let mut session = Plan::new([Leg::Plain, Leg::Plain], Lines::default())
        .start()
        .await;
    let Session {
        client,
        upstream,
        cut,
        task,
        ..
    } = &mut session;
    say(upstream, b"LITERAL 1000000000000\n").await;
    expect(client, b"LITERAL 1000000000000\n").await;
    let began = Instant::now();
    cut.send(Some(Cut::Cut)).unwrap();
    let busy = async {
        let piece = vec![0; 60_000];
        while upstream.write_all(&piece, soon()).await.is_ok() {}
    };
    let reading = async {
        let mut buffer = vec![0; 60_000];
        while let Ok(1..) = client.read_some(&mut buffer).await {}
    };
    let (_, _, end) = tokio::join!(busy, reading, task);
    assert_eq!(end.unwrap().cause, CloseCause::Cut);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_drain_waits_for_the_boundary_and_goes_on_until_then() {
    let mut session = Session::lines().await;
    say(&mut session.upstream, b"LITERAL 10\n01234").await;
    expect(&mut session.client, b"LITERAL 10\n01234").await;
    session.cut.send(Some(Cut::Drain)).unwrap();
    session.settle().await;
    say(&mut session.upstream, b"56789").await;
    assert_eq!(rest(&mut session.client).await, b"56789BYE drain\r\n");
    assert_eq!(ended_cause(&mut session).await, CloseCause::Drain);
}

#[tokio::test]
async fn a_cut_ends_a_drain_that_takes_too_long() {
    let mut session = Session::lines().await;
    say(&mut session.upstream, b"LITERAL 10\n01234").await;
    expect(&mut session.client, b"LITERAL 10\n01234").await;
    session.cut.send(Some(Cut::Drain)).unwrap();
    session.settle().await;
    session.cut.send(Some(Cut::Cut)).unwrap();
    assert_eq!(rest(&mut session.client).await, b"");
    assert_eq!(ended_cause(&mut session).await, CloseCause::Cut);
}

#[tokio::test]
async fn silence_of_both_sides_ends_the_session_and_either_side_breaks_it() {
    let mut plan = Plan::new([Leg::Tls, Leg::Plain], Lines::default());
    plan.idle = Duration::from_millis(400);
    let mut session = plan.start().await;
    let began = Instant::now();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        say(&mut session.upstream, b"* still here\n").await;
        expect(&mut session.client, b"* still here\n").await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        session.settle().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(900));
    let silent = Instant::now();
    assert_eq!(rest(&mut session.client).await, b"BYE idle\r\n");
    assert!(
        silent.elapsed() >= Duration::from_millis(390),
        "{:?}",
        silent.elapsed()
    );
    assert_eq!(ended_cause(&mut session).await, CloseCause::Idle);
}

/// The client's first command comes in the same segment as the end of its handshake, and nothing comes after it.
#[tokio::test]
async fn bytes_that_came_with_the_handshake_are_not_stranded() {
    use std::io::Write;
    let tls = Tls::new();
    let pin = tls.server.spki_pin();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || -> io::Result<std::net::TcpStream> {
        let mut socket = std::net::TcpStream::connect(address)?;
        let mut connection = oracle::client(pin);
        // Until only our own Finished is left to send.
        while connection.is_handshaking() {
            while connection.wants_write() {
                connection.write_tls(&mut socket)?;
            }
            connection.read_tls(&mut socket)?;
            connection.process_new_packets().map_err(io::Error::other)?;
        }
        connection.writer().write_all(b"first command\n")?;
        let mut together = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut together)?;
        }
        socket.write_all(&together)?;
        Ok(socket)
    });
    let (accepted, _) = listener.accept().await.unwrap();
    let client = Stream::accept_tls(Stream::plain(accepted).unwrap(), &tls.server, soon())
        .await
        .unwrap();
    let (upstream, mut upstream_peer) = connect(Leg::Plain, &tls).await;
    let relay = Relay {
        client,
        upstream,
        guard: Box::new(Lines::default()),
        to_upstream: Leftover::default(),
        to_client: Leftover::default(),
        idle: Duration::from_secs(1800),
    };
    let (_cut, cut_seen) = watch::channel(None);
    tokio::spawn(async move { relay.run(cut_seen, &Traffic::default()).await });
    expect(&mut upstream_peer, b"first command\n").await;
    drop(peer.join().unwrap().unwrap());
}

/// rustls' own, buffered client as the other end.
mod oracle {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::server::ParsedCertificate;
    use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
    use std::sync::Arc;

    pub(super) fn client(pin: [u8; 32]) -> ClientConnection {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned(pin)))
            .with_no_client_auth();
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
    }

    #[derive(Debug)]
    struct Pinned([u8; 32]);

    impl ServerCertVerifier for Pinned {
        fn verify_server_cert(
            &self,
            leaf: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            let spki = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
            assert_eq!(
                ring::digest::digest(&ring::digest::SHA256, &spki).as_ref(),
                self.0
            );
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = default_provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, leaf, signature, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = default_provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, leaf, signature, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
