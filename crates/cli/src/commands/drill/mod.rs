//! `dujiang drill dc-loss DC`, `dujiang drill primary-crash UNIT`, `dujiang drill moves UNIT`

mod evidence;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_testkit::drill::{self, DrillError, MovesReport, Options, Report};
use dujiang_testkit::load::Mix;
use dujiang_testkit::platform::Platform;
use dujiang_types::{DcId, UnitId};
use jiff::Timestamp;

use crate::commands::{load, verify};
use crate::context::Context;
use crate::failure::Failure;
use crate::figures::{parse_duration, rounded};
use crate::output::{self, Format, Paint};
use crate::progress::Progress;
use crate::table::{Cell, Table, Tone};

/// The load must go on while the drill kills, waits and checks.
const THREADS: usize = 2;
/// Exit code when something was lost, doubled or invented, or did not come back; with `--strict` also when a limit
/// was missed.
const EXIT_MISSED: u8 = 1;
/// Long enough for every part to notice and settle, with room to see that it stays so.
const DC_OFF: &str = "15s";
/// A crashed database is not held down; this only separates fault and return in the figures.
const CRASH_FOR: &str = "5s";
/// For the pace to be as usual again before the next move.
const MOVE_PAUSE: &str = "2s";

/// Break something on purpose, under load, and measure what customers notice
///
/// Loads the bank, brings the fault about, waits until everything is whole again, and checks the books: every
/// acknowledged payment exactly once, no refused one, each unknown one at most once. The exit code tells whether
/// that holds; with --strict also whether all figures are within their limits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang drill dc-loss chengdu-1
  dujiang drill primary-crash unit-1 --rate 100 --strict -o json
  dujiang drill moves unit-1 --count 10")]
pub struct Args {
    #[command(subcommand)]
    drill: Drill,
}

#[derive(Debug, clap::Subcommand)]
enum Drill {
    /// Kill every process of a data center, and bring it back later
    #[command(after_help = "Examples:
  dujiang drill dc-loss chengdu-1
  dujiang drill dc-loss chengdu-1 --off 60s --rate 100 --strict -o json")]
    DcLoss {
        /// The data center
        dc: DcId,
        /// How long it stays off
        #[arg(long, value_name = "TIME", default_value = DC_OFF, value_parser = parse_duration)]
        off: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Kill the database of a unit where it is at home
    #[command(after_help = "Examples:
  dujiang drill primary-crash unit-1
  dujiang drill primary-crash unit-1 --rate 100 --strict -o json")]
    PrimaryCrash {
        /// The unit
        unit: UnitId,
        /// How long to watch before looking at the return
        #[arg(long, value_name = "TIME", default_value = CRASH_FOR, value_parser = parse_duration)]
        watch: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Move a unit from data center to data center, in order
    #[command(after_help = "Examples:
  dujiang drill moves unit-1
  dujiang drill moves unit-1 --count 3 --pause 5s --strict -o json")]
    Moves {
        /// The unit
        unit: UnitId,
        /// How often
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Between two moves
        #[arg(long, value_name = "TIME", default_value = MOVE_PAUSE, value_parser = parse_duration)]
        pause: Duration,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Operations started per second
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Accounts to open, over all units together
    #[arg(long, default_value_t = 300)]
    accounts: u32,
    /// Seed of the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the journal; an existing one is continued [default: load.jsonl in the platform's folder]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Fail if a figure is beyond its limit, too
    #[arg(long)]
    strict: bool,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Common {
    fn options(&self, context: &Context, fault: Duration) -> Options {
        Options {
            rate: self.rate,
            accounts: self.accounts,
            mix: Mix::default(),
            seed: self.seed,
            fault,
            journal: self.journal.clone().unwrap_or_else(|| context.data().join(load::JOURNAL)),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let platform = Platform::open(context.data()).map_err(|e| load::no_platform(&e))?;
    let progress = Progress::new();
    let say = |what: &str| progress.say(what);
    match &args.drill {
        Drill::DcLoss { dc, off, common } => {
            let drill = drill::dc_loss(platform, dc, common.options(context, *off), say);
            carry_out(context, common, &progress, drill)
        }
        Drill::PrimaryCrash { unit, watch, common } => {
            let drill = drill::primary_crash(platform, unit, common.options(context, *watch), say);
            carry_out(context, common, &progress, drill)
        }
        Drill::Moves { unit, count, pause, common } => {
            let drill = drill::moves(platform, unit, *count, common.options(context, *pause), say);
            carry_out(context, common, &progress, drill)
        }
    }
}

/// Carries a drill out, hands in its report and prints what it showed.
fn carry_out(
    context: &Context,
    common: &Common,
    progress: &Progress,
    drill: impl Future<Output = Result<impl Shown, DrillError>>,
) -> Result<(), Failure> {
    let began = Timestamp::now();
    let journal = common.options(context, Duration::ZERO).journal;
    let carried_out = context.block_on_threads(THREADS, async {
        let report = drill.await.map_err(|e| failure(&e))?;
        progress.say("writing the report");
        let page = evidence::hand_in(context, report.evidence(), began, &journal).await;
        Ok((report, page))
    });
    progress.clear();
    let (report, page) = carried_out?;
    // What was measured is shown whether or not it could be handed in.
    show(common, &report, page.as_deref().ok())?;
    page.map(drop)?;
    let passed = if common.strict { report.is_within_limits() } else { report.is_correct() };
    if passed { Ok(()) } else { Err(Failure::silent(EXIT_MISSED)) }
}

/// Prints what a drill showed.
fn show(common: &Common, report: &impl Shown, page: Option<&Path>) -> Result<(), Failure> {
    match common.output {
        Format::Json => output::json(report)?,
        Format::Table => {
            report.print()?;
            let paint = Paint::stdout();
            output::line(match (report.is_correct(), report.is_within_limits()) {
                (true, true) => {
                    paint.green("nothing lost, doubled or invented; every figure within its limit")
                }
                (true, false) => {
                    paint.yellow("nothing lost, doubled or invented; a figure is beyond its limit")
                }
                (false, _) => paint.red("the drill failed"),
            })?;
            if let Some(page) = page {
                output::line(format_args!("evidence: {}", page.display()))?;
            }
        }
    }
    Ok(())
}

/// What a drill shows, whichever it was.
trait Shown: serde::Serialize {
    fn is_correct(&self) -> bool;
    fn is_within_limits(&self) -> bool;
    fn print(&self) -> Result<(), Failure>;
    fn evidence(&self) -> evidence::Shown<'_>;
}

fn failure(error: &DrillError) -> Failure {
    let failure = Failure::because("the drill cannot be carried out", error);
    match error {
        DrillError::NoSuch(_) => {
            Failure::usage(failure.message()).hint("`dujiang status` shows what there is")
        }
        DrillError::NotReady(_) => failure.hint("`dujiang status` shows what is missing"),
        _ => failure,
    }
}

impl Shown for Report {
    fn is_correct(&self) -> bool {
        Self::is_correct(self)
    }

    fn is_within_limits(&self) -> bool {
        Self::is_within_limits(self)
    }

    fn print(&self) -> Result<(), Failure> {
        let paint = Paint::stdout();
        output::line(paint.bold(format_args!("{}: {} processes killed", self.fault, self.killed)))?;
        output::bytes(units(self).render(paint).as_bytes())?;
        let seconds =
            |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |s| format!("{} s", rounded(s)));
        output::line(format_args!(
            "every unit served again after {}; every replica was back {} after the return",
            seconds(self.serving_after_s),
            seconds(self.whole_after_s)
        ))?;
        for trouble in &self.troubles {
            output::line(paint.red(trouble))?;
        }
        output::bytes(load::table(&self.load).render(paint).as_bytes())?;
        verify::print(&self.books)
    }

    fn evidence(&self) -> evidence::Shown<'_> {
        evidence::Shown {
            subject: self.fault.clone(),
            succeeded: Self::is_correct(self),
            figures: evidence::of_fault(self),
            remarks: self.troubles.clone(),
            load: &self.load,
            books: &self.books,
        }
    }
}

impl Shown for MovesReport {
    fn is_correct(&self) -> bool {
        Self::is_correct(self)
    }

    fn is_within_limits(&self) -> bool {
        Self::is_within_limits(self)
    }

    fn print(&self) -> Result<(), Failure> {
        let paint = Paint::stdout();
        let headings = [
            "MOVE",
            "FROM",
            "TO",
            "TOOK MS",
            "LONGEST HOLD MS",
            "LONGEST GAP MS",
            "FAILED REQUESTS",
            "CALLED OFF",
        ];
        let mut table = Table::new(&headings);
        for (number, outcome) in (1..).zip(&self.moves) {
            let number: u32 = number;
            let tone = if outcome.failed_requests == 0 { Tone::Good } else { Tone::Bad };
            table.row([
                number.to_string().into(),
                outcome.from.as_str().into(),
                outcome.to.as_str().into(),
                rounded(outcome.took_ms).into(),
                rounded(outcome.longest_hold_ms).into(),
                rounded(outcome.longest_gap_ms).into(),
                Cell::new(outcome.failed_requests.to_string(), tone),
                outcome.called_off.to_string().into(),
            ]);
        }
        output::bytes(table.render(paint).as_bytes())?;
        output::line(format_args!(
            "median of the longest holds {} ms (limit {} ms); failed requests: limit 0",
            rounded(self.median_hold_ms),
            rounded(self.hold_limit_ms)
        ))?;
        output::bytes(load::table(&self.load).render(paint).as_bytes())?;
        verify::print(&self.books)
    }

    fn evidence(&self) -> evidence::Shown<'_> {
        let limit = Some(self.hold_limit_ms);
        let mut figures =
            vec![evidence::ms("median of the longest holds".to_owned(), self.median_hold_ms, limit)];
        for (number, outcome) in (1..).zip(&self.moves) {
            let number: u32 = number;
            let name = format!("longest hold of move {number}, {} to {}", outcome.from, outcome.to);
            figures.push(evidence::ms(name, outcome.longest_hold_ms, None));
        }
        evidence::Shown {
            subject: format!("{} planned moves of {}", self.moves.len(), self.unit),
            succeeded: Self::is_correct(self),
            figures,
            remarks: Vec::new(),
            load: &self.load,
            books: &self.books,
        }
    }
}

fn units(report: &Report) -> Table {
    let headings = [
        "UNIT",
        "HOME BEFORE",
        "HOME AFTER",
        "OUTAGE MS",
        "LIMIT MS",
        "GAP AT RETURN MS",
        "FAILED IN FLIGHT",
        "FAILED OTHERWISE",
        "LIMIT",
        "PAID MEANWHILE",
    ];
    let mut table = Table::new(&headings);
    let tone = |good: bool| if good { Tone::Good } else { Tone::Bad };
    for (name, unit) in &report.units {
        let dc = |dc: &Option<DcId>| dc.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let untouched = unit.at_fault || unit.failed_otherwise == 0;
        table.row([
            name.as_str().into(),
            dc(&unit.home_before).into(),
            dc(&unit.home_after).into(),
            Cell::new(rounded(unit.outage_ms), tone(unit.outage_ms <= report.outage_limit_ms)),
            rounded(report.outage_limit_ms).into(),
            rounded(unit.return_gap_ms).into(),
            unit.failed_in_flight.to_string().into(),
            Cell::new(unit.failed_otherwise.to_string(), tone(untouched)),
            if unit.at_fault { "-" } else { "0" }.into(),
            unit.acknowledged.to_string().into(),
        ]);
    }
    table
}
