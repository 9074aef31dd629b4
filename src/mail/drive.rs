//! One machine on one stream: feeds input, sends output, waits. Names no protocol and decides nothing.

use crate::net::{Stream, pool};
use crate::secret::extend_wiping;
use crate::wire::{CloseCause, Machine, OutBuf, Step};
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;
use zeroize::Zeroizing;

/// How much is read at once before sign-in: commands are short.
const READ: usize = 4 * 1024;

/// How long a peer may take to hear that we close.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A machine and its stream.
pub(super) struct Drive<M: ?Sized> {
    stream: Stream,
    machine: Box<M>,
    out: OutBuf,
    /// Bytes read that the machine has not taken yet.
    unread: Zeroizing<Vec<u8>>,
    /// The peer sends nothing more.
    ended: bool,
}

/// What the machine asks of its owner.
pub(super) enum Turn<E> {
    /// An event, after everything before it was sent.
    Event(E),
    /// Its last words were sent; close.
    Close(CloseCause),
}

impl<M: Machine + ?Sized> Drive<M> {
    pub(super) fn new(stream: Stream, machine: Box<M>) -> Self {
        Drive {
            stream,
            machine,
            out: OutBuf::new(),
            unread: Zeroizing::new(Vec::new()),
            ended: false,
        }
    }

    /// The machine, to be told what became of its events.
    pub(super) fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Runs the machine until it wants something from its owner. Whoever stops waiting for it may lose an event and must
    /// end the conversation; `until` bounds the sending, so that a peer that does not read holds nothing for ever.
    pub(super) async fn turn(&mut self, until: Instant) -> io::Result<Turn<M::Event>> {
        loop {
            match self.step(until).await? {
                Step::Flush => {}
                Step::Event(event) => return Ok(Turn::Event(event)),
                Step::Close(cause) => return Ok(Turn::Close(cause)),
                Step::Wait { until } => self.wait(until).await?,
            }
        }
    }

    /// One step, and what it says is sent.
    pub(super) async fn step(&mut self, until: Instant) -> io::Result<Step<M::Event>> {
        self.feed();
        let step = self.machine.step(now(), &mut self.out);
        if !self.out.is_empty() {
            self.stream
                .write_all(self.out.as_slice(), until.max(now() + LAST_WORDS))
                .await?;
            self.out.clear();
        }
        Ok(step)
    }

    /// Takes in what the peer sends while a decision is made elsewhere; returns only when the connection has failed. What
    /// does not fit under the machine's limits stays in the socket. Stopping at any point loses nothing.
    pub(super) async fn listen(&mut self) -> io::Error {
        loop {
            self.feed();
            if self.ended || !self.unread.is_empty() {
                std::future::pending::<()>().await;
            }
            if let Err(error) = self.read().await {
                return error;
            }
        }
    }

    /// Closes in order: what was said arrives before the end does.
    pub(super) async fn close(self) {
        close(self.stream, now() + LAST_WORDS).await;
    }

    /// The stream, the machine, and received bytes that the machine has not taken.
    pub(super) fn into_parts(self) -> (Stream, Box<M>, Zeroizing<Vec<u8>>) {
        (self.stream, self.machine, self.unread)
    }

    fn feed(&mut self) {
        let mut taken = 0;
        while taken < self.unread.len() {
            match self.machine.input(&self.unread[taken..]) {
                0 => break,
                count => taken += count,
            }
        }
        if taken > 0 {
            // What is taken would stay behind the end of a buffer that lives as long as the connection.
            let rest = self.unread[taken..].to_vec();
            self.unread = Zeroizing::new(rest);
        }
        if self.ended && self.unread.is_empty() {
            self.machine.end_of_input();
        }
    }

    async fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        if self.ended || !self.unread.is_empty() {
            // Nothing can come from the peer that the machine would take: only time helps.
            return sleep_until(until).await;
        }
        tokio::select! {
            read = self.read() => read,
            slept = sleep_until(until) => slept,
        }
    }

    /// Waits for bytes and reads them. The buffer is borrowed only while there are some: held while waiting, it would be
    /// most of what a connection weighs that has not signed in.
    async fn read(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut buffer = pool::borrow();
            match ready!(self.stream.poll_read(cx, &mut buffer[..READ]))? {
                0 => self.ended = true,
                count => {
                    buffer.wipe_on_return(count);
                    extend_wiping(&mut self.unread, &buffer[..count]);
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// Ends our side, then takes and drops what the peer still sends: closing a socket with unread bytes in it sends a reset,
/// which takes the last words from the peer's buffer.
pub(super) async fn close(mut stream: Stream, deadline: Instant) {
    if stream.shutdown_write(deadline).await.is_err() {
        return;
    }
    let rest = poll_fn(|cx| {
        let mut nowhere = pool::borrow();
        while let Ok(1..) = ready!(stream.poll_read(cx, &mut nowhere[..READ])) {}
        Poll::Ready(())
    });
    let _ = timeout_at(deadline.into(), rest).await;
}

/// The runtime's clock, so that virtual time in tests reaches the machines.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(until: Option<Instant>) -> io::Result<()> {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
    Ok(())
}
