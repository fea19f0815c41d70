//! The template of all requests on a route (one scenario on one target). It builds the request of
//! an arrival.

use std::sync::Arc;

use http::HeaderValue;

use super::session::Session;
use crate::endpoint::Request;
use crate::event::Arrival;
use crate::exchange::RequestSpec;
use crate::guard::Demand;
use crate::measurement::{ClientFault, Failure, FailureCause, FailureDetail};
use crate::plan::{self, History, RequestParameters, Timeouts};
use crate::prompts::{PromptUnavailable, Prompts, tokens_of_bytes};
use crate::protocol::{Dialect, Prompt, Terminal, Trace};
use crate::random::unique_number;
use crate::schedule::{HashBlocks, Schedule};

/// Everything that the requests of a route have in common.
#[derive(Debug)]
pub struct RequestTemplate {
    /// The model name in each request.
    pub model: String,
    /// The source of the prompts.
    pub prompts: PromptSource,
    /// The parameters under the key `request` of the configuration.
    pub parameters: RequestParameters,
    /// The API of the target.
    pub dialect: Dialect,
    /// True if each request carries a trace context.
    pub traceparent: bool,
    /// The proof that a response is complete, such as a finish reason. The user sets it with the
    /// key `terminal`.
    pub terminal: Terminal,
    /// The timeouts of each request.
    pub timeouts: Timeouts,
}

/// The prompts of a scenario. The number of an arrival determines its prompt. So every target
/// receives the same prompt, and the prompt does not depend on the number of shards.
#[derive(Debug)]
pub struct PromptSource {
    /// The prompts.
    pub prompts: Prompts,
    /// The seed of all random choices.
    pub seed: u64,
    /// The name of the scenario. It affects all random choices, so two scenarios with the same seed
    /// draw different prompts.
    pub scenario: String,
    /// The schedule, whose traces contain the blocks of recorded prompts.
    pub schedule: Arc<Schedule>,
}

impl PromptSource {
    fn blocks(&self, arrival: &Arrival) -> HashBlocks<'_> {
        let phase_and_lengths = arrival.phase.zip(arrival.lengths);
        phase_and_lengths.map_or_else(HashBlocks::default, |(phase, lengths)| {
            self.schedule.blocks(phase, lengths)
        })
    }
}

impl RequestTemplate {
    /// Returns the most tokens that the request of an arrival can use. `history` is the length of
    /// the earlier turns of its session in bytes. Reads no file.
    pub fn demand(&self, arrival: &Arrival, history: u64) -> Demand {
        let PromptSource { prompts, seed, scenario, .. } = &self.prompts;
        let system = self.parameters.system.as_ref().map_or(0, String::len);
        let limit = self.dialect.output_limit(&self.parameters);
        let Arrival { k, turn, lengths, .. } = *arrival;
        let most = if prompts.has_sessions() {
            prompts.most_tokens_of_turn(*seed, scenario, (k, turn), history, limit)
        } else {
            prompts.most_tokens(*seed, scenario, k, lengths, limit)
        };
        let input_tokens = most.input + tokens_of_bytes(system as u64);
        let generates = self.dialect.api.generates_text();
        Demand { input_tokens, output_tokens: if generates { most.output } else { Some(0) } }
    }

    /// Builds the request of an arrival.
    ///
    /// # Errors
    /// Fails if the prompt can no longer be read from its file.
    pub fn request_spec(&self, arrival: Arrival) -> Result<RequestSpec, FailureDetail> {
        let PromptSource { prompts, seed, scenario, .. } = &self.prompts;
        let blocks = self.prompts.blocks(&arrival);
        let prompt =
            prompts.prompt_with_blocks(*seed, scenario, arrival.k, arrival.lengths, blocks);
        Ok(self.spec_of(&prompt.map_err(|error| unavailable(&error))?))
    }

    /// Builds the request of the current turn of a session.
    ///
    /// # Errors
    /// Fails if the turn can no longer be read from its file.
    pub(super) fn turn_spec(
        &self,
        session: &mut Session,
        settings: &plan::Sessions,
    ) -> Result<RequestSpec, FailureDetail> {
        let PromptSource { prompts, seed, scenario, .. } = &self.prompts;
        let turn = prompts.turn(*seed, scenario, session.k, session.turn);
        let turn = turn.map_err(|error| unavailable(&error))?;
        session.begin_turn(turn.unwrap_or_default(), settings.history);
        let prompt = prompts.prompt_of_turn(session.current_turn(), session.messages());
        let mut spec = self.spec_of(&prompt);
        spec.keeps_answer = session.has_next_turn() && settings.history == History::Live;
        let id = HeaderValue::try_from(session.id()).ok();
        spec.request.session = settings.header.clone().zip(id);
        Ok(spec)
    }

    fn spec_of(&self, prompt: &Prompt<'_>) -> RequestSpec {
        let trace = || Trace::new(unique_number(), unique_number(), unique_number());
        RequestSpec {
            request: Request {
                path: self.dialect.path(),
                body: self.dialect.encode(&self.model, &self.parameters, prompt).into(),
                stream: self.dialect.streams(&self.parameters),
                trace: self.traceparent.then(trace),
                session: None,
            },
            model: self.model.clone(),
            terminal: self.terminal,
            api: self.dialect.api,
            expects_usage: self.dialect.include_usage,
            expected_vectors: self.dialect.expected_vectors(prompt),
            timeouts: self.timeouts,
            keeps_answer: false,
        }
    }
}

fn unavailable(unavailable: &PromptUnavailable) -> FailureDetail {
    FailureDetail::new(Failure::ClientResource, &unavailable.to_string())
        .with_cause(FailureCause::Client(ClientFault::PromptFile))
}
