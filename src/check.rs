//! A plan as a person would want to read it before anything is sent.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::config::Spelled;
use crate::plan::{Auth, Location, Plan, Scenario, Start};
use crate::schedule::{Area, Arrivals, Load, Repeat};

const DAY: Duration = Duration::from_hours(24);

/// Writes a plan in words.
pub struct Words<'a>(pub &'a Plan);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scenario) in self.0.scenarios.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            describe(scenario, f)?;
        }
        Ok(())
    }
}

fn describe(scenario: &Scenario, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let target = &scenario.target;
    let (place, only) = match &target.location {
        Location::Url(url) => (format!("{} at {url}", target.name), "the only one that /models lists"),
        Location::Simulator(settings) => {
            (format!("{}, a built-in simulator", target.name), settings.model.as_str())
        }
    };
    let start = match &scenario.start {
        Start::WhenReady => "once the target answers",
        Start::Now => "at once",
        Start::WallClock(_) => "by the wall clock",
        Start::Cron(_) => "by cron",
    };
    let request = &scenario.request;
    writeln!(f, "scenario {}", scenario.name)?;
    writeln!(f, "  target     {place}")?;
    writeln!(f, "  model      {}", target.model.as_deref().unwrap_or(only))?;
    writeln!(f, "  key        {}", key(&target.auth))?;
    let prompts = scenario.prompts.len().map_or("made up".to_owned(), |count| format!("{count} of them"));
    writeln!(f, "  prompts    {} ({prompts})", scenario.prompts.name)?;
    let answers = if request.stream { "streamed" } else { "not streamed: no TTFT, no TPOT" };
    writeln!(f, "  request    up to {} output tokens, {answers}", request.max_tokens)?;
    writeln!(f, "  limits     {} in flight, {} late", scenario.max_concurrency, Spelled(scenario.max_lag))?;
    writeln!(f, "  start      {start}")?;
    match scenario.arrivals {
        Arrivals::Constant => {}
        Arrivals::Poisson => writeln!(f, "  arrivals   at random (Poisson)")?,
        Arrivals::Burstiness(shape) => writeln!(f, "  arrivals   at random (gamma, burstiness {shape})")?,
    }
    let schedule = &scenario.schedule;
    let length = Spelled(schedule.length());
    match scenario.repeat {
        Repeat::Forever => writeln!(f, "  schedule   {length}, repeated for ever")?,
        Repeat::Times(times) if times.get() == 1 => writeln!(f, "  schedule   {length}, once")?,
        Repeat::Times(times) => writeln!(f, "  schedule   {length}, {times} times")?,
    }
    let width = schedule.phases().iter().map(|phase| phase.name.chars().count()).max().unwrap_or(0);
    for index in 0..schedule.phases().len() {
        let Some(placed) = schedule.placed(index) else { continue };
        let phase = placed.phase;
        let mut line = format!("    {:width$}  for {}", phase.name, Spelled(phase.length));
        match phase.load {
            Load::Constant(_) | Load::Ramp { .. } | Load::Sine { .. } | Load::Replay(_) => {
                write!(line, ": {} requests", count(placed.total.as_f64()))?;
            }
            Load::Concurrency(slots) => write!(line, ": {slots} in flight, as many requests as they make")?,
            Load::Requests { slots, count } => write!(line, ": {count} requests, {slots} in flight")?,
            Load::Pause => {}
        }
        writeln!(f, "{line}")?;
    }
    writeln!(f, "  next 24 h  {}", day(scenario))
}

fn key(auth: &Auth) -> String {
    match auth {
        Auth::None => "none".to_owned(),
        Auth::Bearer(secret) => format!("from {}, as bearer token", secret.origin),
        Auth::ApiKey(secret) => format!("from {}, as `api-key`", secret.origin),
        Auth::XApiKey(secret) => format!("from {}, as `x-api-key`", secret.origin),
    }
}

/// What the open-loop phases of the first day send, and the most output tokens that may come back.
fn day(scenario: &Scenario) -> String {
    let schedule = &scenario.schedule;
    let length = schedule.length();
    let cycles = u32::try_from(DAY.as_nanos() / length.as_nanos().max(1)).unwrap_or(u32::MAX);
    let (cycles, rest) = match scenario.repeat {
        Repeat::Times(times) if times.get() <= cycles => (times.get(), Duration::ZERO),
        _ => (cycles, DAY.saturating_sub(length * cycles)),
    };
    // A cycle that does not begin sends nothing, not even the first row of a trace.
    let begun = if rest.is_zero() { Area::ZERO } else { schedule.area(rest) };
    let requests = schedule.total().as_f64() * f64::from(cycles) + begun.as_f64();
    let tokens = requests * f64::from(scenario.request.max_tokens.get());
    let open = format!("{} requests, at most {} output tokens", count(requests), count(tokens));
    let placed = || (0..schedule.phases().len()).filter_map(|index| schedule.placed(index));
    let closed = placed().any(|at| at.start < DAY && matches!(at.phase.load, Load::Concurrency(_)));
    match (requests > 0.0, closed) {
        (true, false) => open,
        (true, true) => format!("{open}, and what the closed-loop phases make"),
        (false, true) => "as many requests as the closed-loop phases make".to_owned(),
        (false, false) => match placed().find(|at| at.phase.load != Load::Pause) {
            Some(first) => format!("nothing: the first phase with load comes after {}", Spelled(first.start)),
            None => "nothing".to_owned(),
        },
    }
}

/// A number with a thin mark between thousands, and decimals only where they matter.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn count(number: f64) -> String {
    if number < 10.0 && (number - number.round()).abs() > 0.005 {
        return format!("{number:.2}");
    }
    let digits = (number.round() as u64).to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Words, count};

    /// The last line of what is said about a schedule.
    fn day(schedule: &str) -> String {
        let text =
            format!("target: http://localhost:1/v1\nrequest: {{max_tokens: 10}}\nschedule: [{schedule}]\n");
        let plan = crate::config::parse(&text, "test", None, &|_| None).unwrap();
        let words = Words(&plan).to_string();
        words.lines().last().unwrap().strip_prefix("  next 24 h  ").unwrap().to_owned()
    }

    #[test]
    fn a_day_is_told_by_what_it_holds() {
        assert_eq!(day("{constant: 1/s, for: 1h}"), "86,400 requests, at most 864,000 output tokens");
        assert_eq!(day("{concurrency: 2, for: 1h}"), "as many requests as the closed-loop phases make");
        let both = day("{constant: 1/h, for: 1h}, {concurrency: 2, for: 1h}");
        assert_eq!(both, "12 requests, at most 120 output tokens, and what the closed-loop phases make");
        let late = "nothing: the first phase with load comes after 1d6h";
        assert_eq!(day("{pause: 30h}, {constant: 1/s, for: 1h}"), late);
        assert_eq!(day("{pause: 30h}, {concurrency: 2, for: 1h}"), late);
        let only_open = day("{constant: 1/h, for: 30h}, {concurrency: 2, for: 1h}");
        assert_eq!(only_open, "24 requests, at most 240 output tokens");
    }

    #[test]
    fn a_replay_counts_its_rows_and_begins_no_cycle_that_does_not_take_place() {
        let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/traces/mooncake.jsonl");
        let hourly = day(&format!("{{replay: {{file: {trace}}}, for: 1h}}"));
        assert_eq!(hourly, "72 requests, at most 720 output tokens");
        let half = day(&format!("{{constant: 1/h, for: 13h}}, {{replay: {{file: {trace}}}, for: 13h}}"));
        assert_eq!(half, "16 requests, at most 160 output tokens");
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(count(0.7), "0.70");
        assert_eq!(count(3.0), "3");
        assert_eq!(count(999.6), "1,000");
        assert_eq!(count(1_728_000_000.2), "1,728,000,000");
    }
}
