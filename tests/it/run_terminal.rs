//! The output of a run on a terminal, which `script` of util-linux provides, and in a log file.

use std::path::Path;
use std::process::{Command, Stdio};

use llmload::report::{self, Report};

const SHORT: &str = "target: {simulator: {decode_tokens_per_second: 2000}}
request: {max_tokens: 2}
slo: {ttft: {p50: 1us, p90: 1m}}
schedule:
  - {name: first, constant: 20/s, for: 1s}
  - {name: second, constant: 20/s, for: 2s}
";

/// Runs the schedule on a terminal.
fn on_terminal(folder: &Path, yaml: &str, variables: &str) -> String {
    std::fs::write(folder.join("llmload.yml"), yaml).unwrap();
    command_on_terminal(folder, "run --report out", variables)
}

/// Runs llmload on a terminal of 80 columns, with some environment variables. Returns all bytes
/// that reached the terminal.
fn command_on_terminal(folder: &Path, arguments: &str, variables: &str) -> String {
    let llmload = env!("CARGO_BIN_EXE_llmload");
    let line = format!(
        "stty cols 80 rows 200 && env -u NO_COLOR -u CLICOLOR -u CLICOLOR_FORCE TERM=xterm \
         {variables} {llmload} {arguments}"
    );
    let output = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
        .current_dir(folder)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .output()
        .expect("script must be installed; it is in util-linux");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the lines that a terminal shows after these bytes.
fn screen(bytes: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0_usize, 0_usize);
    let mut rest = bytes.chars();
    while let Some(character) = rest.next() {
        match character {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                assert_eq!(rest.next(), Some('['));
                let mut number = String::new();
                let command = loop {
                    let next = rest.next().unwrap();
                    if next.is_ascii_alphabetic() {
                        break next;
                    }
                    number.push(next);
                };
                match command {
                    'A' => row -= number.parse::<usize>().unwrap(),
                    'J' => {
                        lines.truncate(row + 1);
                        lines[row].truncate(column);
                    }
                    // Colours, and the wrapping of lines.
                    'm' | 'l' | 'h' => {}
                    other => panic!("unknown command {other}"),
                }
            }
            character => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = character;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
}

#[test]
fn a_terminal_shows_a_progress_block_that_leaves_no_trace_and_a_table_with_colours() {
    let folder = tempfile::tempdir().unwrap();
    let shown = on_terminal(folder.path(), SHORT, "");
    // The blocks were shown, and moved the cursor up by their lines.
    for text in ["\u{1b}[2A\u{1b}[J", " of 2 · first  ", " of 2 · second  ", "s of 3s", "░"] {
        assert!(shown.contains(text), "{text:?} is missing: {shown}");
    }
    assert!(shown.contains("last 10 s: TTFT p50 ") && shown.contains(" tokens/s · 0 failed"));
    let blocks: Vec<&str> = shown.split("\u{1b}[?7l").skip(1).collect();
    assert!(blocks.len() >= 2, "{shown}");
    for block in blocks {
        let block = block.split("\u{1b}[?7h").next().unwrap();
        assert!(block.lines().count() <= 4, "{block}");
        assert!(block.lines().all(|line| line.chars().count() < 80), "{block}");
    }
    // Only the log and the table are left.
    let json = std::fs::read_to_string(folder.path().join("out/report.json")).unwrap();
    let report: Report = serde_json::from_str(&json).unwrap();
    let left = screen(&shown);
    let table: Vec<String> = report::text(&report).lines().map(str::to_owned).collect();
    let start = left.iter().position(|line| *line == table[0]).unwrap();
    let after: Vec<_> = left[start..].iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(after, table.iter().filter(|line| !line.is_empty()).collect::<Vec<_>>());
    for line in &left[..start] {
        assert!(line.is_empty() || line.contains(" INFO ") || line.contains(" WARN "), "{line:?}");
    }
    assert!(left.iter().all(|line| !line.contains("stopp")), "{left:?}");
    // Colours: a missed objective is red, a met one is green, and a heading is bold.
    for coloured in ["\u{1b}[31m✗\u{1b}[0m", "\u{1b}[31mmissed ", "\u{1b}[1mTest setup\u{1b}[0m"]
    {
        assert!(shown.contains(coloured), "{coloured:?}: {shown}");
    }
    assert!(shown.contains("\u{1b}[32mmet ") || shown.contains("\u{1b}[33mmet? "), "{shown}");
}

#[test]
fn a_terminal_without_colours_gets_none_and_a_dumb_terminal_gets_no_command_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let plain = on_terminal(folder.path(), SHORT, "NO_COLOR=1");
    let colour = regex_lite::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert!(!colour.is_match(&plain) && plain.contains("\u{1b}[J"), "{plain:?}");
    let dumb = on_terminal(folder.path(), SHORT, "TERM=dumb");
    assert!(!dumb.contains('\u{1b}') && dumb.contains("Test setup"), "{dumb:?}");
}

#[test]
fn a_comparison_has_colours_only_on_a_terminal_that_shows_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
    let arguments = "compare base.json new.json";
    let coloured = command_on_terminal(&folder, arguments, "");
    for part in
        ["\u{1b}[31mllmload compare failed", "\u{1b}[31m✗\u{1b}[0m", "\u{1b}[31mworse\u{1b}"]
    {
        assert!(coloured.contains(part), "{part:?}: {coloured}");
    }
    let plain = command_on_terminal(&folder, arguments, "NO_COLOR=1");
    let dumb = command_on_terminal(&folder, arguments, "TERM=dumb");
    assert!(!plain.contains('\u{1b}') && plain == dumb, "{plain}");
    let colour = regex_lite::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert_eq!(colour.replace_all(&coloured, ""), plain, "colours change no column");
}

/// A CI log shows the progress every ten seconds, and no command for a terminal.
#[test]
fn a_log_file_gets_a_line_of_progress_after_ten_seconds_and_no_colours() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "target: {simulator: {decode_tokens_per_second: 2000}}
request: {max_tokens: 2}
schedule: [{name: only, constant: 20/s, for: 14s}]
";
    let output = crate::run::command(folder.path(), yaml, &[]).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains('\u{1b}') && !output.stdout.contains(&0x1b), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" in flight, ")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    let pattern = "INFO 1[0-3]s of 14s: phase 1 of 1 · only, [0-9]+ sent, [0-9]+ in flight, \
                   0 failed; last 10 s: TTFT p50 [0-9.]+ [mµ]?s, p99 [0-9.]+ [mµ]?s, [0-9.]+ \
                   tokens/s, 0 failed$";
    let pattern = pattern.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(regex_lite::Regex::new(&pattern).unwrap().is_match(line), "{line}");
}
