//! What a drill showed, for people and for the report.

use dujiang_testkit::drill::{MovesReport, RegionReport, Report};
use dujiang_testkit::load::Summary;
use dujiang_testkit::verify::Report as Books;
use dujiang_types::DcId;
use serde::Serialize;

use super::evidence;
use crate::commands::{load, verify};
use crate::failure::Failure;
use crate::figures::rounded;
use crate::output::{self, Paint};
use crate::table::{Cell, Table, Tone};

/// What a drill showed, whichever it was.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Shown {
    /// Something was broken.
    Fault(Report),
    /// A unit was moved.
    Moves(MovesReport),
    /// A region was lost.
    Region(RegionReport),
}

impl Shown {
    pub(super) fn is_correct(&self) -> bool {
        match self {
            Self::Fault(report) => report.is_correct(),
            Self::Moves(report) => report.is_correct(),
            Self::Region(report) => report.is_correct(),
        }
    }

    pub(super) fn is_within_limits(&self) -> bool {
        match self {
            Self::Fault(report) => report.is_within_limits(),
            Self::Moves(report) => report.is_within_limits(),
            // How long people take has no limit of ours.
            Self::Region(report) => report.is_correct(),
        }
    }

    /// The first thing that is wrong.
    pub(super) fn trouble(&self) -> String {
        let (books, trouble) = match self {
            Self::Fault(report) => (&report.books, report.troubles.first().cloned()),
            Self::Moves(report) => (&report.books, None),
            Self::Region(report) => (&report.books, report.troubles.first().cloned()),
        };
        let violated =
            books.violations.first().map(|violation| format!("{}: {}", violation.rule, violation.what));
        violated.or(trouble).unwrap_or_else(|| "it was stopped before its time".to_owned())
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        match self {
            Self::Fault(report) => fault(report),
            Self::Moves(report) => moves(report),
            Self::Region(report) => region(report),
        }
    }

    /// What its report is made of.
    pub(super) fn evidence(&self) -> evidence::Shown<'_> {
        match self {
            Self::Fault(report) => evidence::Shown {
                subject: report.fault.clone(),
                succeeded: report.is_correct(),
                figures: evidence::of_fault(report),
                remarks: report.troubles.clone(),
                load: &report.load,
                books: &report.books,
            },
            Self::Moves(report) => evidence::Shown {
                subject: match report.moves.len() {
                    1 => format!("planned move of {}", report.unit),
                    count => format!("{count} planned moves of {}", report.unit),
                },
                succeeded: report.is_correct(),
                figures: evidence::of_moves(report),
                remarks: Vec::new(),
                load: &report.load,
                books: &report.books,
            },
            Self::Region(report) => evidence::Shown {
                subject: format!("loss of {} at once", names(report)),
                succeeded: report.is_correct(),
                figures: evidence::of_region(report),
                remarks: remarks(report),
                load: &report.load,
                books: &report.books,
            },
        }
    }
}

fn names(report: &RegionReport) -> String {
    report.lost.iter().map(DcId::as_str).collect::<Vec<_>>().join(" and ")
}

/// What was refused, and by whose order it was done all the same.
fn remarks(report: &RegionReport) -> Vec<String> {
    let refused =
        report.units.iter().map(|(unit, loss)| format!("{unit} was not taken over: {}", loss.refused));
    let ordered = report.ordered.iter().map(|name| format!("{name} was ordered by two operators"));
    report.troubles.iter().cloned().chain(refused).chain(ordered).collect()
}

fn region(report: &RegionReport) -> Result<(), Failure> {
    let paint = Paint::stdout();
    output::line(paint.bold(format_args!("loss of {}: {} processes killed", names(report), report.killed)))?;
    let headings = [
        "UNIT",
        "HOME AFTER",
        "SHOWN BYTES",
        "SHOWN MS",
        "SHOWN TRANSFERS",
        "LOST TRANSFERS",
        "OF THESE ACKNOWLEDGED",
        "REFUSED BEFORE",
    ];
    let mut table = Table::new(&headings);
    for (unit, loss) in &report.units {
        let figure = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        table.row([
            unit.as_str().into(),
            loss.home_after.as_ref().map_or("-", |dc| dc.as_str()).into(),
            figure(loss.shown.map(|shown| shown.bytes)).into(),
            figure(loss.shown.map(|shown| shown.lag_ms)).into(),
            figure(loss.shown.and_then(|shown| shown.transfers)).into(),
            loss.lost.to_string().into(),
            loss.acknowledged.to_string().into(),
            loss.refused.as_str().into(),
        ]);
    }
    output::bytes(table.render(paint).as_bytes())?;
    output::line(format_args!(
        "every unit served again after {}, by {} orders; {} payments without the region; every replica was back {} after its return",
        seconds(report.serving_after_s),
        report.ordered.len(),
        report.paid_meanwhile,
        seconds(report.whole_after_s)
    ))?;
    end(paint, &report.troubles, &report.load, &report.books)
}

/// What every report ends with: what else went wrong, the load, and the books.
fn end(paint: Paint, troubles: &[String], driven: &Summary, books: &Books) -> Result<(), Failure> {
    for trouble in troubles {
        output::line(paint.red(trouble))?;
    }
    output::bytes(load::table(driven).render(paint).as_bytes())?;
    verify::print(books)
}

fn fault(report: &Report) -> Result<(), Failure> {
    let paint = Paint::stdout();
    output::line(paint.bold(format_args!("{}: {} processes killed", report.fault, report.killed)))?;
    output::bytes(units(report).render(paint).as_bytes())?;
    output::line(format_args!(
        "every unit served again after {}; every replica was back {} after the return",
        seconds(report.serving_after_s),
        seconds(report.whole_after_s)
    ))?;
    end(paint, &report.troubles, &report.load, &report.books)
}

/// A time that may never have come.
fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "never".to_owned(), |s| format!("{} s", rounded(s)))
}

fn moves(report: &MovesReport) -> Result<(), Failure> {
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
    for (number, outcome) in (1..).zip(&report.moves) {
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
        rounded(report.median_hold_ms),
        rounded(report.hold_limit_ms)
    ))?;
    end(paint, &[], &report.load, &report.books)
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
