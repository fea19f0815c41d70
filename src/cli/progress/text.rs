//! The text of the progress, as a block of lines and as one line.

use std::time::Duration;

use crate::check::numbers::{duration, integer, three_digits, time_range};
use crate::check::text::{cut, width, wrapped};
use crate::config::HumanDuration;
use crate::tally::RecentEvents;

/// The most lines of the reason why nothing is sent.
const MOST_LINES: usize = 3;
/// The length of the bar, in characters.
const BAR: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The time since the start of the run.
    pub elapsed: Duration,
    /// A scenario that waits, and the reason.
    pub waiting: Option<String>,
    /// One entry for each scenario with a phase that is on.
    pub positions: Vec<Position>,
    pub sent: u64,
    pub in_flight: u64,
    pub failed: u64,
    pub dropped: u64,
    pub recent: Option<RecentEvents>,
}

/// The position of a scenario in its schedule.
#[derive(Debug)]
pub(super) struct Position {
    /// `None` if the run has only one scenario.
    pub scenario: Option<String>,
    pub phase: String,
    /// The number of the phase, from 1.
    pub number: u64,
    pub phases: u64,
    /// The time since the start of the schedule.
    pub elapsed: Duration,
    /// The planned length of the schedule, if known.
    pub length: Option<Duration>,
    /// The least and the most time that the search of the phase still needs.
    pub remaining: Option<(Duration, Duration)>,
}

impl Facts {
    /// Returns at most four lines of at most `columns` columns.
    pub fn block(&self, columns: usize) -> String {
        let mut lines = Vec::new();
        match (self.positions.is_empty(), &self.waiting) {
            (true, Some(waiting)) if self.sent == 0 => {
                let text = format!("{}: {waiting}", seconds(self.elapsed));
                lines.extend(wrapped(&text, columns).into_iter().take(MOST_LINES));
            }
            (_, waiting) => {
                let time = self.time();
                let bar = self.bar().map_or_else(String::new, |bar| format!("  {bar}"));
                let right = format!("{bar} {time}");
                let room = columns.saturating_sub(width(&right));
                lines.push(format!("{}{right}", cut(&self.activity(), room)));
                lines.push(self.counts().join(" · "));
                lines.extend(self.last_seconds().map(|parts| parts.join(" · ")));
                lines.extend(waiting.clone());
            }
        }
        let lines: Vec<String> = lines.iter().map(|line| cut(line, columns)).collect();
        lines.join("\n")
    }

    /// Returns the same facts as one line.
    pub fn line(&self) -> String {
        let time = self.time();
        match (self.positions.is_empty(), &self.waiting) {
            (true, Some(waiting)) if self.sent == 0 => format!("{time}: {waiting}"),
            (_, waiting) => {
                let mut text = format!("{time}: {}, {}", self.activity(), self.counts().join(", "));
                let recent = self.last_seconds().map(|parts| parts.join(", "));
                for part in recent.iter().chain(waiting) {
                    text = format!("{text}; {part}");
                }
                text
            }
        }
    }

    fn activity(&self) -> String {
        match &self.positions[..] {
            [] if self.sent == 0 => "starting".to_owned(),
            [] => "waiting for the last responses".to_owned(),
            [only] => {
                let name =
                    only.scenario.as_ref().map_or_else(String::new, |name| format!("{name}: "));
                format!("{name}phase {} of {} · {}", only.number, only.phases, only.phase)
            }
            several => format!("{} scenarios send load", several.len()),
        }
    }

    /// The scenario that ends last, if its end is known.
    fn longest(&self) -> Option<(&Position, Duration)> {
        let known = self.positions.iter().filter_map(|position| Some((position, position.length?)));
        let is_known = self.positions.iter().all(|position| position.length.is_some());
        known
            .max_by_key(|(position, length)| length.saturating_sub(position.elapsed))
            .filter(|_| is_known)
    }

    /// Returns the time since the start of the schedule. Before the start and after the last phase:
    /// since the start of the run.
    pub fn time_shown(&self) -> Duration {
        match (self.longest(), self.positions.first()) {
            (Some((position, length)), _) => position.elapsed.min(length),
            (None, Some(position)) => position.elapsed,
            (None, None) => self.elapsed,
        }
    }

    fn time(&self) -> String {
        let time = seconds(self.time_shown());
        match self.longest() {
            Some((_, length)) => format!("{time} of {}", seconds(length)),
            None => match self.remaining() {
                Some(remaining) => format!("{time}, about {} left", time_range(remaining)),
                None => time,
            },
        }
    }

    /// The remaining time of the only scenario, if its last phase is a search.
    fn remaining(&self) -> Option<(Duration, Duration)> {
        match &self.positions[..] {
            [only] if only.number == only.phases => only.remaining,
            _ => None,
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn bar(&self) -> Option<String> {
        let (position, length) = self.longest()?;
        let fraction = position.elapsed.as_secs_f64() / length.as_secs_f64();
        let full = ((fraction * BAR as f64) as u64).min(BAR);
        Some((0..BAR).map(|step| if step < full { '█' } else { '░' }).collect())
    }

    fn counts(&self) -> Vec<String> {
        let mut counts = vec![
            format!("{} sent", integer(self.sent)),
            format!("{} in flight", integer(self.in_flight)),
            format!("{} failed", integer(self.failed)),
        ];
        if self.dropped > 0 {
            counts.push(format!("{} dropped", integer(self.dropped)));
        }
        counts
    }

    fn last_seconds(&self) -> Option<Vec<String>> {
        let recent = self.recent.as_ref()?;
        let quantile = |fraction| match recent.first_token.quantile(fraction) {
            Some(seconds) => duration(seconds),
            None => "–".to_owned(),
        };
        let length = recent.length.as_secs_f64();
        let tokens = if length > 0.0 { recent.output_tokens / length } else { 0.0 };
        Some(vec![
            format!("last 10 s: TTFT p50 {}, p99 {}", quantile(0.5), quantile(0.99)),
            format!("{} tokens/s", three_digits(tokens)),
            format!("{} failed", integer(recent.failed)),
        ])
    }
}

/// A duration in whole seconds: `1m12s`.
fn seconds(time: Duration) -> String {
    HumanDuration(Duration::from_secs(time.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position {
            scenario: None,
            phase: "concurrency 35".to_owned(),
            number: 2,
            phases: 3,
            elapsed: Duration::from_millis(22_900),
            length: Some(Duration::from_secs(45)),
            remaining: None,
        }
    }

    fn running() -> Facts {
        Facts {
            elapsed: Duration::from_secs(30),
            positions: vec![position()],
            sent: 1234,
            in_flight: 35,
            failed: 3,
            ..Facts::default()
        }
    }

    #[test]
    fn a_block_has_the_phase_the_time_and_the_counts() {
        let expected = "\
phase 2 of 3 · concurrency 35  ██████████░░░░░░░░░░ 22s of 45s
1,234 sent · 35 in flight · 3 failed";
        assert_eq!(running().block(79), expected);
        let line = "22s of 45s: phase 2 of 3 · concurrency 35, 1,234 sent, 35 in flight, 3 failed";
        assert_eq!(running().line(), line);
    }

    #[test]
    fn a_block_has_at_most_four_lines_and_no_line_is_wider_than_the_terminal() {
        let long = "接続を待っています ".repeat(50);
        let waiting = Facts { waiting: Some(long.clone()), ..Facts::default() };
        let phase = Position { phase: long.clone(), ..position() };
        let both = Facts { waiting: Some(long), positions: vec![phase], ..running() };
        for facts in [waiting, both, running()] {
            for columns in [20, 40, 79] {
                let block = facts.block(columns);
                assert!(block.lines().count() <= 4, "{block}");
                assert!(block.lines().all(|line| width(line) <= columns), "{columns}: {block}");
            }
        }
    }

    #[test]
    fn the_remaining_time_of_a_search_is_a_range() {
        let remaining = Some((Duration::from_secs(95), Duration::from_secs(1201)));
        let search = || Position { length: None, remaining, phases: 2, ..position() };
        let one = Facts { positions: vec![search()], ..running() };
        assert!(one.line().starts_with("22s, about 1m35s to 21m left: phase"), "{}", one.line());
        let not_last = Position { number: 1, ..search() };
        let one = Facts { positions: vec![not_last], ..running() };
        assert!(!one.line().contains("left"), "{}", one.line());
    }

    #[test]
    fn the_end_of_several_scenarios_is_the_end_of_the_last_one() {
        let longer = Position { length: Some(Duration::from_mins(10)), ..position() };
        let two = Facts { positions: vec![position(), longer], ..running() };
        assert!(two.block(79).starts_with("2 scenarios send load  "), "{}", two.block(79));
        assert!(two.block(79).contains("22s of 10m"), "{}", two.block(79));
        let unknown = Position { length: None, ..position() };
        let two = Facts { positions: vec![position(), unknown], ..running() };
        assert!(!two.block(79).contains(" of 45s"), "{}", two.block(79));
    }
}
