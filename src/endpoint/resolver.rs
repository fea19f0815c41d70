//! Resolves host names with the resolver of the system, in threads that only name lookups use.
//!
//! `getaddrinfo` blocks its thread, possibly forever, and no other thread can end it. So lookups
//! share no threads with other work, and the number of their threads has a limit. Connections to
//! the same name share one lookup. If a lookup takes long, a later connection starts one more,
//! because the system waits for seconds before it repeats a lost question.
//!
//! Each new connection causes a lookup, because a name can get another address while the daemon
//! runs. The system can cache addresses. llmload does not cache them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::dns::{Name, Resolve, Resolving};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::measurement::LookupFault;

/// The highest number of threads that look up the same name. Lookups that never end keep their
/// threads, so a name never gets more threads than this.
const MAX_THREADS_PER_NAME: usize = 4;
/// The highest number of lookup threads of the process. A reload can change the names, so the limit
/// per name is not enough.
const MAX_THREADS: usize = 256;
/// The age at which a lookup counts as stuck, so the next connection starts another lookup.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// The lookups of this process. All clients share them, because a reload creates new clients while
/// lookups of the previous clients can still be under way.
static LOOKUPS: LazyLock<Arc<Lookups>> = LazyLock::new(|| {
    Arc::new(Lookups::new(|name| Ok((name, 0).to_socket_addrs()?.collect::<Vec<_>>())))
});

tokio::task_local! {
    /// The lookup of the connection that the current task establishes. The resolver writes this
    /// value and the connector reads it. The HTTP library calls the resolver from within its
    /// connector and offers no other way to pass the value.
    static LOOKUP: RefCell<Option<ConnectionLookup>>;
}

/// The lookup that a connection needs.
struct ConnectionLookup {
    name: String,
    /// The duration. `None` if the lookup has not ended.
    time: Option<Duration>,
}

/// Waits for a connector, and ends it after `limit`. Returns the connection and the duration of its
/// lookup, which is `None` if the URL has an IP address instead of a name.
///
/// # Errors
/// The error of the connector. If the time ends, the error is a [`LookupError`] if the lookup has
/// not ended, and otherwise an error of the kind `TimedOut`.
pub(super) async fn connect_within<T>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, Box<dyn Error + Send + Sync>>>,
) -> Result<(T, Option<Duration>), Box<dyn Error + Send + Sync>> {
    let within_scope = async {
        let outcome = tokio::time::timeout(limit, connecting).await;
        (outcome, LOOKUP.with(RefCell::take))
    };
    match LOOKUP.scope(RefCell::new(None), within_scope).await {
        (Ok(connected), lookup) => Ok((connected?, lookup.and_then(|lookup| lookup.time))),
        (Err(_), Some(ConnectionLookup { name, time: None })) => {
            Err(LookupError::TimedOut { name, limit }.into())
        }
        (Err(_), _) => {
            let message = format!("no connection was established within {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
        }
    }
}

/// The resolver for the HTTP library.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = addresses_of(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

/// Returns the addresses of a name, with the port 0. The connector that calls this function within
/// [`connect_within`] learns the duration.
pub(super) async fn addresses_of(name: &str) -> Result<Vec<SocketAddr>, LookupError> {
    let start = Instant::now();
    record(name, None);
    let addresses = LOOKUPS.resolve(name).await?;
    record(name, Some(start.elapsed()));
    Ok(addresses)
}

fn record(name: &str, time: Option<Duration>) {
    // This fails if the resolver is not called by a connector. In that case, nothing reads the
    // value.
    let _no_scope = LOOKUP
        .try_with(|lookup| lookup.replace(Some(ConnectionLookup { name: name.to_owned(), time })));
}

/// An error of a name lookup.
#[derive(Clone, Debug)]
pub(super) enum LookupError {
    /// The resolver of the system returned an error.
    Failed { name: String, source: Arc<io::Error> },
    /// The lookup had not ended after the time for a connection.
    TimedOut { name: String, limit: Duration },
    /// All threads for lookups wait for answers.
    NoFreeThread { name: String },
    /// The system did not permit a further thread.
    NoThread { source: Arc<io::Error> },
}

impl LookupError {
    /// Returns true if this machine, and not the resolver, is the reason.
    pub(super) fn is_out_of_threads(&self) -> bool {
        matches!(self, LookupError::NoThread { .. })
    }

    /// Returns the cause. It decides which remedy helps.
    pub(super) fn fault(&self) -> LookupFault {
        match self {
            LookupError::Failed { source, .. } if !is_temporary(source) => LookupFault::UnknownName,
            _ => LookupFault::NoAnswer,
        }
    }
}

/// Returns true for the error `EAI_AGAIN`: no name server returned a usable answer. The standard
/// library passes on only the text of the error. The texts are those of glibc, musl and macOS.
fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string();
    ["Temporary failure in name resolution", "Try again", "not known, try again"]
        .iter()
        .any(|temporary| text.contains(temporary))
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::Failed { name, source } => {
                let text = source.to_string();
                let text = text.rsplit_once("address information: ").map_or(&*text, |(_, why)| why);
                write!(f, "the name `{name}` was not resolved: {text}")
            }
            LookupError::TimedOut { name, limit } => {
                write!(f, "the name `{name}` was not resolved within {limit:?}")
            }
            LookupError::NoFreeThread { name } => write!(
                f,
                "the name `{name}` was not resolved: {MAX_THREADS} earlier lookups have no answer"
            ),
            LookupError::NoThread { source } => {
                write!(f, "no thread can be started for a name lookup: {source}")
            }
        }
    }
}

impl Error for LookupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            LookupError::Failed { source, .. } | LookupError::NoThread { source } => {
                Some(&**source)
            }
            LookupError::TimedOut { .. } | LookupError::NoFreeThread { .. } => None,
        }
    }
}

type Answer = Result<Vec<SocketAddr>, LookupError>;
type BlockingLookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks up names in threads.
struct Lookups {
    names: Mutex<Names>,
    lookup: Box<BlockingLookup>,
}

impl Lookups {
    fn new(
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Lookups {
        Lookups { names: Mutex::default(), lookup: Box::new(lookup) }
    }

    /// Returns the addresses of a name. Joins the lookup of this name that is under way, or starts
    /// one. If the caller drops the future, the lookup continues.
    async fn resolve(self: &Arc<Self>, name: &str) -> Answer {
        let now = Instant::now();
        let join = self.names().join(name, now);
        let (mut answer, is_first) =
            join.ok_or_else(|| LookupError::NoFreeThread { name: name.to_owned() })?;
        if is_first {
            self.start(name, now);
        }
        // The lookups keep the sender until they send the answer.
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(|| Ok(Vec::new())),
            Err(_) => Err(LookupError::NoFreeThread { name: name.to_owned() }),
        }
    }

    fn start(self: &Arc<Self>, name: &str, begun: Instant) {
        let (lookups, owned) = (Arc::clone(self), name.to_owned());
        let started = std::thread::Builder::new().name("lookup".into()).spawn(move || {
            let answer = (lookups.lookup)(&owned).map_err(|source| LookupError::Failed {
                name: owned.clone(),
                source: Arc::new(source),
            });
            lookups.names().end(&owned, begun, answer);
        });
        if let Err(source) = started {
            let error = LookupError::NoThread { source: Arc::new(source) };
            self.names().end(name, begun, Err(error));
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names whose lookups are under way.
#[derive(Default)]
struct Names {
    by_name: HashMap<String, Question>,
    /// The number of threads of all names.
    threads: usize,
}

/// One name and the connections that wait for its addresses.
struct Question {
    answer: watch::Sender<Option<Answer>>,
    /// The start of each lookup that is under way. No two lookups of a name start at the same time.
    begun: Vec<Instant>,
}

impl Names {
    /// Adds a connection that waits for the addresses of a name. Returns the receiver of the
    /// answer, and true if the caller must start a lookup. Returns `None` if no lookup is under way
    /// and none can start.
    fn join(
        &mut self,
        name: &str,
        now: Instant,
    ) -> Option<(watch::Receiver<Option<Answer>>, bool)> {
        let has_free_thread = self.threads < MAX_THREADS;
        if !self.by_name.contains_key(name) && !has_free_thread {
            return None;
        }
        let question = self.by_name.entry(name.to_owned()).or_insert_with(Question::new);
        let is_stuck = |begun: &Instant| now.saturating_duration_since(*begun) >= STUCK_AFTER;
        let starts = has_free_thread
            && question.begun.len() < MAX_THREADS_PER_NAME
            && question.begun.iter().all(is_stuck);
        if starts {
            question.begun.push(now);
            self.threads += 1;
        }
        Some((question.answer.subscribe(), starts))
    }

    /// Ends the lookup that began at `begun`, and sends its answer to all connections that wait. An
    /// error is not sent if a later lookup of the name is under way, because that lookup can still
    /// succeed.
    fn end(&mut self, name: &str, begun: Instant, answer: Answer) {
        let Some(question) = self.by_name.get_mut(name) else { return };
        let before = question.begun.len();
        question.begun.retain(|other| *other != begun);
        self.threads -= before - question.begun.len();
        if answer.is_ok() || question.begun.iter().all(|other| *other < begun) {
            let waiting = std::mem::replace(&mut question.answer, Question::new().answer);
            waiting.send_replace(Some(answer));
        }
        if question.begun.is_empty() {
            self.by_name.remove(name);
        }
    }
}

impl Question {
    fn new() -> Question {
        Question { answer: watch::Sender::new(None), begun: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
