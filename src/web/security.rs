//! The protection of the web server by a web configuration file: TLS, users, headers and a rate
//! limit.
//!
//! A thread compares the files twice a second, because certificates are replaced while llmload
//! runs. It uses new files when they have not changed between two comparisons, so it does not read
//! a file that is half written. If the new files are not valid, the old settings stay in effect.
//! The new files cannot remove TLS, the verification of clients or the last user. So a file that
//! somebody truncates never opens the web server to everyone.

mod limiter;
mod tls;
mod users;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::config::{self, Invalid};
use limiter::Limiter;
use tls::Tls;
pub(super) use users::Login;
use users::{Turns, Users};

const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The protection of the web server.
#[derive(Debug, Default)]
pub struct WebSecurity {
    current: Arc<Mutex<Arc<Settings>>>,
    /// Dropping it ends the thread that reads the files.
    _watch: Option<mpsc::Sender<()>>,
}

/// The settings of one version of the files. The default protects nothing.
#[derive(Debug, Default)]
pub(super) struct Settings {
    tls: Option<Tls>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    limiter: Option<Limiter>,
}

/// The reason why a web server with a web configuration file cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("a thread could not be started; raise the limit of processes (`ulimit -u`)")]
    Thread,
}

impl WebSecurity {
    /// Reads the file, and starts the thread that reads it again after a change.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn of_file(path: &Path) -> Result<WebSecurity, SecurityError> {
        let turns = Turns::default();
        let version = Version::read(path, vec![path.to_owned()], &turns);
        let current = Arc::new(Mutex::new(Arc::new(version.settings?)));
        let (sender, ended) = mpsc::channel();
        let watch = FileWatch {
            path: path.to_owned(),
            turns,
            files: version.files,
            used: version.fingerprint,
            seen: version.fingerprint,
            current: Arc::clone(&current),
        };
        let thread = std::thread::Builder::new().name("web-config".to_owned());
        thread.spawn(move || watch.run(&ended)).map_err(|_| SecurityError::Thread)?;
        Ok(WebSecurity { current, _watch: Some(sender) })
    }

    /// Returns true if clients send passwords without TLS.
    pub fn sends_passwords_in_clear(&self) -> bool {
        let settings = self.current();
        settings.tls.is_none() && !settings.users.is_empty()
    }

    pub(super) fn current(&self) -> Arc<Settings> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Checks a web configuration file and the certificates that it names.
///
/// # Errors
/// All problems of the file.
pub fn check_file(path: &Path) -> Result<(), Invalid> {
    config::read_web_file(path, tls::build).result.map(drop)
}

impl Settings {
    /// Returns `None` for plain HTTP.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)))
    }

    /// Returns false if the rate limit does not allow a request now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.limiter.as_ref().is_none_or(|limiter| limiter.allows(now))
    }

    pub(super) async fn log_in(&self, headers: &HeaderMap) -> Login {
        self.users.log_in(headers).await
    }

    /// Sets the configured headers of a response. They replace the headers of llmload.
    pub(super) fn set_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }

    /// Returns the reason why these settings must not follow the `old` ones.
    fn refusal_after(&self, old: &Settings) -> Option<&'static str> {
        let policy = |settings: &Settings| settings.tls.as_ref().map(|tls| tls.client_auth);
        let has_names =
            |settings: &Settings| settings.tls.as_ref().is_some_and(|tls| tls.has_client_names);
        if old.tls.is_some() != self.tls.is_some() {
            Some("the new file switches TLS on or off, which needs a restart")
        } else if policy(self) < policy(old) {
            Some("the new file weakens `client_auth_type`, which needs a restart")
        } else if has_names(old) && !has_names(self) {
            Some("the new file removes `client_allowed_sans`, which needs a restart")
        } else if !old.users.is_empty() && self.users.is_empty() {
            Some("the new file has no users, which needs a restart")
        } else {
            None
        }
    }
}

/// The settings of a version of the files.
struct Version {
    settings: Result<Settings, Invalid>,
    files: Vec<PathBuf>,
    /// Of `files`, before they were read. If a file changes later, its fingerprint differs.
    fingerprint: u64,
}

impl Version {
    /// `files` are the files that the previous version named.
    fn read(path: &Path, files: Vec<PathBuf>, turns: &Turns) -> Version {
        let fingerprint = config::fingerprint(&files);
        let read = config::read_web_file(path, tls::build);
        if read.files != files {
            // The fingerprint must contain the files that this version names.
            return Version::read(path, read.files, turns);
        }
        let settings = read.result.map(|file| Settings {
            tls: file.tls,
            headers: file.headers,
            users: Users::new(file.users, turns),
            limiter: file.rate_limit.map(Limiter::new),
        });
        Version { settings, files, fingerprint }
    }
}

/// The thread that reads the files again.
struct FileWatch {
    path: PathBuf,
    turns: Turns,
    files: Vec<PathBuf>,
    /// The fingerprint of the files that were read last.
    used: u64,
    /// The fingerprint at the last comparison.
    seen: u64,
    current: Arc<Mutex<Arc<Settings>>>,
}

impl FileWatch {
    fn run(mut self, ended: &mpsc::Receiver<()>) {
        while ended.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let fingerprint = config::fingerprint(&self.files);
            let is_stable = std::mem::replace(&mut self.seen, fingerprint) == fingerprint;
            if is_stable && fingerprint != self.used {
                self.read();
            }
        }
    }

    fn read(&mut self) {
        let version = Version::read(&self.path, std::mem::take(&mut self.files), &self.turns);
        self.files = version.files;
        (self.used, self.seen) = (version.fingerprint, version.fingerprint);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = version.settings.map_err(|invalid| invalid.to_string());
        let accepted = accepted.and_then(|settings| match settings.refusal_after(&current) {
            Some(refusal) => Err(refusal.to_owned()),
            None => Ok(settings),
        });
        let problem = match accepted {
            Err(problem) => problem,
            Ok(mut settings) => {
                settings.users.keep_verified(&current.users);
                *current = Arc::new(settings);
                tracing::info!("the web server uses the new web configuration");
                return;
            }
        };
        tracing::error!("web configuration rejected; the previous one stays in effect: {problem}");
    }
}
