//! The progress of a run on stderr. On a terminal, one line is updated every second. In a file or a
//! CI log, a new line appears every ten seconds.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::HumanDuration;
use crate::schedule_state::Activity;
use crate::status::StatusBoard;

/// The time between two lines in a file or a CI log, in seconds.
const LOG_INTERVAL: u32 = 10;

/// True while the terminal shows the progress line. Other output must first clear this line.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Shows the progress until the future is dropped.
pub(super) async fn show(board: Arc<StatusBoard>, began: Instant) {
    let terminal = std::io::stderr().is_terminal();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0_u32;
    loop {
        second.tick().await;
        ticks = ticks.wrapping_add(1);
        if ticks == 1 || (!terminal && !ticks.is_multiple_of(LOG_INTERVAL)) {
            continue;
        }
        let line = line(&board, began.elapsed(), Instant::now());
        let mut stderr = std::io::stderr().lock();
        // If stderr is closed, nobody reads the progress.
        let _ignored = if terminal {
            IS_SHOWN.store(true, Relaxed);
            let width =
                terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| width.0);
            let line: String = line.chars().take(usize::from(width).saturating_sub(1)).collect();
            write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }
}

/// Removes the progress line.
pub(super) fn clear() {
    if IS_SHOWN.swap(false, Relaxed) {
        let _ignored = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn line(board: &StatusBoard, elapsed: Duration, now: Instant) -> String {
    let monitors = board.monitors();
    let elapsed = HumanDuration(Duration::from_secs(elapsed.as_secs()));
    let waiting = monitors.iter().find_map(|monitor| match monitor.schedule_state.activity() {
        Activity::Waiting(reason) => {
            Some(format!("{elapsed}: {} is waiting for {reason}", monitor.scenario))
        }
        _ => None,
    });
    if let (Some(waiting), true) =
        (&waiting, monitors.iter().all(|monitor| !monitor.schedule_state.is_running()))
    {
        return waiting.clone();
    }
    let (mut sent, mut in_flight, mut succeeded, mut failed, mut dropped) = (0, 0, 0, 0, 0);
    for monitor in &monitors {
        let counts = monitor.state.ledger.counts();
        sent += counts.started;
        in_flight += counts.in_flight;
        succeeded += counts.succeeded;
        failed += counts.failures().map(|failure| failure.1).sum::<u64>();
        dropped += counts.dropped().map(|drop| drop.1).sum::<u64>();
    }
    let mut text = format!(
        "{elapsed}: {sent} sent, {in_flight} in flight, {succeeded} succeeded, {failed} failed"
    );
    if dropped > 0 {
        let _written = write!(text, ", {dropped} dropped");
    }
    if let [only] = monitors.as_slice()
        && let Some(phase) = only.schedule_state.position(now).phase
    {
        let _written = write!(text, " · {phase}");
    }
    text
}

/// A writer for the log that clears the progress line first.
pub(super) struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        clear();
        std::io::stderr().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
