//! `dujiang force-promote UNIT --to DC`

use dujiang_types::unit::Unit;
use dujiang_types::{DcId, UnitId};
use serde::Serialize;

use crate::asked_by;
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress;

/// Promote a replica without proof that it holds every acknowledged commit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a unit that cannot be elected a home because too many of its replicas are gone. Acknowledged payments
that are only on the missing replicas will be LOST. The election records what the promotion could not prove.

Example:
  dujiang force-promote unit-1 --to guiyang-1")]
pub struct Args {
    /// The unit
    unit: UnitId,
    /// The replica to promote
    #[arg(long, value_name = "DC")]
    to: DcId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
struct Order<'a> {
    to: &'a DcId,
    asked_by: String,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let Args { unit, to, .. } = args;
    if !args.yes {
        progress::confirm(&format!(
            "Promoting {to} without proof may lose acknowledged payments of {unit} for good. Go on?"
        ))?;
    }
    let order = Order { to, asked_by: asked_by::me() };
    let unit: Unit = context.block_on(client.post(&format!("/v1/units/{unit}/force-promote"), &order))?;
    match args.output {
        Format::Json => output::json(&unit),
        Format::Table => output::line(format_args!(
            "{} is ordered to be promoted in {to}; `dujiang watch units` shows how it goes",
            unit.name
        )),
    }
}
