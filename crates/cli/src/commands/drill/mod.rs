//! `dujiang drill dc-loss DC`, `region-loss REGION`, `primary-crash UNIT`, `moves UNIT`, `plan FILE`, `readiness`, `stop`

mod evidence;
mod plan;
mod readiness;
mod running;
mod show;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_testkit::drill::{self, DrillError, Options, Stop, StopButton};
use dujiang_testkit::load::Mix;
use dujiang_testkit::platform::Platform;
use dujiang_types::platform::DataCenter;
use dujiang_types::{DcId, Kind, RegionId, UnitId};
use jiff::Timestamp;

use self::plan::Plan;
use self::running::Running;
use self::show::Shown;
use crate::client::Client;
use crate::commands::store::{folder_of, manifest_in_force};
use crate::commands::{get, load};
use crate::context::Context;
use crate::failure::Failure;
use crate::figures::parse_duration;
use crate::manifest::ControlPlane;
use crate::output::{self, Format, Paint};
use crate::progress::Progress;

/// The load must go on while the drill kills, waits and checks.
const THREADS: usize = 2;
/// Exit code when something was lost, doubled or invented, or did not come back; with `--strict` also when a limit
/// was missed.
const EXIT_MISSED: u8 = 1;
/// Long enough for every part to notice and settle, with room to see that it stays so.
const DC_OFF: &str = "15s";
/// Long enough for a few hundred payments to be in one region only.
const REGION_LAG: &str = "5s";
/// A crashed database is not held down; this only separates fault and return in the figures.
const CRASH_FOR: &str = "5s";
/// For the pace to be as usual again before the next move.
const MOVE_PAUSE: &str = "2s";
/// Moves of one drill: enough for a median.
const MOVES: u32 = 10;
/// Operations per second that leave two cores room for everything else.
const RATE: u32 = 300;
/// Accounts over all units: few enough to be opened in a second, many enough to seldom wait for one another.
const ACCOUNTS: u32 = 300;
/// Any number will do; the same one makes the same load.
const SEED: u64 = 1;

/// Break something on purpose, under load, and measure what customers notice
///
/// Loads the bank, brings the fault about, waits until everything is whole again, and checks the books: every
/// acknowledged payment exactly once, no refused one, each unknown one at most once. The exit code tells whether
/// that holds; with --strict also whether all figures are within their limits.
///
/// Ctrl-C, or `dujiang drill stop` from elsewhere, ends a drill early: what was broken is mended at once, and what was
/// measured so far is reported. A second Ctrl-C mends, and reports nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang drill dc-loss chengdu-1
  dujiang drill primary-crash unit-1 --rate 100 --strict -o json
  dujiang drill moves unit-1 --count 10
  dujiang drill region-loss chengdu --approver li.pem
  dujiang drill plan quarter.yaml
  dujiang drill readiness")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Drill(Drill),
    /// Carry out a sequence of drills from a file
    #[command(after_help = "\
A plan:
  name: quarter
  load: { rate: 300, accounts: 300, seed: 1 }
  steps:
    - readiness: trial          # or no-trial
    - dc-loss: chengdu-1
      off: 20s
    - pause: 30s
    - moves: unit-1
      count: 3
    - primary-crash: unit-2
    - region-loss: chengdu      # loses payments: never where there are customers
      lag: 5s
      approver: li.pem

The steps are carried out one after the other; after one that fails, no other is begun. Each leaves its own evidence.

Examples:
  dujiang drill plan quarter.yaml --check       judge the file, and show the steps
  dujiang drill plan quarter.yaml -o json")]
    Plan {
        /// The plan
        file: PathBuf,
        /// Only read it
        #[arg(long)]
        check: bool,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Find out whether every takeover would work now, without taking anything over
    ///
    /// Looks at each unit in each data center where it is not at home: whether the replica streams and is in the sync set,
    /// whether nothing acknowledged could be lost, whether the data center serves and has room, whether those a takeover
    /// needs show identities that hold. Then the agent there copies its replica, promotes the copy out of everybody's
    /// reach, writes to it, and removes it; the replica itself is not touched. The exit code is 1 if anything is not ready.
    #[command(after_help = "Examples:
  dujiang drill readiness
  dujiang drill readiness --unit unit-1 --dc guiyang-1
  dujiang drill readiness --no-trial -o json")]
    Readiness(readiness::Args),
    /// End the drill or plan that runs: what it broke is mended at once
    #[command(after_help = "Example:\n  dujiang drill stop")]
    Stop,
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
    /// Lose a region with payments that are nowhere else, and go on by order of two operators
    ///
    /// For a while the data centers that stay get no log; then all of the region's are killed at once. The platform must
    /// refuse to go on by itself and say what may be missing. Each unit is then promoted in what is left, and acknowledges
    /// alone if only one data center is, each by an order that another operator approves: the one whose identity --approver
    /// names, or one who types `dujiang approve`, which is waited for. Then the region returns, and what was lost is written
    /// down and compared with the books. PAYMENTS OF THIS DRILL ARE LOST: it is for platforms without customers. It needs a
    /// control plane that outlives the region.
    #[command(after_help = "Examples:
  dujiang drill region-loss chengdu
  dujiang drill region-loss chengdu --approver li.pem --lag 10s --off 60s -o json")]
    RegionLoss {
        /// The region
        region: RegionId,
        /// How long the others get no log before
        #[arg(long, value_name = "TIME", default_value = REGION_LAG, value_parser = parse_duration)]
        lag: Duration,
        /// How long it stays off once the rest serves
        #[arg(long, value_name = "TIME", default_value = DC_OFF, value_parser = parse_duration)]
        off: Duration,
        /// The identity of a second operator, to approve with
        #[arg(long, value_name = "FILE")]
        approver: Option<PathBuf>,
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
        #[arg(long, default_value_t = MOVES, value_parser = clap::value_parser!(u32).range(1..))]
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
    #[command(flatten)]
    load: Load,
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

#[derive(Debug, Clone, Copy, clap::Args)]
struct Load {
    /// Operations started per second
    #[arg(long, default_value_t = RATE, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Accounts to open, over all units together
    #[arg(long, default_value_t = ACCOUNTS)]
    accounts: u32,
    /// Seed of the load
    #[arg(long, default_value_t = SEED)]
    seed: u64,
}

impl Common {
    fn options(&self, context: &Context, fault: Duration, stop: &Stop) -> Options {
        Options {
            rate: self.load.rate,
            accounts: self.load.accounts,
            mix: Mix::default(),
            seed: self.load.seed,
            fault,
            journal: self.journal(context),
            stop: stop.clone(),
        }
    }

    fn journal(&self, context: &Context) -> PathBuf {
        self.journal.clone().unwrap_or_else(|| context.data().join(load::JOURNAL))
    }
}

impl Drill {
    fn common(&self) -> &Common {
        match self {
            Self::DcLoss { common, .. }
            | Self::RegionLoss { common, .. }
            | Self::PrimaryCrash { common, .. }
            | Self::Moves { common, .. } => common,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Command::Drill(drill) => run_one(drill, context),
        Command::Plan { file, check, output } => {
            let plan = Plan::read(file)?;
            if *check { plan::show(&plan, *output) } else { run_plan(&plan, context, *output) }
        }
        Command::Readiness(args) => readiness::run(args, context),
        Command::Stop => {
            running::stop(context.data())?;
            output::line("the drill is told to stop; it reports when everything is whole again")
        }
    }
}

fn run_one(drill: &Drill, context: &Context) -> Result<(), Failure> {
    let common = drill.common();
    let progress = Progress::new();
    let (shown, page) = stoppable(context, async |stop| carry_out(drill, context, stop, &progress).await)?;
    progress.clear();
    // What was measured is shown whether or not it could be handed in.
    show(common, &shown, page.as_deref().ok())?;
    page.map(drop)?;
    let passed = if common.strict { shown.is_within_limits() } else { shown.is_correct() };
    if passed { Ok(()) } else { Err(Failure::silent(EXIT_MISSED)) }
}

fn run_plan(plan: &Plan, context: &Context, format: Format) -> Result<(), Failure> {
    let progress = Progress::new();
    let passed = stoppable(context, async |stop| plan::run(plan, context, stop, &progress, format).await)?;
    if passed { Ok(()) } else { Err(Failure::silent(EXIT_MISSED)) }
}

/// Does something that can be stopped; nothing else of the kind runs meanwhile.
fn stoppable<T>(
    context: &Context,
    work: impl AsyncFnOnce(&Stop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Its folder is there: else there would be nothing to break.
    Platform::open(context.data()).map_err(|e| load::no_platform(&e))?;
    let running = Running::begin(context.data())?;
    let (button, stop) = StopButton::new();
    context.block_on_threads(THREADS, async {
        tokio::select! {
            result = work(&stop) => result,
            watched = running.watch(&button) => {
                watched?;
                Err(Failure::failed("broken off: what was broken is mended, and nothing was reported"))
            }
        }
    })
}

/// Carries a drill out and hands its report in. Beside what it showed stands where the report is, or why there is none.
async fn carry_out(
    drill: &Drill,
    context: &Context,
    stop: &Stop,
    progress: &Progress,
) -> Result<(Shown, Result<PathBuf, Failure>), Failure> {
    let platform = Platform::open(context.data()).map_err(|e| load::no_platform(&e))?;
    let say = |what: &str| progress.say(what);
    let began = Timestamp::now();
    let shown = match drill {
        Drill::DcLoss { dc, off, common } => {
            drill::dc_loss(platform, dc, common.options(context, *off, stop), say).await.map(Shown::Fault)
        }
        Drill::RegionLoss { region, lag, off, approver, common } => {
            let lost = data_centers_of(region, context).await?;
            let region = drill::Region { lost, lag: *lag, approver: approver.clone() };
            let options = Options { mix: Mix::PAYMENTS, ..common.options(context, *off, stop) };
            drill::region_loss(platform, &region, options, say).await.map(Shown::Region)
        }
        Drill::PrimaryCrash { unit, watch, common } => {
            let options = common.options(context, *watch, stop);
            drill::primary_crash(platform, unit, options, say).await.map(Shown::Fault)
        }
        Drill::Moves { unit, count, pause, common } => {
            let options = common.options(context, *pause, stop);
            drill::moves(platform, unit, *count, options, say).await.map(Shown::Moves)
        }
    };
    let shown = shown.map_err(|e| failure(&e))?;
    progress.say("writing the report");
    let journal = drill.common().journal(context);
    let page = evidence::hand_in(context, shown.evidence(), began, &journal).await;
    Ok((shown, page))
}

/// The data centers of a region, of a platform whose control plane does not fall with it.
async fn data_centers_of(region: &RegionId, context: &Context) -> Result<BTreeSet<DcId>, Failure> {
    let client = Client::of(context)?;
    let items = get::list(&client, Kind::DataCenter).await?;
    let all = items.into_iter().filter_map(|item| serde_json::from_value::<DataCenter>(item).ok());
    let within: Vec<DataCenter> = all.filter(|dc| dc.spec.region == *region).collect();
    if within.is_empty() {
        return Err(Failure::usage(format!("there is no region {region}"))
            .hint("`dujiang get datacenters` shows which data center lies where"));
    }
    let lost: BTreeSet<DcId> = within.iter().filter_map(|dc| DcId::new(dc.name.clone()).ok()).collect();
    let folder = folder_of(context)?;
    let mut manifest = manifest_in_force(&folder)?;
    if folder.has_etcd() {
        manifest.control = ControlPlane::Everywhere;
    }
    let members = manifest.members();
    let (all, fall) = (members.len(), members.keys().filter(|dc| lost.contains(*dc)).count());
    if 2 * fall >= all && fall > 0 {
        let why = format!(
            "{fall} of {all} members of the control store lie in {region}: nobody could order anything"
        );
        return Err(Failure::refused(why).hint(
            "a witness in the manifest leaves a majority; without one `dujiang store recover` re-forms the store while the platform is stopped",
        ));
    }
    Ok(lost)
}

/// Prints what a drill showed.
fn show(common: &Common, shown: &Shown, page: Option<&Path>) -> Result<(), Failure> {
    if common.output == Format::Json {
        return output::json(shown);
    }
    shown.print()?;
    let paint = Paint::stdout();
    let books = evidence::lost_or_not(shown.evidence().books);
    output::line(match (shown.is_correct(), shown.is_within_limits()) {
        (true, true) => paint.green(format_args!("{books}; every figure within its limit")),
        (true, false) => paint.yellow(format_args!("{books}; a figure is beyond its limit")),
        (false, _) => paint.red("the drill failed"),
    })?;
    if let Some(page) = page {
        output::line(format_args!("evidence: {}", page.display()))?;
    }
    Ok(())
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
