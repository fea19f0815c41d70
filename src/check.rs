//! `llmload check`: forecasts the requests of the coming day and their cost, and warns about
//! mistakes. It sends nothing.
//!
//! `planned_runs` finds the times at which each schedule will run. `demand` counts the requests in
//! these times. [`forecast`] combines both, and [`warnings`] finds mistakes in the result.

pub mod forecast;
pub mod text;
pub mod warnings;

mod budgets;
mod chart;
mod demand;
mod guards;
pub mod numbers;
mod objectives;
mod phases;
mod planned_runs;
mod series;
mod sessions;
mod succession;
mod time_axis;

use std::time::SystemTime;

use serde::Serialize;

use crate::config::{Invalid, Problem};
use crate::guard::SavedAccount;
use crate::metrics::Defect;
use crate::plan::{Plan, Scenario};
use forecast::Forecast;
use text::{ForecastText, TextStyle};
use warnings::SystemLimits;

/// The result for one configuration file: either problems, or a forecast with warnings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileCheck {
    /// The path, as written on the command line.
    pub file: String,
    /// If the file has a problem, `forecast` is `None`.
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    pub forecast: Option<Forecast>,
}

/// The document that `llmload check --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckDocument {
    /// One entry per file, in the order of the command line.
    pub files: Vec<FileCheck>,
}

/// Returns the warnings about prices without a budget, for the log of a daemon that starts.
pub fn unlimited_costs(plan: &Plan, now: SystemTime) -> Vec<String> {
    let is_affected = |scenario: &Scenario| {
        scenario.budgets.is_empty() && scenario.targets().any(|target| target.prices.is_some())
    };
    if !plan.scenarios.iter().any(is_affected) {
        return Vec::new();
    }
    warnings::budgets::without_budget(plan, &Forecast::new(plan, now, 0))
}

impl FileCheck {
    /// Forecasts the plan of `file` from `now` on, for a machine with these limits. `saved` is the
    /// spending that `state_dir` has.
    ///
    /// # Errors
    /// If the metrics cannot be set up, which would be a defect of llmload.
    pub fn valid(
        file: &str,
        plan: &Plan,
        now: SystemTime,
        limits: SystemLimits,
        saved: &[SavedAccount],
    ) -> Result<FileCheck, Defect> {
        let forecast = Forecast::after(plan, now, series::count_series(plan)?, saved);
        let mut warnings = plan.warnings.clone();
        warnings.extend(warnings::find(file, plan, &forecast, limits));
        Ok(FileCheck {
            file: file.to_owned(),
            problems: Vec::new(),
            warnings,
            forecast: Some(forecast),
        })
    }

    pub fn invalid(invalid: &Invalid) -> FileCheck {
        let (file, problems) = (invalid.file.clone(), invalid.problems.clone());
        FileCheck { file, problems, warnings: Vec::new(), forecast: None }
    }

    /// Returns `None` if the file has a problem.
    pub fn text<'a>(&'a self, plan: &'a Plan, style: TextStyle) -> Option<ForecastText<'a>> {
        let forecast = self.forecast.as_ref()?;
        Some(ForecastText { plan, forecast, warnings: &self.warnings, style })
    }
}
