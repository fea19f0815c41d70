//! The metric families about budgets, computed at scrape time.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tokio::time::Instant;

use super::samples::{self, Samples};
use super::table::{self, Family};
use super::unix_seconds;
use crate::guard::Accounts;

const FAMILIES: [&Family; 4] = [
    &table::BUDGET_USED,
    &table::BUDGET_LIMIT,
    &table::BUDGET_RESET_TIMESTAMP,
    &table::BUDGETS_SAVED,
];

#[derive(Clone, Debug)]
pub(super) struct BudgetCollector {
    descriptions: Arc<[Desc]>,
    accounts: Arc<Accounts>,
}

impl BudgetCollector {
    pub(super) fn new(accounts: Arc<Accounts>) -> prometheus::Result<BudgetCollector> {
        Ok(BudgetCollector { descriptions: samples::describe(&FAMILIES)?, accounts })
    }
}

impl Collector for BudgetCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::new(&FAMILIES);
        let views = self.accounts.views(SystemTime::now(), Instant::now());
        for view in &views {
            let (scenario, per) = (view.key.scenario.as_str(), view.key.period.as_str());
            for (unit, limit) in view.limits.iter() {
                let labels = [scenario, per, unit.as_str()];
                let used = unit.to_f64(view.used.get(unit));
                samples.add(&table::BUDGET_USED, &labels, used);
                samples.add(&table::BUDGET_LIMIT, &labels, unit.to_f64(limit));
            }
            let reset = unix_seconds(view.window.to);
            samples.add(&table::BUDGET_RESET_TIMESTAMP, &[scenario, per], reset);
        }
        if !views.is_empty() && self.accounts.is_saved() {
            let saved = f64::from(u8::from(!self.accounts.has_failed(Instant::now())));
            samples.add(&table::BUDGETS_SAVED, &[], saved);
        }
        samples.into_families()
    }
}
