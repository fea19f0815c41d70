//! Core dumps. A core dump contains the memory of the process, and so the API keys.

use clap::Args;

/// The message and the remedy if the system refuses.
pub(super) const REFUSED: &str =
    "llmload cannot prevent core dumps; allow core dumps with --debug.core-dumps";

#[derive(Debug, Args)]
pub(super) struct DebugArgs {
    /// Allow core dumps and debuggers. A core dump contains the API keys
    #[arg(long = "debug.core-dumps", global = true, display_order = 901)]
    core_dumps: bool,
}

/// Prevents core dumps of this process, and debuggers of other users than root. Must run before
/// llmload reads a secret.
///
/// # Errors
/// If the system refuses. Then llmload must not run, because a crash would put the keys on a disk.
#[cfg(target_os = "linux")]
pub(super) fn prevent(args: &DebugArgs) -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    if args.core_dumps {
        return Ok(());
    }
    // The limit alone does not affect a system that pipes core dumps to a program.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Programs that llmload starts inherit the limit.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// llmload knows no way for other systems.
#[cfg(not(target_os = "linux"))]
pub(super) fn prevent(_: &DebugArgs) -> std::io::Result<()> {
    Ok(())
}
