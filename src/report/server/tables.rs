//! The tables of the metrics pages.

use super::ObservedReport;
use crate::check::numbers::{percent, three_digits};
use crate::observe::Quantity;
use crate::report::RouteReport;
use crate::report::layout::Block;

/// The head of a column and the text of a value.
fn column(quantity: Quantity) -> (&'static str, fn(f64) -> String) {
    match quantity {
        Quantity::RequestsRunning => ("running", three_digits),
        Quantity::RequestsWaiting => ("waiting", three_digits),
        Quantity::KvCacheUse => ("KV cache", whole_percent),
        Quantity::Preemptions => ("preempts/s", three_digits),
        Quantity::PrefixCacheHitRate => ("cache hits", whole_percent),
        Quantity::GpuUse => ("GPU use", whole_percent),
        Quantity::GpuMemoryUsed => ("GPU memory GiB", gibibytes),
        Quantity::GpuPower => ("GPU power W", three_digits),
        Quantity::CpuUse => ("CPU use", whole_percent),
        Quantity::MemoryUsed => ("memory GiB", gibibytes),
    }
}

/// A percentage without decimals. A percentage below 1 % has two digits.
pub(in crate::report) fn whole_percent(fraction: f64) -> String {
    if fraction > 0.0 && fraction < 0.01 {
        return percent(fraction);
    }
    format!("{:.0} %", fraction * 100.0)
}

fn gibibytes(bytes: f64) -> String {
    three_digits(bytes / f64::from(1 << 30))
}

/// Returns both texts with a slash between them. A common unit is written once.
fn pair(mean: &str, max: &str) -> String {
    let mean = if max.ends_with(" %") { mean.trim_end_matches(" %") } else { mean };
    format!("{mean} / {max}")
}

/// Returns one table for each metrics page: a row for each phase, and a column for each quantity.
pub(in crate::report) fn tables(route: &RouteReport) -> Vec<Block> {
    let names: Vec<_> = route.phases.iter().map(|phase| phase.name.as_str()).collect();
    route.observed.iter().filter_map(|page| table(&names, page)).collect()
}

fn table(phases: &[&str], page: &ObservedReport) -> Option<Block> {
    let columns = Quantity::ALL.into_iter().filter_map(|quantity| {
        let known = page.quantity(quantity).filter(|known| !known.phases.is_empty())?;
        let (head, show) = column(quantity);
        // The highest hit rate between two pages can be that of a single request.
        let has_max = quantity != Quantity::PrefixCacheHitRate;
        let cell = move |name: &str| {
            let phase = known.phases.iter().find(|phase| phase.phase == name);
            phase.map_or_else(
                || "–".to_owned(),
                |phase| {
                    if has_max {
                        pair(&show(phase.mean), &show(phase.max))
                    } else {
                        show(phase.mean)
                    }
                },
            )
        };
        Some((head.to_owned(), cell))
    });
    let (heads, cells): (Vec<_>, Vec<_>) = columns.unzip();
    let has_values = |name: &str| {
        page.quantities.iter().any(|known| known.phases.iter().any(|phase| phase.phase == name))
    };
    let rows = phases.iter().filter(|name| has_values(name)).map(|name| {
        let cells = cells.iter().map(|cell| cell(name));
        std::iter::once((*name).to_owned()).chain(cells).collect()
    });
    (!heads.is_empty()).then(|| Block::Table {
        title: format!("The server by phase ({})", page.program),
        columns: std::iter::once(format!("{}, mean/max", page.program)).chain(heads).collect(),
        rows: rows.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ObservedPhase, ObservedQuantity};

    #[test]
    fn a_table_of_large_values_fits_into_80_columns() {
        let values = [
            (Quantity::RequestsRunning, 161.4, 256.0),
            (Quantity::RequestsWaiting, 2826.3, 2999.0),
            (Quantity::KvCacheUse, 0.987, 1.0),
            (Quantity::Preemptions, 0.354, 12.0),
            (Quantity::PrefixCacheHitRate, 0.112, 1.0),
        ];
        let quantity = |(quantity, mean, max): (Quantity, f64, f64)| ObservedQuantity {
            quantity: quantity.as_str().to_owned(),
            unit: quantity.unit().to_owned(),
            phases: vec![ObservedPhase { phase: "concurrency 100".into(), pages: 9, mean, max }],
            timeline_mean: Vec::new(),
            timeline_max: Vec::new(),
        };
        let page = ObservedReport {
            source: "sglang".to_owned(),
            program: "SGLang".to_owned(),
            page: "http://host/metrics".to_owned(),
            reads: 9,
            failed_reads: 0,
            last_failed_read: None,
            quantities: values.map(quantity).to_vec(),
        };
        let table = table(&["not sent", "concurrency 100"], &page);
        let Some(Block::Table { columns, rows, .. }) = table else { panic!("{table:?}") };
        let cells = ["concurrency 100", "161 / 256", "2,826 / 2,999", "99 / 100 %"];
        assert_eq!(rows, [[&cells[..], &["0.354 / 12", "11 %"][..]].concat()]);
        let length = |text: &String| text.chars().count();
        let widths =
            columns.iter().zip(&rows[0]).map(|(head, cell)| length(head).max(length(cell)));
        let gaps = 2 * columns.len();
        assert!(widths.sum::<usize>() + gaps <= 80, "{columns:?}");
    }
}
