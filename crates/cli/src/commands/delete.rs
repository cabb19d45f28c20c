//! `dujiang delete KIND NAME`

use dujiang_types::Kind;
use serde::Serialize;

use crate::client::{Client, Precondition};
use crate::commands::get::kind;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Delete a resource that nothing depends on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang delete operation move-unit-1-0190f3
  dujiang delete operation move-unit-1-0190f3 -o json")]
pub struct Args {
    /// units, datacenters, applications or operations
    #[arg(value_parser = kind)]
    kind: Kind,
    /// Which one
    name: String,
    /// Only if it still has this revision
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// How to print what was deleted
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What was deleted, as `-o json` prints it: named as a watch names it.
#[derive(Debug, Serialize)]
struct Deleted<'a> {
    kind: Kind,
    name: &'a str,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let precondition = args.revision.map(Precondition::Revision);
    context.block_on(client.delete(args.kind, &args.name, precondition))?;
    match args.output {
        Format::Json => output::json(&Deleted { kind: args.kind, name: &args.name }),
        Format::Table => output::line(format_args!("{} deleted", args.kind.key(&args.name))),
    }
}
