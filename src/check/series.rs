//! Counts the time series that a daemon would expose for a plan. It counts them in the real metrics
//! of the daemon, so a new metric or label is included automatically.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::capacity::Capacity;
use crate::generator::GeneratorMonitor;
use crate::guard::{Accounts, Breaker, ScenarioBudgets};
use crate::ledger::Ledger;
use crate::metrics::{Baseline, Defect, Labels, Metrics, RouteSettings};
use crate::plan::{Location, Plan, Scenario};
use crate::schedule::SearchRange;
use crate::schedule_state::ScheduleState;

/// Replaces an unknown model name.
const UNKNOWN_MODEL: &str = "model";

/// Returns the number of samples of a scrape after every phase has begun, and after every search.
///
/// # Errors
/// If the metrics cannot be set up, which would be a defect of llmload.
pub fn count_series(plan: &Plan) -> Result<usize, Defect> {
    let accounts = Accounts::new();
    let now = Instant::now();
    if plan.state_dir.is_some() {
        accounts.restore(Vec::new(), SystemTime::UNIX_EPOCH, now);
    }
    let budgets = plan.scenarios.iter().map(ScenarioBudgets::new);
    accounts.configure(budgets, SystemTime::UNIX_EPOCH, now);
    let buckets = plan.buckets.clone();
    let metrics = Metrics::new(GeneratorMonitor::new(), Arc::default(), accounts, buckets)?;
    metrics.config_loaded(plan.source_hash);
    metrics.set_shard(plan.shard);
    metrics.set_paused(false);
    // The number of GPUs is not known without nvidia-smi, so their series are not included.
    metrics.machine.set_any_host(plan.resources);
    let mut phases = BTreeSet::new();
    for (scenario, target) in plan
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.targets().map(move |target| (scenario, target)))
    {
        metrics.targets.add(&target.name, "");
        let labels = Labels {
            target: target.name.clone(),
            model: target.model.clone().unwrap_or_else(|| UNKNOWN_MODEL.to_owned()),
            scenario: scenario.name.clone(),
        };
        let schedule_state =
            ScheduleState::new(Arc::clone(&scenario.schedule), false, plan.shard, "");
        if let Some(capacity) = any_capacity(scenario) {
            schedule_state.searches.set_capacity(capacity, SystemTime::UNIX_EPOCH);
        }
        let baseline = scenario
            .baseline_of(&target.name)
            .map(|baseline| Baseline { target: baseline.to_owned(), difference: Arc::default() });
        let settings = RouteSettings {
            arrivals: scenario.arrivals,
            simulated: matches!(target.location, Location::Simulator(_)),
            limit: scenario.max_concurrency.get(),
            replays: scenario.schedule.has_replay(),
            prices: target.prices.clone(),
            slo: scenario.slo.clone(),
            breaker: scenario.breaker.map(Breaker::new),
            searches: scenario.schedule.search_phases(),
            baseline,
            sessions: scenario.sessions.is_some().then(Arc::default),
        };
        metrics.bind(&labels, Ledger::new(), Arc::new(schedule_state), settings);
        // The series with the start time of a phase appears when the phase begins, so the registry
        // does not contain it yet.
        phases.extend(scenario.schedule.phases().iter().map(|phase| (&scenario.name, &phase.name)));
    }
    let mut exposition = Vec::new();
    metrics.expose(&mut exposition)?;
    let lines = exposition.split(|byte| *byte == b'\n');
    let samples = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).count();
    Ok(samples + phases.len())
}

/// A result of the searches of a scenario with all values that such a result can have. `None`
/// without a search.
fn any_capacity(scenario: &Scenario) -> Option<Capacity> {
    let searches = scenario.schedule.phases().iter().filter_map(|phase| phase.load.search());
    let concurrency = searches.map(|spec| match spec.range {
        SearchRange::Rate { .. } => None,
        SearchRange::Concurrency { .. } => Some(0.0),
    });
    let concurrency = concurrency.reduce(Option::or)?;
    Some(Capacity { requests_per_second: 0.0, concurrency })
}
