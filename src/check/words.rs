//! A plan and its forecast in words and drawings, for a terminal or a file.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use super::chart::{self, Column, chart, sparkline};
use super::forecast::{
    Bucket, Cost, DAY, Forecast, PhaseForecast, Stream, input_tokens, most_output_tokens, one_pass,
};
use super::numbers::{count, money, rate, short_seconds};
use crate::config::Spelled;
use crate::plan::{Auth, Location, Plan, Scenario, Start};
use crate::schedule::{Arrivals, Repeat, Schedule};

/// Phases that are drawn; a schedule may have thousands once its loops are written out.
const MOST_PHASES: usize = 40;
/// Where a schedule is gone through more often than this in the time ahead, its passes run into one
/// another in a drawing: then one of them is drawn.
const MOST_PASSES: f64 = 12.0;
/// Characters of a phase's little curve.
const CURVE: usize = 8;
/// A phase's name is cut off here.
const LONGEST_NAME: usize = 24;

/// What it is written for.
#[derive(Clone, Copy, Debug)]
pub struct Paper {
    /// In characters.
    pub width: usize,
    /// Whether it shows colours.
    pub colours: bool,
}

impl Paper {
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
    pub paper: Paper,
}

impl Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scenario, stream) in self.plan.scenarios.iter().zip(&self.forecast.scenarios) {
            self.setting(scenario, f)?;
            let passes = self.forecast.span.as_secs_f64() / stream.cycle.as_secs_f64();
            if passes > MOST_PASSES && stream.phases.len() > 1 {
                let alike = format!("one of {} passes in {}", count(passes.floor()), self.ahead());
                self.drawing(&one_pass(&scenario.schedule), stream.cycle, &alike, f)?;
            } else {
                self.drawing(&stream.buckets, self.forecast.span, "", f)?;
            }
            self.cycle(scenario, stream, f)?;
            self.totals(stream, f)?;
            writeln!(f)?;
        }
        if self.forecast.scenarios.len() > 1 {
            self.all_together(f)?;
        }
        self.line("series", format_args!("{} on /metrics", count(as_f64(self.forecast.series))), f)?;
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
            writeln!(f, "  {} {line}", self.paper.faint(format!("{:14}", if i == 0 { name } else { "" })))?;
        }
        Ok(())
    }

    /// Where requests go, and as what.
    fn setting(&self, scenario: &Scenario, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = &scenario.target;
        let (place, only) = match &target.location {
            Location::Url(url) => (format!("{} at {url}", target.name), "the only one that /models lists"),
            Location::Simulator(settings) => {
                (format!("{}, a built-in simulator", target.name), settings.model.as_str())
            }
        };
        let request = &scenario.request;
        writeln!(f, "{}", self.paper.bold(format!("scenario {}", scenario.name)))?;
        self.line("target", place, f)?;
        self.line("model", target.model.as_deref().unwrap_or(only), f)?;
        self.line("key", key(&target.auth), f)?;
        let (prompts, each) = (&scenario.prompts, tokens(input_tokens(scenario)));
        let number = prompts.len().map_or("made up".to_owned(), |number| {
            count(as_f64(usize::try_from(number).unwrap_or(usize::MAX)))
        });
        let system = if request.system.is_some() { " with the system message" } else { "" };
        self.line("prompts", format!("{}: {number}, about {each} each{system}", prompts.name), f)?;
        let answers = if request.stream { "streamed" } else { "not streamed: no TTFT, no TPOT" };
        let most = tokens(most_output_tokens(request));
        self.line("answers", format!("at most {most} each, {answers}"), f)?;
        match scenario.arrivals {
            Arrivals::Constant => {}
            Arrivals::Poisson => self.line("arrivals", "at random (Poisson)", f)?,
            Arrivals::Burstiness(shape) => {
                self.line("arrivals", format!("at random (gamma, burstiness {shape})"), f)?;
            }
        }
        let start = match &scenario.start {
            Start::WhenReady => "once the target answers".to_owned(),
            Start::Now => "at once".to_owned(),
            Start::WallClock(anchor) => format!("by the clock on the wall, {anchor}"),
            Start::Cron(cron) => format!("whenever `{cron}` fires in {}", cron.zone()),
        };
        self.line("start", start, f)?;
        if let Some(windows) = &scenario.active {
            self.line("active", windows, f)?;
        }
        let lag = Spelled(scenario.max_lag);
        self.line("limits", format!("{} in flight, {lag} late", scenario.max_concurrency), f)
    }

    /// Rates over a span of time, and closed loops below them.
    fn drawing(
        &self,
        buckets: &[Bucket],
        span: Duration,
        caption: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let columns = columns(buckets, chart::columns(self.paper.width, buckets.len()));
        let marks = [0, 1, 2, 3, 4].map(|quarter| mark(span * quarter / 4));
        let rates: Vec<Column> = columns.iter().map(|column| column.rate).collect();
        let slots: Vec<Column> = columns.iter().map(|column| column.slots).collect();
        let highest = |of: &[Column]| of.iter().map(|column| column.highest).fold(0.0, f64::max);
        let most = highest(&slots);
        let open = |slots: f64| format!("{} open", count(slots));
        writeln!(f)?;
        let lines =
            if highest(&rates) > 0.0 { chart(&rates, &marks, rate) } else { chart(&slots, &marks, open) };
        for (i, line) in lines.iter().enumerate() {
            writeln!(f, "{line}")?;
            if i + 1 == lines.len() && !caption.is_empty() {
                writeln!(f, "{:11}{}", "", self.paper.faint(caption))?;
            }
        }
        if most > 0.0 && highest(&rates) > 0.0 {
            let line = sparkline(slots.iter().map(|column| column.highest), most);
            writeln!(f, "{:>9}  {line}  {}", open(most), self.paper.faint("closed loop"))?;
        }
        writeln!(f)
    }

    /// The phases of one pass, each with its curve; all on one scale.
    fn cycle(&self, scenario: &Scenario, stream: &Stream, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = Spelled(stream.cycle);
        let times = match scenario.repeat {
            Repeat::Forever => "repeated for ever".to_owned(),
            Repeat::Times(times) if times.get() == 1 => "once".to_owned(),
            Repeat::Times(times) => format!("{times} times"),
        };
        self.line("schedule", format_args!("{length}, {times}"), f)?;
        let shown = &stream.phases[..stream.phases.len().min(MOST_PHASES)];
        let rows: Vec<[String; 4]> = shown.iter().map(|phase| row(scenario, phase)).collect();
        let widest = |cell: usize| rows.iter().map(|row| row[cell].chars().count()).max().unwrap_or(0);
        let [names, lengths, loads, counts] = [0, 1, 2, 3].map(widest);
        let top = stream.phases.iter().map(|phase| phase.rate_max).fold(0.0, f64::max);
        let most = stream.phases.iter().map(|phase| phase.closed_loop_slots).max().unwrap_or(0);
        for (phase, [name, length, load, requests]) in shown.iter().zip(&rows) {
            let curve = curve(scenario, phase, top, most);
            let line =
                format!("    {curve}  {name:names$}  {length:>lengths$}  {load:loads$}  {requests:>counts$}");
            writeln!(f, "{}", line.trim_end())?;
        }
        if stream.phases.len() > MOST_PHASES {
            writeln!(f, "    and {} more phases", count(as_f64(stream.phases.len() - MOST_PHASES)))?;
        }
        writeln!(f)
    }

    fn totals(&self, stream: &Stream, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amounts = &stream.amounts;
        let closed = stream.closed_loop_slots > 0;
        if amounts.requests > 0.0 {
            let besides = if closed { ", besides what the closed-loop phases send" } else { "" };
            let requests = self.requests(amounts.requests, stream.peak_rate);
            self.line("requests", format!("{requests}{besides}"), f)?;
            self.line(
                "input tokens",
                format!("about {} (prompts' bytes / 4)", count(amounts.input_tokens_estimated)),
                f,
            )?;
            self.line("output tokens", format!("at most {}", count(amounts.output_tokens_at_most)), f)?;
            if let Some(Cost { amount, currency }) = &stream.cost_at_most {
                self.line("cost", self.spend(*amount, currency), f)?;
            }
        }
        match (closed, amounts.requests > 0.0) {
            (_, true) => {}
            (true, false) => self.line("requests", "as many as the closed-loop phases make", f)?,
            (false, false) => {
                let first = stream.phases.iter().find(|p| p.rate_max > 0.0 || p.closed_loop_slots > 0);
                let late = first.map_or(Duration::ZERO, |phase| phase.start);
                let text = format!("none: the first phase with load comes after {}", Spelled(late));
                self.line("requests", text, f)?;
            }
        }
        let flight = &stream.in_flight;
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
                rate(stream.peak_rate),
                short_seconds(fill),
                count(flight.by_littles_law),
                Spelled(flight.longest_request),
            );
        }
        self.line("in flight", text, f)
    }

    fn requests(&self, requests: f64, peak: f64) -> String {
        let mean = requests / self.forecast.span.as_secs_f64();
        let rates = if (peak - mean).abs() < 1e-3 * peak {
            format!("always {}", rate(peak))
        } else {
            format!("on average {}, at most {}", rate(mean), rate(peak))
        };
        format!("{} in {} ({rates})", count(requests), self.ahead())
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
        if self.forecast.span < DAY { Spelled(self.forecast.span).to_string() } else { "24 h".to_owned() }
    }

    fn all_together(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = &self.forecast.sum;
        writeln!(f, "{}", self.paper.bold(format!("all {} scenarios", self.forecast.scenarios.len())))?;
        self.drawing(&sum.buckets, self.forecast.span, "", f)?;
        let closed = if sum.closed_loop_slots > 0 { ", besides closed loops" } else { "" };
        let requests = self.requests(sum.amounts.requests, sum.peak_rate);
        self.line("requests", format!("{requests}{closed}"), f)?;
        let (input, output) = (sum.amounts.input_tokens_estimated, sum.amounts.output_tokens_at_most);
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
                highest: some.iter().map(|bucket| bucket.rate_max).fold(0.0, f64::max),
            },
            slots: Column { mean: f64::from(slots), highest: f64::from(slots) },
        }
    });
    drawn.collect()
}

/// A time on the axis.
fn mark(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        return short_seconds(seconds).replace(' ', "");
    }
    Spelled(Duration::from_secs_f64(seconds.round())).to_string()
}

/// A phase's name, length, load and requests.
fn row(scenario: &Scenario, phase: &PhaseForecast) -> [String; 4] {
    let (load, requests) = if phase.closed_loop_slots > 0 {
        (format!("{} in flight", count(f64::from(phase.closed_loop_slots))), String::new())
    } else if phase.rate_max <= 0.0 {
        (String::new(), String::new())
    } else {
        let (low, high) = (rate(phase.rate_min), rate(phase.rate_max));
        let falls = |schedule: &Schedule| schedule.rate(phase.start) >= phase.rate_max;
        let load = match low == high {
            true => low,
            false if falls(&scenario.schedule) => format!("{high} to {low}"),
            false => format!("{low} to {high}"),
        };
        (load, format!("{} requests", count(phase.requests)))
    };
    let name = if phase.name.chars().count() > LONGEST_NAME {
        phase.name.chars().take(LONGEST_NAME - 1).chain(['…']).collect()
    } else {
        phase.name.clone()
    };
    [name, Spelled(phase.length).to_string(), load, requests]
}

/// The rate of a phase in a few characters, each the middle of its part.
fn curve(scenario: &Scenario, phase: &PhaseForecast, top: f64, most: u32) -> String {
    let parts = u32::try_from(CURVE).unwrap_or(1);
    if phase.closed_loop_slots > 0 {
        return sparkline(std::iter::repeat_n(f64::from(phase.closed_loop_slots), CURVE), f64::from(most));
    }
    let middle = |part: u32| phase.start + phase.length * (2 * part + 1) / (2 * parts);
    sparkline((0..parts).map(|part| scenario.schedule.rate(middle(part))), top)
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
