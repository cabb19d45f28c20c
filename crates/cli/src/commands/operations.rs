//! `dujiang operations`

use crate::commands::get;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Format;

/// Show moves and failovers (the same as `get operations`)
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang operations
  dujiang operations move-unit-1-0190f3 -o json      every step with its time and reason")]
pub struct Args {
    /// Only this one
    name: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    get::run(&get::Args::operations(args.name.clone(), args.output), context)
}
