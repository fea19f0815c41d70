//! The list of the records of an archive: one table for each route (one scenario on one target),
//! at most as wide as the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use crate::archive::Entry;
use crate::check::numbers::count;
use crate::check::text::{TextStyle, cut, cut_apart, width, wrapped};
use crate::measurement::printable;

/// The longest start of a message that is kept for the table, in bytes.
const MAX_MESSAGE: usize = 200;
/// The fewest columns of a name of a phase.
const SHORTEST_PHASE: usize = 12;
/// The fewest columns of a message.
const SHORTEST_MESSAGE: usize = 12;

/// The list of records.
#[derive(Debug)]
pub struct Table {
    style: TextStyle,
    /// The routes, in the order of their first records.
    routes: Vec<(String, Vec<Row>)>,
    classes: BTreeMap<String, u64>,
    days: BTreeSet<String>,
    /// The number of lines that are no records.
    pub unreadable: u64,
}

#[derive(Debug)]
struct Row {
    number: usize,
    time: String,
    phase: String,
    class: String,
    status: String,
    message: String,
}

impl Table {
    pub fn new(style: TextStyle) -> Table {
        Table {
            style,
            routes: Vec::new(),
            classes: BTreeMap::new(),
            days: BTreeSet::new(),
            unreadable: 0,
        }
    }

    pub fn add(&mut self, entry: &Entry) {
        let record = &entry.record;
        let name = format!("scenario {} on target {}", record.scenario, record.target);
        let name = printable(&name, MAX_MESSAGE);
        let row = Row {
            number: entry.number,
            time: printable(&record.time, 24),
            phase: printable(record.phase.as_deref().unwrap_or("-"), MAX_MESSAGE),
            class: printable(&record.class, 24),
            status: record.status.map_or("-".to_owned(), |status| status.to_string()),
            message: printable(&record.message, MAX_MESSAGE),
        };
        *self.classes.entry(row.class.clone()).or_default() += 1;
        self.days.insert(row.time.chars().take(10).collect());
        match self.routes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rows)) => rows.push(row),
            None => self.routes.push((name, vec![row])),
        }
    }

    /// Returns the time without its date, if all records have the same date.
    fn time(&self, row: &Row) -> String {
        let part = |from, length| row.time.chars().skip(from).take(length).collect::<String>();
        if self.days.len() == 1 { part(11, 8) } else { part(5, 5) + " " + &part(11, 8) }
    }

    fn route(&self, rows: &[Row], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = |of: fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
        let number = widest(|row| row.number.to_string().len()).max(1);
        let time = if self.days.len() == 1 { 8 } else { 14 };
        let class = widest(|row| width(&row.class)).max(5);
        let status = 6;
        // The name of a phase and the message share the rest of the line.
        let rest = self.style.width.saturating_sub(number + time + class + status + 5 * 2);
        let longest = widest(|row| width(&row.message)).clamp("message".len(), SHORTEST_MESSAGE);
        let phase = rest.saturating_sub(longest).max(SHORTEST_PHASE);
        let phase = widest(|row| width(&row.phase)).max(5).min(phase);
        let message = rest.saturating_sub(phase).max(longest);
        let names: Vec<&str> = rows.iter().map(|row| row.phase.as_str()).collect();
        let head = format!(
            "{:>number$}  {:time$}  {:phase$}  {:class$}  {:>status$}  message",
            "#", "time", "phase", "class", "status"
        );
        writeln!(f, "{}", self.style.faint(head))?;
        for (row, name) in rows.iter().zip(cut_apart(&names, phase)) {
            let pad = " ".repeat(phase.saturating_sub(width(&name)));
            let line = format!(
                "{:>number$}  {:time$}  {name}{pad}  {:class$}  {:>status$}  {}",
                row.number,
                self.time(row),
                row.class,
                row.status,
                cut(&row.message, message),
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)
    }
}

impl Display for Table {
    #[allow(clippy::cast_precision_loss)]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, rows) in &self.routes {
            writeln!(f, "{}", self.style.bold(name))?;
            self.route(rows, f)?;
        }
        let total: u64 = self.classes.values().sum();
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let classes: Vec<_> =
            classes.iter().map(|(name, n)| format!("{} {name}", count(**n as f64))).collect();
        let day = match self.days.first() {
            Some(day) if self.days.len() == 1 => format!(" on {day} (UTC)"),
            _ => String::new(),
        };
        let noun = if total == 1 { "failure" } else { "failures" };
        let text = match total {
            0 => "no failures".to_owned(),
            _ => format!("{} {noun}{day}: {}", count(total as f64), classes.join(", ")),
        };
        for (index, line) in wrapped(&text, self.style.width).into_iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{line}")?;
        }
        match self.unreadable {
            0 => Ok(()),
            1 => write!(f, "\n1 line is no record of an archive"),
            more => write!(f, "\n{} lines are no records of an archive", count(more as f64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PHASE: &str = "a-phase-with-a-long-name";

    fn entry(number: usize, day: u32, scenario: &str, message: &str) -> Entry {
        of_phase(PHASE, number, day, scenario, message)
    }

    fn of_phase(phase: &str, number: usize, day: u32, scenario: &str, message: &str) -> Entry {
        let record = json!({
            "time": format!("2026-11-{day}T15:00:00.123Z"), "scenario": scenario, "target": "t",
            "model": "m", "phase": phase, "arrival": number, "class": "timeout_first_token",
            "blame": "target", "message": message, "status": 200, "lag_seconds": 0,
            "duration_seconds": 1, "path": "p",
        });
        Entry { number, record: serde_json::from_value(record).unwrap() }
    }

    #[test]
    fn each_line_has_at_most_eighty_columns() {
        let mut table = Table::new(TextStyle { width: 80, colours: false });
        table.add(&entry(1, 27, "one", &"long ".repeat(40)));
        table.add(&entry(99_999, 28, "one", "short"));
        table.add(&entry(3, 28, "two", "\u{1b}[31m"));
        table.unreadable = 2;
        let text = table.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("11-27 15:00:00") && text.contains("scenario two on target t"));
        assert!(text.contains("3 failures: 3 timeout_first_token"), "{text}");
        assert!(text.ends_with("2 lines are no records of an archive"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn one_day_is_shown_once() {
        let mut table = Table::new(TextStyle { width: 80, colours: false });
        assert_eq!(table.to_string(), "no failures");
        table.add(&entry(1, 27, "one", "HTTP 500: no"));
        let text = table.to_string();
        assert!(
            text.contains(&format!(
                "\n1  15:00:00  {PHASE}  timeout_first_token     200  HTTP 500: no"
            )),
            "{text}"
        );
        assert!(text.ends_with("1 failure on 2026-11-27 (UTC): 1 timeout_first_token"), "{text}");
    }

    #[test]
    fn names_of_phases_that_do_not_fit_stay_different() {
        let mut table = Table::new(TextStyle { width: 80, colours: false });
        let names = [
            "the-load-of-the-old-branch-office",
            "the-load-of-the-old-branch-warehouse",
            "并发一百",
        ];
        for (index, name) in names.into_iter().enumerate() {
            table.add(&of_phase(name, index + 1, 27, "one", &"long ".repeat(9)));
        }
        let text = table.to_string();
        for part in ["00  …office   ", "00  …warehouse   ", "00  并发一百   "] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
    }
}
