//! The binary. All its code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    llmload::cli::main()
}
