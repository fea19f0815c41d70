//! Forecasts when the budgets of a scenario are used up. The forecast starts each budget at the
//! saved spending, or else at 0. Every response has its longest permitted length.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::demand::{Demand, DemandTotals};
use super::forecast::DAY;
use super::numbers::{count, money, percent};
use super::planned_runs::CycleRun;
use crate::calendar::rfc3339;
use crate::guard::SavedAccount;
use crate::plan::{Budget, BudgetUnit, Scenario, Spending, Target};
use crate::schedule::Load;

/// The forecast of one limit of a budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetForecast {
    /// `hour`, `day` or `month`.
    pub per: &'static str,
    /// `requests`, `tokens` or `cost`.
    pub unit: &'static str,
    pub limit: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The most that the schedule uses in one period during the forecast. `None` if nobody knows it
    /// in advance, because the schedule has a closed loop or a search.
    pub used_at_most: Option<f64>,
    /// The amount that `state_dir` has for the current period. `None` if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_already: Option<f64>,
    /// The instant at which the budget is used up. `None` if it lasts, or if `used_at_most` is not
    /// known.
    #[serde(serialize_with = "optional_time")]
    pub used_up: Option<SystemTime>,
}

/// The amounts that the schedule of a scenario uses.
pub(super) struct Usage<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) demand: &'a Demand<'a>,
    pub(super) runs: &'a [CycleRun],
    /// The spending in `state_dir`.
    pub(super) saved: &'a [SavedAccount],
    /// The start of the forecast.
    pub(super) now: SystemTime,
    /// The length of the forecast.
    pub(super) span: Duration,
}

impl Usage<'_> {
    pub(super) fn budgets(&self) -> Vec<BudgetForecast> {
        let limits = self.scenario.budgets.iter().flat_map(|budget| {
            budget.limits.iter().map(move |(unit, limit)| (budget, unit, limit))
        });
        limits.map(|(budget, unit, limit)| self.forecast(budget, unit, limit)).collect()
    }

    fn forecast(&self, budget: &Budget, unit: BudgetUnit, limit: u64) -> BudgetForecast {
        let limit = unit.to_f64(limit);
        let currency = budget.currency.clone().filter(|_| unit == BudgetUnit::Cost);
        let used_already = self.saved(budget).map(|spending| unit.to_f64(spending.get(unit)));
        let (used_at_most, used_up) = is_known(self.scenario)
            .then(|| self.usage(budget, unit, limit, used_already.unwrap_or(0.0)))
            .unzip();
        let (per, unit, used_up) = (budget.period.as_str(), unit.as_str(), used_up.flatten());
        BudgetForecast { per, unit, limit, currency, used_at_most, used_already, used_up }
    }

    /// The spending of the current period in `state_dir`.
    fn saved(&self, budget: &Budget) -> Option<Spending> {
        let is_same = |(key, _): &&SavedAccount| {
            key.scenario == self.scenario.name && key.period == budget.period
        };
        let (_, saved) = self.saved.iter().find(is_same)?;
        (self.now < saved.current.window.to).then_some(saved.current.until)
    }

    /// Returns the most that the schedule uses in one period, and the instant at which the budget
    /// is used up. `already` is the spending of the first period before the forecast.
    fn usage(
        &self,
        budget: &Budget,
        unit: BudgetUnit,
        limit: f64,
        mut already: f64,
    ) -> (f64, Option<SystemTime>) {
        let (mut used_at_most, mut used_up) = (0.0_f64, None);
        // A schedule that only counts requests has no length.
        let span = self.span.max(Duration::from_nanos(1));
        let mut from = Duration::ZERO;
        while from < span {
            let (_, to) = budget.period.around(&budget.zone, self.now + from);
            let to = to.duration_since(self.now).unwrap_or_default();
            let before = self.until(unit, from);
            let used = self.until(unit, to.min(span)) - before;
            used_at_most = used_at_most.max(used);
            if used_up.is_none() {
                let limit = limit - already;
                let instant = if limit <= 0.0 {
                    Some(from)
                } else if used > limit {
                    Some(self.instant(unit, before + limit, (from, to.min(span))))
                } else {
                    self.after_forecast(unit, limit - used, to)
                };
                used_up = instant.map(|instant| self.now + instant);
            }
            (from, already) = (to, 0.0);
        }
        (used_at_most, used_up)
    }

    /// Returns the amount from the start of the forecast to this time.
    fn until(&self, unit: BudgetUnit, time: Duration) -> f64 {
        let runs = self.runs.iter().take_while(|run| run.begin < time);
        let totals: DemandTotals =
            runs.map(|run| self.demand.totals(run, run.begin, run.end.min(time))).sum();
        self.scenario.targets().map(|target| amount(unit, &totals, target)).sum()
    }

    /// Finds the first second at which the amount exceeds `amount`. It exceeds it at `to`.
    fn instant(
        &self,
        unit: BudgetUnit,
        amount: f64,
        (mut from, mut to): (Duration, Duration),
    ) -> Duration {
        while to.saturating_sub(from) > Duration::from_secs(1) {
            let middle = from + to.saturating_sub(from) / 2;
            if self.until(unit, middle) > amount {
                to = middle;
            } else {
                from = middle;
            }
        }
        to
    }

    /// Estimates when the rest of a budget is used up in a period that ends after the forecast.
    /// `None` if it lasts until the end of the period.
    fn after_forecast(&self, unit: BudgetUnit, left: f64, to: Duration) -> Option<Duration> {
        if self.span < DAY || to <= self.span {
            return None;
        }
        let per_second = self.until(unit, self.span) / self.span.as_secs_f64();
        let more = Duration::try_from_secs_f64(left / per_second).ok()?;
        self.span.checked_add(more).filter(|instant| *instant < to)
    }
}

/// Returns false if the number of requests depends on the response times.
pub(super) fn is_known(scenario: &Scenario) -> bool {
    let depends = |load: &Load| load.timed_slots().is_some() || load.search().is_some();
    !scenario.schedule.phases().iter().any(|phase| depends(&phase.load))
}

/// The amount at one target.
pub(super) fn amount(unit: BudgetUnit, totals: &DemandTotals, target: &Target) -> f64 {
    match unit {
        BudgetUnit::Requests => totals.requests,
        BudgetUnit::Tokens => totals.input + totals.output,
        BudgetUnit::Cost => {
            let prices = target.prices.as_ref();
            prices.map_or(0.0, |prices| prices.cost(totals.input, totals.output))
        }
    }
}

impl BudgetForecast {
    /// Returns the forecast as a line of text, such as `20,000 requests per hour: used up …`.
    pub(super) fn text(&self, budget: &Budget, now: SystemTime) -> String {
        let name = match (&self.currency, self.unit) {
            (Some(currency), _) => format!("{} {currency} per {}", money(self.limit), self.per),
            (None, unit) => format!("{} {unit} per {}", count(self.limit), self.per),
        };
        let name = match self.used_already {
            Some(used) => format!("{name}, {} used already", percent(used / self.limit)),
            None => name,
        };
        let Some(used_at_most) = self.used_at_most else {
            return format!(
                "{name}: not known in advance: the response times determine the number of requests"
            );
        };
        let Some(used_up) = self.used_up else {
            let share = percent(used_at_most / self.limit);
            return format!("{name}: the schedule uses at most {share}");
        };
        let at = budget.zone.day_and_time(used_up, now);
        let earliest = if self.unit == "requests" { "" } else { "at the earliest " };
        format!("{name}: used up {earliest}on {at} ({})", budget.zone)
    }
}

#[allow(clippy::ref_option)]
fn optional_time<S: Serializer>(at: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::super::forecast::Forecast;
    use super::*;
    use crate::calendar::Period;
    use crate::guard::{AccountKey, Mark, Saved, Window};

    /// Friday, 27 November 2026, 18:00 UTC, in hours.
    const NOW: u64 = 498_834;

    fn hours(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(hours)
    }

    /// Returns the lines about budgets of a forecast from [`NOW`].
    fn lines(yaml: &str) -> Vec<String> {
        lines_after(yaml, &[])
    }

    fn lines_after(yaml: &str, saved: &[SavedAccount]) -> Vec<String> {
        let plan = crate::config::parse(yaml, "f.yml", None, &|_| None).unwrap();
        let now = hours(NOW);
        let forecast = Forecast::after(&plan, now, 0, saved);
        let scenario = &plan.scenarios[0];
        let forecasts = &forecast.scenarios[0].budgets;
        let text = |one: &BudgetForecast| {
            let budget = scenario.budgets.iter().find(|b| b.period.as_str() == one.per).unwrap();
            one.text(budget, now)
        };
        forecasts.iter().map(text).collect()
    }

    #[test]
    fn a_budget_is_used_up_at_the_instant_that_the_schedule_determines() {
        let yaml = |budgets: &str| {
            format!(
                "target: {{base_url: 'http://localhost/v1', prices: {{input_per_million: 0, \
                 output_per_million: 10, currency: EUR}}}}\nrate: 1/s\nprompts: [abcdefgh]\n\
                 request: {{max_tokens: 98}}\nstart: now\nbudgets: [{budgets}]\n"
            )
        };
        // A request has 100 tokens.
        assert_eq!(
            lines(&yaml(
                "{per: hour, requests: 1800}, {per: day, tokens: 720k, timezone: Europe/Berlin}"
            )),
            [
                "1,800 requests per hour: used up on Fri 27 Nov 18:30 (UTC)",
                "720,000 tokens per day: used up at the earliest on Fri 27 Nov 21:00 \
                 (Europe/Berlin)"
            ]
        );
        // The remaining 5 hours of this day and 19 hours of the next do not use the budget up, but
        // the complete next day does.
        assert_eq!(
            lines(&yaml("{per: day, requests: 80k, timezone: Europe/Berlin}")),
            ["80,000 requests per day: used up on Sat 28 Nov 22:13 (Europe/Berlin)"]
        );
        // A day costs 84.672 EUR.
        assert_eq!(
            lines(&yaml("{per: hour, requests: 7200}, {per: month, cost: 254.016}")),
            [
                "7,200 requests per hour: the schedule uses at most 50 %",
                "254.02 EUR per month: used up at the earliest on Mon 30 Nov 18:00 (UTC)"
            ]
        );
    }

    #[test]
    fn the_saved_spending_of_the_current_period_counts() {
        let yaml = "target: http://localhost/v1\nrate: 1/s\nstart: now\n\
                    budgets: [{per: hour, requests: 3600}]\n";
        let saved = |from: u64, requests| {
            let key = AccountKey { scenario: "default".to_owned(), period: Period::Hour };
            let window = Window { from: hours(from), to: hours(from + 1) };
            let current = Mark { window, until: Spending::new(requests, 0, 0) };
            [(key, Saved { currency: None, current, next: None })]
        };
        for (from, requests, line) in [
            (NOW - 1, 900, "3,600 requests per hour: the schedule uses at most 100 %"),
            (NOW, 0, "3,600 requests per hour, 0 % used already: the schedule uses at most 100 %"),
            (
                NOW,
                900,
                "3,600 requests per hour, 25 % used already: used up on Fri 27 Nov 18:45 (UTC)",
            ),
            (
                NOW,
                3600,
                "3,600 requests per hour, 100 % used already: used up on Fri 27 Nov 18:00 (UTC)",
            ),
        ] {
            assert_eq!(lines_after(yaml, &saved(from, requests)), [line]);
        }
    }

    #[test]
    fn the_usage_of_a_closed_loop_and_of_a_search_is_not_known_in_advance() {
        let yaml = |load: &str| {
            format!("target: http://localhost/v1\n{load}\nbudgets: [{{per: day, requests: 10}}]\n")
        };
        let unknown = "10 requests per day: not known in advance: the response times determine the \
                       number of requests";
        for load in [
            "concurrency: 8",
            "schedule: [{constant: 5/s, for: 1m}, {concurrency: 2, for: 1m}]",
            "slo: {ttft: {p95: 2s}}\nrepeat: 1\nschedule: [{search: {rate: {from: 1/s, to: 9/s}}, \
             for: 60s}]",
        ] {
            assert_eq!(lines(&yaml(load)), [unknown], "{load}");
        }
        let plan = crate::config::parse(&yaml("concurrency: 8"), "f.yml", None, &|_| None).unwrap();
        let forecast = Forecast::new(&plan, SystemTime::UNIX_EPOCH, 0);
        let json = serde_json::to_value(&forecast.scenarios[0].budgets[0]).unwrap();
        assert!(json["used_at_most"].is_null() && json["used_up"].is_null(), "{json}");
        // A number of requests ends this closed loop.
        let counted = "repeat: 1\nschedule: [{concurrency: 2, requests: 5}]";
        let known = "10 requests per day: the schedule uses at most 50 %";
        assert_eq!(lines(&yaml(counted)), [known]);
    }
}
