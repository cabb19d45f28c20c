//! `dujiang unit ...`: what is done to one unit and is no move.

mod allow_failover;
mod force_promote;
mod losses;
mod ordered;
mod run_alone;

use crate::context::Context;
use crate::failure::Failure;

/// What is done to one unit and is no move
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dujiang unit allow-failover unit-1\n  dujiang unit force-promote unit-1 --dc guiyang-1 --request\n  dujiang unit losses unit-1 -o csv"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    AllowFailover(allow_failover::Args),
    ForcePromote(force_promote::Args),
    Losses(losses::Args),
    RunAlone(run_alone::Args),
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Command::AllowFailover(args) => allow_failover::run(args, context),
        Command::Losses(args) => losses::run(args, context),
        Command::ForcePromote(args) => force_promote::run(args, context),
        Command::RunAlone(args) => run_alone::run(args, context),
    }
}
