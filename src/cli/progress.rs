//! How a run goes, on stderr: a line that is written anew each second on a terminal, else one every ten
//! seconds.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::HumanDuration;
use crate::schedule_state::Activity;
use crate::status::StatusBoard;

/// How often a file or a log of CI is told.
const SELDOM: u32 = 10;

/// Whether the line on the terminal has to be cleared before anything else is written there.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Shows it for as long as it is polled.
pub(super) async fn show(board: Arc<StatusBoard>, began: Instant) {
    let terminal = std::io::stderr().is_terminal();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0_u32;
    loop {
        second.tick().await;
        ticks = ticks.wrapping_add(1);
        if ticks == 1 || (!terminal && !ticks.is_multiple_of(SELDOM)) {
            continue;
        }
        let line = line(&board, began.elapsed(), Instant::now());
        let mut stderr = std::io::stderr().lock();
        // Where stderr is closed nobody is left to be told.
        let _unheard = if terminal {
            SHOWN.store(true, Relaxed);
            let width =
                terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| width.0);
            let line: String = line.chars().take(usize::from(width).saturating_sub(1)).collect();
            write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }
}

/// Takes the line away.
pub(super) fn clear() {
    if SHOWN.swap(false, Relaxed) {
        let _unheard = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn line(board: &StatusBoard, elapsed: Duration, now: Instant) -> String {
    let monitors = board.monitors();
    let elapsed = HumanDuration(Duration::from_secs(elapsed.as_secs()));
    let waiting = monitors.iter().find_map(|stream| match stream.schedule_state.activity() {
        Activity::Waiting(what) => Some(format!("{elapsed}: {} waits for {what}", stream.scenario)),
        _ => None,
    });
    if let (Some(waiting), true) =
        (&waiting, monitors.iter().all(|stream| !stream.schedule_state.is_running()))
    {
        return waiting.clone();
    }
    let (mut sent, mut in_flight, mut succeeded, mut failed, mut dropped) = (0, 0, 0, 0, 0);
    for stream in &monitors {
        let counts = stream.state.ledger.counts();
        sent += counts.started;
        in_flight += counts.in_flight;
        succeeded += counts.succeeded;
        failed += counts.failures().map(|failure| failure.1).sum::<u64>();
        dropped += counts.dropped().map(|drop| drop.1).sum::<u64>();
    }
    let mut words = format!(
        "{elapsed}: {sent} sent, {in_flight} in flight, {succeeded} succeeded, {failed} failed"
    );
    if dropped > 0 {
        let _written = write!(words, ", {dropped} dropped");
    }
    if let [only] = monitors.as_slice()
        && let Some(phase) = only.schedule_state.position(now).phase
    {
        let _written = write!(words, " · {phase}");
    }
    words
}

/// Where the log goes: it does not run into the line.
pub(super) struct Beside;

impl std::io::Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        clear();
        std::io::stderr().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
