//! A plan before anything is sent: what it will send in the coming day, what that will cost, and what
//! its author will regret.
//!
//! An `itinerary` says when which part of a schedule is on, a `demand` what is asked for then;
//! [`forecast`] makes numbers of the two, [`regrets`] judges them; [`words`] and the JSON of [`Checked`]
//! are two views of the same.

pub mod forecast;
pub mod text;
pub mod warnings;

mod chart;
mod demand;
mod itinerary;
pub mod numbers;
mod phases;
mod series;
mod time_axis;

use std::time::SystemTime;

use serde::Serialize;

use crate::config::{Invalid, Problem};
use crate::metrics::Defect;
use crate::plan::Plan;
use forecast::Forecast;
use text::{TextStyle, Words};

/// What is to be said about a file: a forecast, or problems.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// The file as it was named.
    pub file: String,
    /// Everything that is wrong with it; then there is no forecast.
    pub problems: Vec<Problem>,
    /// What is allowed and probably not meant: of the file, and of its forecast.
    pub warnings: Vec<String>,
    /// What it will send.
    pub forecast: Option<Forecast>,
}

/// What `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// In the order in which they were named.
    pub files: Vec<Checked>,
}

impl Checked {
    /// Looks at a plan that came from `file` and begins `now`.
    ///
    /// # Errors
    /// If the metrics cannot be set up: a defect.
    pub fn plan(file: &str, plan: &Plan, now: SystemTime) -> Result<Checked, Defect> {
        let forecast = Forecast::of(plan, now, series::series(plan)?);
        let mut warnings = plan.warnings.clone();
        warnings.extend(warnings::warnings(file, plan, &forecast));
        Ok(Checked {
            file: file.to_owned(),
            problems: Vec::new(),
            warnings,
            forecast: Some(forecast),
        })
    }

    /// What is wrong with a file that is no plan.
    pub fn invalid(invalid: &Invalid) -> Checked {
        let (file, problems) = (invalid.file.clone(), invalid.problems.clone());
        Checked { file, problems, warnings: Vec::new(), forecast: None }
    }

    /// In words, where there is a forecast.
    pub fn words<'a>(&'a self, plan: &'a Plan, paper: TextStyle) -> Option<Words<'a>> {
        let forecast = self.forecast.as_ref()?;
        Some(Words { plan, forecast, warnings: &self.warnings, paper })
    }
}
