//! `make chaos`: the whole fault matrix, random sequences of faults, and long bad weather, in the laboratory.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use dujiang_lab::case::{Bench, CaseError, Extras, Finding};
use dujiang_lab::kept::{Kept, Origin, UNKNOWN};
use dujiang_lab::nets::Lab;
use dujiang_lab::table::{Cell, Choice, Table};
use dujiang_lab::tally::{self, SEQUENCES_PER_PLATFORM, Tally};
use dujiang_lab::{enter, sequence};
use dujiang_testkit::load::Mix;
use dujiang_types::error::chain;
use jiff::Timestamp;
use tokio::time::Instant;

/// Break a whole platform in every way, and check after each that no money was lost or invented
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  make chaos                                       the whole matrix, into docs/fault-matrix.md
  make chaos ARGS='--fault partition --moment load'   these cells anew; others of the same commit stay on the page
  make chaos ARGS='--continue'                     only cells that have not been run on this commit
  make chaos ARGS='--seed 1 --sequences 100'       random sequences of 30 s, one after the other
  make chaos ARGS='--seed 1 --sequences 100 --continue'   what an interrupted run has left to do
  make chaos ARGS='--weather-min 20'               200 ms jitter and 1 % loss: nothing may fail over")]
struct Args {
    /// Only faults whose name contains this; may be repeated
    #[arg(long)]
    fault: Vec<String>,
    /// Only moments whose name contains this; may be repeated
    #[arg(long)]
    moment: Vec<String>,
    /// Stop beginning new cells or sequences after so many minutes
    #[arg(long, default_value_t = u64::MAX / 60)]
    minutes: u64,
    /// Where the matrix is written
    #[arg(long, default_value = "docs/fault-matrix.md")]
    out: PathBuf,
    /// First seed of the random sequences
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run so many random sequences instead of the matrix
    #[arg(long)]
    sequences: Option<u64>,
    /// Run only those cells or sequences that have not been run yet on this commit
    #[arg(long = "continue", conflicts_with = "weather_min")]
    go_on: bool,
    /// Run so many minutes of 200 ms jitter and 1 % loss instead of the matrix
    #[arg(long)]
    weather_min: Option<u64>,
    /// Keep results of cells and sequences, and logs of what went wrong, here
    #[arg(long, default_value = "target/chaos")]
    keep: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = enter::enter() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let lab = Lab::set_up(args.seed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Origin { commit, machine } = origin();
    println!("commit {commit}, {machine}");
    runtime.block_on(async {
        match (args.sequences, args.weather_min) {
            (Some(count), _) => sequences(&lab, args, count).await,
            (None, Some(minutes)) => weather(&lab, minutes).await,
            (None, None) => matrix(&lab, args).await,
        }
    })
}

/// The matrix; true if nothing was wrong.
async fn matrix(lab: &Lab, args: &Args) -> Result<bool, Box<dyn Error>> {
    let end = Instant::now() + Duration::from_secs(args.minutes.min(100_000) * 60);
    let choice = Choice { faults: args.fault.clone(), moments: args.moment.clone(), go_on: args.go_on };
    let mut kept = Kept::<Cell>::open(&args.keep.join("cells.jsonl"), &origin(), choice.keeps())?;
    let mut table: Table = kept.results().iter().cloned().collect();
    let cells = choice.cells(&table);
    println!("{} cells to run, {} results of this commit are kept", cells.len(), kept.results().len());
    let run = format!("{:.0}", Timestamp::now());
    let mut bench: Option<(Extras, Bench)> = None;
    for (fault, moment) in cells {
        if Instant::now() > end {
            break;
        }
        let extras = Extras { disk: fault.is_of_disk(), clock: fault.is_of_clock() };
        if bench.as_ref().is_none_or(|(has, _)| (has.disk, has.clock) != (extras.disk, extras.clock)) {
            // The old one ends before the new one begins.
            drop(bench.take());
            bench = Some((extras, Bench::set_up(lab, extras, args.seed).await?));
        }
        let Some((_, ready)) = &mut bench else { continue };
        let finding = ready.run(fault, moment).await.unwrap_or_else(failed);
        println!("{} {fault}, {moment}: {}", Timestamp::now(), told(&finding));
        if !finding.wrong.is_empty() {
            lab.heal();
            keep(bench.as_ref().map(|(_, bench)| bench), &args.keep, &format!("{fault:?}-{moment:?}"));
            // What comes after would be blamed for it.
            bench = None;
        }
        let cell = Cell { run: run.clone(), at: format!("{:.0}", Timestamp::now()), fault, moment, finding };
        kept.add(cell.clone())?;
        table.add(cell);
        let page = table.page(kept.origin());
        fs::write(&args.out, tally::page_with_matrix(&read_page(&args.out), &page))?;
    }
    Ok(table.is_right())
}

/// Random sequences; true if nothing was wrong in those run now and before.
async fn sequences(lab: &Lab, args: &Args, count: u64) -> Result<bool, Box<dyn Error>> {
    let end = Instant::now() + Duration::from_secs(args.minutes.min(100_000) * 60);
    let mut tally = Tally::open(&args.keep.join("sequences.jsonl"), &origin(), args.go_on)?;
    let seeds = args.seed..args.seed.saturating_add(count);
    let left: Vec<u64> = seeds.filter(|seed| !tally.has(*seed)).collect();
    println!("{} sequences of 30 s to run, {} have been run", left.len(), tally.ran().len());
    let mut bench: Option<Bench> = None;
    // Sequences the platform has been through.
    let mut age = 0;
    for (number, seed) in (1..).zip(&left) {
        if Instant::now() > end {
            break;
        }
        if age == SEQUENCES_PER_PLATFORM {
            drop(bench.take());
        }
        if bench.is_none() {
            bench = Some(Bench::set_up(lab, Extras::default(), *seed).await?);
            age = 0;
        }
        let Some(ready) = &mut bench else { continue };
        age += 1;
        let planned = sequence::plan(*seed);
        let finding = sequence::run(ready, &planned).await.unwrap_or_else(failed);
        let (faults, of) = (planned.len(), left.len());
        println!("{} {number}/{of}: seed {seed}, {faults} faults: {}", Timestamp::now(), told(&finding));
        let wrong = !finding.wrong.is_empty();
        if wrong {
            print!("{}", sequence::describe(&planned));
            lab.heal();
            keep(Some(ready), &args.keep, &format!("seed-{seed}"));
            // What comes after would be blamed for it.
            bench = None;
        }
        tally.add(*seed, faults, finding)?;
        fs::write(&args.out, tally::page_with_sequences(&read_page(&args.out), &tally.section()))?;
    }
    println!("{}", tally.summary());
    Ok(tally.wrong().next().is_none())
}

fn read_page(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Bad weather; true if no unit changed its home or its epoch.
async fn weather(lab: &Lab, minutes: u64) -> Result<bool, Box<dyn Error>> {
    let mut bench = Bench::set_up(lab, Extras::default(), 1).await?;
    let before = bench.ground.cluster.whole().await?;
    let load = bench.load(Mix::default()).await?;
    let began = Timestamp::now();
    lab.change_all(|link| (link.jitter_us, link.loss_per_mille) = (200_000, 10));
    for minute in 1..=minutes {
        tokio::time::sleep(Duration::from_secs(60)).await;
        println!(
            "{} minute {minute}: {} primaries seen so far, {} payments",
            Timestamp::now(),
            bench.observer.reigns().len(),
            load.acknowledged()
        );
    }
    lab.heal();
    let mut finding = Finding::default();
    bench.settle(&mut finding).await?;
    let after = bench.ground.cluster.control()?.status().await?;
    let run = load.run().to_owned();
    let (summary, _) = load.stop().await?;
    bench.judge(&mut finding, Some((&run, began))).await?;
    let mut failovers = 0;
    for (unit, view) in &before.units {
        let (was, is) = (&view.unit.status, &after.units[unit].unit.status);
        println!(
            "{unit}: home {} epoch {} before, home {} epoch {} after",
            was.home, was.epoch, is.home, is.epoch
        );
        failovers += u64::from(was.epoch != is.epoch);
    }
    println!(
        "{minutes} minutes of 200 ms jitter and 1 % loss on commit {}: {failovers} units failed over",
        commit()
    );
    println!("{}; {} failed requests", told(&finding), summary.total.failed_requests);
    Ok(failovers == 0 && finding.wrong.is_empty())
}

#[expect(clippy::needless_pass_by_value, reason = "what a result's failure is mapped with")]
fn failed(error: CaseError) -> Finding {
    Finding { wrong: vec![format!("could not be carried out: {}", chain(&error))], ..Finding::default() }
}

fn told(finding: &Finding) -> String {
    if let Some(why) = &finding.not_done {
        return format!("not possible: {why}");
    }
    let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} s"));
    let (outage, whole) = (seconds(finding.outage_s), seconds(finding.whole_s));
    let word = if finding.wrong.is_empty() { "ok".to_owned() } else { format!("WRONG {:?}", finding.wrong) };
    format!(
        "{word}; longest outage {outage}, whole after {whole}, {} payments and {} transactions acknowledged",
        finding.acknowledged, finding.transactions
    )
}

/// Copies logs and journal of a platform that went wrong.
fn keep(bench: Option<&Bench>, folder: &Path, name: &str) {
    let Some(bench) = bench else { return };
    let to = folder.join(name);
    let data = bench.ground.cluster.data();
    let script = "mkdir -p \"$1\" && cd \"$0\" && cp -a --parents log dc/*/log dc/*/units/*/log ../journal.jsonl \"$1\" 2>/dev/null; \
                  true";
    let absolute = std::path::absolute(&to).unwrap_or(to);
    let copied = Command::new("sh").args(["-c", script]).arg(data).arg(&absolute).status();
    println!("  logs are kept in {} ({copied:?})", absolute.display());
}

fn origin() -> Origin {
    Origin { commit: commit(), machine: machine() }
}

/// The commit; if something was changed since, with a sum of the changes, since other changes make it another one.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]) else { return UNKNOWN.to_owned() };
    let changes = git(&["diff", "HEAD", "--", "crates", "apps"]).unwrap_or_default();
    if changes.is_empty() {
        return hash;
    }
    let mut hasher = DefaultHasher::new();
    changes.hash(&mut hasher);
    format!("{hash} with changes {:08x}", hasher.finish() >> 32)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 =
        memory.split_ascii_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or_default();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let who = if nix::unistd::geteuid().is_root() { "as root" } else { "as an ordinary user" };
    format!("{cores} cores, {} GB, Linux {}, {who}", kib >> 20, release.trim())
}
