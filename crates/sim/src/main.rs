//! `dujiang-sim`: runs seeds and tells the story of the first that breaks an invariant.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use dujiang_sim::{Options, Outcome, Sabotage, Scenario, run, run_many};

/// Lines of a failing seed's story that are printed without `--trace`.
const STORY_LINES: usize = 60;

/// Seeds per scenario when neither a number nor a seed is asked for.
const SEEDS: u64 = 100;

/// Runs whole clusters in virtual time from a seed and checks every invariant after every event.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  dujiang-sim --seeds 1000                              1000 seeds of every scenario, from 1
  dujiang-sim --scenario crashes --seed 17              that seed alone
  dujiang-sim --scenario crashes --seed 17 --seeds 5    17 to 21
  dujiang-sim --scenario crashes --seed 17 --trace      its whole story"
)]
struct Args {
    /// How many seeds to run, per scenario [default: 100; 1 with --seed or --trace].
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The seed to run, or the first of --seeds [default: 1].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Print everything that happens, in each seed that is run.
    #[arg(long)]
    trace: bool,
    /// Only this kind of trouble; all of them otherwise.
    #[arg(long)]
    scenario: Option<Scenario>,
    /// Plant a bug, to see how it is found.
    #[arg(long)]
    sabotage: Option<Sabotage>,
}

impl Args {
    /// The first seed and how many. A single one is asked for by naming it without a count, or by wanting its story.
    fn seeds(&self) -> (u64, u64) {
        let single = self.seed.is_some() || self.trace;
        (self.seed.unwrap_or(1), self.seeds.unwrap_or(if single { 1 } else { SEEDS }))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (first, count) = args.seeds();
    let seeds = if count == 1 { format!("seed {first}") } else { format!("{count} seeds from {first}") };
    let scenarios = args.scenario.map_or(Scenario::ALL.to_vec(), |one| vec![one]);
    let mut out = std::io::stdout().lock();
    for scenario in scenarios {
        let options = Options { trace: args.trace, sabotage: args.sabotage, ..Options::new(scenario) };
        let (writes, epochs, waited_us) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let failed = run_many(first, count, &options, |outcome| {
            writes.fetch_add(outcome.acknowledged as u64, Ordering::Relaxed);
            epochs.fetch_add(outcome.epoch, Ordering::Relaxed);
            waited_us.fetch_max(outcome.longest_wait_us, Ordering::Relaxed);
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
            "{scenario:?}: {seeds}, {} writes acknowledged, {} changes of epoch, no unit waited longer than {} s \
             while it could serve, no invariant broken",
            writes.into_inner(),
            epochs.into_inner(),
            waited_us.into_inner().div_ceil(1_000_000)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(words: &str) -> (u64, u64) {
        Args::parse_from(["dujiang-sim"].into_iter().chain(words.split_whitespace())).seeds()
    }

    #[test]
    fn a_seed_that_is_named_is_run_alone_unless_a_count_is_given() {
        assert_eq!(seeds(""), (1, SEEDS));
        assert_eq!(seeds("--seeds 7"), (1, 7));
        assert_eq!(seeds("--seed 42"), (42, 1));
        assert_eq!(seeds("--seed 42 --seeds 7"), (42, 7));
        assert_eq!(seeds("--seed 42 --trace"), (42, 1));
        assert_eq!(seeds("--trace"), (1, 1));
        assert_eq!(seeds("--seeds 7 --seed 42 --trace"), (42, 7));
    }
}
