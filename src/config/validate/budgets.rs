//! Validates the budgets of a scenario.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use super::Validator;
use crate::calendar::Period;
use crate::config::document::{self, Per};
use crate::config::field::{Field, FieldList, Located};
use crate::config::scalar::{Amount, Number};
use crate::config::tree::NodeId;
use crate::plan::{self, Budget, BudgetUnit, Limits, RequestParameters, Target, billionths};
use crate::prompts::Prompts;

const AMOUNTS: RangeInclusive<u64> = 1..=1_000_000_000_000;
const HIGHEST_COST: f64 = 1e9;

impl Validator<'_> {
    /// Returns the budgets. `None` means that one of them has a mistake.
    pub(super) fn budgets(
        &self,
        field: &Field<FieldList<document::Budget>>,
        targets: Option<&[Arc<Target>]>,
        (request, prompts): (Option<&RequestParameters>, Option<&Prompts>),
    ) -> Option<Vec<Budget>> {
        let list = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Invalid(_) => return None,
            Field::Present(list) => list,
        };
        if list.value.0.is_empty() {
            let remedy = "write at least one budget, such as `{per: day, requests: 20000}`";
            self.problem(list.node, "the list of budgets is empty", remedy);
            return None;
        }
        let currency = targets.map(currency);
        let read = list.value.0.iter().map(|entry| {
            let entry = entry.present()?;
            let budget = self.budget(entry, currency.as_ref())?;
            let is_limited = self.check_output_limit(entry.node, &budget, targets?, request?)
                && self.check_rows(entry.node, &budget, prompts);
            is_limited.then_some(budget)
        });
        // Without the first `collect`, the first mistake would hide the mistakes of later budgets.
        let budgets: Vec<Option<Budget>> = read.collect();
        let mut seen: Vec<Period> = Vec::new();
        for (budget, entry) in budgets.iter().zip(&list.value.0) {
            let Some((budget, node)) = budget.as_ref().zip(entry.node()) else { continue };
            if seen.contains(&budget.period) {
                let message = format!("a second budget per {}", budget.period);
                self.problem(node, message, "write all limits of a period in one budget");
                return None;
            }
            seen.push(budget.period);
        }
        budgets.into_iter().collect()
    }

    fn budget(
        &self,
        Located { node, value: keys }: &Located<document::Budget>,
        currency: Option<&Result<String, String>>,
    ) -> Option<Budget> {
        let period = match &keys.per {
            Field::Absent => {
                let remedy = "write `per: hour`, `per: day` or `per: month`";
                self.missing(*node, "`per` is missing", remedy);
                None
            }
            Field::Invalid(_) => None,
            Field::Present(Located { value, .. }) => Some(match value {
                Per::Hour => Period::Hour,
                Per::Day => Period::Day,
                Per::Month => Period::Month,
            }),
        };
        if keys.requests.is_absent() && keys.tokens.is_absent() && keys.cost.is_absent() {
            self.missing(
                *node,
                "the budget has no limit",
                "write `requests`, `tokens` or `cost`, such as `requests: 20000`",
            );
            return None;
        }
        let requests = self.amount(&keys.requests);
        let tokens = self.amount(&keys.tokens);
        let cost = self.cost(&keys.cost);
        let currency = match (keys.cost.node(), currency) {
            (Some(node), Some(Err(problem))) => {
                let remedy = "write `prices` in one currency in every target of the scenario";
                self.problem(node, problem.as_str(), remedy);
                return None;
            }
            (_, Some(Ok(currency))) => Some(currency.clone()),
            _ => None,
        };
        let zone = self.zone(&keys.timezone);
        let (requests, tokens, cost) = (requests?, tokens?, cost?);
        let limits = Limits::from_units(|unit| match unit {
            BudgetUnit::Requests => requests,
            BudgetUnit::Tokens => tokens,
            BudgetUnit::Cost => cost,
        });
        Some(Budget { period: period?, zone: zone?, limits, currency })
    }

    #[allow(clippy::option_option)]
    fn amount(&self, field: &Field<Amount>) -> Option<Option<u64>> {
        match field {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(located) if AMOUNTS.contains(&located.value.0) => {
                Some(Some(located.value.0))
            }
            Field::Present(located) => {
                let message = format!("{} is out of range", located.value.0);
                let (low, high) = (AMOUNTS.start(), AMOUNTS.end());
                self.problem(located.node, message, format!("write a count from {low} to {high}"));
                None
            }
        }
    }

    #[allow(clippy::option_option)]
    fn cost(&self, field: &Field<Number>) -> Option<Option<u64>> {
        match field {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(located) if located.value.0 > 0.0 && located.value.0 <= HIGHEST_COST => {
                Some(Some(billionths(located.value.0)))
            }
            Field::Present(located) => {
                let message = format!("{} is out of range", located.value);
                let remedy = format!("write a cost above 0 and up to {HIGHEST_COST}");
                self.problem(located.node, message, remedy);
                None
            }
        }
    }

    /// Returns false if a request has no output limit, so no budget of tokens can hold.
    fn check_output_limit(
        &self,
        node: NodeId,
        budget: &Budget,
        targets: &[Arc<Target>],
        request: &RequestParameters,
    ) -> bool {
        let mut endless = targets
            .iter()
            .filter_map(|target| Some((target, target.dialect.removed_output_limit(request)?)));
        let Some((target, key)) = endless.next() else { return true };
        if !budget.limits.depend_on_tokens() {
            return true;
        }
        self.problem(
            node,
            format!("a request to target {} has no output limit", target.name),
            format!("remove `{key}` from `extra_body` of the target, or limit only `requests`"),
        );
        false
    }

    /// Returns false if a row of a file removes the output limit. llmload does not read a row
    /// before it decides about an arrival, so one such row stops all arrivals.
    fn check_rows(&self, node: NodeId, budget: &Budget, prompts: Option<&Prompts>) -> bool {
        let Some((path, key)) = prompts.and_then(Prompts::removed_output_limit) else {
            return true;
        };
        if !budget.limits.depend_on_tokens() {
            return true;
        }
        self.problem(
            node,
            format!("a row of {path} has no output limit"),
            format!(
                "replace `{key}: null` in the file by a number, or remove it there, or limit only \
                 `requests`"
            ),
        );
        false
    }

    /// Returns the folder of the saved budgets. The folder can be absent: llmload creates it.
    pub(super) fn state_dir(&self, field: &Field<String>) -> Option<PathBuf> {
        let located = field.present()?;
        if located.value.trim().is_empty() {
            let remedy = "write a folder, such as `state_dir: state`";
            self.problem(located.node, "the folder has no name", remedy);
            return None;
        }
        Some(self.base.join(&located.value))
    }

    /// Warns if the budgets start again at 0 after a restart.
    pub(super) fn warn_of_lost_budgets(
        &self,
        budgets: Option<NodeId>,
        state_dir: &Field<String>,
        scenarios: &[plan::Scenario],
    ) {
        let has_budgets = scenarios.iter().any(|scenario| !scenario.budgets.is_empty());
        if let (Some(node), true, true) = (budgets, has_budgets, state_dir.is_absent()) {
            self.warn(
                node,
                "the budgets start again at 0 after a restart, because the file has no `state_dir`",
                "write a folder, such as `state_dir: state`",
            );
        }
    }
}

/// Returns the common currency of the targets, or the problem.
fn currency(targets: &[Arc<Target>]) -> Result<String, String> {
    let mut found: Option<&str> = None;
    for target in targets {
        let Some(prices) = &target.prices else {
            return Err(format!("target {} has no `prices`, so its cost is unknown", target.name));
        };
        if let Some(other) = found.replace(&prices.currency)
            && other != prices.currency
        {
            let message = format!("the targets have prices in {other} and in {}", prices.currency);
            return Err(message);
        }
    }
    Ok(found.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_without_an_output_limit_is_a_mistake_with_a_budget_of_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let rows = "{\"prompt\": \"Hi\", \"max_tokens\": null}\n{\"prompt\": \"Hello\"}\n";
        std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
        let parse = |load: &str, budget: &str| {
            let path = folder.path().join("f.yml");
            let text = format!(
                "targets: {{t: {{base_url: 'http://localhost/v1', prices: {{input_per_million: 1, \
                 output_per_million: 1}}}}}}\nstate_dir: s\n\
                 prompts: {{p: {{payloads: rows.jsonl}}}}\nscenarios:\n  s:\n    target: t\n    \
                 prompts: p\n    {load}\n    budgets: [{{per: day, {budget}}}]\n"
            );
            let parsed = crate::config::parse(
                &text,
                &path.display().to_string(),
                Some(folder.path()),
                &|_| None,
            );
            parsed.err().map(|mistakes| mistakes.to_string())
        };
        for budget in ["tokens: 5M", "cost: 5"] {
            let mistake = parse("rate: 1/s", budget).unwrap();
            let path = folder.path().join("rows.jsonl");
            let expected = format!(
                "scenarios.s.budgets[0]: a row of {} has no output limit; replace `max_tokens: null` in \
                 the file by a number, or remove it there, or limit only `requests`",
                path.display()
            );
            assert!(mistake.contains(&expected), "{mistake}\n{expected}");
        }
        assert_eq!(parse("rate: 1/s", "requests: 5"), None);
    }
}
