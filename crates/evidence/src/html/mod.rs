//! A report for people: one page that needs nothing else, with a drawing of each unit's timeline. It carries its own
//! envelope, so that what is signed travels with what is shown.

mod timeline;

use std::fmt::{self, Write};

use crate::{Books, Envelope, EnvelopeError, Figure, Load, Outcome, Report, Requests, UnitPart};

const STYLE: &str = include_str!("page.css");
/// Marks where a page carries its envelope.
const ENVELOPE_BEGINS: &str = "<script type=\"application/json\" id=\"envelope\">";
const ENVELOPE_ENDS: &str = "</script>";

/// The page of a signed report.
pub fn page(envelope: &Envelope) -> Result<String, EnvelopeError> {
    let report = envelope.read()?;
    let carried = serde_json::to_string(envelope).map_err(EnvelopeError::Json)?;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut out, &report, envelope);
    // A base64 payload has no "<"; names of keys are ours. Escaped all the same: it ends the element.
    let _ =
        writeln!(out, "{ENVELOPE_BEGINS}{}{ENVELOPE_ENDS}\n</body></html>", carried.replace('<', "\\u003c"));
    Ok(out)
}

/// The envelope a page carries, if it is one of ours.
pub fn carried(page: &str) -> Option<Envelope> {
    let (_, rest) = page.split_once(ENVELOPE_BEGINS)?;
    let (json, _) = rest.split_once(ENVELOPE_ENDS)?;
    serde_json::from_str(json).ok()
}

fn write_page(out: &mut String, report: &Report, envelope: &Envelope) -> fmt::Result {
    let subject = escape(&report.subject);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{subject}: evidence</title>\n<style>{STYLE}</style></head>\n<body>\n<header><h1>{subject}</h1>\n"
    )?;
    let (class, word) = match report.outcome {
        Outcome::Succeeded => ("good", "succeeded"),
        Outcome::Failed => ("bad", "failed"),
    };
    writeln!(
        out,
        "<p><strong class=\"{class}\">{word}</strong> {}</p></header>",
        escape(&report.conclusion)
    )?;
    facts(out, report)?;
    figures(out, &report.figures)?;
    for unit in &report.units {
        write_unit(out, unit)?;
    }
    rules(out, report)?;
    if let Some(load) = &report.load {
        write_load(out, load)?;
    }
    if let Some(books) = &report.books {
        write_books(out, books)?;
    }
    list(out, "Remarks", &report.remarks)?;
    list(out, "Operations", &report.operations)?;
    let versions: Vec<String> =
        report.versions.iter().map(|(what, version)| format!("{what} {version}")).collect();
    list(out, "Versions", &versions)?;
    signature(out, report, envelope)
}

fn facts(out: &mut String, report: &Report) -> fmt::Result {
    out.push_str("<dl>");
    let mut fact = |name: &str, value: &str| write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    fact("Report", &report.id)?;
    fact("Platform", &report.platform)?;
    fact("Began", &report.began.to_string())?;
    fact("Ended", &report.ended.to_string())?;
    fact("Asked for by", &report.asked_by)?;
    if !report.approved_by.is_empty() {
        fact("Approved by", &report.approved_by.join(", "))?;
    }
    out.push_str("</dl>\n");
    Ok(())
}

fn figures(out: &mut String, figures: &[Figure]) -> fmt::Result {
    if figures.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Measured</h2><table><tr><th>Figure</th><th>Value</th><th>Limit</th></tr>");
    for figure in figures {
        let class = if figure.is_within() { "good" } else { "bad" };
        let limit = figure.limit.map_or_else(|| "-".to_owned(), number);
        let (name, unit) = (escape(&figure.name), escape(&figure.unit));
        let value = number(figure.value);
        write!(
            out,
            "<tr><td>{name}</td><td class=\"n {class}\">{value} {unit}</td><td class=\"n\">{limit}</td></tr>"
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn write_unit(out: &mut String, part: &UnitPart) -> fmt::Result {
    let home = |dc: &Option<_>| dc.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
    write!(out, "<section><h2>{}", part.unit)?;
    if part.from == part.to {
        write!(out, ": stayed in {}", home(&part.to))?;
    } else {
        write!(out, ": {} to {}", home(&part.from), home(&part.to))?;
    }
    if let Some(epoch) = part.epoch {
        write!(out, ", epoch {epoch}")?;
    }
    out.push_str("</h2>\n");
    timeline::draw(out, &part.timeline)?;
    if !part.recovery_ms.is_empty() {
        out.push_str("<p>Served again after: ");
        let layers = part.recovery_ms.iter();
        let texts: Vec<String> =
            layers.map(|(layer, ms)| format!("{} <b>{} ms</b>", layer.name(), number(*ms))).collect();
        writeln!(out, "{}.</p>", texts.join(", "))?;
    }
    if let Some(Requests { held, longest_hold_ms, failed, gateways }) = part.requests {
        writeln!(
            out,
            "<p>Requests at {gateways} gateways: {held} held, the longest {} ms; {failed} failed.</p>",
            number(longest_hold_ms)
        )?;
    }
    out.push_str("</section>\n");
    Ok(())
}

fn rules(out: &mut String, report: &Report) -> fmt::Result {
    if report.rules.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Safety rules</h2><table><tr><th>Rule</th><th>Verdict</th><th>Seen</th></tr>");
    for rule in &report.rules {
        let (class, word) = if rule.holds { ("good", "allows it") } else { ("bad", "refuses") };
        let (name, detail) = (escape(&rule.name), escape(&rule.detail));
        write!(out, "<tr><td>{name}</td><td class=\"{class}\">{word}</td><td>{detail}</td></tr>")?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn write_load(out: &mut String, load: &Load) -> fmt::Result {
    writeln!(
        out,
        "<h2>Load</h2><p>{} requests sent, {} payments acknowledged, {} requests failed. The clients' journal has \
         {} bytes, digest <code>{}</code>.</p>",
        load.sent, load.acknowledged, load.failed, load.journal_bytes, load.journal
    )
}

fn write_books(out: &mut String, books: &Books) -> fmt::Result {
    let (class, word) = match (books.violations, books.lost) {
        (0, 0) => ("good", "nothing lost, doubled or invented".to_owned()),
        (0, lost) => ("bad", format!("{lost} acknowledged payments lost, as loss manifests name them")),
        (violations, _) => ("bad", format!("{violations} violations")),
    };
    writeln!(
        out,
        "<h2>Recovery point</h2><p><strong class=\"{class}\">{word}</strong>: {} payments acknowledged and in the \
         books, {} refused and not there, {} of unknown outcome.</p>",
        books.acknowledged, books.refused, books.unknown
    )?;
    list(out, "Violations", &books.listed)
}

fn list(out: &mut String, title: &str, items: &[String]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(out, "<h2>{title}</h2><ul>")?;
    for item in items {
        write!(out, "<li>{}</li>", escape(item))?;
    }
    out.push_str("</ul>\n");
    Ok(())
}

fn signature(out: &mut String, report: &Report, envelope: &Envelope) -> fmt::Result {
    out.push_str("<h2>Signature</h2><dl>");
    for signature in &envelope.signatures {
        write!(out, "<dt>Key</dt><dd><code>{}</code></dd>", escape(&signature.keyid))?;
    }
    let previous = report.previous.as_ref();
    let previous = previous
        .map_or_else(|| "none that is kept".to_owned(), |link| format!("{} {}", link.id, link.digest));
    write!(out, "<dt>Follows</dt><dd><code>{}</code></dd></dl>", escape(&previous))?;
    out.push_str(
        "<p>What is signed is the envelope this page carries, not how the page looks. Check it with \
         <code>dujiang evidence verify --key PUBLIC.pem THIS-FILE</code>.</p>\n",
    );
    Ok(())
}

/// Milliseconds and counts, without digits nobody can measure.
fn number(value: f64) -> String {
    if value.fract().abs() < f64::EPSILON { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Text within HTML, also within an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::tests::report;
    use crate::{Layer, Moment, Rule, Signer, Suite};
    use dujiang_types::{DcId, Epoch, UnitId};
    use jiff::Timestamp;

    fn full() -> Report {
        let moment = |ms: u32, layer, what: &str| Moment {
            at: Timestamp::UNIX_EPOCH,
            after_ms: ms.into(),
            layer,
            what: what.to_owned(),
            detail: "<script>alert(1)</script>".to_owned(),
        };
        let unit = UnitPart {
            unit: UnitId::new("unit-1").unwrap(),
            from: Some(DcId::new("a").unwrap()),
            to: Some(DcId::new("b").unwrap()),
            epoch: Some(Epoch(7)),
            timeline: vec![
                moment(0, Layer::Control, "detected"),
                moment(210, Layer::Data, "promoted"),
                moment(260, Layer::Application, "first success"),
            ],
            recovery_ms: [(Layer::Data, 210.0)].into(),
            requests: Some(Requests { held: 3, longest_hold_ms: 251.5, failed: 0, gateways: 2 }),
        };
        let rule =
            Rule { name: "capacity".to_owned(), holds: false, detail: "97 % of connections".to_owned() };
        let figure =
            Figure { name: "outage".to_owned(), value: 12.0, unit: "ms".to_owned(), limit: Some(9.0) };
        let books =
            Books { acknowledged: 5, refused: 1, unknown: 0, violations: 0, lost: 0, listed: Vec::new() };
        Report {
            units: vec![unit],
            rules: vec![rule],
            figures: vec![figure],
            books: Some(books),
            remarks: vec!["a & b".to_owned()],
            ..report("move-1")
        }
    }

    #[test]
    fn what_was_lost_is_not_called_a_recovery_point_of_zero() {
        let books = full().books.map(|books| Books { lost: 3, ..books });
        let report = Report { books, ..full() };
        let page = page(&Envelope::seal(&report, &Signer::generate(Suite::International)).unwrap()).unwrap();
        assert!(page.contains("3 acknowledged payments lost") && !page.contains("nothing lost"));
    }

    #[test]
    fn a_page_shows_everything_and_carries_its_envelope() {
        let signer = Signer::generate(Suite::National);
        let envelope = Envelope::seal(&full(), &signer).unwrap();
        let page = page(&envelope).unwrap();
        for text in [
            "unit-1: a to b, epoch 7",
            "first success",
            "251.5 ms",
            "97 % of connections",
            "a &amp; b",
            "nothing lost, doubled or invented",
            "<svg",
        ] {
            assert!(page.contains(text), "{text} is missing in:\n{page}");
        }
        assert_eq!(page.matches("<script").count(), 1, "nothing of a report becomes a script");
        for outside in ["http:", "https:", "src="] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "the page needs {outside}");
        }
        let again = carried(&page).unwrap();
        assert_eq!(again, envelope);
        assert_eq!(again.open(&[signer.public()]).unwrap(), full());
        assert!(carried("<html></html>").is_none());
    }
}
