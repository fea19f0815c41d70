//! Prints a plan and its forecast as text and charts, for a terminal or a file.

mod drawing;
mod names;
mod style;
mod totals;
mod units;

use std::fmt::{self, Display};

use super::demand::most_output_tokens;
use super::forecast::{Forecast, ScenarioForecast, tokens_per_request};
use super::numbers::{count, integer};
use super::time_axis;
use super::{guards, objectives, phases};
use crate::config::HumanDuration;
use crate::plan::{Auth, Location, Plan, Scenario, Target};
use crate::schedule::{Arrivals, Shard};
pub(crate) use names::{cut_apart, shortened_apart};
pub use style::TextStyle;
pub(crate) use style::{cut, width, wrapped};
pub(crate) use units::{NO_BREAK, with_units_kept};

/// The text of `llmload check` for one valid file.
#[derive(Debug)]
pub struct ForecastText<'a> {
    pub plan: &'a Plan,
    pub forecast: &'a Forecast,
    pub warnings: &'a [String],
    pub style: TextStyle,
}

impl Display for ForecastText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = self.plan.shard;
        if shard != Shard::ALL {
            let text = format!(
                "{shard}: one of {} daemons; the values below are for this shard only",
                shard.count()
            );
            self.line("shard", text, f)?;
            writeln!(f)?;
        }
        for (scenario, forecast) in self.plan.scenarios.iter().zip(&self.forecast.scenarios) {
            self.settings(scenario, forecast, f)?;
            self.scenario_drawing(scenario, forecast, f)?;
            self.phases(scenario, forecast, f)?;
            self.scenario_totals(scenario, forecast, f)?;
            writeln!(f)?;
        }
        if self.plan.scenarios.iter().flat_map(Scenario::targets).count() > 1 {
            self.sum(f)?;
        }
        self.line("series", format!("{} on /metrics", integer(self.forecast.series as u64)), f)?;
        for warning in self.warnings {
            writeln!(f)?;
            self.warning(warning, f)?;
        }
        Ok(())
    }
}

impl ForecastText<'_> {
    /// Prints a name and its wrapped text. An empty name continues the previous entry.
    fn line(&self, name: &str, text: impl Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = wrapped(&text.to_string(), self.style.width.saturating_sub(17));
        for (index, line) in lines.iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            writeln!(f, "  {} {line}", self.style.faint(format!("{name:14}")))?;
        }
        Ok(())
    }

    fn warning(&self, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = wrapped(text, self.style.width.saturating_sub(9));
        for (index, line) in lines.iter().enumerate() {
            let head = if index == 0 { self.style.yellow("warning:") } else { " ".repeat(8) };
            writeln!(f, "{head} {line}")?;
        }
        Ok(())
    }

    fn settings(
        &self,
        scenario: &Scenario,
        forecast: &ScenarioForecast,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let target = &scenario.target;
        writeln!(f, "{}", self.style.bold(format!("scenario {}", scenario.name)))?;
        self.line("target", location(target), f)?;
        for other in &scenario.other_targets {
            self.line("", format!("{}, with the same requests", location(other)), f)?;
        }
        let default_model = match &target.location {
            Location::Url(_) => "the only model in /models",
            Location::Simulator(settings) => settings.model.as_str(),
        };
        self.line("model", target.model.as_deref().unwrap_or(default_model), f)?;
        self.line("key", key(&target.auth), f)?;
        self.line("prompts", prompts(scenario, forecast), f)?;
        self.line("responses", responses(scenario, forecast), f)?;
        match scenario.arrivals {
            Arrivals::Constant => {}
            Arrivals::Poisson => self.line("arrivals", "random (Poisson)", f)?,
            Arrivals::Burstiness(shape) => {
                self.line("arrivals", format!("random (gamma, burstiness {shape})"), f)?;
            }
        }
        let now = self.forecast.from;
        let start = time_axis::start_setting(scenario, &forecast.next_firings, now);
        self.line("start", start, f)?;
        if let Some(active) = time_axis::active_setting(scenario, now) {
            self.line("active", active, f)?;
        }
        if scenario.warmup > 0 {
            let warmup = count(f64::from(scenario.warmup));
            let text = format!("{warmup} requests first, one after the other; not included below");
            self.line("warm-up", text, f)?;
        }
        let (cap, lag) = (scenario.max_concurrency, HumanDuration(scenario.max_lag));
        let text = format!("at most {cap} in flight (max_concurrency), {lag} late (max_lag)");
        self.line("limits", text, f)?;
        for (label, text) in guards::texts(scenario) {
            self.line(label, text, f)?;
        }
        for (index, text) in objectives::texts(scenario).into_iter().enumerate() {
            self.line(if index == 0 { "objectives" } else { "" }, text, f)?;
        }
        Ok(())
    }

    fn phases(
        &self,
        scenario: &Scenario,
        forecast: &ScenarioForecast,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        self.line("schedule", phases::summary(scenario, forecast), f)?;
        for line in phases::table(scenario, forecast, self.plan.shard) {
            writeln!(f, "{line}")?;
        }
        writeln!(f)
    }
}

fn location(target: &Target) -> String {
    let proxy = target.connection.proxy.as_ref().map(|proxy| &proxy.url);
    let proxy = proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
    match &target.location {
        Location::Url(url) => format!("{} at {url}{proxy}", target.name),
        Location::Simulator(_) => format!("{}, the built-in simulator", target.name),
    }
}

fn prompts(scenario: &Scenario, forecast: &ScenarioForecast) -> String {
    let (prompts, (input, _)) = (&scenario.prompts, tokens_per_request(scenario, forecast));
    let number = prompts.len().map_or("synthetic".to_owned(), |number| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{} prompt{plural}", integer(number))
    });
    let mix = match prompts.sources().as_slice() {
        [_] => String::new(),
        parts => {
            let share =
                |(name, share, _): &(&str, f64, _)| format!("{} % {name}", count(share * 100.0));
            format!(" in a mix of {}", parts.iter().map(share).collect::<Vec<_>>().join(", "))
        }
    };
    let has_system = scenario.request.system.is_some();
    let system = if has_system { " including the system message" } else { "" };
    format!("{}: {number}{mix}, about {} each{system}", prompts.name, tokens(input.ceil()))
}

fn responses(scenario: &Scenario, forecast: &ScenarioForecast) -> String {
    let request = &scenario.request;
    if !scenario.target.dialect.api.generates_text() {
        return "vectors, not text: no TTFT, no TPOT, no output tokens".to_owned();
    }
    let (_, output) = tokens_per_request(scenario, forecast);
    let streamed = if request.stream { "streamed" } else { "not streamed: no TTFT, no TPOT" };
    // Other limits than `max_tokens` differ between requests, so only their mean is shown.
    let has_several_limits = (output - most_output_tokens(request)).abs() > 0.5;
    let mean = if has_several_limits { " (mean of the limits)" } else { "" };
    format!("limited to {} each{mean}, {streamed}", tokens(output.round()))
}

pub(crate) fn key(auth: &Auth) -> String {
    match auth {
        Auth::None => "none".to_owned(),
        Auth::Basic(_) => "from the URL, as basic auth".to_owned(),
        Auth::Bearer(secret) => format!("from {}, as bearer token", secret.origin),
        Auth::ApiKey(secret) => format!("from {}, as `api-key`", secret.origin),
        Auth::XApiKey(secret) => format!("from {}, as `x-api-key`", secret.origin),
    }
}

fn tokens(number: f64) -> String {
    format!("{} token{}", count(number), if number > 1.0 { "s" } else { "" })
}

#[cfg(test)]
mod tests;
