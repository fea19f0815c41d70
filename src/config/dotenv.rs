//! Reads the format of a `.env` file: one `NAME=value` per line.
//!
//! A `$NAME` inside a value stays unchanged, because keys and passwords can contain a `$`.

use std::collections::HashMap;

/// Returns the variables of a `.env` file. If a name appears twice, the first value is used.
///
/// # Errors
/// The number of the first invalid line, from 1. The error omits the text of the line, because that
/// text can be a secret.
pub fn read(text: &str) -> Result<HashMap<String, String>, usize> {
    let mut values = HashMap::new();
    for (line, number) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1_usize..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A file for the shell command `source` has `export` before each name.
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, written) = line.split_once('=').ok_or(number)?;
        let name = Some(name.trim()).filter(|name| is_variable_name(name)).ok_or(number)?;
        let value = value(written.trim()).ok_or(number)?;
        values.entry(name.to_owned()).or_insert(value);
    }
    Ok(values)
}

/// Returns true if a text can be the name of an environment variable.
pub fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads a value. In single quotes, every character is literal. In double quotes, `\n`, `\"`, `\$`
/// and `\\` are escapes. A value without quotes ends at a comment. Returns `None` without a closing
/// quote, and if text follows the closing quote.
fn value(written: &str) -> Option<String> {
    let mut letters = written.chars();
    let quote = match letters.next() {
        Some(quote @ ('"' | '\'')) => quote,
        Some('#') | None => return Some(String::new()),
        Some(_) => {
            let end = written.find(" #").or_else(|| written.find("\t#")).unwrap_or(written.len());
            return Some(written[..end].trim_end().to_owned());
        }
    };
    let mut value = String::new();
    loop {
        match letters.next()? {
            letter if letter == quote => break,
            '\\' if quote == '"' => match letters.next()? {
                'n' => value.push('\n'),
                letter @ ('"' | '\\' | '$') => value.push(letter),
                // Any other backslash stays, because it can be a part of a Windows path.
                letter => value.extend(['\\', letter]),
            },
            letter => value.push(letter),
        }
    }
    let rest = letters.as_str().trim_start();
    (rest.is_empty() || rest.starts_with('#')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_literal_with_and_without_quotes() {
        let long = "x".repeat(5000);
        for (written, value) in [
            ("A=b", "b"),
            ("export A = b ", "b"),
            ("A=", ""),
            ("A= # nothing", ""),
            ("A=sk-$HOME-a$b${C}", "sk-$HOME-a$b${C}"),
            ("A=two words # and a comment", "two words"),
            ("A=with#inside=it", "with#inside=it"),
            ("A='single $x \\n \"quotes\"' # comment", "single $x \\n \"quotes\""),
            (r#"A="double 'quotes' \"\\\n\$x C:\dir""#, "double 'quotes' \"\\\n$x C:\\dir"),
            (&format!("A={long}"), &long),
        ] {
            let text = format!("\u{feff}# A comment\n\n{written}\r\nA=second\n");
            assert_eq!(read(&text).unwrap().get("A").map(String::as_str), Some(value), "{written}");
        }
        assert_eq!(read("").unwrap().len(), 0);
    }

    #[test]
    fn an_invalid_line_is_reported_by_its_number() {
        for line in
            ["secret", "=secret", "1A=b", "A B=c", "A='open", "A=\"open\\\"", "A='a'b", "A: b"]
        {
            assert_eq!(read(&format!("OK=1\n\n{line}\n")), Err(3), "{line}");
        }
    }
}
