//! Passes the git revision and the compiler version to the binary, for `llmload_build_info`.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    tell(
        "LLMLOAD_RUSTC_VERSION",
        words(Command::new(rustc).arg("--version"))
            .and_then(|text| text.split_whitespace().nth(1).map(str::to_owned)),
    );
    // An image build has no git history; it passes the revision as an environment variable.
    let told = std::env::var("LLMLOAD_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision =
        told.or_else(|| words(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])));
    tell("LLMLOAD_REVISION", revision);
    println!("cargo::rerun-if-env-changed=LLMLOAD_REVISION");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    println!("cargo::rerun-if-changed=build.rs");
}

fn tell(variable: &str, value: Option<String>) {
    // Without git, as in a build from an archive, the revision is unknown.
    println!("cargo::rustc-env={variable}={}", value.unwrap_or_else(|| "unknown".into()));
}

fn words(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
