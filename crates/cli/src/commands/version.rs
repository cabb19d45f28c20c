//! `dujiang version`

use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Version of this binary; the supervisor compares it with that of running processes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Print the version
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang version -o json")]
pub struct Args {
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// Runs the command.
pub fn run(args: &Args, _context: &Context) -> Result<(), Failure> {
    match args.output {
        Format::Table => output::line(format_args!("dujiang {VERSION}")),
        Format::Json => output::json(&Version { version: VERSION }),
    }
}
