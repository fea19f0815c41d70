//! The `.env` beside the file: one `NAME=value` a line, as it stands.
//!
//! Nothing is put into a value: the keys and passwords that such a file is for may hold a `$`.

use std::collections::HashMap;

use super::variables::is_name;

/// Names and values. Of a name that stands twice the first counts.
///
/// # Errors
/// The first line, from 1, that is none of the above. Nothing of it is told: it may be a secret.
pub fn read(text: &str) -> Result<HashMap<String, String>, usize> {
    let mut values = HashMap::new();
    for (line, number) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1_usize..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // As in a file that a shell sources.
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, written) = line.split_once('=').ok_or(number)?;
        let name = Some(name.trim()).filter(|name| is_name(name)).ok_or(number)?;
        let value = value(written.trim()).ok_or(number)?;
        values.entry(name.to_owned()).or_insert(value);
    }
    Ok(values)
}

/// In single quotes as it is; in double quotes with `\n`, `\"`, `\$` and `\\`; else up to a comment.
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
                // A Windows path, perhaps.
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
    fn values_are_taken_as_they_stand() {
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
    fn a_line_that_is_none_is_told_by_its_number() {
        for line in
            ["secret", "=secret", "1A=b", "A B=c", "A='open", "A=\"open\\\"", "A='a'b", "A: b"]
        {
            assert_eq!(read(&format!("OK=1\n\n{line}\n")), Err(3), "{line}");
        }
    }
}
