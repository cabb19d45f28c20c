//! `dujiang delete KIND NAME`

use dujiang_types::Kind;

use crate::client::{Client, Precondition};
use crate::commands::get::kind;
use crate::context::Context;
use crate::failure::Failure;
use crate::output;

/// Delete a resource that nothing depends on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang delete operation move-unit-1-0190f3")]
pub struct Args {
    /// units, datacenters, applications or operations
    #[arg(value_parser = kind)]
    kind: Kind,
    /// Which one
    name: String,
    /// Only if it still has this revision
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let precondition = args.revision.map(Precondition::Revision);
    context.block_on(client.delete(args.kind, &args.name, precondition))?;
    output::line(format_args!("{} deleted", args.kind.key(&args.name)))
}
