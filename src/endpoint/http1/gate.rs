//! Limits how many requests open a connection in one turn of the runtime.
//!
//! In a burst without idle connections, each request needs some CPU time to connect. If all of them
//! began at once, each would wait for the connecting of all others before it could write. This wait
//! would look like a slow server. So a request waits at the gate before it begins, and this wait is
//! dispatch lag. A request that has passed the gate shares the runtime with few others until it has
//! written.
//!
//! The gate does not wait for the server. A request leaves it after one turn of the runtime, in
//! which a near server has accepted the connection and the request is written.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::super::turn::Turn;

/// The number of requests that begin to connect in one turn. It is a few milliseconds of work.
const PLACES: usize = 32;

#[derive(Debug)]
pub(super) struct Gate(Semaphore);

/// A place in the gate.
pub(super) struct Place<'a> {
    /// `None` if the gate is open to all.
    _permit: Option<SemaphorePermit<'a>>,
}

impl Gate {
    pub(super) fn new() -> Gate {
        Gate(Semaphore::new(PLACES))
    }

    /// Waits for a place. Returns the time of the wait.
    pub(super) async fn enter(&self) -> (Place<'_>, Duration) {
        if let Ok(place) = self.0.try_acquire() {
            return (Place { _permit: Some(place) }, Duration::ZERO);
        }
        let begin = Instant::now();
        // Nobody closes the semaphore.
        let place = Place { _permit: self.0.acquire().await.ok() };
        (place, begin.elapsed())
    }
}

impl Place<'_> {
    /// Does `work` and leaves the place after one turn of the runtime.
    pub(super) async fn work<T>(self, work: impl Future<Output = T>) -> T {
        let (mut place, mut turn, mut work) = (Some(self), None, pin!(work));
        poll_fn(|context| {
            let result = work.as_mut().poll(context);
            if place.is_some() {
                // The turn begins after the first step of the work.
                let turn = turn.get_or_insert_with(Turn::begin);
                if result.is_ready() || Pin::new(turn).poll(context).is_ready() {
                    place = None;
                }
            }
            result
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn work_that_takes_long_leaves_its_place_after_a_turn_of_the_runtime() {
        let gate = Gate::new();
        let (at_once, most) = (Cell::new(0), Cell::new(0));
        let begun = Cell::new(0);
        let all = join_all((0..10 * PLACES).map(|_| async {
            let (place, _) = gate.enter().await;
            at_once.set(at_once.get() + 1);
            most.set(most.get().max(at_once.get()));
            let work = async {
                tokio::task::yield_now().await;
                at_once.set(at_once.get() - 1);
                begun.set(begun.get() + 1);
                // The server never responds.
                std::future::pending::<()>().await;
            };
            place.work(work).await;
        }));
        let every = async {
            while begun.get() < 10 * PLACES {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _never = all => unreachable!("no work ends"),
            () = every => {}
        }
        assert!(most.get() <= PLACES, "{}", most.get());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_request_that_finds_no_place_waits() {
        let gate = Gate::new();
        let mut places = Vec::new();
        for _ in 0..PLACES {
            let (place, waited) = gate.enter().await;
            assert_eq!(waited, Duration::ZERO);
            places.push(place);
        }
        let leave = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            places.pop();
        };
        let ((_, waited), ()) = tokio::join!(gate.enter(), leave);
        assert_eq!(waited, Duration::from_millis(3));
    }
}
