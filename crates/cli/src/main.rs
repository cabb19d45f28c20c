//! The `dujiang` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    dujiang_cli::cli::main()
}
