//! `dujiang move UNIT --to DC`

use std::time::{Duration, Instant};

use dujiang_types::operation::{Operation, OperationSpec, OperationState, Work};
use dujiang_types::{DcId, Kind, UnitId};

use crate::asked_by;
use crate::client::{Client, path_of};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};
use crate::progress::Progress;

/// Between two looks at the operation: steps are tens of milliseconds apart.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A move is over, one way or another, well within this; see the budgets of its phases.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Move a unit to another data center, in order: no request fails, none is lost
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang move unit-1 --to chengdu-2
  dujiang move unit-1 --to chengdu-2 --no-wait -o json")]
pub struct Args {
    /// The unit
    unit: UnitId,
    /// Its new home: a data center that holds a replica of it
    #[arg(long, value_name = "DC")]
    to: DcId,
    /// Return as soon as the move is asked for
    #[arg(long)]
    no_wait: bool,
    /// How to print the outcome
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    context.block_on(async {
        let work = Work::Move { unit: args.unit.clone(), to: args.to.clone() };
        let spec = OperationSpec { work, asked_by: asked_by::me() };
        let mut operation: Operation = client.post("/v1/operations", &spec).await?;
        if !args.no_wait {
            operation = follow(&client, operation, args.output).await?;
        }
        match args.output {
            Format::Json => output::json(&operation)?,
            Format::Table if args.no_wait => {
                output::line(format_args!("{} asked for; `dujiang operations` shows it", operation.name))?;
            }
            Format::Table => {}
        }
        if operation.status.state == OperationState::Failed {
            let why =
                operation.status.steps.last().map_or("no step was recorded", |step| step.reason.as_str());
            return Err(Failure::failed(format!("{} failed: {why}", operation.name)));
        }
        Ok(())
    })
}

/// Shows the steps as they come, until the operation is over.
async fn follow(client: &Client, mut operation: Operation, format: Format) -> Result<Operation, Failure> {
    let path = path_of(Kind::Operation, &operation.name);
    let paint = Paint::stdout();
    let progress = Progress::new();
    let deadline = Instant::now() + WAIT_MAX;
    let mut shown = 0;
    loop {
        for step in &operation.status.steps[shown.min(operation.status.steps.len())..] {
            if format == Format::Table {
                progress.clear();
                let first = operation.status.steps.first().map_or(step.at, |first| first.at);
                let after = step.at.duration_since(first).as_millis();
                let name = paint.cyan(format_args!("{:<10}", step.name));
                output::line(format_args!("{after:>6} ms  epoch {:<3} {name} {}", step.epoch, step.reason))?;
            }
        }
        shown = operation.status.steps.len();
        if matches!(operation.status.state, OperationState::Succeeded | OperationState::Failed) {
            progress.clear();
            return Ok(operation);
        }
        if Instant::now() > deadline {
            progress.clear();
            let waited = WAIT_MAX.as_secs();
            return Err(Failure::failed(format!("{} is not over after {waited} s", operation.name))
                .hint(format!("see `dujiang operations {} -o json` and `dujiang status`", operation.name)));
        }
        progress.say(format_args!("{} is at work", operation.name));
        tokio::time::sleep(LOOK_EVERY).await;
        // The control plane may be restarted in the middle; the operation goes on and so do we.
        match client.get(&path).await {
            Ok(next) => operation = next,
            Err(failure) if failure.is_unreachable() => progress.say(failure.message()),
            Err(failure) => return Err(failure),
        }
    }
}
