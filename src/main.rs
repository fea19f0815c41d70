//! The binary. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    llmload::cli::main()
}
