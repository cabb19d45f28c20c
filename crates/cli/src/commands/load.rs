//! `dujiang load`

use std::path::PathBuf;
use std::time::Duration;

use dujiang_testkit::load::{Load, Mix, Options, Patience, Summary, UnitSummary};
use dujiang_testkit::platform::{BANK, LISTS, Platform};

use crate::context::Context;
use crate::failure::Failure;
use crate::figures::{parse_duration, rounded};
use crate::output::{self, Format, Paint};
use crate::progress::Progress;
use crate::table::{Cell, Table, Tone};

/// The load client shares the machine with the platform it measures; one thread suffices for thousands per second.
const THREADS: usize = 1;
/// Between two lines of progress.
const SAY_EVERY: Duration = Duration::from_millis(500);

/// Load the bank with payments, or lists with transactions, and write down every attempt
///
/// Opens customers and accounts of its own, spread over all units, and sends operations at a constant rate whether
/// or not earlier ones were answered. `dujiang verify` compares the journal with the books. With `--lists` it appends to
/// lists and reads them instead, which takes the application `dujiang-lists` on the platform; `dujiang verify` then checks
/// that what clients saw fits one order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang load --rate 300 --duration 60s --journal load.jsonl
  dujiang load --mix within=100 --duration 10s -o json
  dujiang load --lists --rate 20 --duration 60s")]
pub struct Args {
    /// Operations started per second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How long, e.g. 30s or 5m [default: until Ctrl-C]
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Append to lists and read them, instead of payments
    #[arg(long, conflicts_with_all = ["accounts", "mix"])]
    lists: bool,
    /// Accounts to open, over all units together
    #[arg(long, default_value_t = 300)]
    accounts: u32,
    /// How often each kind of operation comes up: within, across, deposits, reversals, reads; those not named never
    /// [default: within=50,across=20,deposits=10,reversals=5,reads=15]
    #[arg(long, value_name = "KIND=WEIGHT,...", value_parser = parse_mix)]
    mix: Option<Mix>,
    /// All choices derive from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write; an existing journal is continued [default: load.jsonl in the platform's folder]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// How to print the summary
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Name of the journal in the platform's folder.
pub const JOURNAL: &str = "load.jsonl";

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let platform = Platform::open(context.data()).map_err(|e| no_platform(&e))?;
    let application = if args.lists { LISTS } else { BANK };
    let units = platform.unit_slots(application);
    if units.is_empty() {
        let failure = Failure::usage(format!("no unit of this platform is of the application {application}"));
        return Err(failure.hint("`dujiang get units` says which application each unit is of"));
    }
    let options = Options {
        units,
        gateways: platform.gateways,
        rate: args.rate,
        duration: args.duration,
        accounts: args.accounts,
        mix: args.mix.unwrap_or_default(),
        seed: args.seed,
        journal: args.journal.clone().unwrap_or_else(|| context.data().join(JOURNAL)),
        patience: Patience::default(),
    };
    let journal = options.journal.clone();
    let summary = context.block_on_threads(THREADS, drive(options, args.lists))?;
    match args.output {
        Format::Json => output::json(&summary),
        Format::Table => {
            output::bytes(table(&summary).render(Paint::stdout()).as_bytes())?;
            output::line(format_args!("{} s, journal {}", rounded(summary.seconds), journal.display()))
        }
    }
}

/// A failure saying that the folder holds no platform.
pub fn no_platform(error: &dyn std::error::Error) -> Failure {
    Failure::because("there is no platform to work on", error)
        .hint("start one with `dujiang up -f MANIFEST`, or name another folder with --data DIR")
}

async fn drive(options: Options, lists: bool) -> Result<Summary, Failure> {
    let failed = |e| Failure::because("the load failed", &e);
    let progress = Progress::new();
    let load = if lists {
        Load::of_lists(&options).map_err(failed)?
    } else {
        progress.say("opening accounts");
        Load::start(options).await.map_err(failed)?
    };
    while !load.is_finished() {
        tokio::select! {
            () = tokio::time::sleep(SAY_EVERY) => {}
            // A second Ctrl-C kills; the journal stays readable even then.
            _ = tokio::signal::ctrl_c() => {
                progress.say("stopping: waiting for what is in flight");
                return load.stop().await.map_err(failed);
            }
        }
        let seen = load.progress();
        progress.say(format_args!(
            "{} started, {} acknowledged, {} refused, {} unknown",
            seen.started(),
            seen.acknowledged(),
            seen.refused(),
            seen.unknown()
        ));
    }
    load.finish().await.map_err(failed)
}

/// One row per unit and one for all.
pub fn table(summary: &Summary) -> Table {
    let headings = [
        "UNIT",
        "OPERATIONS",
        "ACKNOWLEDGED",
        "REFUSED",
        "UNKNOWN",
        "FAILED REQUESTS",
        "P50 MS",
        "P99 MS",
        "MAX MS",
        "LONGEST GAP MS",
    ];
    let mut table = Table::new(&headings);
    for (unit, seen) in &summary.units {
        table.row(row(unit.as_str(), seen));
    }
    table.row(row("all", &summary.total));
    table
}

fn row(name: &str, seen: &UnitSummary) -> [Cell; 10] {
    let alarming =
        |count: u64| Cell::new(count.to_string(), if count == 0 { Tone::Plain } else { Tone::Busy });
    [
        name.into(),
        seen.operations.to_string().into(),
        seen.acknowledged.to_string().into(),
        seen.refused.to_string().into(),
        alarming(seen.unknown),
        alarming(seen.failed_requests),
        rounded(seen.latency.p50_ms).into(),
        rounded(seen.latency.p99_ms).into(),
        rounded(seen.latency.max_ms).into(),
        rounded(seen.longest_gap_ms).into(),
    ]
}

fn parse_mix(text: &str) -> Result<Mix, String> {
    let mut mix = Mix { within: 0, across: 0, deposits: 0, reversals: 0, reads: 0 };
    for part in text.split(',') {
        let wrong = || format!("{part:?} is not KIND=WEIGHT with a whole number");
        let (kind, weight) = part.split_once('=').ok_or_else(wrong)?;
        let weight: u16 = weight.parse().map_err(|_| wrong())?;
        let place = match kind {
            "within" => &mut mix.within,
            "across" => &mut mix.across,
            "deposits" => &mut mix.deposits,
            "reversals" => &mut mix.reversals,
            "reads" => &mut mix.reads,
            _ => return Err(format!("{kind:?} is none of within, across, deposits, reversals, reads")),
        };
        *place = u32::from(weight);
    }
    Ok(mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_names_its_kinds() {
        let mix = parse_mix("within=3,reads=1").unwrap();
        assert_eq!((mix.within, mix.reads, mix.across), (3, 1, 0));
        for bad in ["", "within", "within=-1", "gifts=1", "within=1,,"] {
            assert!(parse_mix(bad).is_err(), "{bad}");
        }
    }
}
