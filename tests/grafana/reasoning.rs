//! The panels about models that reason before they answer.

use llmload::metrics::table;

use crate::overview::quantiles;
use crate::panel::{Panel, Unit};
use crate::promql::{rate, ratio};

pub fn panels() -> [Panel; 3] {
    [
        quantiles("TTFO", Unit::Seconds, &table::TIME_TO_FIRST_ANSWER_TOKEN).about(
            "llmload_time_to_first_answer_token_seconds: the time from sending to the first text \
                that is not reasoning. A person waits this long for the answer, while TTFT ends at \
                the first reasoning text. Responses without visible reasoning are not included.",
        ),
        Panel::lines("Reasoning (% of output tokens)", Unit::Percent)
            .about(
                "llmload_reasoning_tokens_total / llmload_output_tokens_total: the percentage of \
                the generated tokens that the model used for reasoning.",
            )
            .query(
                "reasoning",
                ratio(&rate(&table::REASONING_TOKENS), &rate(&table::OUTPUT_TOKENS)),
            )
            .at_most_one(),
        quantiles("Reasoning tokens per request", Unit::Count, &table::REQUEST_REASONING_TOKENS)
            .about(
                "llmload_request_reasoning_tokens: the number of reasoning tokens in each \
                success, as the endpoint counts them.",
            ),
    ]
}
