//! The panels about sessions, which are conversations of several turns.

use llmload::metrics::table;

use crate::panel::{Panel, Unit};
use crate::promql::{average, quantile_by, rate, rate_by};

pub fn panels() -> [Panel; 4] {
    let cached = rate_by("turn", &table::SESSION_TURN_CACHED_INPUT_TOKENS);
    let input = rate_by("turn", &table::SESSION_TURN_INPUT_TOKENS);
    [
        Panel::lines("TTFT p50 by turn", Unit::Seconds)
            .about(
                "llmload_session_turn_time_to_first_token_seconds: the median TTFT of the turns of \
                sessions, by the number of the turn. Without a prefix cache, TTFT rises with the \
                turn, because each turn sends the earlier ones again.",
            )
            .query(
                "{{turn}}",
                quantile_by("0.5", "turn", &table::SESSION_TURN_TIME_TO_FIRST_TOKEN),
            ),
        Panel::lines("Cached input by turn (% of input tokens)", Unit::Percent)
            .about(
                "llmload_session_turn_cached_input_tokens_total / \
                llmload_session_turn_input_tokens_total: the percentage of the input tokens that \
                the server read from its prefix cache. Low values at later turns mean that the \
                server lost the earlier turns.",
            )
            .query("{{turn}}", format!("{cached} / ({input} > 0)"))
            .at_most_one(),
        Panel::lines("Sessions", Unit::PerSecond)
            .about(
                "llmload_sessions_started_total, llmload_sessions_completed_total and \
                llmload_sessions_ended_early_total per second. A session ends early if one of its \
                turns fails or is dropped, or at a reload or shutdown.",
            )
            .query("started", rate(&table::SESSIONS_STARTED))
            .query("completed", rate(&table::SESSIONS_COMPLETED))
            .query("{{reason}}", rate_by("reason", &table::SESSIONS_ENDED_EARLY)),
        Panel::lines("Sessions in progress", Unit::Count)
            .about(
                "llmload_sessions_in_progress: sessions with a turn in flight or in their think \
                time. At max_sessions, llmload starts no further session.",
            )
            .query("in progress", average(&table::SESSIONS_IN_PROGRESS)),
    ]
}
