//! Numbers with units in text that is wrapped.

/// The units that stay on the line of their number.
const UNITS: [&str; 6] = ["%", "ns", "µs", "ms", "s", "requests/s"];

/// Replaces the space between a number and its unit by a space that breaks no line.
pub(crate) fn with_units_kept(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            let unit = word.trim_end_matches([',', ';', ':', '.', ')']);
            let is_value = out.ends_with(|last: char| last.is_ascii_digit());
            out.push(if is_value && UNITS.contains(&unit) { NO_BREAK } else { ' ' });
        }
        out.push_str(word);
    }
    out
}

/// A space that breaks no line.
pub(crate) const NO_BREAK: char = '\u{a0}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_stays_on_the_line_of_its_number() {
        assert_eq!(
            with_units_kept(" 4 % of 12.5 s, not s 5 at 3 ms; 7 requests"),
            " 4\u{a0}% of 12.5\u{a0}s, not s 5 at 3\u{a0}ms; 7 requests"
        );
    }
}
