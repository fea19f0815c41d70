//! Reads the reports of a comparison, and chooses a route of a report.

use super::super::{FORMAT_VERSION, Report, RouteReport};
use super::route_name;

/// An error while reading a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(
        "the report has format {found}, but this llmload reads format {FORMAT_VERSION}; \
         repeat the run with this version"
    )]
    FormatVersion { found: u32 },
    /// The text is not JSON, or the JSON is not a report.
    #[error("not a report of `llmload run`: {0}")]
    NotAReport(String),
    #[error("the report has no route `{wanted}`; write one of: {existing}")]
    UnknownRoute { wanted: String, existing: String },
}

/// The highest number of values. With it, no test of the counts takes long.
const MOST_COUNT: u64 = 1 << 32;

/// Reads a report from its JSON.
///
/// # Errors
/// If the text is not a report of this format.
pub fn read(text: &str) -> Result<Report, ReadError> {
    #[derive(serde::Deserialize)]
    struct Header {
        llmload_report: u32,
    }
    let not_a_report = |error: serde_json::Error| ReadError::NotAReport(error.to_string());
    let Header { llmload_report: found } = serde_json::from_str(text).map_err(not_a_report)?;
    if found != FORMAT_VERSION {
        return Err(ReadError::FormatVersion { found });
    }
    let report: Report = serde_json::from_str(text).map_err(not_a_report)?;
    // A user can pass any file, so llmload checks the values.
    let values = report.routes.iter().flat_map(|route| {
        let phases = route.phases.iter().map(|phase| &phase.distributions);
        phases.chain([&route.distributions]).flat_map(|all| all.values())
    });
    for values in values {
        let is_sorted = values.is_sorted_by(|one, next| one.0 <= next.0);
        let sum = values.iter().fold(0_u64, |sum, value| sum.saturating_add(value.1));
        let is_in_range =
            sum <= MOST_COUNT && values.iter().all(|value| (0.0..=1e9).contains(&value.0));
        if !is_sorted || !is_in_range || values.len() > 1 << 20 {
            return Err(ReadError::NotAReport(
                "the distributions are not sorted, or a value is out of range".to_owned(),
            ));
        }
    }
    let counts = report.routes.iter().flat_map(|route| &route.phases).map(|phase| {
        let statistics = &phase.statistics;
        statistics.succeeded.max(statistics.failed)
    });
    if counts.max().is_some_and(|count| count > MOST_COUNT) {
        return Err(ReadError::NotAReport("a count is out of range".to_owned()));
    }
    if report.shard.as_ref().is_some_and(|shard| !shard.is_plausible()) {
        return Err(ReadError::NotAReport("the sums of the shard are out of range".to_owned()));
    }
    Ok(report)
}

/// Splits an argument such as `out/report.json#chat/main` into the file and the route.
pub fn split_route(argument: &str) -> (&str, Option<&str>) {
    match argument.split_once('#') {
        Some((file, route)) => (file, Some(route)),
        None => (argument, None),
    }
}

/// One report of a comparison.
#[derive(Clone, Debug)]
pub struct Run {
    /// The argument of the command line.
    pub argument: String,
    report: Report,
    /// True if the report contains only the route that the user chose.
    is_chosen: bool,
}

impl Run {
    /// Keeps only the route `scenario/target`, if there is one.
    ///
    /// # Errors
    /// If the report does not have this route.
    pub fn new(argument: &str, report: Report, route: Option<&str>) -> Result<Run, ReadError> {
        let argument = argument.to_owned();
        let Some(wanted) = route else {
            return Ok(Run { argument, report, is_chosen: false });
        };
        let name = |route: &RouteReport| format!("{}/{}", route.scenario, route.target);
        let existing: Vec<String> = report.routes.iter().map(name).collect();
        let mut report = report;
        report.routes.retain(|route| name(route) == wanted);
        if report.routes.is_empty() {
            let (wanted, existing) = (wanted.to_owned(), existing.join(", "));
            return Err(ReadError::UnknownRoute { wanted, existing });
        }
        // The routes are separate, so a reason of another route says nothing about this route.
        let names: Vec<String> = report.routes.iter().map(RouteReport::route).collect();
        let is_of_another =
            |route: &Option<String>| route.as_ref().is_some_and(|route| !names.contains(route));
        report.verdict.reasons.retain(|reason| !is_of_another(&reason.route));
        Ok(Run { argument, report, is_chosen: true })
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// The only route, if the user chose it or if the report has no other.
    pub(super) fn only_route(&self) -> Option<&RouteReport> {
        match self.report.routes.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    pub(super) fn is_chosen(&self) -> bool {
        self.is_chosen
    }

    pub(super) fn routes(&self) -> &[RouteReport] {
        &self.report.routes
    }

    /// The names of all routes, for a message.
    pub(super) fn route_names(&self) -> String {
        let names: Vec<String> = self.report.routes.iter().map(route_name).collect();
        names.join(", ")
    }
}
