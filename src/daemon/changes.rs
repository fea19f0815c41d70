//! What a reload did to each scenario, in words for whoever asked and for the log.

use std::fmt;

/// So many names of a kind are told; who has more counts them.
const NAMES: usize = 20;

/// The scenarios by what became of them.
#[derive(Debug, Default)]
pub(super) struct Changes([Vec<String>; 5]);

/// What becomes of a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScenarioChange {
    /// It was left alone.
    Unchanged,
    /// It goes on with its books, on other terms.
    Changed,
    /// It starts over, since another endpoint wants to be waited for.
    Anew,
    /// It was not there before.
    Added,
    /// It drains.
    Removed,
}

impl Changes {
    pub(super) fn note(&mut self, scenario: &str, change: ScenarioChange) {
        self.0[change as usize].push(scenario.to_owned());
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fates = ["unchanged", "changed", "began anew", "added", "removed"];
        let told = fates.iter().zip(&self.0).filter(|(_, names)| !names.is_empty());
        for (index, (change, names)) in told.enumerate() {
            let (shown, more) = names.split_at(names.len().min(NAMES));
            write!(
                f,
                "{}{} {change} ({}",
                if index > 0 { ", " } else { "" },
                names.len(),
                shown.join(", ")
            )?;
            if !more.is_empty() {
                write!(f, " and {} more", more.len())?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_counted_and_some_named() {
        let mut changes = Changes::default();
        assert_eq!(changes.to_string(), "");
        changes.note("new", ScenarioChange::Added);
        (0..22).for_each(|i| changes.note(&format!("s{i}"), ScenarioChange::Unchanged));
        let words = changes.to_string();
        assert!(words.starts_with("22 unchanged (s0, s1, "), "{words}");
        assert!(words.ends_with("s19 and 2 more), 1 added (new)"), "{words}");
    }
}
