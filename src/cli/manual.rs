//! `llmload completions` and `llmload man`: the completions for a shell and the manual pages. Clap
//! derives both from the options.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::{Failed, print};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Folder for the pages llmload.1, llmload-run.1 and so on. llmload replaces older pages
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

pub(super) fn completions(
    args: &CompletionsArgs,
    mut command: clap::Command,
) -> Result<(), Failed> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "llmload", &mut script);
    Ok(print(String::from_utf8_lossy(&script).trim_end())?)
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> Result<(), Failed> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .map_err(|error| {
            anyhow::anyhow!(
                "cannot write the manual pages to {}: {error}; make the folder writable, or choose \
                 another folder",
                folder.display()
            )
        })?;
    Ok(())
}
