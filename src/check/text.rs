//! A plan and its forecast in words and drawings, for a terminal or a file.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use super::chart::{self, Column, SHADE, chart, sparkline};
use super::demand::most_output_tokens;
use super::forecast::{Bucket, Cost, DAY, Forecast, InFlight, Stream, one_pass, tokens_each};
use super::numbers::{count, money, rate, short_seconds};
use super::phases;
use super::time_axis::{self, Axis};
use crate::calendar::Zone;
use crate::config::HumanDuration;
use crate::plan::{Auth, Location, Plan, Scenario, Start, Target};
use crate::schedule::{Arrivals, Load, Shard};

/// Where a schedule is gone through more often than this in the time ahead, its passes run into one
/// another in a drawing: then one of them is drawn.
const MOST_PASSES: f64 = 12.0;

/// Lines of a drawing in which nothing changes.
const LEVEL: usize = 3;

/// What it is written for.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// In characters.
    pub width: usize,
    /// Whether it shows colours.
    pub colours: bool,
}

impl TextStyle {
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.in_style("1", text)
    }

    pub(crate) fn faint(self, text: impl Display) -> String {
        self.in_style("2", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.in_style("33", text)
    }

    pub(crate) fn red(self, text: impl Display) -> String {
        self.in_style("31", text)
    }

    fn in_style(self, code: &str, text: impl Display) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// Writes it all.
#[derive(Debug)]
pub struct Words<'a> {
    /// What is forecast.
    pub plan: &'a Plan,
    /// The forecast.
    pub forecast: &'a Forecast,
    /// What is probably not meant.
    pub warnings: &'a [String],
    /// What it is written for.
    pub paper: TextStyle,
}

impl Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plan.shard != Shard::ALL {
            let (shard, count) = (self.plan.shard, self.plan.shard.count());
            self.line(
                "shard",
                format!("{shard}: one of {count} daemons; all figures are its own"),
                f,
            )?;
            writeln!(f)?;
        }
        for (scenario, stream) in self.plan.scenarios.iter().zip(&self.forecast.scenarios) {
            self.setting(scenario, stream, f)?;
            self.time_ahead(scenario, stream, f)?;
            self.cycle(scenario, stream, f)?;
            self.totals(scenario, stream, f)?;
            writeln!(f)?;
        }
        if self.plan.scenarios.iter().flat_map(Scenario::targets).count() > 1 {
            self.all_together(f)?;
        }
        self.line(
            "series",
            format_args!("{} on /metrics", count(as_f64(self.forecast.series))),
            f,
        )?;
        for warning in self.warnings {
            writeln!(f)?;
            self.warning(warning, f)?;
        }
        Ok(())
    }
}

impl Words<'_> {
    fn line(&self, name: &str, text: impl Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = wrapped(&text.to_string(), self.paper.width.saturating_sub(17));
        for (i, line) in lines.iter().enumerate() {
            writeln!(
                f,
                "  {} {line}",
                self.paper.faint(format!("{:14}", if i == 0 { name } else { "" }))
            )?;
        }
        Ok(())
    }

    /// Where requests go, and as what.
    fn setting(
        &self,
        scenario: &Scenario,
        stream: &Stream,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let target = &scenario.target;
        let place = |target: &Target| match &target.location {
            Location::Url(url) => format!("{} at {url}", target.name),
            Location::Simulator(_) => format!("{}, a built-in simulator", target.name),
        };
        let only = match &target.location {
            Location::Url(_) => "the only one that /models lists",
            Location::Simulator(settings) => settings.model.as_str(),
        };
        let request = &scenario.request;
        writeln!(f, "{}", self.paper.bold(format!("scenario {}", scenario.name)))?;
        self.line("target", place(target), f)?;
        for further in &scenario.other_targets {
            self.line("and target", format!("{}: the same again", place(further)), f)?;
        }
        self.line("model", target.model.as_deref().unwrap_or(only), f)?;
        self.line("key", key(&target.auth), f)?;
        let (prompts, (input, output)) = (&scenario.prompts, tokens_each(scenario, stream));
        let each = tokens(input.ceil());
        let number = prompts.len().map_or("made up".to_owned(), |number| {
            count(as_f64(usize::try_from(number).unwrap_or(usize::MAX)))
        });
        let system = if request.system.is_some() { " with the system message" } else { "" };
        let parts: Vec<String> = match prompts.sources().as_slice() {
            [_] => Vec::new(),
            parts => parts
                .iter()
                .map(|(name, share, _)| format!("{} % {name}", count(share * 100.0)))
                .collect(),
        };
        let mix = if parts.is_empty() {
            String::new()
        } else {
            format!(" in a mix of {}", parts.join(", "))
        };
        self.line(
            "prompts",
            format!("{}: {number}{mix}, about {each} each{system}", prompts.name),
            f,
        )?;
        let answers = if request.stream { "streamed" } else { "not streamed: no TTFT, no TPOT" };
        let own = (output - most_output_tokens(request)).abs() > 0.5;
        let average = if own { " on the average" } else { "" };
        self.line(
            "answers",
            format!("at most {} each{average}, {answers}", tokens(output.round())),
            f,
        )?;
        match scenario.arrivals {
            Arrivals::Constant => {}
            Arrivals::Poisson => self.line("arrivals", "at random (Poisson)", f)?,
            Arrivals::Burstiness(shape) => {
                self.line("arrivals", format!("at random (gamma, burstiness {shape})"), f)?;
            }
        }
        self.line("start", time_axis::start(scenario, &stream.next_firings), f)?;
        if let Some(active) = time_axis::active(scenario, self.forecast.from) {
            self.line("active", active, f)?;
        }
        if scenario.warmup > 0 {
            let warmup = count(f64::from(scenario.warmup));
            self.line(
                "warm-up",
                format!("{warmup} requests first, one by one, in no figure here"),
                f,
            )?;
        }
        let lag = HumanDuration(scenario.max_lag);
        self.line("limits", format!("{} in flight, {lag} late", scenario.max_concurrency), f)
    }

    /// The time ahead; or one pass, where many that are alike would run into one another.
    fn time_ahead(
        &self,
        scenario: &Scenario,
        stream: &Stream,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let passes = self.forecast.span.as_secs_f64() / stream.cycle.as_secs_f64();
        let alike = !matches!(scenario.start, Start::Cron(_)) && scenario.active.is_none();
        if alike && passes > MOST_PASSES && passes.is_finite() && stream.phases.len() > 1 {
            let axis = Axis::since_start(stream.cycle);
            let caption = format!("one of {} passes in {}", count(passes.floor()), self.ahead());
            let pass = one_pass(scenario, self.plan.shard);
            return self.drawing(
                &pass,
                &Axis { caption, ..axis },
                &phases::peak(scenario, stream),
                f,
            );
        }
        let axis = Axis::ahead(self.forecast, time_axis::zone(scenario).as_ref());
        self.drawing(&stream.buckets, &axis, &phases::peak(scenario, stream), f)
    }

    /// Rates over a span of time below their exact peak, and closed loops below them; nothing, where
    /// there are none.
    fn drawing(
        &self,
        buckets: &[Bucket],
        axis: &Axis,
        peak: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let columns = columns(buckets, chart::columns(self.paper.width, buckets.len()));
        let rates: Vec<Column> = columns.iter().map(|column| column.rate).collect();
        let slots: Vec<Column> = columns.iter().map(|column| column.slots).collect();
        let highest = |of: &[Column]| of.iter().map(|column| column.highest).fold(0.0, f64::max);
        let most = highest(&slots);
        let open = |slots: f64| format!("{} open", count(slots));
        writeln!(f)?;
        let lines = match (highest(&rates) > 0.0, most > 0.0) {
            (true, _) => chart(&rates, &axis.marks, rate),
            (false, true) => chart(&slots, &axis.marks, open),
            (false, false) => return Ok(()),
        };
        // Where all is level, the scale says it.
        if lines.len() > LEVEL && highest(&rates) > 0.0 {
            writeln!(f, "{:11}{}", "", self.paper.faint(peak))?;
        }
        let shaded = lines.iter().any(|line| line.contains(SHADE));
        for line in lines {
            writeln!(f, "{line}")?;
        }
        if shaded {
            let legend = format!("█ on average over a column, {SHADE} at most");
            writeln!(f, "{:11}{}", "", self.paper.faint(legend))?;
        }
        if most > 0.0 && highest(&rates) > 0.0 {
            let line = sparkline(slots.iter().map(|column| column.highest), most);
            writeln!(f, "{:>9}  {line}  {}", open(most), self.paper.faint("closed loop"))?;
        }
        if !axis.caption.is_empty() {
            writeln!(f, "{:11}{}", "", self.paper.faint(&axis.caption))?;
        }
        writeln!(f)
    }

    /// How long a pass is, how often it comes, and what it consists of.
    fn cycle(
        &self,
        scenario: &Scenario,
        stream: &Stream,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        self.line("schedule", phases::summary(scenario, stream), f)?;
        for line in phases::table(scenario, stream, self.plan.shard) {
            writeln!(f, "{line}")?;
        }
        writeln!(f)
    }

    fn totals(
        &self,
        scenario: &Scenario,
        stream: &Stream,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let amounts = &stream.amounts;
        let endless = scenario
            .schedule
            .phases()
            .iter()
            .any(|phase| matches!(phase.load, Load::Concurrency(_)));
        let closed = stream.closed_loop_slots > 0 && (endless || amounts.requests <= 0.0);
        if amounts.requests > 0.0 {
            let besides = if closed { ", besides what the closed-loop phases send" } else { "" };
            let several = (!stream.further.is_empty())
                .then(|| format!("each of the {} targets", stream.further.len() + 1));
            let before = |word: &str| {
                several.as_ref().map_or_else(String::new, |each| format!(" {word} {each}"))
            };
            let requests = self.requests(amounts.requests, stream.peak_rate, &before("to"));
            self.line("requests", format!("{requests}{besides}"), f)?;
            let for_each = before("for");
            let basis = match scenario.prompts.len() {
                None => "their lengths as made up",
                Some(_) => "prompts' bytes / 4",
            };
            self.line(
                "input tokens",
                format!("about {}{for_each} ({basis})", count(amounts.input_tokens_estimated)),
                f,
            )?;
            let output = count(amounts.output_tokens_at_most);
            self.line("output tokens", format!("at most {output}{for_each}"), f)?;
            if let Some(Cost { amount, currency }) = &stream.cost_at_most {
                self.line(
                    "cost",
                    format!("{}{}", whose(stream), self.spend(*amount, currency)),
                    f,
                )?;
            }
            for further in &stream.further {
                if let Some(Cost { amount, currency }) = &further.cost_at_most {
                    let cost = format!("{}: {}", further.target, self.spend(*amount, currency));
                    self.line("and cost", cost, f)?;
                }
            }
        } else {
            self.line("requests", self.none(scenario, stream, closed), f)?;
        }
        if stream.counts_requests && stream.cycle > Duration::ZERO {
            let text = "told as if counting requests took no time; while it does, the schedule stands still, \
                        and what comes after comes later";
            self.line("counted", text, f)?;
        }
        if stream.firings_skipped > 0 {
            let skipped =
                count(as_f64(usize::try_from(stream.firings_skipped).unwrap_or(usize::MAX)));
            self.line(
                "skipped",
                format!("{skipped} firings, which come while the schedule is still on"),
                f,
            )?;
        }
        let first = in_flight(&stream.in_flight, stream.peak_rate);
        self.line("in flight", format!("{}{first}", whose(stream)), f)?;
        for further in &stream.further {
            let text = in_flight(&further.in_flight, stream.peak_rate);
            self.line("and in flight", format!("{}: {text}", further.target), f)?;
        }
        Ok(())
    }
    /// Why no number of requests can be told.
    fn none(&self, scenario: &Scenario, stream: &Stream, closed: bool) -> String {
        let first = stream.phases.iter().find(|p| p.rate_max > 0.0 || p.closed_loop_slots > 0);
        match first {
            _ if closed => "as many as the closed-loop phases make".to_owned(),
            _ if stream.on.is_zero() => format!("none in {}: nothing is on", self.ahead()),
            Some(first) if time_axis::zone(scenario).is_none() && stream.on <= first.start => {
                format!(
                    "none: the first phase with load comes after {}",
                    HumanDuration(first.start)
                )
            }
            _ => format!("none in {}", self.ahead()),
        }
    }

    fn requests(&self, requests: f64, peak: f64, each: &str) -> String {
        if peak <= 0.0 || self.forecast.span.is_zero() {
            return format!("{}{each}", count(requests));
        }
        let mean = requests / self.forecast.span.as_secs_f64();
        let rates = if (peak - mean).abs() < 1e-3 * peak {
            format!("always {}", rate(peak))
        } else {
            format!("on average {}, at most {}", rate(mean), rate(peak))
        };
        format!("{} in {}{each} ({rates})", count(requests), self.ahead())
    }

    fn spend(&self, amount: f64, currency: &str) -> String {
        let monthly = if self.forecast.span < DAY {
            String::new()
        } else {
            format!(", {} in 30 days like this", money(amount * 30.0))
        };
        format!("at most {} {currency} in {}{monthly}", money(amount), self.ahead())
    }

    fn ahead(&self) -> String {
        if self.forecast.span < DAY {
            HumanDuration(self.forecast.span).to_string()
        } else {
            "24 h".to_owned()
        }
    }

    fn all_together(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = &self.forecast.sum;
        let targets =
            self.forecast.scenarios.iter().map(|stream| 1 + stream.further.len()).sum::<usize>();
        let all = match self.forecast.scenarios.len() {
            1 => format!("all {targets} targets together"),
            scenarios if scenarios == targets => format!("all {scenarios} scenarios together"),
            scenarios => format!("all {scenarios} scenarios together, to all of their targets"),
        };
        writeln!(f, "{}", self.paper.bold(all))?;
        let zones: Vec<Zone> = self.plan.scenarios.iter().filter_map(time_axis::zone).collect();
        let one = zones.first().filter(|first| zones.iter().all(|zone| zone == *first)).cloned();
        // Clocks that differ are told by the one that belongs to nobody.
        let zone = one.or_else(|| (!zones.is_empty()).then_some(Zone::UTC));
        let peak = format!("peak at most {}, if the peaks of all meet", rate(sum.peak_rate));
        self.drawing(&sum.buckets, &Axis::ahead(self.forecast, zone.as_ref()), &peak, f)?;
        let closed = if sum.closed_loop_slots > 0 { ", besides closed loops" } else { "" };
        let requests = self.requests(sum.amounts.requests, sum.peak_rate, "");
        self.line("requests", format!("{requests}{closed}"), f)?;
        let (input, output) =
            (sum.amounts.input_tokens_estimated, sum.amounts.output_tokens_at_most);
        self.line("input tokens", format!("about {}", count(input)), f)?;
        self.line("output tokens", format!("at most {}", count(output)), f)?;
        for (currency, amount) in &sum.cost_at_most {
            self.line("cost", self.spend(*amount, currency), f)?;
        }
        #[allow(clippy::cast_precision_loss)]
        let in_flight = sum.in_flight_at_most as f64;
        self.line("in flight", format!("at most {}", count(in_flight)), f)
    }

    fn warning(&self, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = wrapped(text, self.paper.width.saturating_sub(9));
        for (i, line) in lines.iter().enumerate() {
            let head = if i == 0 { self.paper.yellow("warning:") } else { " ".repeat(8) };
            writeln!(f, "{head} {line}")?;
        }
        Ok(())
    }
}

/// The first target by its name, where there are others beside it.
fn whose(stream: &Stream) -> String {
    if stream.further.is_empty() { String::new() } else { format!("{}: ", stream.target) }
}

/// The most in flight at one target, and what would fill it.
fn in_flight(flight: &InFlight, peak_rate: f64) -> String {
    let mut text = format!("at most {}", count(f64::from(flight.at_most)));
    if flight.at_most == flight.max_concurrency {
        text += " (max_concurrency)";
    }
    if let Some(fill) =
        flight.seconds_to_fill.filter(|_| flight.by_littles_law > f64::from(flight.at_most))
    {
        _ = write!(
            text,
            "; {} reaches that when answers take {}, and would need {} if they took {} (timeouts.total)",
            rate(peak_rate),
            short_seconds(fill),
            count(flight.by_littles_law),
            HumanDuration(flight.longest_request),
        );
    }
    text
}

/// What stands in one column of a drawing.
struct Drawn {
    rate: Column,
    slots: Column,
}

fn columns(buckets: &[Bucket], columns: usize) -> Vec<Drawn> {
    let together = buckets.chunks((buckets.len() / columns.max(1)).max(1));
    let drawn = together.map(|some| {
        let slots = some.iter().map(|bucket| bucket.closed_loop_slots).max().unwrap_or(0);
        Drawn {
            rate: Column {
                mean: some.iter().map(|bucket| bucket.rate_mean).sum::<f64>() / as_f64(some.len()),
                // The most of a second may be less than the mean of less than one.
                highest: some
                    .iter()
                    .map(|bucket| bucket.rate_max.max(bucket.rate_mean))
                    .fold(0.0, f64::max),
            },
            slots: Column { mean: f64::from(slots), highest: f64::from(slots) },
        }
    });
    drawn.collect()
}

/// Whence the key is, and how it is sent.
pub(crate) fn key(auth: &Auth) -> String {
    match auth {
        Auth::None => "none".to_owned(),
        Auth::Bearer(secret) => format!("from {}, as bearer token", secret.origin),
        Auth::ApiKey(secret) => format!("from {}, as `api-key`", secret.origin),
        Auth::XApiKey(secret) => format!("from {}, as `x-api-key`", secret.origin),
    }
}

fn tokens(number: f64) -> String {
    format!("{} token{}", count(number), if number > 1.0 { "s" } else { "" })
}

/// Lines of at most so many characters, broken at blanks; a word that is longer keeps its line.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
