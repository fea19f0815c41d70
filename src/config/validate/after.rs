//! Checks the order of scenarios: the names under `after`.

use std::collections::HashMap;

use super::Validator;
use crate::config::document::Scenario;
use crate::config::field::{Field, FieldMap, Located};
use crate::config::hints;
use crate::plan::{self, Start};
use crate::schedule::Repeat;

impl Validator<'_> {
    /// `scenarios` are the scenarios without a mistake.
    pub(super) fn check_after(
        &self,
        documents: &Field<FieldMap<Scenario>>,
        scenarios: &[plan::Scenario],
    ) {
        let Some(documents) = documents.present() else { return };
        let documents = &documents.value.0;
        let valid: HashMap<&str, &plan::Scenario> =
            scenarios.iter().map(|scenario| (scenario.name.as_str(), scenario)).collect();
        let names = documents.iter().map(|(name, _)| name.value.as_str());
        // Maps each scenario to its position and to its `after`.
        let mut links: HashMap<&str, (usize, Option<&str>)> = HashMap::new();
        for (position, (name, document)) in documents.iter().enumerate() {
            let after = after_of(document).map(|after| after.value.as_str());
            links.insert(name.value.as_str(), (position, after));
        }
        for (name, document) in documents {
            let name = name.value.as_str();
            let Some(Located { node, value: after }) = after_of(document) else { continue };
            let follows_clock = valid.get(name).is_some_and(|scenario| is_by_clock(scenario));
            if follows_clock {
                self.problem(
                    *node,
                    "`after` and a start by a clock exclude each other",
                    "remove `after`, or write `start: when_ready`",
                );
            } else if !links.contains_key(after.as_str()) {
                let mistake = hints::unknown_reference("scenario", after, names.clone());
                self.report(*node, mistake);
            } else if after == name {
                self.problem(
                    *node,
                    "a scenario cannot start after itself",
                    "write the name of another scenario, or remove `after`",
                );
            } else if let Some(circle) = circle_from(name, &links) {
                self.problem(
                    *node,
                    format!("these scenarios wait for each other: {}", circle.join(", ")),
                    "remove `after` from one of them",
                );
            } else if let Some((problem, remedy)) =
                valid.get(after.as_str()).and_then(|scenario| never_ends(scenario))
            {
                let message = format!("scenario `{after}` {problem}, so it never ends");
                self.problem(*node, message, format!("{remedy} in scenario `{after}`"));
            }
        }
    }
}

fn after_of(document: &Field<Scenario>) -> Option<&Located<String>> {
    document.present()?.value.after.present()
}

fn is_by_clock(scenario: &plan::Scenario) -> bool {
    matches!(scenario.start, Start::WallClock(_) | Start::Cron(_))
}

/// Returns the reason why a scenario never ends, and the start of the remedy.
fn never_ends(scenario: &plan::Scenario) -> Option<(&'static str, &'static str)> {
    if is_by_clock(scenario) {
        return Some((
            "starts by a clock again and again",
            "write `start: when_ready` and `repeat: 1`",
        ));
    }
    if scenario.endless {
        return Some((
            "has no length",
            "write `repeat: 1` and a schedule with a length, such as `schedule: [{constant: 5/s, \
             for: 10m}]`,",
        ));
    }
    (scenario.repeat == Repeat::Forever)
        .then_some(("repeats its schedule forever", "write `repeat: 1`"))
}

/// Returns the circle of `after` that begins at `name`, if there is one. Returns `None` if the
/// circle contains an earlier scenario, whose message already covers it.
fn circle_from<'a>(
    name: &'a str,
    links: &HashMap<&'a str, (usize, Option<&'a str>)>,
) -> Option<Vec<&'a str>> {
    let (first, _) = links.get(name)?;
    let (mut circle, mut current) = (vec![name], name);
    while circle.len() <= links.len() {
        let (_, Some(before)) = links.get(current)? else { return None };
        if *before == name {
            return Some(circle);
        }
        if links.get(before)?.0 < *first {
            return None;
        }
        circle.push(before);
        current = before;
    }
    None
}
