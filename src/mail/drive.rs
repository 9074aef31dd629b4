//! One machine on one stream: feeds input, sends output, waits. Names no protocol and decides nothing.

use crate::net::Stream;
use crate::wire::{CloseCause, Machine, OutBuf, Step};
use std::io;
use std::time::Instant;
use zeroize::Zeroizing;

/// How much is read at once before sign-in; commands are short, and a larger buffer would be paid by every connection.
const READ: usize = 4 * 1024;

/// A machine and its stream. Every method is cancel-safe: what was read or written half is remembered here.
pub(super) struct Drive<M: ?Sized> {
    /// The connection.
    pub(super) stream: Stream,
    /// The machine.
    pub(super) machine: Box<M>,
    out: OutBuf,
    sent: usize,
    /// Bytes read that the machine has not taken yet.
    unread: Zeroizing<Vec<u8>>,
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
        Drive { stream, machine, out: OutBuf::new(), sent: 0, unread: Zeroizing::new(Vec::new()), ended: false }
    }

    /// Runs the machine until it wants something from its owner.
    pub(super) async fn turn(&mut self) -> io::Result<Turn<M::Event>> {
        loop {
            self.flush().await?;
            self.feed();
            let step = self.machine.step(now(), &mut self.out);
            self.flush().await?;
            match step {
                Step::Flush => {}
                Step::Event(event) => return Ok(Turn::Event(event)),
                Step::Close(cause) => return Ok(Turn::Close(cause)),
                Step::Wait { until } => self.wait(until).await?,
            }
        }
    }

    /// Takes in what the peer sends while a decision is made elsewhere; returns only when the peer is gone for sure. What
    /// does not fit under the machine's limits stays in the socket.
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

    /// Whether bytes were received that the machine has not taken.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The stream and the machine with every received byte that the machine has not taken.
    pub(super) fn into_parts(self) -> (Stream, Box<M>, Zeroizing<Vec<u8>>) {
        (self.stream, self.machine, self.unread)
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.try_write(&self.out.as_slice()[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        self.stream.flush().await
    }

    fn feed(&mut self) {
        while !self.unread.is_empty() {
            let taken = self.machine.input(&self.unread);
            if taken == 0 {
                return;
            }
            self.unread.drain(..taken);
        }
        if self.ended {
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

    async fn read(&mut self) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            let mut buffer = Zeroizing::new([0u8; READ]);
            match self.stream.try_read(&mut buffer[..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(count) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
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
