//! The idle connections to a server.
//!
//! The last connection that became idle is used first, so connections that are not needed any more
//! reach the end of their time. A task closes them while the pool has any.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::connect::Connection;

/// The highest number of idle connections. A machine has no more local ports to a server.
const MAX_IDLE: usize = 65_536;
/// The number of connections that are examined at once.
const PART: usize = 64;
/// The longest time between two searches for connections that the server has closed. Until llmload
/// closes such a connection too, the connection needs a file.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// The idle connections to a server. Dropping the pool closes them.
#[derive(Debug)]
pub(super) struct Pool {
    /// The time for which an idle connection stays open.
    keep_alive: Duration,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The connections and the instants at which they became idle, the oldest first.
    connections: Vec<(Instant, Connection)>,
    /// True while a task closes old connections.
    is_watched: bool,
}

impl Pool {
    pub(super) fn new(keep_alive: Duration) -> Pool {
        Pool { keep_alive, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection that became idle last and is still open.
    pub(super) fn take(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().connections.pop()?;
            if since.elapsed() < self.keep_alive && connection.socket.is_idle() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: &Arc<Self>, connection: Connection) {
        let mut idle = self.idle();
        if idle.connections.len() >= MAX_IDLE {
            return;
        }
        idle.connections.push((Instant::now(), connection));
        if !idle.is_watched
            && let Ok(runtime) = Handle::try_current()
        {
            idle.is_watched = true;
            runtime.spawn(close_old(Arc::downgrade(self), self.keep_alive.min(MAX_INTERVAL)));
        }
    }

    /// Removes connections that were idle for too long.
    fn remove_old(&self) -> Vec<(Instant, Connection)> {
        let mut idle = self.idle();
        let now = Instant::now();
        let is_old = |(since, _): &(Instant, Connection)| {
            now.saturating_duration_since(*since) >= self.keep_alive
        };
        let old = idle.connections.partition_point(is_old);
        idle.connections.drain(..old).collect()
    }

    /// Removes connections that the server has closed, from a part of the pool. Requests wait for
    /// the pool in this time. Returns `None` after the last part.
    fn remove_closed(&self, part: usize) -> Option<Vec<(Instant, Connection)>> {
        let mut idle = self.idle();
        let start = part * PART;
        let end = idle.connections.len().min(start + PART);
        let range = (start < end).then_some(start..end)?;
        Some(idle.connections.extract_if(range, |(_, open)| !open.socket.is_idle()).collect())
    }

    /// Returns the time until the next search for old connections, or `None` if the pool is empty.
    fn next_search(&self) -> Option<Duration> {
        let mut idle = self.idle();
        let oldest = idle.connections.first().map(|(since, _)| since.elapsed());
        idle.is_watched = oldest.is_some();
        Some(self.keep_alive.saturating_sub(oldest?).min(MAX_INTERVAL))
    }
}

async fn close_old(pool: Weak<Pool>, first: Duration) {
    let mut wait = first;
    loop {
        tokio::time::sleep(wait).await;
        let Some(pool) = pool.upgrade() else { return };
        drop(pool.remove_old());
        let mut part = 0;
        while let Some(closed) = pool.remove_closed(part) {
            // The next connections move to the places of the removed ones.
            part += usize::from(closed.is_empty());
            drop(closed);
            tokio::task::yield_now().await;
        }
        match pool.next_search() {
            Some(next) => wait = next,
            None => return,
        }
    }
}
