//! The effect of a reload on each scenario, as text.

use std::fmt;

/// For each effect, the text names at most this number of scenarios and counts the others.
const MAX_NAMES: usize = 20;

#[derive(Clone, Copy, Debug)]
pub(super) enum ScenarioChange {
    Unchanged,
    /// New settings apply. The ledgers (the counts of arrivals) and the series continue.
    Changed,
    /// The scenario starts again: see [`super::transition::Transition::Restart`].
    Restarted,
    Added,
    /// The scenario drains.
    Removed,
}

/// The names of the scenarios, in one list per effect.
#[derive(Debug, Default)]
pub(super) struct Changes([Vec<String>; 5]);

impl Changes {
    pub(super) fn record(&mut self, scenario: &str, change: ScenarioChange) {
        self.0[change as usize].push(scenario.to_owned());
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effects = ["unchanged", "changed", "restarted", "added", "removed"];
        let groups = effects.iter().zip(&self.0).filter(|(_, names)| !names.is_empty());
        for (index, (effect, names)) in groups.enumerate() {
            let (shown, more) = names.split_at(names.len().min(MAX_NAMES));
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{} {effect} ({}", names.len(), shown.join(", "))?;
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
    fn changes_are_counted_and_the_first_twenty_are_named() {
        let mut changes = Changes::default();
        assert_eq!(changes.to_string(), "");
        changes.record("new", ScenarioChange::Added);
        (0..22).for_each(|i| changes.record(&format!("s{i}"), ScenarioChange::Unchanged));
        let text = changes.to_string();
        assert!(text.starts_with("22 unchanged (s0, s1, "), "{text}");
        assert!(text.ends_with("s19 and 2 more), 1 added (new)"), "{text}");
    }
}
