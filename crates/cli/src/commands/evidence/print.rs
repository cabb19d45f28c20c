//! Reports for people at a terminal.

use dujiang_control::EvidenceLine;
use dujiang_evidence::{Outcome, Report};

use crate::failure::Failure;
use crate::figures::rounded;
use crate::output::{self, Paint};
use crate::table::{Cell, Table, Tone};

/// The list.
pub(super) fn lines(items: &[EvidenceLine]) -> Table {
    let mut table = Table::new(&["ID", "SUBJECT", "OUTCOME", "BEGAN", "ASKED BY"]);
    for line in items {
        table.row([
            line.id.as_str().into(),
            line.subject.as_str().into(),
            outcome(line.outcome),
            format!("{:.0}", line.began).into(),
            line.asked_by.as_str().into(),
        ]);
    }
    table
}

fn outcome(outcome: Outcome) -> Cell {
    match outcome {
        Outcome::Succeeded => Cell::new("succeeded", Tone::Good),
        Outcome::Failed => Cell::new("failed", Tone::Bad),
    }
}

/// One report.
pub fn print(report: &Report, paint: Paint) -> Result<(), Failure> {
    output::line(paint.bold(&report.subject))?;
    let word = match report.outcome {
        Outcome::Succeeded => paint.green("succeeded"),
        Outcome::Failed => paint.red("failed"),
    };
    output::line(format_args!("{word}: {}", report.conclusion))?;
    output::line(format_args!("{} to {}, asked for by {}", report.began, report.ended, report.asked_by))?;
    for name in &report.approved_by {
        output::line(format_args!("approved by {name}"))?;
    }
    for unit in &report.units {
        output::line("")?;
        output::line(paint.bold(&unit.unit))?;
        let mut table = Table::new(&["AFTER MS", "LAYER", "WHAT", "DETAIL"]);
        for moment in &unit.timeline {
            table.row([
                rounded(moment.after_ms).into(),
                moment.layer.name().into(),
                moment.what.as_str().into(),
                moment.detail.as_str().into(),
            ]);
        }
        output::bytes(table.render(paint).as_bytes())?;
        for (layer, ms) in &unit.recovery_ms {
            output::line(format_args!("{} served again after {} ms", layer.name(), rounded(*ms)))?;
        }
        if let Some(requests) = unit.requests {
            output::line(format_args!(
                "{} requests were held, the longest for {} ms; {} failed",
                requests.held,
                rounded(requests.longest_hold_ms),
                requests.failed
            ))?;
        }
    }
    figures(report, paint)?;
    for rule in &report.rules {
        let verdict = if rule.holds { paint.green("allows it") } else { paint.red("refuses") };
        output::line(format_args!("rule {} {verdict}: {}", rule.name, rule.detail))?;
    }
    if let Some(books) = &report.books {
        output::line(format_args!(
            "books: {} violations, {} acknowledged and lost; {} acknowledged and there, {} refused and not there, {} unknown",
            books.violations, books.lost, books.acknowledged, books.refused, books.unknown
        ))?;
    }
    for remark in &report.remarks {
        output::line(paint.yellow(remark))?;
    }
    Ok(())
}

fn figures(report: &Report, paint: Paint) -> Result<(), Failure> {
    if report.figures.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let mut table = Table::new(&["FIGURE", "VALUE", "LIMIT"]);
    for figure in &report.figures {
        let tone = if figure.is_within() { Tone::Good } else { Tone::Bad };
        table.row([
            figure.name.as_str().into(),
            Cell::new(format!("{} {}", rounded(figure.value), figure.unit), tone),
            figure.limit.map_or_else(|| "-".to_owned(), rounded).into(),
        ]);
    }
    output::bytes(table.render(paint).as_bytes())
}
