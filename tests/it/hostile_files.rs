//! Configurations and prompt files that try to use up the memory or the CPU of llmload.

use std::fmt::Write as _;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use crate::binary::{Daemon, sample};

const FILE_LIMIT: usize = 1 << 20;

/// Runs `llmload check` with a limit of 20 s of CPU time and `mebibytes` of memory. Returns the
/// exit code and the errors.
fn check(folder: &Path, yaml: &str, mebibytes: usize) -> (Option<i32>, String) {
    std::fs::write(folder.join("llmload.yml"), yaml).unwrap();
    let limits = format!("ulimit -t 20 && ulimit -d {} && exec \"$@\"", mebibytes * 1024);
    let output = Command::new("sh")
        .args(["-c", &limits, "sh", env!("CARGO_BIN_EXE_llmload"), "check", "llmload.yml"])
        .current_dir(folder)
        .env("A", "x".repeat(100_000))
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The text has at most a megabyte, which is the largest file that llmload reads.
fn filled(start: &str, part: &str, end: &str) -> String {
    let parts = (FILE_LIMIT - start.len() - end.len()) / part.len();
    format!("{start}{}{end}", part.repeat(parts))
}

/// Each text expands, nests or repeats as much as a file of a megabyte can.
#[test]
fn no_configuration_of_a_megabyte_needs_much_memory_or_cpu_time() {
    let laughs =
        (b'b'..=b'z').fold("a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned(), |mut text, letter| {
            let (own, last) = (char::from(letter), char::from(letter - 1));
            writeln!(text, "{own}: &{own} [{}]", vec![format!("*{last}"); 9].join(",")).unwrap();
            text
        });
    let numbered = |line: &dyn Fn(usize) -> String| -> String {
        let mut text = String::new();
        for line in (0..).map(line) {
            if text.len() + line.len() > FILE_LIMIT {
                break;
            }
            text += &line;
        }
        text
    };
    let deep = numbered(&|level| format!("{}a:\n", " ".repeat(level)));
    let variable = filled("target: http://h/v1\nrate: 1/s\nrequest: {system: \"", "${A}", "\"}\n");
    let too_deep = "nested too deeply";
    let too_many = "too many entries";
    for (name, text, problem) in [
        ("aliases of aliases", laughs, too_many),
        ("one alias", filled("a: &x 1\nb: [", "*x,", "1]\n"), too_many),
        ("anchors", numbered(&|number| format!("a{number}: &x{number} 1\n")), too_many),
        ("keys", numbered(&|number| format!("a{number}: 1\n")), too_many),
        ("equal keys", filled("", "a: 1\n", ""), too_many),
        (
            "a flow map",
            format!("{{{}", numbered(&|number| format!("a{number}: 1,"))),
            "larger than",
        ),
        ("a list", filled("a: [", "1,", "1]\n"), too_many),
        ("lists in one line", filled("a:\n  ", "- ", "x"), too_deep),
        ("keys in one line", filled("", "? ", "x"), too_deep),
        ("brackets", filled("a: ", "[", ""), too_deep),
        ("indentation", deep, too_deep),
        ("a long text", filled("a: \"", "x", "\"\n"), "`target` is missing"),
        ("escapes", filled("a: \"", "\\x41", "\"\n"), "`target` is missing"),
        ("an open quote", filled("a: \"", "x", ""), "not valid YAML"),
        ("comments", filled("", "#\n", ""), "the file is empty"),
        ("documents", filled("", "---\n", ""), "the file is empty"),
        ("tabs", filled("", "\t", ""), "not valid YAML"),
        ("a variable", variable, "more than 1 MiB"),
        (
            "loops in loops",
            "target: http://h/v1\nschedule: [{repeat: 10000, phases: [{repeat: 10000, phases: \
             [{constant: 1/s, for: 1s}]}]}]\n"
                .to_owned(),
            "is out of range",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (code, errors) = check(folder.path(), &text, 160);
        assert_eq!(code, Some(2), "{name}: {errors}");
        assert!(errors.starts_with("llmload.yml:") && errors.contains(problem), "{name}: {errors}");
        assert!(errors.len() < 64 << 10, "{name}: {} bytes", errors.len());
    }
}

/// A sparse file: its rows of 8 MiB consist of zero bytes that need no disk.
#[test]
fn a_prompt_file_of_two_gibibytes_needs_little_memory() {
    const SIZE: u64 = 2 << 30;
    const ROW: u64 = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(folder.path().join("prompts.txt")).unwrap();
    for number in 0..20 {
        writeln!(file, "Count to {number}.").unwrap();
    }
    for end in 1..=SIZE / ROW {
        file.seek(SeekFrom::Start(end * ROW)).unwrap();
        file.write_all(b"\n").unwrap();
    }
    let yaml = "
targets: {sim: {simulator: {}}}
prompts: {large: {lines: prompts.txt}}
scenarios:
  s: {target: sim, prompts: large, request: {max_tokens: 4}, repeat: 1, schedule: [{constant: 20/s, for: 1s}]}
";
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    let mut daemon = Daemon::of(Command::new(env!("CARGO_BIN_EXE_llmload")), &[], folder);
    daemon.wait_for("/metrics", |text| {
        let succeeded = sample(text, "llmload_request_duration_seconds_count", &[]);
        (succeeded == 20.0).then_some(())
    });
    let most = daemon.memory("VmHWM") >> 20;
    assert!(most < 64, "{most} MiB");
}
