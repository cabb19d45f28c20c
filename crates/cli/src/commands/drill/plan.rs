//! A sequence of drills in a file: what a bank exercises every quarter, the same each time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_testkit::drill::Stop;
use dujiang_types::{DcId, RegionId, UnitId};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::show::Shown;
use super::{Common, Drill, Load, carry_out, readiness};
use crate::context::Context;
use crate::failure::Failure;
use crate::figures::parse_duration;
use crate::output::{self, Format, Paint};
use crate::progress::Progress;
use crate::table::{Cell, Table, Tone};

/// A plan is read by people before it is carried out.
const STEPS_MAX: usize = 100;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    load: LoadEntry,
    steps: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadEntry {
    rate: Option<u32>,
    accounts: Option<u32>,
    seed: Option<u64>,
}

/// One step; exactly one of the fields down to `pause` says what it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    readiness: Option<Readiness>,
    dc_loss: Option<DcId>,
    region_loss: Option<RegionId>,
    primary_crash: Option<UnitId>,
    moves: Option<UnitId>,
    pause: Option<String>,
    /// Of `dc-loss` and `region-loss`.
    off: Option<String>,
    /// Of `region-loss`.
    lag: Option<String>,
    /// Of `region-loss`: the identity of a second operator.
    approver: Option<PathBuf>,
    /// Of `primary-crash`.
    watch: Option<String>,
    /// Of `moves`.
    count: Option<u32>,
}

/// How much readiness is looked into.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Readiness {
    /// A copy of every replica is promoted.
    Trial,
    /// Nothing is copied.
    NoTrial,
}

/// A step that makes sense.
#[derive(Debug)]
enum Step {
    Readiness(readiness::Scope),
    Drill(Drill),
    Pause(Duration),
}

/// A plan that makes sense.
#[derive(Debug)]
pub(super) struct Plan {
    name: String,
    steps: Vec<(String, Step)>,
}

impl Plan {
    /// Reads and judges a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::because(format!("cannot read {shown}"), &e))?;
        Self::parse(&text).map_err(|why| {
            Failure::usage(format!("{shown}: {why}")).hint("`dujiang drill plan --help` shows a plan")
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if file.steps.is_empty() || file.steps.len() > STEPS_MAX {
            return Err(format!("a plan has 1 to {STEPS_MAX} steps, this one has {}", file.steps.len()));
        }
        let load = Load {
            rate: file.load.rate.unwrap_or(super::RATE),
            accounts: file.load.accounts.unwrap_or(super::ACCOUNTS),
            seed: file.load.seed.unwrap_or(super::SEED),
        };
        if load.rate == 0 {
            return Err("load.rate: write 1 or more operations per second".to_owned());
        }
        let step = |(number, entry): (usize, Entry)| {
            entry.step(load).map_err(|why| format!("step {}: {why}", number + 1))
        };
        let steps = file.steps.into_iter().enumerate().map(step).collect::<Result<_, _>>()?;
        Ok(Self { name: file.name, steps })
    }
}

impl Entry {
    fn step(self, load: Load) -> Result<(String, Step), String> {
        let common = || Common { load, journal: None, strict: false, output: Format::Table };
        let duration =
            |text: &Option<String>, default: &str| parse_duration(text.as_deref().unwrap_or(default));
        self.is_of_one_kind()?;
        if let Some(how) = self.readiness {
            let (trial, what) = match how {
                Readiness::Trial => (true, "readiness, by trial"),
                Readiness::NoTrial => (false, "readiness, without trial"),
            };
            return Ok((what.to_owned(), Step::Readiness(readiness::Scope::everything(trial))));
        }
        if let Some(region) = self.region_loss {
            let (lag, off) = (duration(&self.lag, super::REGION_LAG)?, duration(&self.off, super::DC_OFF)?);
            let what = format!("loss of region {region}");
            let approver = self.approver;
            return Ok((
                what,
                Step::Drill(Drill::RegionLoss { region, lag, off, approver, common: common() }),
            ));
        }
        if let Some(dc) = self.dc_loss {
            let off = duration(&self.off, super::DC_OFF)?;
            return Ok((format!("loss of {dc}"), Step::Drill(Drill::DcLoss { dc, off, common: common() })));
        }
        if let Some(unit) = self.primary_crash {
            let watch = duration(&self.watch, super::CRASH_FOR)?;
            let what = format!("crash of the primary of {unit}");
            return Ok((what, Step::Drill(Drill::PrimaryCrash { unit, watch, common: common() })));
        }
        if let Some(unit) = self.moves {
            let count = self.count.unwrap_or(super::MOVES);
            if count == 0 {
                return Err("count: write 1 or more".to_owned());
            }
            let pause = parse_duration(super::MOVE_PAUSE)?;
            let what =
                if count == 1 { format!("move of {unit}") } else { format!("{count} moves of {unit}") };
            return Ok((what, Step::Drill(Drill::Moves { unit, count, pause, common: common() })));
        }
        let pause = self.pause.unwrap_or_default();
        Ok((format!("pause of {pause}"), Step::Pause(parse_duration(&pause)?)))
    }
}

impl Entry {
    /// Refuses a step that is two things or none, and what belongs to another one.
    fn is_of_one_kind(&self) -> Result<(), String> {
        let named = [
            self.readiness.is_some(),
            self.dc_loss.is_some(),
            self.region_loss.is_some(),
            self.primary_crash.is_some(),
            self.moves.is_some(),
            self.pause.is_some(),
        ];
        if named.iter().filter(|named| **named).count() != 1 {
            return Err(
                "write exactly one of readiness, dc-loss, region-loss, primary-crash, moves and pause"
                    .to_owned(),
            );
        }
        let unfit = [
            ("off", self.off.is_some() && self.dc_loss.is_none() && self.region_loss.is_none()),
            ("lag", self.lag.is_some() && self.region_loss.is_none()),
            ("approver", self.approver.is_some() && self.region_loss.is_none()),
            ("watch", self.watch.is_some() && self.primary_crash.is_none()),
            ("count", self.count.is_some() && self.moves.is_none()),
        ];
        match unfit.into_iter().find(|(_, unfit)| *unfit) {
            Some((field, _)) => Err(format!("`{field}` means nothing here: leave it out")),
            None => Ok(()),
        }
    }
}

/// What came of one step.
#[derive(Debug, Serialize)]
struct Done {
    step: String,
    /// `passed`, `beyond a limit`, `failed`, `not begun`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<PathBuf>,
}

impl Done {
    fn fails(&mut self, why: String) {
        (self.outcome, self.why) = ("failed", Some(why));
    }

    fn has(&mut self, page: Result<PathBuf, Failure>) {
        match page {
            Ok(page) => self.evidence = Some(page),
            Err(failure) => self.fails(format!("there is no evidence: {}", failure.message())),
        }
    }
}

/// Prints the steps without carrying them out.
pub(super) fn show(plan: &Plan, format: Format) -> Result<(), Failure> {
    let steps: Vec<&str> = plan.steps.iter().map(|(what, _)| what.as_str()).collect();
    match format {
        Format::Json => output::json(&serde_json::json!({"name": plan.name, "steps": steps})),
        Format::Table => {
            output::line(&plan.name)?;
            for (number, step) in (1..).zip(steps) {
                let number: u32 = number;
                output::line(format_args!("{number:>3}  {step}"))?;
            }
            Ok(())
        }
    }
}

/// Carries the steps out one after the other, until one fails or the drill is stopped. True if all passed.
pub(super) async fn run(
    plan: &Plan,
    context: &Context,
    stop: &Stop,
    progress: &Progress,
    format: Format,
) -> Result<bool, Failure> {
    let mut done: Vec<Done> = Vec::new();
    let all = plan.steps.len();
    for (number, (what, step)) in plan.steps.iter().enumerate() {
        let over = stop.is_pressed() || done.last().is_some_and(|done| done.outcome == "failed");
        let mut outcome = Done { step: what.clone(), outcome: "not begun", why: None, evidence: None };
        if !over {
            progress.say(format_args!("step {} of {all}: {what}", number + 1));
            match step {
                Step::Pause(pause) => {
                    tokio::select! {
                        () = sleep(*pause) => {}
                        () = stop.pressed() => {}
                    }
                    outcome.outcome = "passed";
                }
                Step::Readiness(scope) => looked(scope, context, stop, progress, &mut outcome).await,
                Step::Drill(drill) => one(drill, context, stop, progress, &mut outcome).await,
            }
        }
        done.push(outcome);
    }
    progress.clear();
    let passed = done.iter().all(|done| matches!(done.outcome, "passed" | "beyond a limit"));
    match format {
        Format::Json => {
            output::json(&serde_json::json!({"name": plan.name, "passed": passed, "steps": done}))?;
        }
        Format::Table => output::bytes(table(&done).render(Paint::stdout()).as_bytes())?,
    }
    Ok(passed)
}

async fn one(drill: &Drill, context: &Context, stop: &Stop, progress: &Progress, outcome: &mut Done) {
    match carry_out(drill, context, stop, progress).await {
        Ok((shown, page)) => {
            outcome.outcome = verdict(&shown);
            outcome.why = (!shown.is_correct()).then(|| shown.trouble());
            outcome.has(page);
        }
        Err(failure) => outcome.fails(failure.message().to_owned()),
    }
}

/// A drill of what is not ready would only show again that it is not: nothing comes after it.
async fn looked(
    scope: &readiness::Scope,
    context: &Context,
    stop: &Stop,
    progress: &Progress,
    outcome: &mut Done,
) {
    let found = tokio::select! {
        found = readiness::carry_out(scope, context, progress) => found,
        // A trial that is under way is finished and cleaned up by its agent.
        () = stop.pressed() => return outcome.fails("stopped before all was looked at".to_owned()),
    };
    match found {
        Ok((looked, page)) => {
            outcome.outcome = "passed";
            if !readiness::is_ready(&looked) {
                outcome.fails(readiness::conclusion(&looked));
            }
            outcome.has(page);
        }
        Err(failure) => outcome.fails(failure.message().to_owned()),
    }
}

fn verdict(shown: &Shown) -> &'static str {
    match (shown.is_correct(), shown.is_within_limits()) {
        (true, true) => "passed",
        (true, false) => "beyond a limit",
        (false, _) => "failed",
    }
}

fn table(done: &[Done]) -> Table {
    let mut table = Table::new(&["STEP", "OUTCOME", "EVIDENCE", "WHY"]);
    for Done { step, outcome, why, evidence } in done {
        let tone = match *outcome {
            "passed" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Busy,
        };
        let evidence = evidence.as_ref().map_or_else(|| "-".to_owned(), |page| page.display().to_string());
        table.row([
            step.as_str().into(),
            Cell::new(*outcome, tone),
            evidence.into(),
            why.as_deref().unwrap_or("-").into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &str = "name: q4\nsteps:\n";

    #[test]
    fn a_plan_is_read_with_its_defaults() {
        let text = "name: quarter\nload: { rate: 50 }\nsteps:\n  - dc-loss: chengdu-1\n    off: 20s\n  - pause: 5s\n  - \
                    moves: unit-1\n    count: 3\n  - primary-crash: unit-2\n  - readiness: trial\n  - \
                    region-loss: chengdu\n    lag: 2s\n    approver: li.pem\n";
        let plan = Plan::parse(text).unwrap();
        let names: Vec<&str> = plan.steps.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(
            names,
            [
                "loss of chengdu-1",
                "pause of 5s",
                "3 moves of unit-1",
                "crash of the primary of unit-2",
                "readiness, by trial",
                "loss of region chengdu"
            ]
        );
        let Step::Drill(Drill::DcLoss { off, common, .. }) = &plan.steps[0].1 else { panic!("{plan:?}") };
        assert_eq!((*off, common.load.rate, common.load.seed), (Duration::from_secs(20), 50, 1));
        let Step::Drill(Drill::RegionLoss { lag, off, approver, .. }) = &plan.steps[5].1 else {
            panic!("{plan:?}")
        };
        assert_eq!((*lag, *off), (Duration::from_secs(2), parse_duration(super::super::DC_OFF).unwrap()));
        assert_eq!(approver.as_deref(), Some(Path::new("li.pem")));
    }

    #[test]
    fn mistakes_are_named_with_their_step() {
        for (step, said) in [
            ("  - {}\n", "step 1: write exactly one of"),
            ("  - dc-loss: a\n    moves: unit-1\n", "exactly one of"),
            ("  - dc-loss: a\n    count: 3\n", "`count` means nothing here"),
            ("  - dc-loss: a\n    lag: 3s\n", "`lag` means nothing here"),
            ("  - readiness: trial\n    off: 3s\n", "`off` means nothing here"),
            ("  - readiness: maybe\n", "maybe"),
            ("  - dc-loss: a\n  - pause: soon\n", "step 2: \"soon\" is not a duration"),
            ("  - moves: unit-1\n    count: 0\n", "count: write 1"),
            ("  - explode: a\n", "explode"),
            ("  - dc-loss: NOT A NAME\n", "name"),
        ] {
            let wrong = Plan::parse(&format!("{STEPS}{step}")).unwrap_err();
            assert!(wrong.contains(said), "{step}: {wrong}");
        }
        assert!(Plan::parse("name: q4\nsteps: []\n").unwrap_err().contains("1 to 100 steps"));
    }
}
