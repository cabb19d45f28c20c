//! `dujiang status`

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use dujiang_agent::process::Record;
use dujiang_agent::{files, proc};
use dujiang_control::Status;
use dujiang_control::status::{ReplicaView, UnitView};
use dujiang_types::DcId;
use dujiang_types::report::ReplicaState;

use crate::client::Client;
use crate::commands::store::manifest_in_force;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Paint};
use crate::supervisor::folder::Folder;
use crate::table::{Cell, Table, Tone};
use crate::{exposure, view};

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Show how units, replicas, agents and gateways are
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang status
  dujiang status --watch
  dujiang status -o wide
  dujiang status -o json | jq '.units[].unit.status.home'")]
pub struct Args {
    /// Show it again every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
}

/// How the status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Shape {
    /// Aligned columns for people
    #[default]
    Table,
    /// The same, and how far each replica is behind, in bytes, seconds and transfers
    Wide,
    /// JSON for programs
    Json,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let print = |status: &Status, again| print(status, args.output, again, witness(context).as_deref());
    context.block_on(async {
        print(&client.get("/v1/status").await?, args.watch)?;
        if !args.watch {
            return Ok(());
        }
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            match client.get("/v1/status").await {
                Ok(status) => print(&status, true)?,
                Err(failure) if failure.is_unreachable() => eprintln!("{}", failure.message()),
                Err(failure) => return Err(failure),
            }
        }
    })
}

/// How the witness is, where its site can be seen: it talks to nobody but the other members of the store.
fn witness(context: &Context) -> Option<String> {
    let folder = Folder::find(context.data()).ok().flatten()?;
    let name = manifest_in_force(&folder).ok()?.witness?.name;
    let record = folder.path().join("dc").join(name.as_str()).join("run/etcd.json");
    let record: Option<Record> = files::read_json(&record).unwrap_or_default();
    let lives = |record: &Record| {
        proc::stat(record.pid).is_ok_and(|stat| stat.runs() && stat.start_ticks == record.start_ticks)
    };
    Some(if record.is_some_and(|record| lives(&record)) {
        format!("the witness {name} votes")
    } else {
        let why =
            format!("the witness {name} does not vote: the loss of a region would leave nobody to decide");
        Paint::stdout().red(why)
    })
}

fn print(status: &Status, shape: Shape, again: bool, witness: Option<&str>) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let mut text = match shape {
        Shape::Json => return output::json(status),
        Shape::Table => render(status, paint),
        Shape::Wide => format!("{}\n{}", render(status, paint), exposure::wide(status).render(paint)),
    };
    if let Some(witness) = witness {
        let _ = writeln!(text, "{witness}");
    }
    if again && io::stdout().is_terminal() {
        text.insert_str(0, "\x1b[H\x1b[2J");
    }
    output::bytes(text.as_bytes())
}

/// The status as tables.
pub fn render(status: &Status, paint: Paint) -> String {
    let mut out = units(status).render(paint);
    out.push('\n');
    out.push_str(&data_centers(status).render(paint));
    if status.agents.keys().any(|dc| dc.as_str() == status.leader) {
        let _ = writeln!(out, "the control server of {} leads", paint.bold(&status.leader));
    } else if status.leader.is_empty() {
        let _ = writeln!(out, "{}", paint.red("no control server leads"));
    }
    for line in exposure::degraded(status) {
        let _ = writeln!(out, "{}", paint.red(line));
    }
    for line in exposure::unsteady(status) {
        let _ = writeln!(out, "{}", paint.red(line));
    }
    if let Some(alarm) = status.store.as_ref().and_then(|store| store.alarm.as_ref()) {
        let _ = writeln!(out, "{} {alarm}", paint.red("store alarm"));
    }
    for operation in &status.operations {
        let last = operation.status.steps.last();
        let last = last.map_or_else(String::new, |step| format!(": {} ({})", step.name, step.reason));
        let _ = writeln!(out, "{} {}{last}", paint.yellow("at work"), operation.name);
    }
    for (key, why) in &status.unreadable {
        let _ = writeln!(out, "{} {key}: {why}", paint.red("unreadable"));
    }
    out
}

/// A line per unit: changes only when something of note does.
pub fn brief(status: &Status) -> String {
    let mut out = String::new();
    for (name, view) in &status.units {
        let unit = &view.unit.status;
        let _ = writeln!(out, "{name} {} in {} under epoch {}", unit.phase, unit.home, unit.epoch);
    }
    out
}

fn units(status: &Status) -> Table {
    let mut table =
        Table::new(&["UNIT", "HOME", "EPOCH", "PHASE", "SYNC SET", "DURABILITY", "REPLICAS", "LOSS OF HOME"]);
    for (name, view) in &status.units {
        let unit = &view.unit.status;
        table.row([
            name.as_str().into(),
            unit.home.as_str().into(),
            unit.epoch.to_string().into(),
            Cell::new(unit.phase.to_string(), view::phase_tone(&unit.phase)),
            unit.wanted_set().map_or_else(|| "-".to_owned(), view::sync_set).into(),
            exposure::durability(view, status.at),
            replicas(view).into(),
            exposure::loss_of_home(view),
        ]);
    }
    table
}

fn replicas(view: &UnitView) -> String {
    view.replicas
        .iter()
        .map(|(dc, replica)| format!("{dc} {}", state_of(replica)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// One word for a replica, and how far it is behind.
fn state_of(replica: &ReplicaView) -> String {
    let Some(report) = replica.report.as_ref().filter(|_| replica.known) else { return "unknown".to_owned() };
    let word = match &report.state {
        ReplicaState::Preparing { work } => work.as_str(),
        ReplicaState::Stopped { .. } => "stopped",
        ReplicaState::Starting => "starting",
        ReplicaState::Detached { .. } => "detached",
        ReplicaState::Following { streaming: true, .. } => "follows",
        ReplicaState::Following { streaming: false, .. } => "connecting",
        ReplicaState::Primary { open: true, .. } => "primary",
        ReplicaState::Primary { open: false, .. } => "primary (closed)",
    };
    match replica.lag_bytes {
        Some(lag) if lag > 0 => format!("{word} -{}", exposure::bytes(lag)),
        _ => word.to_owned(),
    }
}

fn data_centers(status: &Status) -> Table {
    let mut table = Table::new(&["DATA CENTER", "AGENT", "GATEWAY", "APPLICATIONS"]);
    for (dc, agent) in &status.agents {
        let apps = agent.instances.iter().filter(|(name, _)| name.as_str() != "gateway");
        let apps = apps.map(|(name, instance)| match (agent.known, instance.ready) {
            (false, _) => format!("{name} unknown"),
            (true, true) => format!("{name} ready"),
            (true, false) => format!("{name} not ready ({})", instance.note),
        });
        let known = match (agent.known, agent.age_ms) {
            (true, _) => Cell::new("well", Tone::Good),
            (false, Some(age)) => Cell::new(format!("unknown for {} s", age / 1000), Tone::Bad),
            (false, None) => Cell::new("unknown", Tone::Bad),
        };
        table.row([dc.as_str().into(), known, gateway(status, dc), view::join(apps).into()]);
    }
    table
}

fn gateway(status: &Status, dc: &DcId) -> Cell {
    let Some(view) = status.gateways.get(dc) else { return Cell::new("unknown", Tone::Bad) };
    let Some(report) = view.report.as_ref().filter(|_| view.known) else {
        return Cell::new("unknown", Tone::Bad);
    };
    let held: u64 = report.held.values().sum();
    if report.table < status.routing {
        Cell::new(format!("table {} of {}", report.table, status.routing), Tone::Busy)
    } else if held > 0 {
        Cell::new(format!("holds {held} requests"), Tone::Busy)
    } else {
        Cell::new("well", Tone::Good)
    }
}
