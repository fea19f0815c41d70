//! The state of the budgets on the disk, so that a restart does not reset them.
//!
//! One thread writes the state file. It extends the leases of the accounts before they are used up,
//! so no arrival waits for the disk. If the disk accepts no more data, the leases run out, and
//! llmload drops the arrivals of the scenarios with budgets. A disk that hangs stops only this
//! thread.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};

use crate::guard::{AccountKey, Accounts, Proposal, Saved, ScenarioBudgets, WakeUp};
use file::StateFile;
pub use file::{FILE_NAME, StateError, read};

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
    /// Then `accounts` is unchanged.
    /// llmload never resets an invalid file, because that would reset the budgets.
    pub fn open<'a>(
        folder: &Path,
        accounts: &Arc<Accounts>,
        scenarios: impl IntoIterator<Item = ScenarioBudgets<'a>>,
    ) -> Result<Arc<BudgetState>, StateError> {
        let (file, saved) = StateFile::open(folder)?;
        let scenarios: Vec<_> = scenarios.into_iter().collect();
        let conflict = accounts.currency_conflict(&scenarios, &saved, SystemTime::now());
        conflict.map_or(Ok(()), Err)?;
        let ended = Arc::new(Ended::default());
        let (for_thread, all) = (Arc::clone(&ended), Arc::clone(accounts));
        let (give_file, take_file) = mpsc::sync_channel::<StateFile>(1);
        let run = move || {
            let Ok(file) = take_file.recv() else { return };
            write_until_closed(&file, &all);
            // The lock ends first, so a process that starts next can take it.
            drop(file);
            *for_thread.has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
            for_thread.changed.notify_all();
        };
        let thread = std::thread::Builder::new().name("budgets".to_owned()).spawn(run);
        thread.map_err(|_| StateError::Thread)?;
        let restore = |accounts: &Accounts| {
            let (wall, now) = (SystemTime::now(), Instant::now());
            accounts.restore(saved.clone(), wall, now);
            accounts.configure(scenarios.iter().cloned(), wall, now);
        };
        // The write can fail, so it saves a copy.
        let copy = accounts.copy();
        restore(&copy);
        let path = || folder.display().to_string();
        let unusable = |cause| StateError::Unusable { path: path(), cause };
        let proposals = write(&file, &copy).map_err(unusable)?;
        restore(accounts);
        accounts.accept(&proposals, Instant::now());
        // The thread waits for the file.
        give_file.send(file).map_err(|_| StateError::Thread)?;
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
        let need_lease = accounts.need_lease(SystemTime::now(), Instant::now());
        // After a failure, only a write shows that the disk accepts data again.
        if !is_closed && !has_failed && !need_lease {
            continue;
        }
        accounts.begin_write(Instant::now());
        let result = save(file, accounts);
        let was_stuck = accounts.is_stuck(Instant::now());
        accounts.end_write(result.is_err());
        let folder = file.folder().display();
        match &result {
            Ok(()) if has_failed || was_stuck => {
                tracing::info!("the budgets are saved again in {folder}");
            }
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
        if is_closed {
            return;
        }
    }
}

fn save(file: &StateFile, accounts: &Accounts) -> std::io::Result<()> {
    let proposals = write(file, accounts)?;
    accounts.accept(&proposals, Instant::now());
    Ok(())
}

/// Writes the next content of the disk, and returns it.
fn write(file: &StateFile, accounts: &Accounts) -> std::io::Result<Vec<(AccountKey, Proposal)>> {
    let proposals = accounts.proposals(SystemTime::now(), Instant::now());
    let saved: Vec<(AccountKey, Saved)> =
        proposals.iter().map(|(key, proposal)| (key.clone(), proposal.saved.clone())).collect();
    file.write(&saved)?;
    Ok(proposals)
}

/// Logs a line when the disk stops to respond. The thread that writes cannot do this, because it
/// waits for the disk.
pub async fn watch_writes(accounts: Arc<Accounts>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut was_stuck = false;
    loop {
        second.tick().await;
        let is_stuck = accounts.is_stuck(Instant::now());
        if is_stuck && !was_stuck {
            tracing::error!(
                "the disk of state_dir does not respond, so the budgets cannot be saved; llmload \
                 stops the load of the scenarios with budgets; check the disk"
            );
        }
        was_stuck = is_stuck;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Period, Zone};
    use crate::plan::{Budget, BudgetUnit, Limits, Spending};

    fn budgets(period: Period, zone: &str, requests: u64) -> [Budget; 1] {
        let limits = Limits::from_units(|unit| (unit == BudgetUnit::Requests).then_some(requests));
        [Budget { period, zone: Zone::by_name(zone).unwrap(), limits, currency: None }]
    }

    fn scenario(budgets: &[Budget]) -> [ScenarioBudgets<'_>; 1] {
        [ScenarioBudgets { scenario: "s", budgets, typical: Spending::NOTHING }]
    }

    fn views(accounts: &Accounts) -> Vec<(u64, Option<u64>)> {
        let views = accounts.views(SystemTime::now(), Instant::now()).into_iter();
        let requests = BudgetUnit::Requests;
        views.map(|view| (view.used.get(requests), view.limits.get(requests))).collect()
    }

    fn try_reserve(accounts: &Accounts) -> bool {
        let budgets = accounts.of_scenario("s").unwrap();
        budgets.reserve(Spending::new(1, 0, 0), SystemTime::now(), Instant::now()).is_ok()
    }

    #[test]
    fn a_state_that_cannot_be_written_changes_nothing_and_its_spending_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let month = |requests| budgets(Period::Month, "UTC", requests);
        let before = Accounts::new();
        let state = BudgetState::open(folder.path(), &before, scenario(&month(1000))).unwrap();
        for _ in 0..7 {
            assert!(try_reserve(&before));
        }
        state.close();
        let accounts = Accounts::new();
        accounts.configure(scenario(&month(50)), SystemTime::now(), Instant::now());
        assert!(try_reserve(&accounts));
        let new = folder.path().join("budgets.json.new");
        std::fs::create_dir(&new).unwrap();
        for _ in 0..2 {
            let opened = BudgetState::open(folder.path(), &accounts, scenario(&month(90)));
            assert!(matches!(opened, Err(StateError::Unusable { .. })));
            assert!(!accounts.is_saved());
            assert_eq!(views(&accounts), [(1, Some(50))]);
        }
        assert!(try_reserve(&accounts), "the load continues without a lease");
        std::fs::remove_dir(&new).unwrap();
        let state = BudgetState::open(folder.path(), &accounts, scenario(&month(90))).unwrap();
        assert_eq!(views(&accounts), [(9, Some(90))]);
        assert!(try_reserve(&accounts), "the account has its first lease");
        state.close();
    }

    #[test]
    fn a_write_that_does_not_end_counts_as_failed() {
        let (accounts, begin) = (Accounts::new(), Instant::now());
        accounts.begin_write(begin);
        assert!(!accounts.has_failed(begin + Duration::from_secs(2)));
        assert!(accounts.has_failed(begin + Duration::from_millis(2001)));
        accounts.end_write(false);
        assert!(!accounts.has_failed(begin + Duration::from_mins(1)));
    }
}
