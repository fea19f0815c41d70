//! The entry point of the binary. All other code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    llmload::cli::main()
}
