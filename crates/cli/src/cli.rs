//! The command line's shape: every subcommand with its help.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::context::{Context, Globals};
use crate::failure::Failure;

/// What the help of the whole ends with; each subcommand has examples of its own.
const AFTER_HELP: &str = "\
Examples:
  dujiang up -f examples/two-regions.yaml --detach
  dujiang status
  dujiang move unit-1 --to chengdu-2
  dujiang down

Exit codes:
  0  done
  1  failed
  2  the command line or the manifest is wrong; nothing was done
  3  refused by a safety rule, or not confirmed
  4  no platform runs here, or its control plane does not answer

Environment:
  DUJIANG_DATA     the platform's folder (same as --data)
  DUJIANG_CONTROL  the control plane's URL (same as --control)
  DUJIANG_LOG      what processes log, e.g. info or dujiang_agent=debug,info
  NO_COLOR         no colours";

/// A bank over several data centers, all of them active.
#[derive(Debug, Parser)]
#[command(name = "dujiang", version, about, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// One variant per file in `commands`, in the order of the help.
#[derive(Debug, Subcommand)]
enum Command {
    Up(commands::up::Args),
    Down(commands::down::Args),
    Status(commands::status::Args),
    Logs(commands::logs::Args),
    Get(commands::get::Args),
    Apply(commands::apply::Args),
    Watch(commands::watch::Args),
    Delete(commands::delete::Args),
    Move(commands::move_unit::Args),
    Operations(commands::operations::Args),
    Unit(commands::unit::Args),
    Approve(commands::approve::Args),
    Operator(commands::operator::Args),
    Token(commands::token::Args),
    Site(commands::site::Args),
    Store(commands::store::Args),
    Manifest(commands::manifest::Args),
    Load(commands::load::Args),
    Verify(commands::verify::Args),
    Drill(commands::drill::Args),
    Evidence(commands::evidence::Args),
    Control(commands::control::Args),
    Agent(commands::agent::Args),
    Gateway(commands::gateway::Args),
    Completion(commands::completion::Args),
    Version(commands::version::Args),
}

/// Reads the command line, does what it says, and turns the outcome into an exit code.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(exit) = commands::guard::run(&args) {
        return exit;
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let context = Context::new(cli.globals)?;
    match cli.command {
        Command::Up(args) => commands::up::run(&args, &context),
        Command::Down(args) => commands::down::run(&args, &context),
        Command::Status(args) => commands::status::run(&args, &context),
        Command::Logs(args) => commands::logs::run(&args, &context),
        Command::Get(args) => commands::get::run(&args, &context),
        Command::Apply(args) => commands::apply::run(&args, &context),
        Command::Watch(args) => commands::watch::run(&args, &context),
        Command::Delete(args) => commands::delete::run(&args, &context),
        Command::Move(args) => commands::move_unit::run(&args, &context),
        Command::Operations(args) => commands::operations::run(&args, &context),
        Command::Unit(args) => commands::unit::run(&args, &context),
        Command::Approve(args) => commands::approve::run(&args, &context),
        Command::Operator(args) => commands::operator::run(&args, &context),
        Command::Token(args) => commands::token::run(&args, &context),
        Command::Site(args) => commands::site::run(&args, &context),
        Command::Store(args) => commands::store::run(&args, &context),
        Command::Manifest(args) => commands::manifest::run(&args, &context),
        Command::Load(args) => commands::load::run(&args, &context),
        Command::Verify(args) => commands::verify::run(&args, &context),
        Command::Drill(args) => commands::drill::run(&args, &context),
        Command::Evidence(args) => commands::evidence::run(&args, &context),
        Command::Control(args) => commands::control::run(&args, &context),
        Command::Agent(args) => commands::agent::run(&args, &context),
        Command::Gateway(args) => commands::gateway::run(&args, &context),
        Command::Completion(args) => commands::completion::run(&args, &mut Cli::command()),
        Command::Version(args) => commands::version::run(&args, &context),
    }
}
