//! `dujiang unit force-promote UNIT --dc DC --request`

use dujiang_types::operation::Work;
use dujiang_types::{DcId, UnitId};

use super::ordered;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Format;

/// Ask for the promotion of a replica that may lack acknowledged commits; another operator has to approve it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a unit that cannot be elected a home because too many of its replicas are gone. Acknowledged payments that
are only on the missing replicas are then LOST until these return; what was lost is written into a manifest when
they do (`dujiang unit losses`). The platform refuses as long as it can help itself, or the home is heard. A replica
that is the last one serves only once it may acknowledge alone: `dujiang unit run-alone`.

Example:
  dujiang unit force-promote unit-1 --dc guiyang-1 --request
  dujiang approve force-unit-1-0190f3b2a1c47d21      by somebody else, within 15 minutes")]
pub(super) struct Args {
    /// The unit
    unit: UnitId,
    /// The data center whose replica is to be promoted
    #[arg(long, value_name = "DC")]
    dc: DcId,
    /// Make the request: nothing happens before another operator has approved it
    #[arg(long, required = true)]
    request: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let work = Work::ForcePromote { unit: args.unit.clone(), to: args.dc.clone() };
    ordered::ask(work, args.output, context)
}
