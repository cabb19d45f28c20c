//! `dujiang unit allow-failover UNIT`

use dujiang_types::UnitId;
use dujiang_types::unit::Unit;
use serde_json::json;

use crate::asked_by;
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Let a unit fail over again at once, after having looked why it did so a short while ago
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A unit that has failed over a short while ago does so again by itself only if its home is dead for certain. If
the home's data center may be alive, `dujiang status` shows the rule `flapping` and waits for this.

Example:
  dujiang unit allow-failover unit-1")]
pub(super) struct Args {
    /// The unit
    unit: UnitId,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let path = format!("/v1/units/{}/allow-failover", args.unit);
    let unit: Unit = context.block_on(client.post(&path, &json!({"asked_by": asked_by::me()})))?;
    match args.output {
        Format::Json => output::json(&unit),
        Format::Table => output::line(format_args!("{} may fail over again", unit.name)),
    }
}
