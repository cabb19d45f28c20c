//! `dujiang operator create NAME`: an identity for a person.

use std::path::PathBuf;
use std::time::Duration;

use dujiang_identity::{Error, Folder, Name};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Longest time an operator's identity holds: people are not renewed by a process, and leave.
const DAYS_MAX: u16 = 90;
const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// Identities of the people who run the platform
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang operator create zhang --out zhang.pem")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
}

/// Write an identity for an operator, where the platform's authority lies
#[derive(Debug, clap::Args)]
#[command(after_help = "\
No control server makes operators: whoever may ask one for a second identity could approve what they have asked for.
The file is its owner's alone, and acts under the name given: with --identity FILE, or DUJIANG_IDENTITY.

Examples:
  dujiang operator create zhang --out zhang.pem
  dujiang operator create li --days 30 --out li.pem
  dujiang approve force-unit-1-0190f3b2a1c47d21 --identity zhang.pem")]
struct Create {
    /// The name that stands in records, e.g. zhang-san
    name: String,
    /// Where to write it; must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long it holds
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(DAYS_MAX)))]
    days: u16,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let Command::Create(args) = &args.command;
    if args.out.exists() {
        return Err(Failure::usage(format!("{} exists already", args.out.display()))
            .hint("name another file with --out: an identity is not replaced by another one"));
    }
    let name = create(args, context).map_err(|error| {
        Failure::because("the identity cannot be made", &error).hint(
            "it takes the platform's authority: run this where its folder is, as the user who runs the platform",
        )
    })?;
    match args.output {
        Format::Json => output::json(&json!({"identity": name.to_string(), "file": args.out})),
        Format::Table => output::line(format_args!("{name} for {} d: {}", args.days, args.out.display())),
    }
}

fn create(args: &Create, context: &Context) -> Result<Name, Error> {
    let authority = Folder::of(context.data()).platform()?;
    let name = Name::operator(authority.platform(), &args.name)?;
    let lifetime = Duration::from_secs(u64::from(args.days) * SECONDS_A_DAY);
    authority.issue_for(&name, &[], lifetime)?.write(&args.out)?;
    Ok(name)
}
