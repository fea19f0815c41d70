//! The capabilities of a terminal, from the environment variables that most programs follow.

use std::ffi::OsString;

/// Returns the value of an environment variable.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Returns true if an output gets colours. `NO_COLOR` removes them, and `CLICOLOR_FORCE` adds them
/// to a file or a CI log: see <https://no-color.org> and <https://bixense.com/clicolors>.
pub(super) fn has_colours(is_terminal: bool, environment: Environment) -> bool {
    let is_set = |name| environment(name).is_some_and(|value| !value.is_empty());
    let is_zero = |name| environment(name).is_some_and(|value| value == "0");
    if is_set("NO_COLOR") {
        return false;
    }
    if is_set("CLICOLOR_FORCE") && !is_zero("CLICOLOR_FORCE") {
        return true;
    }
    has_cursor(is_terminal, environment) && !is_zero("CLICOLOR")
}

/// Returns true if llmload can move the cursor, for example to update a line.
pub(super) fn has_cursor(is_terminal: bool, environment: Environment) -> bool {
    is_terminal && environment("TERM").is_none_or(|name| name != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_terminal_and_the_environment() {
        for (is_terminal, set, expected) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (true, &[("TERM", "xterm")], true),
            (true, &[("CLICOLOR", "0")], false),
            (false, &[("CLICOLOR", "1")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            let environment = |name: &str| {
                let value = set.iter().find(|(set, _)| *set == name);
                value.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(has_colours(is_terminal, &environment), expected, "{is_terminal} {set:?}");
        }
    }
}
