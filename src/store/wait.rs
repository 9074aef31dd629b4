//! Waiting for a future on a plain thread, inside or outside of a runtime.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future that needs no runtime.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    // Looking up once an hour costs nothing, and one loop serves both functions.
    let done: Result<F::Output, std::convert::Infallible> =
        block_on_unless(future, Duration::from_secs(3600), || Ok(()));
    match done {
        Ok(output) => output,
    }
}

/// Waits for a future that needs no runtime, but asks now and then whether that still makes sense.
pub(super) fn block_on_unless<F: Future, E>(
    future: F,
    now_and_then: Duration,
    mut sensible: impl FnMut() -> Result<(), E>,
) -> Result<F::Output, E> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return Ok(output),
            Poll::Pending => thread::park_timeout(now_and_then),
        }
        sensible()?;
    }
}
