//! The splice: a signed-in session's bytes, both ways, under the eyes of its [`Guard`].
//!
//! ```text
//!            poll_read          inspect              poll_write
//!   client ───────────▶ burst ──────────▶ passed ────────────────▶ upstream      Direction::Up
//!   client ◀───────────── passed ◀──────────── burst ◀──────────── upstream      Direction::Down
//!                                held, unsent: only while they must
//! ```
//!
//! One future polls both directions, so that no buffer lives across an await: a burst is borrowed, read into, inspected,
//! written and given back within one poll. What stays is in [`Flow`]: bytes that the guard holds, and bytes that passed
//! but that the destination has not taken. Either stops the reading of that direction, which is the back-pressure; the
//! other direction goes on.
//!
//! Nothing that the guard did not pass is ever sent, also not at the end.

use crate::gate::sessions::{Cut, Traffic};
use crate::net::{Stream, pool};
use crate::wire::{CloseCause, Direction, Guard, HoldFor, Leftover, MAX_HELD, OutBuf, Watch};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use zeroize::{Zeroize, Zeroizing};

/// A session after sign-in.
pub struct Relay {
    /// The mail program.
    pub client: Stream,
    /// The mail server, signed in.
    pub upstream: Stream,
    /// Watches the second-factor boundary.
    pub guard: Box<dyn Guard>,
    /// What the client sent behind its sign-in.
    pub to_upstream: Leftover,
    /// What the upstream sent behind its success.
    pub to_client: Leftover,
    /// How long neither side may send anything (P44).
    pub idle: Duration,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub cause: CloseCause,
    /// Bytes from client to upstream.
    pub up: u64,
    /// Bytes from upstream to client, answers of the guard and its goodbye included.
    pub down: u64,
}

impl Relay {
    /// Relays until a side closes, the guard or `cut` ends it, or it idles.
    ///
    /// `cut` tells from outside that the session must end. [`Cut::Drain`] waits for a boundary where a goodbye may be said,
    /// as long as that takes; [`Cut::Cut`] ends the session within [`CUT_WITHIN`], with a goodbye when a boundary comes in
    /// time, and may follow a drain.
    pub fn run(
        self,
        mut cut: watch::Receiver<Option<Cut>>,
        traffic: &Traffic,
    ) -> impl Future<Output = Ended> + Send {
        let mut splice = Splice::new(self, traffic);
        async move {
            let mut timer = std::pin::pin!(sleep_until(splice.wake_at()));
            let mut may_be_cut = true;
            loop {
                splice.be_told(cut.borrow_and_update().map(as_cause));
                tokio::select! {
                    biased;
                    told = cut.changed(), if may_be_cut => may_be_cut = told.is_ok(),
                    ended = poll_fn(|cx| splice.poll(cx, timer.as_mut())) => return ended,
                }
            }
        }
    }
}

fn as_cause(cut: Cut) -> CloseCause {
    match cut {
        Cut::Drain => CloseCause::Drain,
        Cut::Cut => CloseCause::Cut,
    }
}

/// The relay at work.
struct Splice<'a> {
    client: Stream,
    upstream: Stream,
    guard: Box<dyn Guard>,
    up: Flow,
    down: Flow,
    /// Guard's answers that wait for the end of a literal which goes down unseen.
    answers: Vec<u8>,
    stage: Stage,
    idle: Duration,
    last_activity: Instant,
    traffic: &'a Traffic,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Read, not passed yet: next in line for the guard.
    held: Vec<u8>,
    /// What `held` waits for.
    hold: Option<HoldFor>,
    /// Passed, not taken by the destination yet.
    unsent: Vec<u8>,
    /// Bytes still to come that pass unseen.
    opaque: u64,
    /// Counts what has passed; the other direction may hold for it.
    passes: u64,
    /// The other direction's `passes` when `held` was last inspected.
    seen_passes: u64,
    /// The source has finished.
    ended: bool,
    /// The destination takes nothing any more.
    broken: bool,
}

/// How far the session is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Relaying, and when the cause is there, until a goodbye may be said.
    Open { leaving: Option<CloseCause> },
    /// Cut: only the downward direction goes on, to its next boundary. All is over at `end`.
    Boundary {
        cause: CloseCause,
        until: Instant,
        end: Instant,
    },
    /// The client gets what is left for it, then FIN.
    Flush { cause: CloseCause, until: Instant },
    /// Its last bytes are read and dropped, because closing before them would reset the connection and take our last
    /// words with it.
    Linger { cause: CloseCause, until: Instant },
}

impl<'a> Splice<'a> {
    fn new(mut relay: Relay, traffic: &'a Traffic) -> Self {
        let flow = |leftover: &mut Leftover| Flow {
            held: std::mem::take(&mut leftover.0),
            ..Flow::default()
        };
        Splice {
            up: flow(&mut relay.to_upstream),
            down: flow(&mut relay.to_client),
            client: relay.client,
            upstream: relay.upstream,
            guard: relay.guard,
            answers: Vec::new(),
            stage: Stage::Open { leaving: None },
            idle: relay.idle,
            last_activity: Instant::now(),
            traffic,
        }
    }

    /// Acts upon what `cut` says.
    fn be_told(&mut self, cause: Option<CloseCause>) {
        let Some(cause) = cause else { return };
        match self.stage {
            Stage::Open { .. } if cause == CloseCause::Drain => {
                self.stage = Stage::Open { leaving: Some(cause) }
            }
            Stage::Open { .. } => self.cut(cause),
            // It is closing already; who is in a hurry may shorten that.
            Stage::Flush { cause: before, until } if cause != CloseCause::Drain => {
                self.stage = Stage::Flush {
                    cause: before,
                    until: until.min(Instant::now() + BOUNDARY_WITHIN),
                };
            }
            Stage::Boundary { .. } | Stage::Flush { .. } | Stage::Linger { .. } => {}
        }
    }

    /// Ends the session soon.
    fn cut(&mut self, cause: CloseCause) {
        let now = Instant::now();
        self.stage = Stage::Boundary {
            cause,
            until: now + BOUNDARY_WITHIN,
            end: now + CUT_WITHIN,
        };
    }

    /// Ends the session once the client has what passed; with a goodbye if one may be said.
    fn leave(&mut self, cause: CloseCause, until: Instant) {
        if says_goodbye(cause) && self.may_speak() {
            let goodbye = self.guard.goodbye(cause);
            self.down.unsent.extend_from_slice(goodbye.as_slice());
        }
        self.stage = Stage::Flush { cause, until };
    }

    fn may_speak(&self) -> bool {
        // The guard counts an opaque literal as passed when it has seen its beginning.
        self.down.opaque == 0 && self.guard.safe_to_speak()
    }

    fn wake_at(&self) -> Instant {
        match self.stage {
            Stage::Open { .. } => self.last_activity + self.idle,
            Stage::Boundary { until, .. } | Stage::Flush { until, .. } | Stage::Linger { until, .. } => until,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Ended> {
        // A busy session never waits for the timer.
        if !matches!(self.stage, Stage::Open { .. })
            && self.wake_at() <= Instant::now()
            && let Some(cause) = self.time_is_over()
        {
            return Poll::Ready(self.ended(cause));
        }
        for _ in 0..STEPS_A_TURN {
            let progress = match self.stage {
                Stage::Open { leaving } => self.relay(cx, leaving),
                Stage::Boundary { cause, end, .. } => self.seek_boundary(cx, cause, end),
                Stage::Flush { cause, until } => self.flush(cx, cause, until),
                Stage::Linger { .. } => self.linger(cx),
            };
            match (progress, self.stage) {
                (Progress::Made, _) => {}
                (Progress::Over, Stage::Linger { cause, .. }) => return Poll::Ready(self.ended(cause)),
                (Progress::None | Progress::Over, _) => {
                    ready!(self.poll_timer(cx, timer.as_mut()));
                    if let Some(cause) = self.time_is_over() {
                        return Poll::Ready(self.ended(cause));
                    }
                }
            }
        }
        // Others on this thread want their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the stage's time is over. The timer is set anew only when it fires or must fire earlier, so that a byte
    /// costs it nothing.
    fn poll_timer(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        let wake_at = self.wake_at();
        if wake_at < timer.deadline() {
            timer.as_mut().reset(wake_at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if wake_at <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(wake_at);
        }
    }

    /// Moves on to the next stage, or says why the session is over.
    fn time_is_over(&mut self) -> Option<CloseCause> {
        match self.stage {
            Stage::Open { .. } => self.leave(CloseCause::Idle, Instant::now() + FLUSH_WITHIN),
            Stage::Boundary { cause, end, .. } => self.leave(cause, end),
            Stage::Flush { cause, .. } | Stage::Linger { cause, .. } => return Some(cause),
        }
        None
    }

    fn ended(&self, cause: CloseCause) -> Ended {
        Ended {
            cause,
            up: self.traffic.up.load(Ordering::Relaxed),
            down: self.traffic.down.load(Ordering::Relaxed),
        }
    }
}

/// What one step achieved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Something; another step may achieve more.
    Made,
    /// Nothing; the task is woken when that may change.
    None,
    /// Nothing is left to do.
    Over,
}

// --- the stages
impl Splice<'_> {
    /// One burst in each direction.
    fn relay(&mut self, cx: &mut Context<'_>, leaving: Option<CloseCause>) -> Progress {
        // Downward first: an answer to the client goes behind what the upstream has said.
        let mut progress = Progress::None;
        for direction in [Direction::Down, Direction::Up] {
            if let Some(cause) = leaving.filter(|_| self.may_speak()) {
                self.leave(cause, Instant::now() + FLUSH_WITHIN);
                return Progress::Made;
            }
            match self.pump(direction, cx) {
                Ok(Progress::None) => {}
                Ok(_) => progress = Progress::Made,
                Err(cause) => {
                    self.leave(cause, Instant::now() + FLUSH_WITHIN);
                    return Progress::Made;
                }
            }
        }
        if self.down.is_over() {
            let cause = if self.up.ended {
                CloseCause::ClientClosed
            } else {
                CloseCause::UpstreamClosed
            };
            self.leave(cause, Instant::now() + FLUSH_WITHIN);
            return Progress::Made;
        }
        if progress == Progress::None && self.deadlocked() {
            self.leave(CloseCause::Desync, Instant::now() + FLUSH_WITHIN);
            return Progress::Made;
        }
        progress
    }

    /// Each side holds for the other, and neither can come.
    fn deadlocked(&self) -> bool {
        let stuck = |flow: &Flow, other: &Flow| {
            flow.hold == Some(HoldFor::OtherSide)
                && flow.seen_passes == other.passes
                && flow.unsent.is_empty()
        };
        stuck(&self.up, &self.down) && stuck(&self.down, &self.up)
    }

    fn seek_boundary(&mut self, cx: &mut Context<'_>, cause: CloseCause, end: Instant) -> Progress {
        if self.may_speak() || self.down.is_over() {
            self.leave(cause, end);
            return Progress::Made;
        }
        match self.pump(Direction::Down, cx) {
            Ok(Progress::None) => Progress::None,
            Ok(_) => Progress::Made,
            Err(_) => {
                self.leave(cause, end);
                Progress::Made
            }
        }
    }

    /// Both sides get what passed, then our FIN. The upstream is not waited for when it has finished itself.
    fn flush(&mut self, cx: &mut Context<'_>, cause: CloseCause, until: Instant) -> Progress {
        let up = self.finish(Direction::Up, cx);
        let down = self.finish(Direction::Down, cx);
        if down.is_pending() || (up.is_pending() && !self.down.ended) {
            return Progress::None;
        }
        self.stage = Stage::Linger {
            cause,
            until: until.min(Instant::now() + LINGER_WITHIN),
        };
        Progress::Made
    }

    /// Ready when the destination has everything, or will never have it.
    fn finish(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        let sent = match ready!(self.send_unsent(direction, cx)) {
            Ok(()) => ready!(self.destination(direction).poll_shutdown_write(cx)),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            self.flow(direction).broken = true;
        }
        Poll::Ready(())
    }

    fn linger(&mut self, cx: &mut Context<'_>) -> Progress {
        let mut nowhere = pool::borrow();
        match self.client.poll_read(cx, &mut nowhere) {
            Poll::Pending => Progress::None,
            Poll::Ready(Ok(1..)) => Progress::Made,
            Poll::Ready(_) => Progress::Over,
        }
    }
}

// --- one direction
impl Splice<'_> {
    /// Moves one burst: sends what waits, inspects what is held, or reads more. `Err` is why the session ends.
    fn pump(&mut self, direction: Direction, cx: &mut Context<'_>) -> Result<Progress, CloseCause> {
        match self.send_unsent(direction, cx) {
            Poll::Pending => return Ok(Progress::None),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.destination_failed(direction, &error)?,
        }
        // The guard answers upward commands downward; who sends many and reads no answer is not read from.
        if direction == Direction::Up && self.down.unsent.len() + self.answers.len() > pool::BURST {
            return Ok(Progress::None);
        }
        let (other_passes, flow) = self.other_and_flow(direction);
        if flow.broken {
            flow.held = Vec::new();
            flow.hold = None;
        }
        let decidable = match flow.hold {
            None => !flow.held.is_empty(),
            Some(HoldFor::More) => false,
            Some(HoldFor::OtherSide) if flow.seen_passes != other_passes => true,
            // After the upstream's end nothing is worth waiting for.
            Some(HoldFor::OtherSide) if flow.ended && direction == Direction::Down => false,
            Some(HoldFor::OtherSide) => return Ok(Progress::None),
        };
        if decidable {
            return self.inspect_held(direction, cx);
        }
        if flow.ended {
            return self.pass_end_on(direction, cx);
        }
        self.read(direction, cx)
    }

    fn inspect_held(&mut self, direction: Direction, cx: &mut Context<'_>) -> Result<Progress, CloseCause> {
        let held = Zeroizing::new(std::mem::take(&mut self.flow(direction).held));
        self.inspect(direction, &held, cx)?;
        Ok(Progress::Made)
    }

    /// The source has finished and everything that may pass has passed: so does its end.
    fn pass_end_on(&mut self, direction: Direction, cx: &mut Context<'_>) -> Result<Progress, CloseCause> {
        let flow = self.flow(direction);
        // A partial line is not passed: nobody knows what it would have become.
        flow.held = Vec::new();
        flow.hold = None;
        if direction == Direction::Up && !flow.broken {
            match self.upstream.poll_shutdown_write(cx) {
                Poll::Ready(Err(error)) => self.destination_failed(direction, &error)?,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        Ok(Progress::None)
    }

    fn read(&mut self, direction: Direction, cx: &mut Context<'_>) -> Result<Progress, CloseCause> {
        let mut burst = pool::borrow();
        let held = self.flow(direction).held.len();
        burst[..held].copy_from_slice(&self.flow(direction).held);
        let source = match direction {
            Direction::Up => &mut self.client,
            Direction::Down => &mut self.upstream,
        };
        let count = match source.poll_read(cx, &mut burst[held..pool::BURST]) {
            Poll::Pending => return Ok(Progress::None),
            Poll::Ready(Ok(0)) => {
                self.flow(direction).ended = true;
                return Ok(Progress::Made);
            }
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Err(cause_of(direction, &error)),
        };
        if direction == Direction::Up {
            // A program that has lost its way says its password again. Downward it is mail, of which there is much more.
            burst.wipe_on_return(held + count);
        }
        self.last_activity = Instant::now();
        let flow = self.flow(direction);
        flow.held.zeroize();
        flow.held = Vec::new();
        if flow.broken {
            return Ok(Progress::Made);
        }
        self.inspect(direction, &burst[..held + count], cx)?;
        Ok(Progress::Made)
    }

    /// Shows bytes to the guard and sends on what it passes, each run of passed bytes in one piece.
    fn inspect(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), CloseCause> {
        let mut at = 0;
        // Passed and not handed on yet: bytes[run..at].
        let mut run = 0;
        self.flow(direction).hold = None;
        let result = loop {
            let rest = &bytes[at..];
            if rest.is_empty() {
                break Ok(());
            }
            let flow = self.flow(direction);
            if flow.opaque > 0 {
                let count = usize::try_from(flow.opaque).unwrap_or(usize::MAX).min(rest.len());
                flow.opaque -= count as u64;
                flow.passes += 1;
                at += count;
                if direction == Direction::Down && flow.opaque == 0 && !self.answers.is_empty() {
                    let answers = std::mem::take(&mut self.answers);
                    self.hand_on(direction, &bytes[run..at], cx)?;
                    self.hand_on(direction, &answers, cx)?;
                    run = at;
                }
                continue;
            }
            if self.stops_at_boundary(direction) {
                // The session is being cut and this is where it may hear of it: what follows is dropped.
                break Ok(());
            }
            match self.guard.inspect(direction, rest) {
                Watch::Pass(count) if fits(count, rest) => at += count,
                Watch::Opaque(count) if count > 0 => self.flow(direction).opaque = count,
                Watch::Replace(count, instead) if fits(count, rest) => {
                    self.hand_on(direction, &bytes[run..at], cx)?;
                    self.hand_on(direction, instead.as_slice(), cx)?;
                    at += count;
                    run = at;
                }
                Watch::AnswerClient(count, answer) if fits(count, rest) && direction == Direction::Up => {
                    self.hand_on(direction, &bytes[run..at], cx)?;
                    self.answer(answer, cx)?;
                    at += count;
                    run = at;
                }
                Watch::Hold(HoldFor::More) if rest.len() > MAX_HELD => break Err(CloseCause::TooLong),
                Watch::Hold(hold) => {
                    self.hold(direction, hold, rest);
                    break Ok(());
                }
                Watch::Close(cause) => break Err(cause),
                // Counts that are not of what was shown: the guard has lost its place.
                Watch::Pass(_) | Watch::Opaque(_) | Watch::Replace(..) | Watch::AnswerClient(..) => {
                    break Err(CloseCause::Desync);
                }
            }
            self.flow(direction).passes += 1;
        };
        // What passed before a close goes out all the same.
        self.hand_on(direction, &bytes[run..at], cx)?;
        result
    }

    fn stops_at_boundary(&self, direction: Direction) -> bool {
        direction == Direction::Down && matches!(self.stage, Stage::Boundary { .. }) && self.may_speak()
    }

    fn hold(&mut self, direction: Direction, hold: HoldFor, rest: &[u8]) {
        let (seen_passes, flow) = self.other_and_flow(direction);
        flow.held = rest.to_vec();
        flow.hold = Some(hold);
        flow.seen_passes = seen_passes;
    }

    /// An answer to the client, in order: behind a literal that is still going down.
    fn answer(&mut self, answer: OutBuf, cx: &mut Context<'_>) -> Result<(), CloseCause> {
        if self.down.opaque > 0 {
            self.answers.extend_from_slice(answer.as_slice());
            return Ok(());
        }
        self.down.passes += 1;
        self.hand_on(Direction::Down, answer.as_slice(), cx)
    }

    /// Sends passed bytes, and keeps what the destination does not take now.
    fn hand_on(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), CloseCause> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut rest = bytes;
        while !rest.is_empty() && self.flow(direction).unsent.is_empty() {
            if self.flow(direction).broken {
                return Ok(());
            }
            match self.destination(direction).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => {
                    return self.destination_failed(direction, &io::ErrorKind::BrokenPipe.into());
                }
                Poll::Ready(Ok(taken)) => {
                    self.count(direction, taken);
                    rest = &rest[taken..];
                }
                Poll::Ready(Err(error)) => return self.destination_failed(direction, &error),
                Poll::Pending => break,
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let flow = self.flow(direction);
        flow.unsent.reserve_exact(rest.len());
        flow.unsent.extend_from_slice(rest);
        Ok(())
    }

    fn send_unsent(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flow(direction).broken {
            return Poll::Ready(Ok(()));
        }
        let mut unsent = std::mem::take(&mut self.flow(direction).unsent);
        let mut sent = 0;
        let result = loop {
            if sent == unsent.len() {
                break self.destination(direction).poll_flush(cx);
            }
            match self.destination(direction).poll_write(cx, &unsent[sent..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => sent += taken,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent > 0 {
            self.last_activity = Instant::now();
            self.count(direction, sent);
        }
        if sent < unsent.len() {
            unsent.drain(..sent);
            self.flow(direction).unsent = unsent;
        }
        result
    }

    /// A client that takes nothing ends the session. An upstream that takes nothing may still have said why: its last
    /// words are read first.
    fn destination_failed(&mut self, direction: Direction, error: &io::Error) -> Result<(), CloseCause> {
        let flow = self.flow(direction);
        flow.broken = true;
        flow.unsent = Vec::new();
        match direction {
            Direction::Up => Ok(()),
            Direction::Down => Err(cause_of(Direction::Up, error)),
        }
    }

    fn count(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Up => &self.traffic.up,
            Direction::Down => &self.traffic.down,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn destination(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Up => &mut self.upstream,
            Direction::Down => &mut self.client,
        }
    }

    fn flow(&mut self, direction: Direction) -> &mut Flow {
        self.other_and_flow(direction).1
    }

    /// What has passed the other way, and this direction.
    fn other_and_flow(&mut self, direction: Direction) -> (u64, &mut Flow) {
        match direction {
            Direction::Up => (self.down.passes, &mut self.up),
            Direction::Down => (self.up.passes, &mut self.down),
        }
    }
}

impl Flow {
    /// The source has finished, and all that may pass has passed.
    fn is_over(&self) -> bool {
        self.ended && self.held.is_empty()
    }
}

/// Whether a count of the guard is one of the bytes it was shown.
fn fits(count: usize, shown: &[u8]) -> bool {
    (1..=shown.len()).contains(&count)
}

/// Whether the client should hear why: not when it closed itself, nor when the upstream has said its own goodbye.
fn says_goodbye(cause: CloseCause) -> bool {
    !matches!(
        cause,
        CloseCause::ClientQuit | CloseCause::ClientClosed | CloseCause::UpstreamClosed | CloseCause::Io
    )
}

/// Why a session ends whose source in this direction failed.
fn cause_of(direction: Direction, error: &io::Error) -> CloseCause {
    use io::ErrorKind::*;
    match (error.kind(), direction) {
        (ConnectionReset | BrokenPipe | NotConnected, Direction::Up) => CloseCause::ClientClosed,
        (ConnectionReset | BrokenPipe | NotConnected, Direction::Down) => CloseCause::UpstreamClosed,
        _ => CloseCause::Io,
    }
}

/// From a cut to the end of the session, whatever the client does.
pub const CUT_WITHIN: Duration = Duration::from_millis(800);

/// How long a cut waits for a place where a goodbye may be said.
const BOUNDARY_WITHIN: Duration = Duration::from_millis(250);

/// How long a client that is slow, but not cut, may take for what passed before the end: at most two bursts.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);

/// How long after our FIN the client's last bytes are read and dropped.
const LINGER_WITHIN: Duration = Duration::from_secs(1);

/// Steps before other tasks of the thread get their turn; a step moves at most a burst each way.
const STEPS_A_TURN: usize = 8;
