//! `dujiang evidence verify`

use std::path::{Path, PathBuf};

use dujiang_evidence::{Envelope, PublicKey, Report, chain, html};
use dujiang_types::error;
use serde::Serialize;

use super::{all, trusted};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};

/// Exit code when a report proves nothing.
const EXIT_WRONG: u8 = 1;

/// What came of checking one file, or all reports together.
#[derive(Debug, Serialize)]
struct Checked {
    what: String,
    valid: bool,
    detail: String,
}

/// Checks files, or everything the platform keeps.
pub(super) fn run(
    context: &Context,
    files: &[PathBuf],
    keys: &[PathBuf],
    format: Format,
) -> Result<(), Failure> {
    let keys = trusted(context, keys)?;
    let checked = if files.is_empty() {
        vec![kept(context, &keys)?]
    } else {
        files.iter().map(|path| file(path, &keys)).collect::<Result<_, _>>()?
    };
    match format {
        Format::Json => output::json(&checked)?,
        Format::Table => {
            let paint = Paint::stdout();
            for Checked { what, valid, detail } in &checked {
                let verdict = if *valid { paint.green("valid") } else { paint.red("NOT VALID") };
                output::line(format_args!("{what}: {verdict}: {detail}"))?;
            }
        }
    }
    if checked.iter().all(|checked| checked.valid) { Ok(()) } else { Err(Failure::silent(EXIT_WRONG)) }
}

fn kept(context: &Context, keys: &[PublicKey]) -> Result<Checked, Failure> {
    let envelopes = all(context)?;
    let what = format!("{} reports kept by the platform", envelopes.len());
    Ok(match chain::check(&envelopes, keys) {
        Ok(_) => Checked {
            what,
            valid: true,
            detail: "each is signed, and none is missing between them".to_owned(),
        },
        Err(error) => Checked { what, valid: false, detail: error::chain(&error) },
    })
}

fn file(path: &Path, keys: &[PublicKey]) -> Result<Checked, Failure> {
    let what = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|e| Failure::because(format!("cannot read {what}"), &e))?;
    let carried = html::carried(&text);
    let is_page = carried.is_some();
    let envelope: Option<Envelope> = carried.or_else(|| serde_json::from_str(&text).ok());
    let Some(envelope) = envelope else {
        let detail = "there is no signed report in this file".to_owned();
        return Ok(Checked { what, valid: false, detail });
    };
    Ok(match envelope.open(keys) {
        Ok(report) if is_page && html::page(&envelope).is_ok_and(|page| page != text) => {
            let detail = format!("the page was changed; the report {} it carries is signed", report.id);
            Checked { what, valid: false, detail }
        }
        Ok(Report { id, platform, subject, conclusion, .. }) => {
            Checked { what, valid: true, detail: format!("{id} of {platform}: {subject}: {conclusion}") }
        }
        Err(error) => Checked { what, valid: false, detail: error::chain(&error) },
    })
}
