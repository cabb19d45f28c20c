//! `dujiang unit run-alone UNIT --request`

use dujiang_types::UnitId;
use dujiang_types::operation::Work;

use super::ordered;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Format;

/// Ask for a unit to be served by its last replica; another operator has to approve it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a unit whose home is well and has no other replica left: with durability `zero` it acknowledges nothing then.
From the approval on it acknowledges alone, and the loss of that data center LOSES what it has acknowledged
meanwhile. It ends by itself: as soon as another replica streams, payments wait for it again. The platform refuses
as long as one does.

Example:
  dujiang unit run-alone unit-1 --request
  dujiang approve alone-unit-1-0190f3b2a1c47d21      by somebody else, within 15 minutes")]
pub(super) struct Args {
    /// The unit
    unit: UnitId,
    /// Make the request: nothing happens before another operator has approved it
    #[arg(long, required = true)]
    request: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    ordered::ask(Work::RunAlone { unit: args.unit.clone() }, args.output, context)
}
