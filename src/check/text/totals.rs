//! The totals of a forecast: requests, tokens, cost and requests in flight.

use std::fmt;
use std::time::Duration;

use super::ForecastText;
use crate::calendar::Zone;
use crate::check::forecast::{Cost, DAY, InFlight, ScenarioForecast};
use crate::check::numbers::{count, money, rate, short_seconds, three_digits};
use crate::check::sessions::SessionForecast;
use crate::check::time_axis::{self, Axis};
use crate::config::HumanDuration;
use crate::plan::{Budget, Scenario};

impl ForecastText<'_> {
    pub(super) fn scenario_totals(
        &self,
        scenario: &Scenario,
        forecast: &ScenarioForecast,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let requests = forecast.amounts.requests;
        let has_closed_loops = forecast.closed_loop_slots > 0
            && (requests <= 0.0
                || scenario
                    .schedule
                    .phases()
                    .iter()
                    .any(|phase| phase.load.timed_slots().is_some()));
        if requests > 0.0 {
            self.amounts(scenario, forecast, has_closed_loops, f)?;
        } else {
            self.line("requests", self.no_total(scenario, forecast, has_closed_loops), f)?;
        }
        if forecast.counts_requests && forecast.cycle > Duration::ZERO {
            let phases =
                if scenario.schedule.has_search() { "searches" } else { "`requests` phases" };
            let text = format!(
                "The length of {phases} is unknown in advance; the forecast treats them as \
                 instantaneous."
            );
            self.line("note", text, f)?;
        }
        if forecast.firings_skipped > 0 {
            #[allow(clippy::cast_precision_loss)]
            let skipped = count(forecast.firings_skipped as f64);
            let text = format!(
                "{skipped} cron firings, because each comes before the previous pass has ended"
            );
            self.line("skipped", text, f)?;
        }
        let first = in_flight(&forecast.in_flight, forecast.peak_rate);
        self.line("in flight", format!("{}{first}", target_prefix(forecast)), f)?;
        for other in &forecast.other_targets {
            let text = in_flight(&other.in_flight, forecast.peak_rate);
            self.line("", format!("{}: {text}", other.target), f)?;
        }
        for (index, budget) in forecast.budgets.iter().enumerate() {
            let name = if index == 0 { "budgets" } else { "" };
            let of_period = |one: &&Budget| one.period.as_str() == budget.per;
            if let Some(configured) = scenario.budgets.iter().find(of_period) {
                self.line(name, budget.text(configured, self.forecast.from), f)?;
            }
        }
        Ok(())
    }

    fn amounts(
        &self,
        scenario: &Scenario,
        forecast: &ScenarioForecast,
        has_closed_loops: bool,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let amounts = &forecast.amounts;
        let targets = forecast.other_targets.len() + 1;
        let each = |word: &str| match targets {
            1 => String::new(),
            targets => format!(" {word} each of the {targets} targets"),
        };
        let closed = if has_closed_loops { PLUS_CLOSED_LOOPS } else { "" };
        if let Some(SessionForecast { sessions, turns, peak_rate }) = forecast.sessions {
            let sessions = self.requests(sessions, peak_rate, "");
            let turns = three_digits(turns);
            self.line("sessions", format!("{sessions}; {turns} turns each, on average"), f)?;
        }
        let requests = self.requests(amounts.requests, forecast.peak_rate, &each("to"));
        self.line("requests", format!("{requests}{closed}"), f)?;
        let basis = match scenario.prompts.len() {
            None => "configured lengths",
            Some(_) => "4 bytes per token",
        };
        let (input, for_each) = (count(amounts.input_tokens_estimated), each("for"));
        self.line("input tokens", format!("about {input}{for_each} ({basis})"), f)?;
        let output = count(amounts.output_tokens_at_most);
        self.line("output tokens", format!("at most {output}{for_each}"), f)?;
        let costs = std::iter::once((target_prefix(forecast), &forecast.cost_at_most));
        let others = forecast.other_targets.iter();
        let others = others.map(|other| (format!("{}: ", other.target), &other.cost_at_most));
        for (target, cost) in costs.chain(others) {
            if let Some(Cost { amount, currency }) = cost {
                self.line("cost", format!("{target}{}", self.cost(*amount, currency)), f)?;
            }
        }
        Ok(())
    }

    /// Returns the entry `requests` if their number is zero or unknown.
    fn no_total(
        &self,
        scenario: &Scenario,
        forecast: &ScenarioForecast,
        has_closed_loops: bool,
    ) -> String {
        if scenario.schedule.has_search() {
            return "not known in advance: a search chooses its steps by the responses".to_owned();
        }
        if has_closed_loops {
            return "not known in advance: closed-loop phases depend on the response times"
                .to_owned();
        }
        if forecast.active_time.is_zero() {
            return format!("none in {}: the schedule does not run", self.span());
        }
        let first = forecast.phases.iter().find(|p| p.rate_max > 0.0 || p.closed_loop_slots > 0);
        match first {
            Some(first)
                if time_axis::zone(scenario).is_none() && forecast.active_time <= first.start =>
            {
                let start = HumanDuration(first.start);
                format!("none: the first phase with load starts after {start}")
            }
            _ => format!("none in {}", self.span()),
        }
    }

    fn requests(&self, requests: f64, peak: f64, each: &str) -> String {
        if peak <= 0.0 || self.forecast.span.is_zero() {
            return format!("{}{each}", count(requests));
        }
        let mean = requests / self.forecast.span.as_secs_f64();
        let rates = if (peak - mean).abs() < 1e-3 * peak {
            format!("always {}", rate(peak))
        } else if mean > peak {
            // The peak does not include phases that count requests, and a short trace has a row at
            // both ends. So the mean can be above the peak, which would confuse.
            format!("peak {}", rate(peak))
        } else {
            format!("mean {}, peak {}", rate(mean), rate(peak))
        };
        format!("{} in {}{each} ({rates})", count(requests), self.span())
    }

    fn cost(&self, amount: f64, currency: &str) -> String {
        let monthly = if self.forecast.span < DAY {
            String::new()
        } else {
            format!("; {} in 30 days at this load", money(amount * 30.0))
        };
        format!("at most {} {currency} in {}{monthly}", money(amount), self.span())
    }

    pub(super) fn span(&self) -> String {
        if self.forecast.span < DAY {
            HumanDuration(self.forecast.span).to_string()
        } else {
            "24 h".to_owned()
        }
    }

    pub(super) fn sum(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = &self.forecast.sum;
        let scenarios = &self.forecast.scenarios;
        let targets = scenarios.iter().map(|one| 1 + one.other_targets.len()).sum::<usize>();
        let title = match scenarios.len() {
            1 => format!("all {targets} targets together"),
            scenarios if scenarios == targets => format!("all {scenarios} scenarios together"),
            scenarios => {
                format!("all {scenarios} scenarios together, summed over all of their targets")
            }
        };
        writeln!(f, "{}", self.style.bold(title))?;
        let zones: Vec<Zone> = self.plan.scenarios.iter().filter_map(time_axis::zone).collect();
        let common = zones.first().filter(|first| zones.iter().all(|zone| zone == *first)).cloned();
        // Scenarios in different time zones share an axis in UTC.
        let zone = common.or_else(|| (!zones.is_empty()).then_some(Zone::UTC));
        let peak =
            format!("peak at most {}, reached only if all peaks coincide", rate(sum.peak_rate));
        self.drawing(&sum.buckets, &Axis::from_now(self.forecast, zone.as_ref()), &peak, f)?;
        let closed = if sum.closed_loop_slots > 0 { PLUS_CLOSED_LOOPS } else { "" };
        let requests = self.requests(sum.amounts.requests, sum.peak_rate, "");
        self.line("requests", format!("{requests}{closed}"), f)?;
        let input = count(sum.amounts.input_tokens_estimated);
        self.line("input tokens", format!("about {input}"), f)?;
        let output = count(sum.amounts.output_tokens_at_most);
        self.line("output tokens", format!("at most {output}"), f)?;
        for (currency, amount) in &sum.cost_at_most {
            self.line("cost", self.cost(*amount, currency), f)?;
        }
        #[allow(clippy::cast_precision_loss)]
        let in_flight = count(sum.in_flight_at_most as f64);
        self.line("in flight", format!("at most {in_flight}"), f)
    }
}

const PLUS_CLOSED_LOOPS: &str = ", plus the closed-loop requests";

/// Returns a prefix with the first target, if the scenario has several.
fn target_prefix(forecast: &ScenarioForecast) -> String {
    if forecast.other_targets.is_empty() { String::new() } else { format!("{}: ", forecast.target) }
}

/// Returns the most requests in flight at one target. If `max_concurrency` is the limit, the text
/// also has the response time that reaches it.
fn in_flight(in_flight: &InFlight, peak_rate: f64) -> String {
    let is_capped = in_flight.by_littles_law > f64::from(in_flight.at_most);
    let at_limit = in_flight.at_most == in_flight.max_concurrency;
    let limit = if at_limit { " (max_concurrency)" } else { "" };
    let text = format!("at most {}{limit}", count(f64::from(in_flight.at_most)));
    let Some(fill) = in_flight.seconds_to_fill.filter(|_| is_capped) else { return text };
    let (peak, fill) = (rate(peak_rate), short_seconds(fill));
    let longest = HumanDuration(in_flight.longest_request);
    let needed = count(in_flight.by_littles_law);
    format!(
        "{text}; at {peak}, this limit is reached if each response takes {fill}; if each took \
         {longest} (timeouts.total), {needed} requests would be in flight"
    )
}
