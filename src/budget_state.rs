//! The state of the budgets on the disk, so that a restart does not reset them.
//!
//! One thread writes the state file. It extends the leases of the accounts before they are used up,
//! so no arrival waits for the disk. If the disk accepts no more data, the leases run out, and
//! llmload drops the arrivals of the scenarios with budgets. A disk that hangs stops only this
//! thread.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::guard::{AccountKey, Accounts, Saved, ScenarioBudgets, WakeUp};
use file::StateFile;
pub use file::{FILE_NAME, StateError};

/// The thread checks at this interval if a window has ended.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two attempts, while the disk accepts no data.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// [`BudgetState::close`] gives up after this time.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The state file of a process, and the thread that writes it.
#[derive(Debug)]
pub struct BudgetState {
    folder: PathBuf,
    accounts: Arc<Accounts>,
    ended: Arc<Ended>,
}

/// True after the thread has ended.
#[derive(Debug, Default)]
struct Ended {
    has_ended: Mutex<bool>,
    changed: Condvar,
}

impl BudgetState {
    /// Opens the state file, and locks its folder. Adds the saved accounts to `accounts`, applies
    /// the budgets of the configuration, and saves the first leases. Waits for the disk.
    ///
    /// # Errors
    /// Fails if the folder cannot be used, if another process uses it, or if the file is invalid.
    /// llmload never resets an invalid file, because that would reset the budgets.
    pub fn open<'a>(
        folder: &Path,
        accounts: &Arc<Accounts>,
        scenarios: impl IntoIterator<Item = ScenarioBudgets<'a>>,
    ) -> Result<Arc<BudgetState>, StateError> {
        let (file, saved) = StateFile::open(folder)?;
        let (wall, now) = (SystemTime::now(), Instant::now());
        accounts.restore(saved, wall, now);
        accounts.configure(scenarios, wall, now);
        let path = || folder.display().to_string();
        save(&file, accounts).map_err(|source| StateError::Unusable { path: path(), source })?;
        let ended = Arc::new(Ended::default());
        let (for_thread, all) = (Arc::clone(&ended), Arc::clone(accounts));
        let run = move || {
            write_until_closed(&file, &all);
            // The lock ends first, so a process that starts next can take it.
            drop(file);
            *for_thread.has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
            for_thread.changed.notify_all();
        };
        let thread = std::thread::Builder::new().name("budgets".to_owned()).spawn(run);
        thread.map_err(|_| StateError::Thread)?;
        let (folder, accounts) = (folder.to_owned(), Arc::clone(accounts));
        Ok(Arc::new(BudgetState { folder, accounts, ended }))
    }

    /// The folder of the state file.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses all further reservations, and saves the exact spending. Gives up if the disk hangs.
    /// Call it after the last request.
    pub fn close(&self) {
        self.accounts.close();
        let has_ended = self.ended.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.changed.wait_timeout_while(has_ended, CLOSE_TIMEOUT, |has| !*has);
        let (_has_ended, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            tracing::warn!(
                "the disk of state_dir is too slow; after a restart, the budgets count the complete \
                 lease as spent"
            );
        }
    }
}

/// Ends the thread. Does not wait for it.
impl Drop for BudgetState {
    fn drop(&mut self) {
        self.accounts.close();
    }
}

fn write_until_closed(file: &StateFile, accounts: &Accounts) {
    let mut has_failed = false;
    loop {
        let wake_up = if has_failed {
            accounts.wait_for_close(RETRY_INTERVAL)
        } else {
            accounts.wait(CHECK_INTERVAL)
        };
        let is_closed = wake_up == WakeUp::Closed;
        if !is_closed && !accounts.need_lease(SystemTime::now(), Instant::now()) {
            continue;
        }
        let result = save(file, accounts);
        let folder = file.folder().display();
        match &result {
            Ok(()) if has_failed => tracing::info!("the budgets are saved again in {folder}"),
            Err(error) if is_closed => tracing::warn!(
                "the budgets cannot be saved in {folder}: {error}; after a restart, they count the \
                 complete lease as spent"
            ),
            Err(error) if !has_failed => tracing::error!(
                "the budgets cannot be saved in {folder}: {error}; llmload stops the load of the \
                 scenarios with budgets; free space there, or make the folder writable"
            ),
            Ok(()) | Err(_) => {}
        }
        has_failed = result.is_err();
        accounts.set_failed(has_failed);
        if is_closed {
            return;
        }
    }
}

fn save(file: &StateFile, accounts: &Accounts) -> std::io::Result<()> {
    let proposals = accounts.proposals(SystemTime::now(), Instant::now());
    let saved: Vec<(AccountKey, Saved)> =
        proposals.iter().map(|(key, proposal)| (key.clone(), proposal.saved)).collect();
    file.write(&saved)?;
    accounts.accept(&proposals, Instant::now());
    Ok(())
}
