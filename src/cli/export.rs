//! `llmload export`: writes the dashboards, rules and manifests that this binary contains.

mod files;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use self::files::{COMPOSE, COMPOSE_CONFIG, DASHBOARDS, RULES, SIDECAR, SIDECAR_CONFIG};
use super::{Failed, print};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The files to write
    #[arg(value_enum, value_name = "FILES")]
    files: FileSet,
    /// Folder for the files
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Name of the Prometheus job that scrapes llmload. The dashboards select this job
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    job: Option<String>,
    /// Configuration file to include instead of the shipped example
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FileSet {
    /// The dashboards for Grafana
    Dashboards,
    /// The recording rules and alerts for Prometheus
    Rules,
    /// A compose file with llmload, the simulator, Prometheus and Grafana
    Compose,
    /// A kustomize component that adds llmload to a model server on Kubernetes, and an example
    Sidecar,
}

/// The job of the shipped files.
const SHIPPED_JOB: &str = "llmload";
/// The size of the largest configuration file, in bytes. A `ConfigMap` has this limit too.
const MAX_CONFIG: u64 = 1 << 20;

/// A file of the export: its path in the folder, and its content.
type ExportedFile = (String, String);

pub(super) fn export(args: &ExportArgs) -> Result<(), Failed> {
    let usage = |message: String| Failed::Usage(format!("error: {message}"));
    let has_config = matches!(args.files, FileSet::Compose | FileSet::Sidecar);
    if args.config.is_some() && !has_config {
        return Err(usage(
            "--config has no effect on these files; remove it, or export compose or sidecar"
                .to_owned(),
        ));
    }
    if args.job.is_some() && args.files == FileSet::Rules {
        return Err(usage(
            "--job has no effect on the rules, which work with any job; remove it".to_owned(),
        ));
    }
    let config = args.config.as_deref().map(read_config).transpose()?;
    let files = exported(args.files, args.job.as_deref().unwrap_or(SHIPPED_JOB), config.as_deref());
    if !args.force {
        let exists = |file: &&ExportedFile| args.folder.join(&file.0).exists();
        let existing: Vec<&str> = files.iter().filter(exists).map(|file| file.0.as_str()).collect();
        if !existing.is_empty() {
            return Err(usage(format!(
                "{} already contains {}; choose another folder, or replace the files with --force",
                args.folder.display(),
                existing.join(", ")
            )));
        }
    }
    for (name, text) in &files {
        let path = args.folder.join(name);
        write(&path, text, args.force).map_err(|error| {
            anyhow::anyhow!(
                "cannot write {}: {error}; make the folder writable, or choose another folder",
                path.display()
            )
        })?;
    }
    let names: Vec<String> =
        files.iter().map(|file| args.folder.join(&file.0).display().to_string()).collect();
    Ok(print(&names.join("\n"))?)
}

/// Returns the files of an export.
fn exported(set: FileSet, job: &str, config: Option<&str>) -> Vec<ExportedFile> {
    let owned =
        |folder: &str, (name, text): &(&str, &str)| (format!("{folder}{name}"), (*text).to_owned());
    let dashboards = |folder: &str| -> Vec<ExportedFile> {
        let of_job = |(name, text): (String, String)| (name, dashboard_of_job(&text, job));
        DASHBOARDS.iter().map(|file| of_job(owned(folder, file))).collect()
    };
    let rules = |folder: &str| -> Vec<ExportedFile> {
        RULES.iter().map(|file| owned(folder, file)).collect()
    };
    let filled = |shipped: &[(&str, &str)], config_name: &str| -> Vec<ExportedFile> {
        let file = |file: &(&str, &str)| match (file.0, config) {
            (name, Some(config)) if name == config_name => (name.to_owned(), config.to_owned()),
            ("docker-compose.yml", _) => (file.0.to_owned(), without_build(file.1)),
            ("kustomization.yaml", _) => {
                (file.0.to_owned(), file.1.replace("[../sidecar]", "[sidecar]"))
            }
            _ => owned("", &(file.0, &*of_job(file.1, job))),
        };
        shipped.iter().map(file).collect()
    };
    match set {
        FileSet::Dashboards => dashboards(""),
        FileSet::Rules => rules(""),
        FileSet::Compose => {
            let mut files = filled(&COMPOSE, COMPOSE_CONFIG);
            files.extend(dashboards("grafana/dashboards/"));
            files.extend(rules("grafana/rules/"));
            files
        }
        FileSet::Sidecar => filled(&SIDECAR, SIDECAR_CONFIG),
    }
}

/// Writes the name of the job into a scrape configuration or a `PodMonitor`.
fn of_job(text: &str, job: &str) -> String {
    // Without quotes, a name such as `on` is not a text in YAML.
    let name = if job == SHIPPED_JOB { job.to_owned() } else { format!("\"{job}\"") };
    let scrape = format!("- job_name: {SHIPPED_JOB}\n");
    let monitor = format!("{{targetLabel: job, replacement: {SHIPPED_JOB}}}");
    text.replace(&scrape, &format!("- job_name: {name}\n"))
        .replace(&monitor, &format!("{{targetLabel: job, replacement: {name}}}"))
}

/// Selects the job in the list of jobs of a dashboard. The shipped dashboards select all jobs.
fn dashboard_of_job(text: &str, job: &str) -> String {
    let place = text.find(r#""definition": "label_values(llmload_scenario_info, job)""#);
    let start = place.and_then(|place| text.get(..place)?.rfind(r#""current""#));
    let (Some(place), Some(start)) = (place, start) else { return text.to_owned() };
    let (Some(before), Some(selected), Some(after)) =
        (text.get(..start), text.get(start..place), text.get(place..))
    else {
        return text.to_owned();
    };
    if job == SHIPPED_JOB {
        return text.to_owned();
    }
    let name = format!("\"{job}\"");
    let selected = selected.replace("\"All\"", &name).replace("\"$__all\"", &name);
    [before, &selected, after].concat()
}

/// Removes the build of the image, because the export does not contain the source code.
fn without_build(compose: &str) -> String {
    let mut is_in_build = false;
    let kept = compose.lines().filter(|line| {
        let is_deeper = line.starts_with("    ");
        is_in_build = line.starts_with("  build:") || is_in_build && is_deeper;
        !is_in_build
    });
    kept.collect::<Vec<_>>().join("\n") + "\n"
}

fn read_config(path: &Path) -> Result<String, Failed> {
    let read = || {
        let mut text = String::new();
        fs::File::open(path)?.take(MAX_CONFIG + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_CONFIG {
            return Err(std::io::Error::other("larger than 1 MiB"));
        }
        Ok(text)
    };
    read().map_err(|error: std::io::Error| {
        Failed::Usage(format!(
            "error: --config {}: {error}; name a configuration file",
            path.display()
        ))
    })
}

/// Writes a file and its folder. Without `force`, fails if the file exists.
fn write(path: &Path, text: &str, force: bool) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(std::io::Error::other("the file exists"))
        }
        opened => opened?.write_all(text.as_bytes()),
    }
}

/// A name that needs no quotes in YAML and JSON.
fn job_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins_well && text.len() <= 200 && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("expected letters, digits and the characters `_`, `-`, `.` and `/`, with a letter first"
        .to_owned())
}
