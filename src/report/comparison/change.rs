//! The judgement of one change: is it significant, and is it larger than the tolerance?

use serde::{Deserialize, Serialize};

use super::metrics::{Evidence, Rule};
use crate::check::numbers::sign;

/// The change of a metric from the base run to a new run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The new run is worse. The change is significant and larger than the tolerance.
    Worse,
    /// The new run is better. The change is significant and larger than the tolerance.
    Better,
    /// The change is significant, but within the tolerance.
    Tolerated,
    /// The change is larger than the tolerance, but not significant.
    Unclear,
    /// The change is not significant, and not larger than the tolerance.
    None,
    /// At least one of the runs has too few values.
    TooFew,
    /// The metric is shown only for information.
    NotJudged,
}

impl Evidence {
    /// Returns the change before all tests of the comparison are known, and the probability.
    pub(super) fn unjudged(self) -> (Change, Option<f64>) {
        match self {
            Evidence::Probability(probability) => (Change::None, Some(probability)),
            Evidence::Equal => (Change::None, None),
            Evidence::NotJudged => (Change::NotJudged, None),
            Evidence::TooFew => (Change::TooFew, None),
        }
    }
}

/// Classifies a tested change.
pub(super) fn change(
    rule: Rule,
    base: f64,
    new: f64,
    is_significant: bool,
    tolerance: f64,
) -> Change {
    let difference = new - base;
    let is_tolerated = difference.abs() <= base * tolerance;
    if !is_significant {
        return if is_tolerated { Change::None } else { Change::Unclear };
    }
    if difference == 0.0 || (rule.has_tolerance && is_tolerated) {
        return Change::Tolerated;
    }
    if (difference > 0.0) == rule.is_better_if_lower { Change::Worse } else { Change::Better }
}

/// Returns a relative change as a percentage: `+10.2 %`.
pub(super) fn change_text(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let decimals = usize::from(percent.abs() < 99.95);
    // A decrease that is rounded to zero has no minus sign.
    let rounded = (percent * 10.0).round() / 10.0;
    format!("{}{:.decimals$} %", sign(rounded), percent.abs())
}
