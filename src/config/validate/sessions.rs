//! Validates the sessions of a scenario, and the turns and think times of a source.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::Validator;
use super::target::RESERVED_HEADERS;
use crate::config::document::{self, Scenario, ThinkTime, TurnCount};
use crate::config::field::{Field, Located};
use crate::config::scalar::Size;
use crate::config::size::HumanSize;
use crate::config::tree::NodeId;
use crate::plan::{self, History};
use crate::prompts::{self, LengthDistribution, MAX_THINK_TIME, MAX_TURNS, Prompts};
use crate::protocol::Api;
use crate::schedule::Schedule;

const DEFAULT_HISTORY: u64 = 256 << 20;
const HISTORY: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// The histories and the think times need little memory, so many more sessions than requests can
/// be in progress.
const HIGHEST_MAX_SESSIONS: u32 = 1_000_000;
const THINK_TIMES: RangeInclusive<Duration> = Duration::ZERO..=MAX_THINK_TIME;

impl Validator<'_> {
    /// Returns `None` for a mistake, and `Some(None)` if the prompts are no conversations.
    #[allow(clippy::option_option)]
    pub(super) fn sessions(
        &self,
        scenario: &Scenario,
        prompts: Option<&Prompts>,
        max_concurrency: Option<NonZeroU32>,
    ) -> Option<Option<plan::Sessions>> {
        let prompts = prompts?;
        let keys = [
            ("history", scenario.history.node()),
            ("max_sessions", scenario.max_sessions.node()),
            ("max_history", scenario.max_history.node()),
            ("session_header", scenario.session_header.node()),
        ];
        if !prompts.has_sessions() {
            let mut present = keys.into_iter().filter_map(|(key, node)| Some((key, node?)));
            let Some((key, node)) = present.next() else { return Some(None) };
            self.problem(
                node,
                format!("`{key}` needs prompts with several turns"),
                "remove it, or use a source with `conversations`, or with `turns` in `synthetic`",
            );
            return None;
        }
        if let Some(targets) = scenario.targets.present()
            && targets.value.0.len() > 1
        {
            self.problem(
                targets.node,
                "a session has one target, because its later turns depend on the answers",
                "write a scenario for each target",
            );
        }
        let default = max_concurrency?.get();
        let max = self.positive(&scenario.max_sessions, default, HIGHEST_MAX_SESSIONS);
        let max_history = self.history_size(&scenario.max_history);
        let history = self.history(&scenario.history, prompts);
        let header = self.session_header(&scenario.session_header);
        let (max, history, header) = (max?, history?, header?);
        Some(Some(plan::Sessions { max, history, max_history: max_history?, header }))
    }

    fn history(&self, field: &Field<document::History>, prompts: &Prompts) -> Option<History> {
        let located = match field {
            Field::Absent => return Some(History::Live),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        match located.value {
            document::History::Live => Some(History::Live),
            document::History::Recorded if prompts.len().is_some() => Some(History::Recorded),
            document::History::Recorded => {
                self.problem(
                    located.node,
                    "generated prompts have no recorded answers",
                    "remove it, or use a source with `conversations`",
                );
                None
            }
        }
    }

    fn history_size(&self, field: &Field<Size>) -> Option<u64> {
        match field {
            Field::Absent => Some(DEFAULT_HISTORY),
            Field::Invalid(_) => None,
            Field::Present(located) if HISTORY.contains(&located.value.0) => Some(located.value.0),
            Field::Present(located) => {
                let (low, high) = (HumanSize(*HISTORY.start()), HumanSize(*HISTORY.end()));
                self.problem(
                    located.node,
                    format!("{} is out of range", HumanSize(located.value.0)),
                    format!("write a size from {low} to {high}"),
                );
                None
            }
        }
    }

    /// Returns `None` for a mistake, and `Some(None)` without the key.
    #[allow(clippy::option_option)]
    fn session_header(&self, field: &Field<String>) -> Option<Option<HeaderName>> {
        let Located { node, value } = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let taken = |name: &str| {
            RESERVED_HEADERS.contains(&name)
                || matches!(name, "authorization" | "api-key" | "x-api-key" | "connection")
        };
        match HeaderName::from_str(value) {
            Ok(name) if taken(name.as_str()) => {
                let message = format!("`{name}` cannot carry the id of a session");
                self.problem(*node, message, "write another name, such as `x-session-id`");
                None
            }
            Ok(name) => Some(Some(name)),
            Err(_) => {
                self.problem(
                    *node,
                    "the name of the header is not valid",
                    "use letters, digits and `-`, such as `x-session-id`",
                );
                None
            }
        }
    }

    /// Rejects a target that gives no answers.
    pub(super) fn check_session_target(&self, node: NodeId, targets: &[Arc<plan::Target>]) {
        if targets.iter().any(|target| target.dialect.api == Api::Embeddings) {
            self.problem(
                node,
                "a session needs answers, and the API `embeddings` has none",
                "use prompts without turns, or another API",
            );
        }
    }

    /// Rejects the phases that cannot send sessions.
    pub(super) fn check_session_phases(
        &self,
        scenario: &Scenario,
        schedule: &Schedule,
        sessions: &plan::Sessions,
    ) {
        let keys = [&scenario.schedule.node(), &scenario.concurrency.node()];
        let Some(node) = keys.into_iter().flatten().next().copied() else { return };
        if schedule.has_search() {
            self.problem(
                node,
                "a search sends single requests, because a step would also contain the later turns \
                 of the steps before it",
                "use prompts without turns, or write a phase for each level",
            );
        }
        let loads = || schedule.phases().iter().map(|phase| &phase.load);
        if loads().any(|load| load.trace().is_some()) {
            self.problem(
                node,
                "a `replay` has the lengths of single requests, and the prompts have several turns",
                "use prompts without turns",
            );
        }
        let most = loads().filter_map(crate::schedule::Load::slots).max();
        if let Some(most) = most.filter(|most| *most > sessions.max) {
            self.problem(
                node,
                format!("a concurrency of {most} exceeds `max_sessions` ({})", sessions.max),
                "raise `max_sessions`",
            );
        }
    }

    pub(super) fn think_time(&self, field: &Field<ThinkTime>) -> Option<prompts::ThinkTime> {
        let Located { node, value } = match field {
            Field::Absent => return Some(prompts::ThinkTime::default()),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        match value {
            ThinkTime::Text(span) => {
                let mean = Field::Present(Located { node: *node, value: *span });
                let mean = self.span(&mean, Duration::ZERO, THINK_TIMES)?;
                Some(prompts::ThinkTime { mean, stddev: Duration::ZERO })
            }
            ThinkTime::Map(keys) => {
                if keys.mean.is_absent() {
                    self.missing(*node, "`mean` is missing", "write `{mean: 5s, stddev: 2s}`");
                    return None;
                }
                let mean = self.span(&keys.mean, Duration::ZERO, THINK_TIMES);
                let stddev = self.span(&keys.stddev, Duration::ZERO, THINK_TIMES);
                Some(prompts::ThinkTime { mean: mean?, stddev: stddev? })
            }
        }
    }

    pub(super) fn turns(
        &self,
        Located { node, value }: &Located<TurnCount>,
    ) -> Option<LengthDistribution> {
        let keys = match value {
            TurnCount::Number(turns) => {
                let turns = Field::Present(Located { node: *node, value: *turns });
                return self
                    .positive(&turns, 1, MAX_TURNS)
                    .map(|turns| LengthDistribution::fixed(turns.get()));
            }
            TurnCount::Map(keys) => keys,
        };
        if keys.mean.is_absent() {
            self.missing(*node, "`mean` is missing", "write `{mean: 4, stddev: 2}`");
        }
        let min = self.positive(&keys.min, 1, MAX_TURNS).map(NonZeroU32::get);
        let max = self.positive(&keys.max, MAX_TURNS, MAX_TURNS).map(NonZeroU32::get);
        let stddev = match &keys.stddev {
            Field::Invalid(_) => None,
            Field::Absent => Some(0.0),
            Field::Present(located) if (0.0..=f64::from(MAX_TURNS)).contains(&located.value.0) => {
                Some(located.value.0)
            }
            Field::Present(located) => {
                self.problem(
                    located.node,
                    format!("{} is out of range", located.value),
                    format!("write a deviation from 0 to {MAX_TURNS} turns"),
                );
                None
            }
        };
        let (mean, min, max) = (keys.mean.present()?, min?, max?);
        if !(f64::from(min)..=f64::from(max)).contains(&mean.value.0) {
            let message = format!("{} is not between `min` and `max`", mean.value.0);
            self.problem(mean.node, message, format!("write {min} to {max}"));
            return None;
        }
        Some(LengthDistribution { mean: mean.value.0, stddev: stddev?, min, max })
    }
}
