//! What a drill showed, as a report: handed in to the platform, which signs it, and kept beside its data.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_evidence::{Books, Envelope, FORMAT, Figure, Hasher, Kind, Load, Outcome, PublicKey, Report};
use dujiang_testkit::drill;
use dujiang_testkit::load::Summary;
use dujiang_testkit::verify;
use dujiang_types::operation::Operation;
use dujiang_types::{Kind as ResourceKind, UnitId};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::asked_by;
use crate::client::Client;
use crate::commands::{evidence, get};
use crate::context::Context;
use crate::failure::Failure;

/// The platform writes the reports of the operations themselves some seconds after they are over.
const OPERATIONS_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Violations that stand in a report; the checker's own report has them all.
const LISTED_MAX: usize = 20;
/// Pieces a journal is read in.
const PIECE_BYTES: usize = 1 << 16;

/// What the report of any drill is made of.
pub(super) struct Shown<'a> {
    pub(super) subject: String,
    pub(super) succeeded: bool,
    pub(super) figures: Vec<Figure>,
    pub(super) remarks: Vec<String>,
    pub(super) load: &'a Summary,
    pub(super) books: &'a verify::Report,
}

/// Hands the report of a drill in; where its page is kept.
pub(super) async fn hand_in(
    context: &Context,
    shown: Shown<'_>,
    began: Timestamp,
    journal: &Path,
) -> Result<PathBuf, Failure> {
    let client = Client::of(context)?;
    let key: dujiang_control::EvidenceList = client.get("/v1/evidence").await?;
    let suite =
        PublicKey::from_pem(&key.key).map_err(|e| Failure::because("the platform's key", &e))?.suite();
    let load = Load {
        sent: shown.load.total.operations,
        acknowledged: shown.load.total.acknowledged,
        failed: shown.load.total.failed_requests,
        journal_bytes: std::fs::metadata(journal).map_or(0, |meta| meta.len()),
        journal: digest(Hasher::new(suite), journal)?,
    };
    let conclusion = conclusion(&shown);
    let (operations, units) = operations_since(&client, began).await?;
    let ended = Timestamp::now();
    let report = Report {
        format: FORMAT.to_owned(),
        id: name(began),
        platform: String::new(),
        kind: Kind::Drill,
        subject: shown.subject,
        outcome: if shown.succeeded { Outcome::Succeeded } else { Outcome::Failed },
        conclusion,
        began,
        ended,
        written: ended,
        asked_by: asked_by::me(),
        approved_by: Vec::new(),
        units,
        rules: Vec::new(),
        figures: shown.figures,
        load: Some(load),
        books: Some(books(shown.books)),
        remarks: shown.remarks,
        operations,
        versions: std::collections::BTreeMap::new(),
        previous: None,
    };
    submit(context, &client, report).await
}

/// Hands a report in, to be signed; where its page is kept.
pub(super) async fn submit(context: &Context, client: &Client, report: Report) -> Result<PathBuf, Failure> {
    let envelope: Envelope = client.post("/v1/evidence", &report).await?;
    let folder = context.data().join("evidence");
    evidence::write_both(&folder, &report.id, &envelope)
}

/// Ordered by time, and never the same twice.
pub(super) fn name(began: Timestamp) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("drill-{}-{}", began.strftime("%Y%m%d-%H%M%S"), &random[..6])
}

fn conclusion(shown: &Shown<'_>) -> String {
    if !shown.books.is_clean() {
        return format!("{} violations of the rules of the books", shown.books.violation_count);
    }
    let beyond = shown.figures.iter().filter(|figure| !figure.is_within()).count();
    let rest = match (shown.succeeded, beyond) {
        (false, _) => "not everything came back in time".to_owned(),
        (true, 0) => "everything came back, every figure within its limit".to_owned(),
        (true, beyond) => format!("everything came back, {beyond} figures beyond their limits"),
    };
    format!("{}; {rest}", lost_or_not(shown.books))
}

/// What became of what was acknowledged, if no rule of the books is broken.
pub(super) fn lost_or_not(books: &verify::Report) -> String {
    match books.journal.map_or(0, |journal| journal.lost) {
        0 => "nothing lost, doubled or invented".to_owned(),
        lost => format!(
            "{lost} acknowledged payments lost, each named by a manifest; nothing doubled or invented"
        ),
    }
}

fn books(report: &verify::Report) -> Books {
    let journal = report.journal.unwrap_or_default();
    Books {
        acknowledged: journal.acknowledged,
        refused: journal.refused,
        unknown: journal.unknown_done + journal.unknown_not_done,
        violations: report.violation_count,
        lost: journal.lost,
        listed: report
            .violations
            .iter()
            .take(LISTED_MAX)
            .map(|v| format!("{}: {}", v.rule, v.what))
            .collect(),
    }
}

/// The operations that began since, and what their own reports say of their units.
async fn operations_since(
    client: &Client,
    began: Timestamp,
) -> Result<(Vec<String>, Vec<dujiang_evidence::UnitPart>), Failure> {
    let deadline = Instant::now() + OPERATIONS_MAX;
    let items = get::list(client, ResourceKind::Operation).await?;
    let operations = items.into_iter().filter_map(|item| serde_json::from_value::<Operation>(item).ok());
    let since = |operation: &Operation| operation.status.steps.first().is_some_and(|step| step.at >= began);
    let mut operations: Vec<Operation> = operations.filter(since).collect();
    operations.sort_by_key(|operation| operation.status.steps.first().map(|step| step.at));
    let mut units = Vec::new();
    for operation in &operations {
        let path = format!("/v1/evidence/{}", operation.name);
        loop {
            let found: Option<Envelope> = client.find(&path).await?;
            if let Some(report) = found.and_then(|envelope| envelope.read().ok()) {
                units.extend(report.units);
                break;
            }
            if Instant::now() > deadline {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
    }
    Ok((operations.into_iter().map(|operation| operation.name).collect(), units))
}

fn digest(mut hasher: Hasher, path: &Path) -> Result<dujiang_evidence::Digest, Failure> {
    let cannot = |e: std::io::Error| Failure::because(format!("cannot read {}", path.display()), &e);
    let mut file = File::open(path).map_err(cannot)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(cannot)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// A figure in milliseconds with its limit.
fn ms(name: String, value: f64, limit: Option<f64>) -> Figure {
    Figure { name, value, unit: "ms".to_owned(), limit }
}

/// The figures of planned moves.
pub(super) fn of_moves(report: &drill::MovesReport) -> Vec<Figure> {
    let limit = Some(report.hold_limit_ms);
    let mut figures = vec![ms("median of the longest holds".to_owned(), report.median_hold_ms, limit)];
    for (number, outcome) in (1..).zip(&report.moves) {
        let number: u32 = number;
        let name = format!("longest hold of move {number}, {} to {}", outcome.from, outcome.to);
        figures.push(ms(name, outcome.longest_hold_ms, None));
    }
    figures
}

/// The figures of a fault.
pub(super) fn of_fault(report: &drill::Report) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (unit, outage) in &report.units {
        let unit: &UnitId = unit;
        let limit = Some(report.outage_limit_ms);
        figures.push(ms(format!("longest silence for payments of {unit}"), outage.outage_ms, limit));
        if !outage.at_fault {
            figures.push(Figure {
                name: format!("failed requests of {unit}, at home elsewhere"),
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                value: outage.failed_otherwise as f64,
                unit: "requests".to_owned(),
                limit: Some(0.0),
            });
        }
    }
    let seconds = [
        ("every unit served again", report.serving_after_s),
        ("every replica was back", report.whole_after_s),
    ];
    for (name, seconds) in seconds {
        figures.extend(seconds.map(|s| ms(name.to_owned(), s * 1000.0, None)));
    }
    figures
}

/// The figures of a lost region.
pub(super) fn of_region(report: &drill::RegionReport) -> Vec<Figure> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = |name: String, value: u64, unit: &str| Figure {
        name,
        value: value as f64,
        unit: unit.to_owned(),
        limit: None,
    };
    let mut figures = Vec::new();
    for (unit, loss) in &report.units {
        if let Some(shown) = loss.shown {
            figures.push(count(format!("{unit}: shown to be missing"), shown.bytes, "bytes"));
            let transfers =
                shown.transfers.map(|n| count(format!("{unit}: shown to be missing"), n, "transfers"));
            figures.extend(transfers);
        }
        let (lost, told) = (loss.lost as u64, loss.acknowledged as u64);
        figures.push(count(format!("{unit}: lost, by the manifests"), lost, "transfers"));
        figures.push(count(format!("{unit}: lost although acknowledged"), told, "transfers"));
    }
    let seconds = [
        ("every unit served again, orders included", report.serving_after_s),
        ("every replica was back", report.whole_after_s),
    ];
    for (name, seconds) in seconds {
        figures.extend(seconds.map(|s| ms(name.to_owned(), s * 1000.0, None)));
    }
    figures
}
