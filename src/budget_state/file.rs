//! The state file of the budgets: its format, its lock, and a write that leaves either the old or
//! the new content.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::calendar::Period;
use crate::guard::{AccountKey, CurrencyConflict, Mark, Saved, Window};
use crate::plan::{BudgetUnit, Spending};

/// The name of the state file in `state_dir`.
pub const FILE_NAME: &str = "budgets.json";
const NEW_NAME: &str = "budgets.json.new";
/// The lock is a separate file, because each write replaces the state file.
const LOCK_NAME: &str = "budgets.lock";
const VERSION: u32 = 1;
/// A file with the most scenarios has much fewer bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Why the state of the budgets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("state_dir {path} cannot be used: {cause}; make the folder writable for llmload")]
    Unusable { path: String, cause: io::Error },
    #[error(
        "another llmload uses state_dir {path}; end it, or set a separate `state_dir` for each \
         process"
    )]
    Locked { path: String },
    #[error(
        "{path} is not a state file of budgets: {problem}; restore the file, or delete it to start \
         all budgets at 0"
    )]
    Invalid { path: String, problem: String },
    #[error("a thread could not be started; raise the limit of processes (`ulimit -u`)")]
    Thread,
    #[error(transparent)]
    Currency(#[from] CurrencyConflict),
}

/// The folder of the state file. No other process uses it.
#[derive(Debug)]
pub(super) struct StateFile {
    folder: PathBuf,
    /// The operating system releases the lock when the process ends.
    _lock: File,
}

/// The file, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    llmload_budgets: u32,
    budgets: Vec<BudgetEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetEntry {
    scenario: String,
    per: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    current: MarkEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<MarkEntry>,
}

/// The times are Unix times. The amounts are upper bounds of the spending.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkEntry {
    from: u64,
    to: u64,
    requests: u64,
    tokens: u64,
    cost_billionths: u64,
}

/// Only the version of a file that another version of llmload wrote.
#[derive(Deserialize)]
struct VersionOnly {
    llmload_budgets: u32,
}

impl StateFile {
    /// Creates the folder, locks it, and reads the state file. A missing file has no accounts.
    pub(super) fn open(folder: &Path) -> Result<(StateFile, Vec<(AccountKey, Saved)>), StateError> {
        let path = || folder.display().to_string();
        let unusable = |cause| StateError::Unusable { path: path(), cause };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let lock = private().create(true).truncate(false).write(true).open(folder.join(LOCK_NAME));
        let lock = lock.map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::Locked { path: path() },
            TryLockError::Error(source) => unusable(source),
        })?;
        let file = StateFile { folder: folder.to_owned(), _lock: lock };
        let saved = read(folder)?;
        Ok((file, saved))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces the content of the state file. When it returns, the disk has the new content.
    pub(super) fn write(&self, accounts: &[(AccountKey, Saved)]) -> io::Result<()> {
        let budgets = accounts.iter().map(|(key, saved)| BudgetEntry::new(key, saved)).collect();
        let document = Document { llmload_budgets: VERSION, budgets };
        let text = serde_json::to_string_pretty(&document).map_err(io::Error::from)?;
        let new = self.folder.join(NEW_NAME);
        let written = self.replace(&new, text.as_bytes());
        if written.is_err() {
            // Part of a file would only use the rest of a full disk.
            let _ignored = fs::remove_file(&new);
        }
        written
    }

    fn replace(&self, new: &Path, text: &[u8]) -> io::Result<()> {
        let mut file = private().create(true).truncate(true).write(true).open(new)?;
        file.write_all(text)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(new, self.folder.join(FILE_NAME))?;
        File::open(&self.folder)?.sync_all()
    }
}

/// Returns the saved accounts. A missing file has none. The lock is not necessary, because each
/// write replaces the file.
///
/// # Errors
/// The file cannot be read, or is invalid.
pub fn read(folder: &Path) -> Result<Vec<(AccountKey, Saved)>, StateError> {
    let path = folder.join(FILE_NAME);
    let name = || path.display().to_string();
    let unusable = |cause| StateError::Unusable { path: name(), cause };
    let invalid = |problem| StateError::Invalid { path: name(), problem };
    let mut bytes = Vec::new();
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => {
            let file = file.map_err(unusable)?.take(MAX_BYTES);
            { file }.read_to_end(&mut bytes).map_err(unusable)?;
        }
    }
    parse(&bytes).map_err(invalid)
}

/// The options of a file that only the user of this process can read.
fn private() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

/// The error is the problem.
fn parse(bytes: &[u8]) -> Result<Vec<(AccountKey, Saved)>, String> {
    let wrong = |error: serde_json::Error| format!("its JSON has another form ({error})");
    let VersionOnly { llmload_budgets: version } = serde_json::from_slice(bytes).map_err(wrong)?;
    if version != VERSION {
        return Err(format!(
            "it has version {version}, but this llmload reads only version {VERSION}"
        ));
    }
    let Document { budgets, .. } = serde_json::from_slice(bytes).map_err(wrong)?;
    let mut accounts: Vec<(AccountKey, Saved)> = Vec::new();
    for entry in budgets {
        let (key, saved) = entry.read()?;
        if accounts.iter().any(|(other, _)| *other == key) {
            return Err(format!("scenario {} has two budgets per {}", key.scenario, key.period));
        }
        accounts.push((key, saved));
    }
    Ok(accounts)
}

impl BudgetEntry {
    fn new(key: &AccountKey, saved: &Saved) -> BudgetEntry {
        BudgetEntry {
            scenario: key.scenario.clone(),
            per: key.period.as_str().to_owned(),
            currency: saved.currency.clone(),
            current: MarkEntry::new(&saved.current),
            next: saved.next.as_ref().map(MarkEntry::new),
        }
    }

    fn read(self) -> Result<(AccountKey, Saved), String> {
        let BudgetEntry { scenario, per, currency, current, next } = self;
        let period = Period::ALL.into_iter().find(|period| period.as_str() == per);
        let period = period.ok_or("a budget has an unknown period")?;
        let current = current.read()?;
        // An older llmload wrote windows that overlap after a change of the time zone.
        let next = next.map(MarkEntry::read).transpose()?.and_then(|next| {
            let from = next.window.from.max(current.window.to);
            let window = Window { from, ..next.window };
            (from < window.to).then_some(Mark { window, ..next })
        });
        Ok((AccountKey { scenario, period }, Saved { currency, current, next }))
    }
}

impl MarkEntry {
    fn new(mark: &Mark) -> MarkEntry {
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        MarkEntry {
            from: seconds(mark.window.from).as_secs(),
            to: seconds(mark.window.to).as_secs(),
            requests: mark.until.get(BudgetUnit::Requests),
            tokens: mark.until.get(BudgetUnit::Tokens),
            cost_billionths: mark.until.get(BudgetUnit::Cost),
        }
    }

    fn read(self) -> Result<Mark, String> {
        let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let window = time(self.from).zip(time(self.to)).filter(|(from, to)| from < to);
        let (from, to) = window.ok_or("the window of a budget ends before its start")?;
        let until = Spending::new(self.requests, self.tokens, self.cost_billionths);
        Ok(Mark { window: Window { from, to }, until })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::time::Instant;

    use super::*;
    use crate::calendar::Zone;
    use crate::guard::{Accounts, ScenarioBudgets};
    use crate::plan::{Budget, Limits};

    fn mark(from: u64, to: u64, requests: u64) -> Mark {
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let window = Window { from: time(from), to: time(to) };
        Mark { window, until: Spending::new(requests, 2, u64::MAX) }
    }

    fn account(scenario: &str, next: Option<Mark>) -> (AccountKey, Saved) {
        let key = AccountKey { scenario: scenario.to_owned(), period: Period::Hour };
        let currency = (scenario == "a").then(|| "EUR".to_owned());
        (key, Saved { currency, current: mark(3600, 7200, 10), next })
    }

    #[test]
    fn the_file_returns_the_accounts_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/state");
        let (file, saved) = StateFile::open(&state).unwrap();
        assert!(saved.is_empty());
        let accounts = [account("a", Some(mark(7200, 10_800, 1))), account("b", None)];
        file.write(&accounts).unwrap();
        let mode = |name: &str| fs::metadata(state.join(name)).unwrap().permissions().mode();
        assert_eq!([FILE_NAME, LOCK_NAME].map(|name| mode(name) & 0o777), [0o600, 0o600]);
        assert!(matches!(StateFile::open(&state), Err(StateError::Locked { .. })));
        drop(file);
        let (_, saved) = StateFile::open(&state).unwrap();
        assert_eq!(saved, accounts);
        assert!(!state.join(NEW_NAME).exists());
    }

    #[test]
    fn the_next_window_of_a_file_begins_at_the_end_of_the_current_one() {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = StateFile::open(folder.path()).unwrap();
        for (next, expected) in [
            (mark(5400, 9000, 3), Some(mark(7200, 9000, 3))),
            (mark(5400, 7200, 3), None),
            (mark(7200, 10_800, 3), Some(mark(7200, 10_800, 3))),
        ] {
            file.write(&[account("a", Some(next))]).unwrap();
            assert_eq!(read(folder.path()).unwrap(), [account("a", expected)]);
        }
    }

    /// The content of the disk of an account with this window, after its zone has changed.
    fn after_new_zone(
        period: Period,
        [old, new]: [&str; 2],
        wall: SystemTime,
        is_known: bool,
    ) -> Vec<(AccountKey, Saved)> {
        let budget = |zone| {
            let (zone, limits) = (Zone::by_name(zone).unwrap(), Limits::from_units(|_| Some(100)));
            [Budget { period, zone, limits, currency: None }]
        };
        let typical = Spending::NOTHING;
        let now = Instant::now();
        let accounts = Accounts::new();
        accounts.restore(Vec::new(), wall, now);
        let configure = |accounts: &Accounts, zone| {
            let budgets = budget(zone);
            let scenario = ScenarioBudgets { scenario: "s", budgets: &budgets, typical };
            accounts.configure([scenario], wall, now);
        };
        configure(&accounts, old);
        let content = |accounts: &Accounts| {
            let proposals = accounts.proposals(wall, now).into_iter();
            proposals.map(|(key, proposal)| (key, proposal.saved)).collect::<Vec<_>>()
        };
        let saved = content(&accounts);
        let restarted = Accounts::new();
        restarted.restore(saved, wall, now);
        if is_known {
            configure(&restarted, new);
        }
        content(&restarted)
    }

    proptest::proptest! {
        #[test]
        fn the_file_of_a_changed_time_zone_or_a_removed_scenario_is_valid(
            period in 0..Period::ALL.len(),
            zones in proptest::array::uniform2(proptest::sample::select(&[
                "UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kolkata",
                "Europe/Berlin", "Australia/Lord_Howe",
            ][..])),
            seconds in 1_806_000_000_u64..1_822_000_000,
            is_known in proptest::bool::ANY,
        ) {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let saved = after_new_zone(Period::ALL[period], zones, wall, is_known);
            let folder = tempfile::tempdir().unwrap();
            let (file, _) = StateFile::open(folder.path()).unwrap();
            file.write(&saved).unwrap();
            // The clamp changes nothing.
            proptest::prop_assert_eq!(read(folder.path()).unwrap(), saved.clone());
            for (_, Saved { current, next, .. }) in saved {
                proptest::prop_assert_eq!(next.is_some(), is_known);
                let follows = |next: Mark| next.window.from == current.window.to;
                proptest::prop_assert!(next.is_none_or(follows));
            }
        }
    }

    #[test]
    fn a_damaged_or_foreign_file_is_an_error_and_stays_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let (file, _) = StateFile::open(folder.path()).unwrap();
        file.write(&[account("a", None)]).unwrap();
        drop(file);
        let good = fs::read_to_string(&path).unwrap();
        for (text, problem) in [
            (String::new(), "its JSON has another form"),
            (good[..good.len() / 2].to_owned(), "its JSON has another form"),
            (good.replace("\"llmload_budgets\": 1", "\"llmload_budgets\": 2"), "it has version 2"),
            (good.replace("requests", "mistakes"), "unknown field"),
            (good.replace("hour", "week"), "unknown period"),
            (good.replace("7200", "3600"), "ends before its start"),
            ("[]".to_owned(), "its JSON has another form"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = StateFile::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(error.contains("delete it to start all budgets at 0"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
