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
    /// value and the connector reads it. The HTTP client calls the resolver from within the
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

/// The resolver of the HTTP clients.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let (name, start) = (name.as_str(), Instant::now());
            record(name, None);
            let addresses = LOOKUPS.resolve(name).await?;
            record(name, Some(start.elapsed()));
            Ok(Box::new(addresses.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
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
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn address(port: u16) -> Answer {
        Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
    }

    fn failed(text: &str) -> Answer {
        let source = Arc::new(io::Error::other(text.to_owned()));
        Err(LookupError::Failed { name: "a".into(), source })
    }

    fn text(answer: &watch::Receiver<Option<Answer>>) -> String {
        match &*answer.borrow() {
            None => "waits".to_owned(),
            Some(Ok(addresses)) => format!("{addresses:?}"),
            Some(Err(error)) => error.to_string(),
        }
    }

    #[test]
    fn a_name_without_an_answer_gets_four_threads_and_never_more() {
        let (mut names, start) = (Names::default(), Instant::now());
        let mut begun = Vec::new();
        for millis in (0..60_000).step_by(10) {
            let now = start + Duration::from_millis(millis);
            if names.join("a", now).unwrap().1 {
                begun.push(millis);
            }
        }
        assert_eq!(begun, [0, 1_000, 2_000, 3_000]);
        assert_eq!(names.threads, 4);
        // Another name is not affected.
        assert!(names.join("b", start).unwrap().1);
        // A thread that ends is replaced, even if three threads never end.
        names.end("a", start, failed("late"));
        assert!(names.join("a", start + Duration::from_secs(60)).unwrap().1);
        assert!(!names.join("a", start + Duration::from_secs(120)).unwrap().1);
    }

    #[test]
    fn the_process_has_a_limit_of_threads_and_then_new_names_fail_at_once() {
        let (mut names, now) = (Names::default(), Instant::now());
        for number in 0..MAX_THREADS {
            assert!(names.join(&number.to_string(), now).unwrap().1);
        }
        assert!(names.join("new", now).is_none());
        assert!(!names.join("0", now + STUCK_AFTER).unwrap().1, "an old name waits");
        names.end("0", now, address(0));
        assert!(names.join("new", now).unwrap().1);
        for number in 1..MAX_THREADS {
            names.end(&number.to_string(), now, address(0));
        }
        names.end("new", now, address(0));
        assert_eq!((names.threads, names.by_name.len()), (0, 0), "nothing is left");
    }

    #[test]
    fn the_first_address_ends_the_wait_and_an_early_error_does_not() {
        let (mut names, start) = (Names::default(), Instant::now());
        let second = start + STUCK_AFTER;
        let (early, _) = names.join("a", start).unwrap();
        let (late, _) = names.join("a", second).unwrap();
        names.end("a", start, failed("lost"));
        assert_eq!((text(&early), text(&late)), ("waits".into(), "waits".into()));
        names.end("a", second, address(2));
        assert_eq!((text(&early), text(&late)), ("[192.0.2.1:2]".into(), "[192.0.2.1:2]".into()));

        let (early, _) = names.join("a", start).unwrap();
        let (late, _) = names.join("a", second).unwrap();
        names.end("a", second, failed("last"));
        let last = "the name `a` was not resolved: last";
        assert_eq!((text(&early), text(&late)), (last.into(), last.into()));
        // The answer of a lookup that was stuck is good for the connections that wait now.
        let (next, starts) = names.join("a", second + STUCK_AFTER).unwrap();
        assert!(starts);
        names.end("a", start, address(1));
        assert_eq!((text(&late), text(&next)), (last.into(), "[192.0.2.1:1]".into()));
    }

    /// The lookup waits until the test sends the addresses.
    fn controlled() -> (Arc<Lookups>, mpsc::Sender<u16>, mpsc::Receiver<String>) {
        let (answers, next_answer) = mpsc::channel();
        let (asked, questions) = mpsc::channel();
        let next_answer = Mutex::new(next_answer);
        let lookups = Lookups::new(move |name| {
            asked.send(name.to_owned()).unwrap();
            let next = next_answer.lock().unwrap().recv();
            next.map(|port| address(port).unwrap()).map_err(io::Error::other)
        });
        (Arc::new(lookups), answers, questions)
    }

    #[tokio::test]
    async fn connections_to_one_name_share_one_lookup() {
        let (lookups, answers, questions) = controlled();
        let waiting: Vec<_> = (0..100).map(|_| lookups.resolve("a")).collect();
        let all = futures_util::future::join_all(waiting);
        let answer = async {
            // The first poll of `join_all` has started the lookup.
            tokio::task::yield_now().await;
            answers.send(7).unwrap();
        };
        let (all, ()) = tokio::join!(all, answer);
        assert!(all.iter().all(|found| found.as_ref().unwrap() == &address(7).unwrap()));
        assert_eq!(questions.try_iter().collect::<Vec<_>>(), ["a"]);
        // The next connection needs a new lookup, because the address can have changed.
        answers.send(8).unwrap();
        assert_eq!(lookups.resolve("a").await.unwrap(), address(8).unwrap());
        assert_eq!(questions.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_ends_and_frees_its_thread() {
        let (lookups, answers, questions) = controlled();
        let lookup = lookups.resolve("a");
        drop(futures_util::future::select(Box::pin(lookup), std::future::ready(())).await);
        assert_eq!(questions.recv().unwrap(), "a");
        assert_eq!(lookups.names().threads, 1);
        drop(answers);
        while lookups.names().threads > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_text_of_the_system_decides_whether_the_name_is_unknown() {
        for (system, fault) in [
            ("Name or service not known", LookupFault::UnknownName),
            ("No address associated with hostname", LookupFault::UnknownName),
            ("Name does not resolve", LookupFault::UnknownName),
            ("Temporary failure in name resolution", LookupFault::NoAnswer),
            ("Try again", LookupFault::NoAnswer),
        ] {
            let text = format!("failed to lookup address information: {system}");
            let Err(error) = failed(&text) else { unreachable!() };
            assert_eq!(error.to_string(), format!("the name `a` was not resolved: {system}"));
            assert_eq!(error.fault(), fault, "{system}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_in_time_and_the_error_names_the_reason() {
        let limit = Duration::from_secs(5);
        let ended = |name: Option<&'static str>, time| async move {
            let connecting = async move {
                if let Some(name) = name {
                    record(name, time);
                }
                std::future::pending().await
            };
            connect_within::<()>(limit, connecting).await.unwrap_err()
        };
        let unresolved = ended(Some("host.example"), None).await;
        assert_eq!(unresolved.to_string(), "the name `host.example` was not resolved within 5s");
        let unresolved = unresolved.downcast::<LookupError>().unwrap();
        assert_eq!(unresolved.fault(), LookupFault::NoAnswer);
        for resolved in [ended(None, None).await, ended(Some("a"), Some(Duration::ZERO)).await] {
            assert_eq!(resolved.to_string(), "no connection was established within 5s");
            assert!(!resolved.is::<LookupError>());
        }
    }
}
