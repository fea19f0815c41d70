//! A pause for one turn of the runtime.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A pause until the runtime has looked for bytes that have arrived.
///
/// The HTTP client can poll a body twice in succession, and `yield_now` ends at the second poll
/// even if the runtime has not yet had its turn. This pause ends only when the runtime wakes it.
#[derive(Debug)]
pub(super) struct Turn(Arc<TurnWaker>);

#[derive(Debug, Default)]
struct TurnWaker {
    has_passed: AtomicBool,
    waiting: AtomicWaker,
}

impl Turn {
    pub(super) fn begin() -> Turn {
        let turn = Arc::<TurnWaker>::default();
        let waker = Waker::from(Arc::clone(&turn));
        // The first poll passes the waker to the runtime. The future itself is not needed any more.
        let _pending = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        Turn(turn)
    }

    pub(super) fn has_passed(&self) -> bool {
        self.0.has_passed.load(Ordering::Acquire)
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.waiting.register(context.waker());
        if self.has_passed() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        self.has_passed.store(true, Ordering::Release);
        self.waiting.wake();
    }
}
