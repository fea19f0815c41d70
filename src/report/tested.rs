//! The setup of a test: the title, the command, the machine and the prompts of a run. A reader of
//! the report can repeat the run with these values.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::prompts::Prompts;

/// The circumstances of a run. A field is `None` if the value is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The value of `--title`.
    pub title: Option<String>,
    /// The values of `--label`.
    pub labels: BTreeMap<String, String>,
    /// The arguments of the process, without the user and the password of a URL.
    pub command: Option<String>,
    /// The hash of the configuration. Two runs with the same hash have the same configuration.
    pub config_hash: String,
    /// The name of the machine that sent the load.
    pub host: Option<String>,
    pub os: Option<String>,
    /// The model of its processor.
    pub cpu: Option<String>,
    /// The number of processors that the process can use.
    pub cpus: Option<usize>,
}

impl Tested {
    /// Adds the values of this machine. `proc` is the folder `/proc`.
    #[must_use]
    pub fn on_this_machine(self, proc: &Path) -> Tested {
        let read = |name: &str| {
            let text = std::fs::read_to_string(proc.join(name)).ok()?;
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let kernel = read("sys/kernel/ostype").zip(read("sys/kernel/osrelease"));
        let processor = read("cpuinfo").and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Tested {
            host: read("sys/kernel/hostname"),
            os: kernel.map(|(name, release)| format!("{name} {release}")),
            cpu: processor,
            cpus: std::thread::available_parallelism().ok().map(usize::from),
            ..self
        }
    }
}

/// Quotes an argument for a shell, if it needs quotes.
pub fn shell_quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+*".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// The source of the prompts of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptProfile {
    /// The name of the source.
    pub name: String,
    /// `texts`, `rows`, `synthetic` or `mix`.
    pub source: String,
    /// The number of different prompts. `None` if the source generates prompts.
    pub count: Option<u64>,
    /// `sequential` or `random`.
    pub order: String,
    /// `warm`, `cold` or `salted`.
    pub prefix_cache: String,
}

impl PromptProfile {
    pub(super) fn new(prompts: &Prompts) -> PromptProfile {
        PromptProfile {
            name: prompts.name.clone(),
            source: prompts.source_kind().to_owned(),
            count: prompts.len(),
            order: prompts.order().as_str().to_owned(),
            prefix_cache: prompts.prefix_cache().as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_the_machine_does_not_show_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let tested = || Tested::default().on_this_machine(folder.path());
        assert_eq!((tested().host, tested().os, tested().cpu), (None, None, None));
        std::fs::create_dir_all(folder.path().join("sys/kernel")).unwrap();
        for (name, text) in [
            ("sys/kernel/hostname", "box\n"),
            ("sys/kernel/ostype", "Linux\n"),
            ("sys/kernel/osrelease", "6.1\n"),
            ("cpuinfo", "processor\t: 0\nmodel name\t: A: fast one\n"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let Tested { host, os, cpu, .. } = tested();
        let expected = ["box", "Linux 6.1", "A: fast one"].map(|text| Some(text.to_owned()));
        assert_eq!([host, os, cpu], expected);
    }
}
