//! `dujiang unit losses UNIT`

use dujiang_testkit::losses::{self, Acknowledged, Answers, Lost, Proposal};
use dujiang_testkit::platform::Platform;
use dujiang_testkit::verify::UnitSource;
use dujiang_types::UnitId;

use crate::commands::load;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Paint};
use crate::table::{Cell, Table, Tone};

/// Show what was lost by promotions without proof: each transfer, whether its client was told, and what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
When an old home returns with a log that differs, what only it has is written down before any of it is
discarded. Here it is compared with what clients were told (the gateways' journals) and with the books as they
are now: what a client has sent again since is not lost. Needs the platform's folder, and the unit's database.

Examples:
  dujiang unit losses unit-1
  dujiang unit losses unit-1 -o csv > losses.csv")]
pub(super) struct Args {
    /// The unit
    unit: UnitId,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
}

/// How losses are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Shape {
    /// Aligned columns for people
    #[default]
    Table,
    /// JSON for programs
    Json,
    /// Comma-separated values, for a spreadsheet
    Csv,
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let platform = Platform::open(context.data()).map_err(|e| load::no_platform(&e))?;
    let unreadable = |e: std::io::Error| Failure::because("what was lost cannot be read", &e);
    let manifests = losses::manifests(platform.data(), Some(&args.unit)).map_err(unreadable)?;
    let answers = Answers::read(platform.data()).map_err(unreadable)?;
    let mut sources = UnitSource::of_platform(&platform);
    sources.retain(|source| source.unit == args.unit);
    let wanted = losses::keys(&manifests);
    let books = context.block_on(async {
        let books = losses::in_the_books(&sources, &wanted).await;
        books.map_err(|e| Failure::because("the books cannot be read", &e))
    })?;
    let lost = losses::compare(&manifests, &answers, &books);
    for (file, manifest) in &manifests {
        if let Some(why) = &manifest.incomplete {
            eprintln!("{} is not complete: {why}", file.display());
        }
    }
    match args.output {
        Shape::Json => output::json(&lost),
        Shape::Csv => output::bytes(losses::csv(&lost).as_bytes()),
        Shape::Table if lost.is_empty() => output::line(format_args!("nothing of {} was lost", args.unit)),
        Shape::Table => output::bytes(table(&lost).render(Paint::stdout()).as_bytes()),
    }
}

fn table(lost: &[Lost]) -> Table {
    let headings = ["AT", "KIND", "FROM", "TO", "AMOUNT (MINOR)", "KEY", "ACKNOWLEDGED", "PROPOSAL"];
    let mut table = Table::new(&headings);
    for lost in lost {
        let transfer = &lost.transfer;
        let tone = match (lost.proposal, lost.acknowledged) {
            (Proposal::Nothing, _) => Tone::Good,
            (_, Acknowledged::Yes) => Tone::Bad,
            _ => Tone::Busy,
        };
        let proposal = match lost.proposal {
            Proposal::Repost => "post its entries again",
            Proposal::Nothing => "nothing: it is in the books",
            Proposal::Client => "nothing: its client was told that it failed",
            Proposal::Ask => "ask its client",
        };
        table.row([
            transfer.at.as_str().into(),
            transfer.kind.as_str().into(),
            transfer.account.as_str().into(),
            transfer.to.as_deref().unwrap_or("-").into(),
            format!("{} {}", transfer.amount_minor, transfer.currency).into(),
            transfer.key.as_deref().unwrap_or("-").into(),
            lost.acknowledged.to_string().into(),
            Cell::new(proposal, tone),
        ]);
    }
    table
}
