//! A plan before anything is sent: the requests of the coming day, their cost, and warnings.
//!
//! `planned_runs` walks the timetable ahead, `demand` measures the schedule, and [`forecast`]
//! combines the two. [`warnings`] judges the forecast. [`text`] and the JSON of [`FileCheck`] are
//! two views of the same values.

pub mod forecast;
pub mod text;
pub mod warnings;

mod chart;
mod demand;
pub mod numbers;
mod phases;
mod planned_runs;
mod series;
mod time_axis;

use std::time::SystemTime;

use serde::Serialize;

use crate::config::{Invalid, Problem};
use crate::metrics::Defect;
use crate::plan::Plan;
use forecast::Forecast;
use text::{ForecastText, TextStyle};

/// The result for one file: a forecast, or problems.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileCheck {
    /// The path as the caller wrote it.
    pub file: String,
    /// All errors. If there are any, there is no forecast.
    pub problems: Vec<Problem>,
    /// Warnings about the file and about its forecast.
    pub warnings: Vec<String>,
    pub forecast: Option<Forecast>,
}

/// The document that `llmload check --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckDocument {
    /// In the order of the command line.
    pub files: Vec<FileCheck>,
}

impl FileCheck {
    /// Forecasts a plan that was read from `file` and begins `now`.
    ///
    /// # Errors
    /// If the metrics cannot be set up, which is a defect.
    pub fn valid(file: &str, plan: &Plan, now: SystemTime) -> Result<FileCheck, Defect> {
        let forecast = Forecast::new(plan, now, series::count_series(plan)?);
        let mut warnings = plan.warnings.clone();
        warnings.extend(warnings::find(file, plan, &forecast));
        Ok(FileCheck {
            file: file.to_owned(),
            problems: Vec::new(),
            warnings,
            forecast: Some(forecast),
        })
    }

    /// Reports the problems of a file that is not a valid plan.
    pub fn invalid(invalid: &Invalid) -> FileCheck {
        let (file, problems) = (invalid.file.clone(), invalid.problems.clone());
        FileCheck { file, problems, warnings: Vec::new(), forecast: None }
    }

    /// The forecast as text, if there is one.
    pub fn text<'a>(&'a self, plan: &'a Plan, style: TextStyle) -> Option<ForecastText<'a>> {
        let forecast = self.forecast.as_ref()?;
        Some(ForecastText { plan, forecast, warnings: &self.warnings, style })
    }
}
