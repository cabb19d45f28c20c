//! `dujiang drill readiness`: whether every takeover would work now, found out by trying.

use std::path::PathBuf;
use std::time::Duration;

use dujiang_evidence::{FORMAT, Figure, Kind, Outcome, Report, Rule};
use dujiang_types::readiness::{
    Aspect, Check, ExaminationRequest, Examined, Findings, Readiness, Takeover, Trial,
};
use dujiang_types::{DcId, UnitId};
use dujiang_unit::readiness;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{EXIT_MISSED, evidence};
use crate::asked_by;
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};
use crate::progress::Progress;
use crate::table::{Cell, Table, Tone};

/// Between two looks how an examination stands: agents tell twice a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// An agent gives a trial up after five minutes, and cleans up; who is silent for longer than that is lost.
const EXAMINATION_MAX: Duration = Duration::from_secs(360);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    scope: Scope,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What is looked at, and how deep.
#[derive(Debug, clap::Args)]
pub(super) struct Scope {
    /// Only this unit; can be given several times [default: all]
    #[arg(long, value_name = "UNIT")]
    unit: Vec<UnitId>,
    /// Only this data center; can be given several times [default: all]
    #[arg(long, value_name = "DC")]
    dc: Vec<DcId>,
    /// Copy and promote nothing
    #[arg(long)]
    no_trial: bool,
}

impl Scope {
    /// Every takeover of the platform.
    pub(super) fn everything(trial: bool) -> Self {
        Self { unit: Vec::new(), dc: Vec::new(), no_trial: !trial }
    }
}

/// One takeover with all that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Looked {
    #[serde(flatten)]
    takeover: Takeover,
    /// False of a home, too: there is nothing to take over.
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Findings>,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    ready: bool,
    takeovers: &'a [Looked],
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let progress = Progress::new();
    let (looked, page) = context.block_on(carry_out(&args.scope, context, &progress))?;
    progress.clear();
    let ready = is_ready(&looked);
    // What was seen is shown whether or not it could be handed in.
    match args.output {
        Format::Json => {
            let evidence = page.as_ref().ok().cloned();
            output::json(&Shown { ready, takeovers: &looked, evidence })?;
        }
        Format::Table => print(&looked, page.as_ref().ok())?,
    }
    page?;
    if ready { Ok(()) } else { Err(Failure::silent(EXIT_MISSED)) }
}

/// Looks, and hands the report in. Beside what was seen stands where the report is, or why there is none.
pub(super) async fn carry_out(
    scope: &Scope,
    context: &Context,
    progress: &Progress,
) -> Result<(Vec<Looked>, Result<PathBuf, Failure>), Failure> {
    let client = Client::of(context)?;
    let began = Timestamp::now();
    let looked = look(scope, &client, progress).await?;
    progress.say("writing the report");
    let page = evidence::submit(context, &client, report(began, scope, &looked)).await;
    Ok((looked, page))
}

/// True if every takeover would work.
pub(super) fn is_ready(looked: &[Looked]) -> bool {
    looked.iter().all(|looked| looked.takeover.home || looked.ready)
}

/// How many takeovers would work, as a sentence.
pub(super) fn conclusion(looked: &[Looked]) -> String {
    let takeovers = looked.iter().filter(|looked| !looked.takeover.home);
    let ready = takeovers.clone().filter(|looked| looked.ready).count();
    format!("{ready} of {} takeovers would work now", takeovers.count())
}

/// Looks at one takeover after the other: a copy costs its data center some disk, and never two at once.
async fn look(scope: &Scope, client: &Client, progress: &Progress) -> Result<Vec<Looked>, Failure> {
    let wanted = |takeover: &Takeover| {
        (scope.unit.is_empty() || scope.unit.contains(&takeover.unit))
            && (scope.dc.is_empty() || scope.dc.contains(&takeover.dc))
    };
    let first: Readiness = client.get("/v1/readiness").await?;
    let mut looked: Vec<Looked> = Vec::new();
    for Takeover { unit, dc, .. } in first.takeovers.into_iter().filter(wanted) {
        // As of now: what came before has taken its time.
        let now: Readiness = client.get("/v1/readiness").await?;
        let found = now.takeovers.into_iter().find(|now| (&now.unit, &now.dc) == (&unit, &dc));
        let Some(mut takeover) = found else { continue };
        let mut findings = None;
        if !takeover.home {
            let say = |doing: &str| progress.say(format_args!("{unit} in {dc}: {doing}"));
            match examine(&takeover, !scope.no_trial, client, say).await? {
                Ok(found) => {
                    takeover.checks.push(readiness::identities(&found.identities, Timestamp::now()));
                    takeover.checks.extend(found.trial.as_ref().map(readiness::trial));
                    findings = Some(found);
                }
                Err(why) => {
                    let detail = format!("not looked at: {why}");
                    takeover.checks.push(Check { aspect: Aspect::Identities, holds: false, detail });
                }
            }
        }
        let ready = !takeover.home && takeover.is_ready();
        looked.push(Looked { takeover, ready, findings });
    }
    if looked.is_empty() {
        return Err(Failure::usage("no such unit has a replica in such a data center")
            .hint("`dujiang status` shows what there is"));
    }
    Ok(looked)
}

/// Has the agent look. Inside, why it did not.
async fn examine(
    takeover: &Takeover,
    trial: bool,
    client: &Client,
    say: impl Fn(&str),
) -> Result<Result<Findings, String>, Failure> {
    // An agent that is not heard hears of nothing.
    if let Some(silent) = takeover.checks.iter().find(|check| check.aspect == Aspect::Site && !check.holds) {
        return Ok(Err(silent.detail.clone()));
    }
    let request = ExaminationRequest { unit: takeover.unit.clone(), dc: takeover.dc.clone(), trial };
    let asked: Examined = match client.post("/v1/examinations", &request).await {
        Ok(asked) => asked,
        Err(refused) => return Ok(Err(refused.message().to_owned())),
    };
    let deadline = Instant::now() + EXAMINATION_MAX;
    let path = format!("/v1/examinations/{}", asked.id);
    while Instant::now() < deadline {
        match client.find::<Examined>(&path).await? {
            None => return Ok(Err("nobody took it up, or whoever did was started again".to_owned())),
            Some(Examined { findings: Some(findings), .. }) => return Ok(Ok(findings)),
            Some(examined) => say(&examined.doing),
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(Err(format!("not done within {} s", EXAMINATION_MAX.as_secs())))
}

/// The evidence: every check as a rule, every copy's times as figures.
fn report(began: Timestamp, scope: &Scope, looked: &[Looked]) -> Report {
    let takeovers: Vec<&Looked> = looked.iter().filter(|looked| !looked.takeover.home).collect();
    let rules = takeovers.iter().flat_map(|looked| {
        let place = place(&looked.takeover);
        looked.takeover.checks.iter().map(move |check| Rule {
            name: format!("{place}: {}", check.aspect),
            holds: check.holds,
            detail: check.detail.clone(),
        })
    });
    let mut remarks: Vec<String> = takeovers
        .iter()
        .filter(|looked| !looked.ready)
        .map(|looked| format!("{}: {}", place(&looked.takeover), why_not(&looked.takeover)))
        .collect();
    if scope.no_trial {
        remarks.push("no copy was promoted: it was asked for without".to_owned());
    }
    let ended = Timestamp::now();
    Report {
        format: FORMAT.to_owned(),
        id: evidence::name(began),
        platform: String::new(),
        kind: Kind::Drill,
        subject: format!("readiness of {} takeovers", takeovers.len()),
        outcome: if is_ready(looked) { Outcome::Succeeded } else { Outcome::Failed },
        conclusion: conclusion(looked),
        began,
        ended,
        written: ended,
        asked_by: asked_by::me(),
        approved_by: Vec::new(),
        units: Vec::new(),
        rules: rules.collect(),
        figures: takeovers.iter().flat_map(|looked| figures(looked)).collect(),
        load: None,
        books: None,
        remarks,
        operations: Vec::new(),
        versions: std::collections::BTreeMap::new(),
        previous: None,
    }
}

fn figures(looked: &Looked) -> Vec<Figure> {
    let Some(Trial::Promoted(done)) = looked.findings.as_ref().and_then(|findings| findings.trial.as_ref())
    else {
        return Vec::new();
    };
    let place = place(&looked.takeover);
    let times = [("copied", done.copied_ms), ("started", done.started_ms), ("promoted", done.promoted_ms)];
    let ms = |(what, ms): (&str, u64)| Figure {
        name: format!("{place}: copy {what}"),
        #[expect(clippy::cast_precision_loss, reason = "milliseconds, far below 2^52")]
        value: ms as f64,
        unit: "ms".to_owned(),
        limit: None,
    };
    times.map(ms).into()
}

fn place(takeover: &Takeover) -> String {
    format!("{} in {}", takeover.unit, takeover.dc)
}

fn why_not(takeover: &Takeover) -> String {
    let wrong = takeover.checks.iter().filter(|check| !check.holds);
    wrong.map(|check| format!("{}: {}", check.aspect, check.detail)).collect::<Vec<_>>().join("; ")
}

fn print(looked: &[Looked], page: Option<&PathBuf>) -> Result<(), Failure> {
    let paint = Paint::stdout();
    output::bytes(table(looked).render(paint).as_bytes())?;
    let conclusion = conclusion(looked);
    output::line(if is_ready(looked) { paint.green(conclusion) } else { paint.red(conclusion) })?;
    if let Some(page) = page {
        output::line(format_args!("evidence: {}", page.display()))?;
    }
    Ok(())
}

fn table(looked: &[Looked]) -> Table {
    let mut table = Table::new(&["UNIT", "DATA CENTER", "TAKEOVER", "COPIED", "PROMOTED IN", "WHY NOT"]);
    for Looked { takeover, ready, findings } in looked {
        let (word, tone) = match (takeover.home, ready) {
            (true, _) => ("at home", Tone::Plain),
            (false, true) => ("ready", Tone::Good),
            (false, false) => ("not ready", Tone::Bad),
        };
        let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
        let (copied, promoted) = match findings.as_ref().and_then(|findings| findings.trial.as_ref()) {
            Some(Trial::Promoted(done)) => (
                format!("{} MiB in {}", done.bytes >> 20, seconds(done.copied_ms)),
                seconds(done.promoted_ms),
            ),
            _ => ("-".to_owned(), "-".to_owned()),
        };
        let why = if takeover.is_ready() { "-".to_owned() } else { why_not(takeover) };
        table.row([
            takeover.unit.as_str().into(),
            takeover.dc.as_str().into(),
            Cell::new(word, tone),
            copied.into(),
            promoted.into(),
            why.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use dujiang_types::readiness::Promoted;

    use super::*;

    fn looked(dc: &str, holds: Option<bool>) -> Looked {
        let check = |holds| Check { aspect: Aspect::Replica, holds, detail: "it streams, or not".to_owned() };
        let takeover = Takeover {
            unit: UnitId::new("unit-1").unwrap(),
            dc: DcId::new(dc).unwrap(),
            home: holds.is_none(),
            checks: holds.map(check).into_iter().collect(),
        };
        let promoted =
            Promoted { timeline: 3, bytes: 50 << 20, copied_ms: 2_150, started_ms: 300, promoted_ms: 480 };
        let trial = Some(Trial::Promoted(promoted));
        let findings = (holds == Some(true)).then(|| Findings { identities: Vec::new(), trial });
        Looked { takeover, ready: holds == Some(true), findings }
    }

    #[test]
    fn what_is_not_ready_is_told_with_its_reason() {
        let all = [looked("a", None), looked("b", Some(true)), looked("c", Some(false))];
        let text = table(&all).render(Paint::none());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|s| !s.is_empty()).collect())
            .collect();
        assert_eq!(lines[1], ["unit-1", "a", "at home", "-", "-", "-"]);
        assert_eq!(lines[2], ["unit-1", "b", "ready", "50 MiB in 2.1 s", "0.4 s", "-"]);
        assert_eq!(lines[3], ["unit-1", "c", "not ready", "-", "-", "replica: it streams, or not"]);
        let scope = Scope::everything(true);
        let report = report(Timestamp::UNIX_EPOCH, &scope, &all);
        assert_eq!(
            (report.outcome, report.conclusion.as_str()),
            (Outcome::Failed, "1 of 2 takeovers would work now")
        );
        assert_eq!((report.rules.len(), report.figures.len(), report.remarks.len()), (2, 3, 1));
        let good = super::report(Timestamp::UNIX_EPOCH, &scope, &all[..2]);
        assert_eq!((good.outcome, good.remarks.len()), (Outcome::Succeeded, 0));
    }
}
