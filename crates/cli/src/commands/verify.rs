//! `dujiang verify`

use std::path::PathBuf;
use std::time::Duration;

use dujiang_testkit::journal::Journal;
use dujiang_testkit::platform::Platform;
use dujiang_testkit::verify::{self, Report, UnitSource};

use crate::commands::load;
use crate::context::Context;
use crate::failure::Failure;
use crate::figures::{parse_duration, rounded};
use crate::output::{self, Format, Paint};
use crate::progress::Progress;
use crate::table::{Cell, Table, Tone};

/// Prove that no money was lost, doubled or invented, and that clients saw one order of things
///
/// Reads the books of every unit, waits until no transfer is under way between units, and compares them with the
/// journal of `dujiang load`: every acknowledged operation is there exactly once, no refused one, each unknown one
/// at most once. Without a journal only the books themselves are checked. If the journal has transactions over lists
/// (`dujiang load --lists`), what clients saw of them must fit one serial order that agrees with time. Exits with 1 if a
/// rule is broken.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang verify --journal load.jsonl
  dujiang verify --journal load.jsonl --whole-life -o json")]
pub struct Args {
    /// The journal [default: load.jsonl in the platform's folder, if it is there]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// The journal covers the whole life of the platform: what is not in it must not be in the books
    #[arg(long)]
    whole_life: bool,
    /// After a promotion without proof: what a loss manifest names may be missing, and is counted
    #[arg(long)]
    accept_losses: bool,
    /// How long to wait for transfers under way
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    settle: Duration,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Exit code when a rule is broken.
const EXIT_VIOLATED: u8 = 1;

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let platform = Platform::open(context.data()).map_err(|e| load::no_platform(&e))?;
    let default = context.data().join(load::JOURNAL);
    let path = args.journal.clone().or_else(|| default.exists().then_some(default));
    let journal = path.as_deref().map(Journal::read).transpose();
    let journal = journal.map_err(|e| Failure::because("the journal cannot be used", &e))?;
    if args.whole_life && journal.is_none() {
        return Err(Failure::usage("--whole-life needs a journal"));
    }
    let options = verify::Options { whole_life: args.whole_life, settle: args.settle };
    let progress = Progress::new();
    let mut sources = UnitSource::of_platform(&platform);
    for source in sources.iter_mut().filter(|_| args.accept_losses) {
        let accepted = source.accept_losses(&platform);
        accepted.map_err(|e| Failure::because("the loss manifests cannot be read", &e))?;
    }
    let checked = context.block_on(async {
        let checked = verify::verify(&sources, journal.as_ref(), options, |what| progress.say(what)).await;
        checked.map_err(|e| Failure::because("the books cannot be checked", &e))
    });
    progress.clear();
    let report = checked?;
    match args.output {
        Format::Json => output::json(&report)?,
        Format::Table => print(&report)?,
    }
    if report.is_clean() { Ok(()) } else { Err(Failure::silent(EXIT_VIOLATED)) }
}

/// The report for people.
pub fn print(report: &Report) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let mut table =
        Table::new(&["UNIT", "PRIMARY", "EPOCH", "ACCOUNTS", "POSTINGS", "ENTRIES", "BALANCES (MINOR)"]);
    for (unit, books) in &report.units {
        let balances = books.balances_minor.iter().map(|(currency, minor)| format!("{minor} {currency}"));
        table.row([
            unit.as_str().into(),
            books.dc.as_str().into(),
            books.epoch.to_string().into(),
            books.accounts.to_string().into(),
            books.postings.to_string().into(),
            books.entries.to_string().into(),
            if books.made { balances.collect::<Vec<_>>().join(", ") } else { "no books yet".to_owned() }
                .into(),
        ]);
    }
    output::bytes(table.render(paint).as_bytes())?;
    if let Some(journal) = &report.journal {
        let unknown = journal.unknown_done + journal.unknown_not_done;
        output::line(format_args!(
            "journal: {} operations; {} acknowledged and in the books, {} refused and not there, {unknown} unknown of \
             which {} were done; {} came back from the other unit",
            journal.operations, journal.acknowledged, journal.refused, journal.unknown_done, journal.returned
        ))?;
        if journal.lost > 0 {
            let lost =
                format!("{} acknowledged were lost, as manifests say: `dujiang unit losses`", journal.lost);
            output::line(paint.yellow(lost))?;
        }
    }
    if let Some(lists) = &report.lists {
        let unknown = lists.unknown_done + lists.unknown_unseen;
        output::line(format_args!(
            "lists: {} histories; {} transactions acknowledged, {} refused, {unknown} unknown of which {} were done; {} elements \
             read, {} acknowledged ones never read",
            lists.histories,
            lists.acknowledged,
            lists.refused,
            lists.unknown_done,
            lists.elements,
            lists.unread
        ))?;
    }
    if report.is_clean() {
        let settled = rounded(report.settled_s);
        return output::line(paint.green(format_args!("every rule holds (settled after {settled} s)")));
    }
    let mut table = Table::new(&["RULE", "UNIT", "WHAT"]);
    for violation in &report.violations {
        let unit = violation.unit.as_ref().map_or("all", |unit| unit.as_str());
        let rule = Cell::new(violation.rule.to_string(), Tone::Bad);
        table.row([rule, unit.into(), violation.what.as_str().into()]);
    }
    output::bytes(table.render(paint).as_bytes())?;
    output::line(paint.red(format_args!("{} violations", report.violation_count)))
}
