//! `llmload failures`: lists the records of an archive of failed requests, shows one record, or
//! sends its request again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::load::endpoint_url;
use super::probe::{address_of, plan_of_file, plan_of_url};
use super::{Failed, block_on, print, stdout_style};
use crate::archive::{Entry, Reader};
use crate::failures::resend::Resend;
use crate::failures::table::Table;
use crate::failures::{Details, json};
use crate::measurement::{Failure, printable};

#[derive(Debug, Args)]
pub(super) struct FailuresArgs {
    // Not doc comments, because clippy would require backticks or brackets, and the help would show
    // them.
    #[arg(help = "A failures.jsonl, or the folder of an archive or of a report")]
    file: PathBuf,
    #[arg(value_parser = endpoint_url, requires = "resend", conflicts_with = "config_file", help = "With --resend: send the request to this endpoint, such as http://localhost:8000/v1 [default: the target of the failure in the configuration file]")]
    url: Option<String>,
    /// List only this failure class, such as `rate_limited`
    #[arg(long, value_name = "CLASS", value_parser = class, conflicts_with_all = ["show", "resend"])]
    class: Option<Failure>,
    /// Show all that is known about the failure with this number
    #[arg(long, value_name = "NUMBER", conflicts_with = "resend")]
    show: Option<usize>,
    /// Resend the request of the failure with this number. The archive must contain the body of the
    /// request
    #[arg(long, value_name = "NUMBER")]
    resend: Option<usize>,
    /// With --resend: configuration file with the target and its key
    #[arg(long = "config.file", value_name = "FILE", default_value = "llmload.yml")]
    config_file: PathBuf,
    /// With a URL: name of the environment variable that holds the API key
    #[arg(long = "api-key-env", requires = "url", value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn failures(args: &FailuresArgs) -> Result<(), Failed> {
    match args.show.or(args.resend) {
        None => list(args),
        Some(number) => {
            let entry = find(args, number)?;
            if args.resend.is_some() { resend(args, &entry) } else { show(args, &entry) }
        }
    }
}

fn list(args: &FailuresArgs) -> Result<(), Failed> {
    let mut reader = open(&args.file)?;
    let (mut table, mut documents) = (Table::new(stdout_style()), Vec::new());
    while let Some(entry) = reader.next_entry().map_err(|error| unreadable(&args.file, &error))? {
        if args.class.is_some_and(|class| entry.record.class != class.as_str()) {
            continue;
        }
        if args.json {
            documents.push(json(&entry));
        } else {
            table.add(&entry);
        }
    }
    table.unreadable = reader.unreadable;
    if args.json {
        let unreadable = reader.unreadable;
        print_json(&json!({"failures": documents, "unreadable_lines": unreadable}))
    } else {
        Ok(print(&table.to_string())?)
    }
}

fn show(args: &FailuresArgs, entry: &Entry) -> Result<(), Failed> {
    if args.json {
        return print_json(&json(entry));
    }
    Ok(print(Details { entry, style: stdout_style() }.to_string().trim_end())?)
}

fn resend(args: &FailuresArgs, entry: &Entry) -> Result<(), Failed> {
    let record = &entry.record;
    let plan = if let Some(url) = &args.url {
        plan_of_url(url, Some(record.model.clone()), args.api_key_env.clone())?
    } else {
        let example = "llmload failures FILE http://localhost:8000/v1 --resend 1";
        plan_of_file(&args.config_file, example)?
    };
    let mut scenarios = plan.scenarios;
    // Several scenarios can use the target. Prefer the scenario of the failure, if the file still
    // has it, because its fields replace the masked ones.
    scenarios.sort_by_key(|scenario| scenario.name != record.scenario);
    let mut targets = scenarios.iter().flat_map(|s| s.targets().map(move |target| (s, target)));
    let is_wanted = |name: &str| args.url.is_some() || name == record.target;
    let (scenario, target) =
        targets.find(|(_, target)| is_wanted(&target.name)).ok_or_else(|| {
            Failed::Usage(format!(
                "error: {}: no scenario sends to the target `{}` of this failure; pass the URL of \
                 an endpoint",
                args.config_file.display(),
                printable(&record.target, 64)
            ))
        })?;
    // The simulator must live until the response has ended.
    let (base, _simulator) = address_of(target)?;
    let resend = Resend {
        record,
        target: Arc::clone(target),
        base,
        scenario_fields: scenario.request.extra.clone(),
    };
    let resent = block_on(resend.send())?;
    let resent = resent.map_err(|error| Failed::Runtime(anyhow::Error::new(error)))?;
    if args.json {
        print_json(&resent.json())?;
    } else {
        print(&resent.text(stdout_style()).to_string())?;
    }
    if resent.is_successful() { Ok(()) } else { Err(Failed::Reported(1)) }
}

fn find(args: &FailuresArgs, number: usize) -> Result<Entry, Failed> {
    let mut reader = open(&args.file)?;
    let mut last = 0;
    while let Some(entry) = reader.next_entry().map_err(|error| unreadable(&args.file, &error))? {
        last = entry.number;
        if last == number {
            return Ok(entry);
        }
    }
    let range =
        if last == 0 { "it has no failures".to_owned() } else { format!("use 1 to {last}") };
    Err(Failed::Usage(format!(
        "error: {}: there is no failure {number}; {range}",
        args.file.display()
    )))
}

fn open(file: &Path) -> Result<Reader, Failed> {
    Reader::open(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &io::Error) -> Failed {
    Failed::Usage(format!(
        "error: {}: {error}; pass a failures.jsonl or its folder. Without a failed request, llmload \
         writes no file",
        file.display()
    ))
}

fn print_json(value: &Value) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).context("cannot write the failures as JSON")?;
    Ok(print(&text)?)
}

fn class(text: &str) -> Result<Failure, String> {
    let found = Failure::ALL.into_iter().find(|failure| failure.as_str() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = Failure::ALL.iter().map(|failure| failure.as_str()).collect();
        format!("there is no such failure class; use one of {}", names.join(", "))
    })
}
