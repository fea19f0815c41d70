//! `llmload check`: forecasts the requests of the coming day and their cost, and warns about
//! mistakes. It sends nothing.
//!
//! `planned_runs` finds the times at which each schedule will run. `demand` counts the requests of
//! a schedule in a given time. [`forecast`] combines both. [`warnings`] finds mistakes in the
//! forecast. The text output ([`text`]) and the JSON output ([`FileCheck`]) show the same values.

pub mod forecast;
pub mod text;
pub mod warnings;

mod chart;
mod demand;
pub mod numbers;
mod phases;
mod planned_runs;
mod series;
mod succession;
mod time_axis;

use std::time::SystemTime;

use serde::Serialize;

use crate::config::{Invalid, Problem};
use crate::metrics::Defect;
use crate::plan::Plan;
use forecast::Forecast;
use text::{ForecastText, TextStyle};
use warnings::SystemLimits;

/// The result for one configuration file: either problems, or a forecast with warnings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileCheck {
    /// The path, as written on the command line.
    pub file: String,
    /// All errors in the file. If the file has an error, `forecast` is `None`.
    pub problems: Vec<Problem>,
    /// Warnings about the file and about its forecast.
    pub warnings: Vec<String>,
    pub forecast: Option<Forecast>,
}

/// The document that `llmload check --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckDocument {
    /// One entry per file, in the order of the command line.
    pub files: Vec<FileCheck>,
}

impl FileCheck {
    /// Forecasts the plan that was read from `file`, as if a daemon started it at `now`, on a
    /// machine with these limits.
    ///
    /// # Errors
    /// If the metrics cannot be set up. This would be a defect of llmload.
    pub fn valid(
        file: &str,
        plan: &Plan,
        now: SystemTime,
        limits: SystemLimits,
    ) -> Result<FileCheck, Defect> {
        let forecast = Forecast::new(plan, now, series::count_series(plan)?);
        let mut warnings = plan.warnings.clone();
        warnings.extend(warnings::find(file, plan, &forecast, limits));
        Ok(FileCheck {
            file: file.to_owned(),
            problems: Vec::new(),
            warnings,
            forecast: Some(forecast),
        })
    }

    /// Returns the problems of a file that is not a valid configuration.
    pub fn invalid(invalid: &Invalid) -> FileCheck {
        let (file, problems) = (invalid.file.clone(), invalid.problems.clone());
        FileCheck { file, problems, warnings: Vec::new(), forecast: None }
    }

    /// Returns the forecast as text. `None` if the file has an error.
    pub fn text<'a>(&'a self, plan: &'a Plan, style: TextStyle) -> Option<ForecastText<'a>> {
        let forecast = self.forecast.as_ref()?;
        Some(ForecastText { plan, forecast, warnings: &self.warnings, style })
    }
}
