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
/// The longest time between two searches for connections that the server has closed. Until they are
/// closed on this side too, they need a file each.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// The idle connections to a server. If it is dropped, the connections are closed.
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

    /// Closes connections that were idle for too long, or that the server has closed. Returns the
    /// time until the next search, or `None` if the pool is empty.
    fn close_old(&self) -> Option<Duration> {
        let mut idle = self.idle();
        let now = Instant::now();
        let age = |since: Instant| now.saturating_duration_since(since);
        idle.connections.retain_mut(|(since, connection)| {
            age(*since) < self.keep_alive && connection.socket.is_idle()
        });
        let oldest = idle.connections.first().map(|(since, _)| age(*since));
        idle.is_watched = oldest.is_some();
        Some(self.keep_alive.saturating_sub(oldest?).min(MAX_INTERVAL))
    }
}

async fn close_old(pool: Weak<Pool>, first: Duration) {
    let mut wait = first;
    loop {
        tokio::time::sleep(wait).await;
        match pool.upgrade().and_then(|pool| pool.close_old()) {
            Some(next) => wait = next,
            None => return,
        }
    }
}
