//! `dujiang-sim`: runs seeds and tells the story of the first that breaks an invariant.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use dujiang_sim::{Options, Outcome, Sabotage, Scenario, run, run_many};

/// Lines of a failing seed's story that are printed without `--trace`.
const STORY_LINES: usize = 60;

/// Runs whole clusters in virtual time from a seed and checks every invariant after every event.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// How many seeds to run, per scenario.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The seed to run (with --trace), or the first of --seeds.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens in one seed.
    #[arg(long)]
    trace: bool,
    /// Only this kind of trouble; all of them otherwise.
    #[arg(long)]
    scenario: Option<Scenario>,
    /// Plant a bug, to see how it is found.
    #[arg(long)]
    sabotage: Option<Sabotage>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let first = args.seed.unwrap_or(1);
    // A single seed is asked for by naming it without a count.
    let count = if args.trace { 1 } else { args.seeds };
    let scenarios = args.scenario.map_or(Scenario::ALL.to_vec(), |one| vec![one]);
    let mut out = std::io::stdout().lock();
    for scenario in scenarios {
        let options = Options { trace: args.trace, sabotage: args.sabotage, ..Options::new(scenario) };
        let (writes, epochs) = (AtomicU64::new(0), AtomicU64::new(0));
        let failed = run_many(first, count, &options, |outcome| {
            writes.fetch_add(outcome.acknowledged as u64, Ordering::Relaxed);
            epochs.fetch_add(outcome.epoch, Ordering::Relaxed);
            if args.trace {
                print(&mut std::io::stderr(), &outcome.trace);
            }
        });
        if let Some(outcome) = failed {
            tell(&mut out, scenario, &options, &outcome);
            return ExitCode::FAILURE;
        }
        let _ = writeln!(
            out,
            "{scenario:?}: {count} seeds from {first}, {} writes acknowledged, {} changes of epoch, no invariant broken",
            writes.into_inner(),
            epochs.into_inner()
        );
    }
    ExitCode::SUCCESS
}

fn print(out: &mut impl std::io::Write, lines: &[String]) {
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

/// Runs the failing seed once more, this time with a trace, and prints its end.
fn tell(out: &mut impl std::io::Write, scenario: Scenario, options: &Options, outcome: &Outcome) {
    if !options.trace {
        let again = run(outcome.seed, &Options { trace: true, ..options.clone() });
        print(out, &again.trace[again.trace.len().saturating_sub(STORY_LINES)..]);
    }
    if let Some(violation) = &outcome.violation {
        let name = format!("{scenario:?}").to_lowercase();
        let _ = writeln!(
            out,
            "\nseed {} ({name}) breaks \"{}\": {}",
            outcome.seed, violation.rule, violation.story
        );
        let _ = writeln!(
            out,
            "see all: cargo run -p dujiang-sim -- --scenario {name} --seed {} --trace",
            outcome.seed
        );
    }
}
