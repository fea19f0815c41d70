//! The sessions of a route, and the effect of the prefix cache on their turns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Summary;
use super::layout::Block;
use super::tables::shown;
use crate::check::numbers::{duration, integer, percent, three_digits};
use crate::event::TurnGroup;
use crate::ledger::SessionCounts;
use crate::tally::TurnGroups;

/// The sessions of a route. A session is a conversation of several turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Sessions whose first turn llmload sent.
    pub sessions_started: u64,
    /// Sessions whose last turn succeeded.
    pub sessions_completed: u64,
    /// Sessions that ended before their last turn, by reason.
    pub sessions_ended_early: BTreeMap<String, u64>,
    /// `sessions_started` / the time in which any phase was on.
    pub sessions_per_second: Option<f64>,
    /// One entry per group of turns.
    pub turns: Vec<TurnReport>,
}

/// The requests of one group of turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TurnReport {
    /// The numbers of the turns, from 1: `1`, `2`, `3`, `4-7` or `8+`.
    pub turn: String,
    pub sent: u64,
    pub succeeded: u64,
    pub time_to_first_token_seconds: Summary,
    /// Cached input tokens / input tokens. `None` if the endpoint counted no cached tokens.
    pub cached_ratio: Option<f64>,
}

impl SessionReport {
    pub(super) fn new(counts: &SessionCounts) -> SessionReport {
        let ended = counts.ended_early().filter(|(_, count)| *count > 0);
        SessionReport {
            sessions_started: counts.started,
            sessions_completed: counts.completed,
            sessions_ended_early: ended
                .map(|(reason, count)| (reason.as_str().to_owned(), count))
                .collect(),
            sessions_per_second: None,
            turns: Vec::new(),
        }
    }

    /// Adds the counts of another shard.
    pub(super) fn add(mut self, other: &SessionReport) -> SessionReport {
        self.sessions_started += other.sessions_started;
        self.sessions_completed += other.sessions_completed;
        for (reason, count) in &other.sessions_ended_early {
            *self.sessions_ended_early.entry(reason.clone()).or_default() += count;
        }
        self
    }

    /// Sets the rate and the turns.
    #[allow(clippy::cast_precision_loss)]
    #[must_use]
    pub(super) fn measured(self, seconds: f64, turns: &TurnGroups) -> SessionReport {
        let groups = TurnGroup::ALL.into_iter().zip(turns).filter(|(_, group)| group.sent > 0);
        let turns = groups.map(|(group, statistics)| {
            let has_counts = statistics.counted > 0 && statistics.input_tokens > 0;
            let ratio = statistics.cached_input_tokens as f64 / statistics.input_tokens as f64;
            TurnReport {
                turn: group.as_str().to_owned(),
                sent: statistics.sent,
                succeeded: statistics.succeeded,
                time_to_first_token_seconds: Summary::new(&statistics.time_to_first_token),
                cached_ratio: has_counts.then_some(ratio),
            }
        });
        SessionReport {
            sessions_per_second: (seconds > 0.0).then(|| self.sessions_started as f64 / seconds),
            turns: turns.collect(),
            ..self
        }
    }

    /// The counts as a line, and the turns as a table.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let ended: u64 = self.sessions_ended_early.values().sum();
        let reasons = self.sessions_ended_early.iter();
        let reasons: Vec<_> =
            reasons.map(|(reason, count)| format!("{reason} {}", integer(*count))).collect();
        let reasons =
            if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        let rate = self
            .sessions_per_second
            .map_or_else(String::new, |rate| format!(", {}/s", three_digits(rate)));
        let text = format!(
            "{} sessions{rate} = {} completed + {} ended early{reasons}",
            integer(self.sessions_started),
            integer(self.sessions_completed),
            integer(ended),
        );
        let columns = ["turn", "requests", "success", "TTFT mean", "P50", "P90", "P99", "cached"];
        let rows = self.turns.iter().map(|turn| {
            let Summary { mean, p50, p90, p99, .. } = turn.time_to_first_token_seconds;
            #[allow(clippy::cast_precision_loss)]
            let success = (turn.sent > 0).then(|| turn.succeeded as f64 / turn.sent as f64);
            let mut row = vec![turn.turn.clone(), integer(turn.sent), shown(success, percent)];
            row.extend([mean, p50, p90, p99].map(|value| shown(value, duration)));
            row.push(shown(turn.cached_ratio, percent));
            row
        });
        vec![
            Block::Line { text },
            Block::Table {
                title: "By turn".to_owned(),
                columns: columns.map(str::to_owned).to_vec(),
                rows: rows.collect(),
            },
        ]
    }
}
