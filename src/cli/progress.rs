//! The progress of a run on stderr. On a terminal, one line is updated every second. In a file or a
//! CI log, a new line appears every ten seconds.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::HumanDuration;
use crate::schedule_state::Activity;
use crate::status::StatusBoard;
use crate::stderr;

/// The time between two lines in a file or a CI log, in seconds.
const LOG_INTERVAL: u32 = 10;

/// Shows the progress until the future is dropped.
pub(super) async fn show(board: Arc<StatusBoard>, began: Instant) {
    let terminal = stderr::is_terminal();
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
        if terminal {
            let width = stderr::columns().map_or(80, usize::from);
            stderr::show_progress(line.chars().take(width.saturating_sub(1)).collect());
        } else {
            stderr::write_line(line + "\n");
        }
    }
}

fn line(board: &StatusBoard, elapsed: Duration, now: Instant) -> String {
    let monitors = board.monitors();
    let elapsed = HumanDuration(Duration::from_secs(elapsed.as_secs()));
    let waiting = monitors.iter().find_map(|monitor| match monitor.schedule_state.activity() {
        Activity::Waiting(reason) => Some(format!("{} is waiting for {reason}", monitor.scenario)),
        _ => None,
    });
    if let (Some(waiting), true) =
        (&waiting, monitors.iter().all(|monitor| !monitor.schedule_state.is_running()))
    {
        return format!("{elapsed}: {waiting}");
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
    if let Some(waiting) = waiting {
        let _written = write!(text, " · {waiting}");
    }
    if let [only] = monitors.as_slice()
        && let Some(phase) = only.schedule_state.position(now).phase
    {
        let _written = write!(text, " · {phase}");
    }
    text
}
