//! The only writer of stderr: the log, the progress of a run and error messages.
//!
//! The reader of stderr can stop reading: a paused terminal, a stuck log collector. A thread that
//! writes to stderr then waits. So a separate thread writes, and all other threads put complete
//! lines into a bounded queue and never wait. A full queue loses its oldest line, and the log
//! later gets a line with the number of lost lines.

mod backlog;

use std::io::{ErrorKind, IsTerminal as _, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use backlog::{Backlog, Output, Screen};

/// If the reader takes no line in this time, [`flush`] gives up.
const STUCK_READER: Duration = Duration::from_secs(1);
/// If the reader is slow, [`flush`] ends after this time.
const SLOW_READER: Duration = Duration::from_secs(5);
/// The time between two attempts to write to a full pipe that does not block.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

static QUEUE: Queue = Queue::new();
static LOSS_NOTICE: OnceLock<LossNotice> = OnceLock::new();

/// Returns the log line about lost lines.
pub type LossNotice = fn(u64) -> String;

/// Calls [`flush`] when it is dropped.
#[derive(Debug)]
pub struct FlushGuard(());

impl Drop for FlushGuard {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts the thread that writes to stderr. If the system allows no more threads, reports this on
/// stderr and returns `None`.
pub fn start() -> Option<FlushGuard> {
    let write = || {
        let (mut screen, mut stderr) = (Screen::default(), std::io::stderr());
        loop {
            QUEUE.write_next(&mut screen, &mut stderr, &loss_notice);
        }
    };
    match std::thread::Builder::new().name("stderr".to_owned()).spawn(write) {
        Ok(_runs_until_the_process_ends) => Some(FlushGuard(())),
        Err(error) => {
            let text = "llmload: the thread that writes to stderr could not be started; raise the \
                        limit of threads (`ulimit -u`)";
            // Nobody else can report this error.
            let _ignored = writeln!(std::io::stderr(), "{text}: {error}");
            None
        }
    }
}

pub fn set_loss_notice(notice: LossNotice) {
    let _only_set_once = LOSS_NOTICE.set(notice);
}

/// Queues a line. Never waits.
pub fn write_line(line: impl Into<Vec<u8>>) {
    QUEUE.push(Output::Line(line.into()));
}

/// Shows a block of lines instead of the previous block. Only for a terminal with a movable cursor.
/// Never waits.
pub fn show_progress(block: String) {
    QUEUE.push(Output::Progress(block));
}

/// Removes the progress block. Never waits.
pub fn end_progress() {
    QUEUE.push(Output::EndOfProgress);
}

/// Waits until all lines are written, or the reader does not read: see `STUCK_READER`.
pub fn flush() {
    let end = Instant::now() + SLOW_READER;
    let mut state = QUEUE.lock();
    while !state.is_idle() {
        let written = state.written;
        let patience = STUCK_READER.min(end.saturating_duration_since(Instant::now()));
        let waited = QUEUE.changed.wait_timeout_while(state, patience, |state| {
            !state.is_idle() && state.written == written
        });
        let timeout;
        (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return;
        }
    }
}

/// Waits until all lines are written, however slow the reader is, such as in
/// `llmload check 2>&1 | less`. Only a command without load can wait like this.
pub fn flush_completely() {
    let waited = QUEUE.changed.wait_while(QUEUE.lock(), |state| !state.is_idle());
    drop(waited);
}

/// Returns the number of lost lines.
pub fn lines_dropped() -> u64 {
    QUEUE.lock().backlog.dropped()
}

pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Returns `None` if stderr is not a terminal.
pub fn columns() -> Option<u16> {
    terminal_size::terminal_size_of(std::io::stderr()).map(|(width, _)| width.0)
}

fn loss_notice(lines: u64) -> String {
    LOSS_NOTICE.get().map_or_else(|| format!("{lines} lines were lost"), |notice| notice(lines))
}

/// The output that waits for stderr. No thread holds the lock while it writes.
struct Queue {
    state: Mutex<State>,
    /// Notified when output arrives, and when it is written.
    changed: Condvar,
}

struct State {
    backlog: Backlog,
    is_writing: bool,
    /// The written outputs. A rising number shows that the reader reads.
    written: u64,
}

impl State {
    fn is_idle(&self) -> bool {
        self.backlog.is_empty() && !self.is_writing
    }
}

impl Queue {
    const fn new() -> Queue {
        let state = State { backlog: Backlog::new(), is_writing: false, written: 0 };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, output: Output) {
        self.lock().backlog.push(output);
        self.changed.notify_all();
    }

    /// Waits for output and writes it, after a line about lost lines.
    fn write_next(
        &self,
        screen: &mut Screen,
        stderr: &mut impl Write,
        loss_notice: &dyn Fn(u64) -> String,
    ) {
        let mut state = self.lock();
        let (lost, output) = loop {
            if let Some(taken) = state.backlog.take() {
                break taken;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.is_writing = true;
        drop(state);
        let lines = lost + u64::from(matches!(output, Output::Line(_)));
        let notice = (lost > 0).then(|| loss_notice(lost));
        let result = write_all(stderr, &screen.render(notice, output));
        screen.record(result);
        let mut state = self.lock();
        if result.is_err() {
            state.backlog.writing_failed(lost, lines);
        }
        state.is_writing = false;
        state.written += 1;
        drop(state);
        self.changed.notify_all();
    }
}

/// Writes all bytes. The error is true if some bytes were written.
fn write_all(to: &mut impl Write, bytes: &[u8]) -> Result<(), bool> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(rest.len() < bytes.len()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The parent of this process can make a shared pipe non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(RETRY_INTERVAL);
            }
            Err(_) => return Err(rest.len() < bytes.len()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on a disk that is full after some bytes.
    struct Disk {
        file: Vec<u8>,
        free: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = bytes.len().min(self.free);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.file.extend_from_slice(&bytes[..count]);
            self.free -= count;
            Ok(count)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_once_a_line_can_be_written() {
        let (queue, mut screen) = (Queue::new(), Screen::default());
        let mut disk = Disk { file: Vec::new(), free: 6 };
        let notice = |lines: u64| format!("lost {lines}\n");
        for line in ["one\n", "two\n", "three\n"] {
            queue.push(Output::Line(line.into()));
            queue.write_next(&mut screen, &mut disk, &notice);
        }
        assert_eq!(queue.lock().backlog.dropped(), 2);
        disk.free = 100;
        for line in ["four\n", "five\n"] {
            queue.push(Output::Line(line.into()));
            queue.write_next(&mut screen, &mut disk, &notice);
        }
        let file = String::from_utf8(disk.file).unwrap();
        assert_eq!(file, "one\ntw\nlost 2\nfour\nfive\n");
        assert_eq!(queue.lock().backlog.dropped(), 2);
    }
}
