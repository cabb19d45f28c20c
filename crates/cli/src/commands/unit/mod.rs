//! `dujiang unit ...`: what is done to one unit and is no move.

mod allow_failover;

use crate::context::Context;
use crate::failure::Failure;

/// What is done to one unit and is no move
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang unit allow-failover unit-1")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    AllowFailover(allow_failover::Args),
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Command::AllowFailover(args) => allow_failover::run(args, context),
    }
}
