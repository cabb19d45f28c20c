//! `dujiang approve OPERATION`

use dujiang_types::OperationId;
use dujiang_types::operation::Operation;
use serde_json::json;

use crate::asked_by;
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress;

/// Approve what another operator has asked for, and have it begun
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What waits is shown by `dujiang operations`. Nobody approves what they have asked for themselves.

Example:
  dujiang approve force-unit-1-0190f3b2a1c47d21")]
pub struct Args {
    /// The operation
    operation: OperationId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let name = &args.operation;
    if !args.yes {
        let asked: Operation = context.block_on(client.get(&format!("/v1/operations/{name}")))?;
        for step in &asked.status.steps {
            eprintln!("{}: {}", step.name, step.reason);
        }
        progress::confirm("Acknowledged payments may be lost by this. Approve?")?;
    }
    let path = format!("/v1/operations/{name}/approve");
    let operation: Operation = context.block_on(client.post(&path, &json!({"asked_by": asked_by::me()})))?;
    match args.output {
        Format::Json => output::json(&operation),
        Format::Table => {
            output::line(format_args!("{name} begins; `dujiang operations {name} -o json` shows how it goes"))
        }
    }
}
