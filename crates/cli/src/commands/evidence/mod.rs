//! `dujiang evidence list|show|verify|export|key`

mod print;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dujiang_agent::files;
use dujiang_control::EvidenceList;
use dujiang_evidence::{Envelope, html};

use crate::client::Client;
use crate::context::Context;
use crate::evidence_key;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};
use crate::progress::Progress;

pub use print::print;

/// Show and check the signed reports of moves, failovers and drills
///
/// The platform writes a report of every move, failover and drill: what happened when on which layer, how long
/// customers waited, what the checker found. Each is signed with the platform's key and names the one before it, so that
/// none can be changed or taken out unnoticed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dujiang evidence list
  dujiang evidence show drill-20261123-0190f3 --html report.html
  dujiang evidence verify                            all that the platform keeps, and their order
  dujiang evidence verify --key bank.pem report.html")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the reports the platform keeps, newest first
    #[command(after_help = "Examples:\n  dujiang evidence list\n  dujiang evidence list -o json")]
    List {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show one report
    #[command(after_help = "Examples:
  dujiang evidence show failover-unit-1-7
  dujiang evidence show failover-unit-1-7 -o json
  dujiang evidence show failover-unit-1-7 --html report.html")]
    Show {
        /// Its name
        id: String,
        /// Write it as one page for a browser, which carries the signed report
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Check signatures: of files, or of all reports the platform keeps and that none is missing between them
    #[command(after_help = "\
Exits with 1 if anything is wrong. Without --key the public keys in the platform's folder are trusted; an auditor names
the key that was handed over (`dujiang evidence key`).

Examples:
  dujiang evidence verify
  dujiang evidence verify --key bank.pem report.html report.json -o json")]
    Verify {
        /// Reports as JSON or HTML [default: all that the platform keeps]
        files: Vec<PathBuf>,
        /// A public key to trust, as PEM; may be given several times
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Write all reports into a folder, each as JSON and as a page
    #[command(after_help = "Example:\n  dujiang evidence export /srv/audit/2026")]
    Export {
        /// The folder; what is there already is left alone
        folder: PathBuf,
    },
    /// Print the public key the platform signs with
    #[command(after_help = "Example:\n  dujiang evidence key > bank.pem")]
    Key {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Command::List { output } => list(context, *output),
        Command::Show { id, html, output } => show(context, id, html.as_deref(), *output),
        Command::Verify { files, keys, output } => verify::run(context, files, keys, *output),
        Command::Export { folder } => export(context, folder),
        Command::Key { output } => key(context, *output),
    }
}

fn list(context: &Context, format: Format) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let list: EvidenceList = context.block_on(client.get("/v1/evidence"))?;
    match format {
        Format::Json => output::json(&list),
        Format::Table if list.items.is_empty() => {
            eprintln!("there is no evidence yet: no move, failover or drill is over");
            Ok(())
        }
        Format::Table => output::bytes(print::lines(&list.items).render(Paint::stdout()).as_bytes()),
    }
}

fn show(context: &Context, id: &str, page: Option<&Path>, format: Format) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let envelope: Envelope = context.block_on(client.get(&format!("/v1/evidence/{id}")))?;
    if let Some(path) = page {
        write_page(path, &envelope)?;
        eprintln!("{} is written", path.display());
        return Ok(());
    }
    let report = envelope.read().map_err(|e| Failure::because("the report cannot be read", &e))?;
    match format {
        Format::Json => output::json(&report),
        Format::Table => print(&report, Paint::stdout()),
    }
}

fn export(context: &Context, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|e| Failure::because(format!("cannot create {}", folder.display()), &e))?;
    let envelopes = all(context)?;
    let mut written = 0;
    for (id, envelope) in &envelopes {
        if !folder.join(format!("{id}.json")).exists() {
            write_both(folder, id, envelope)?;
            written += 1;
        }
    }
    output::line(format_args!("{written} of {} reports were new in {}", envelopes.len(), folder.display()))
}

fn key(context: &Context, format: Format) -> Result<(), Failure> {
    let client = Client::of(context)?;
    let list: EvidenceList = context.block_on(client.get("/v1/evidence"))?;
    match format {
        Format::Json => {
            output::json(&BTreeMap::from([("key", &list.key), ("fingerprint", &list.fingerprint)]))
        }
        Format::Table => output::bytes(list.key.as_bytes()),
    }
}

/// All reports the platform keeps.
fn all(context: &Context) -> Result<BTreeMap<String, Envelope>, Failure> {
    let client = Client::of(context)?;
    let progress = Progress::new();
    let envelopes = context.block_on(async {
        let list: EvidenceList = client.get("/v1/evidence").await?;
        let mut envelopes = BTreeMap::new();
        for line in &list.items {
            progress.say(format_args!("reading {} of {}", envelopes.len() + 1, list.items.len()));
            // One may be deleted meanwhile: the oldest are.
            if let Some(envelope) = client.find(&format!("/v1/evidence/{}", line.id)).await? {
                envelopes.insert(line.id.clone(), envelope);
            }
        }
        Ok(envelopes)
    });
    progress.clear();
    envelopes
}

/// Writes a report as JSON and as a page into a folder; the page's path.
pub fn write_both(folder: &Path, id: &str, envelope: &Envelope) -> Result<PathBuf, Failure> {
    let path = folder.join(format!("{id}.json"));
    let json = serde_json::to_vec_pretty(envelope).map_err(|e| Failure::because("cannot write JSON", &e))?;
    write(&path, &json)?;
    let page = folder.join(format!("{id}.html"));
    write_page(&page, envelope)?;
    Ok(page)
}

fn write_page(path: &Path, envelope: &Envelope) -> Result<(), Failure> {
    let page = html::page(envelope).map_err(|e| Failure::because("the report cannot be shown", &e))?;
    write(path, page.as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::write_whole(path, bytes, files::MODE_PUBLIC)
        .map_err(|e| Failure::because(format!("cannot write {}", path.display()), &e))
}

/// The keys to trust: those named, or those of the platform in the folder.
fn trusted(context: &Context, keys: &[PathBuf]) -> Result<Vec<dujiang_evidence::PublicKey>, Failure> {
    if keys.is_empty() {
        return evidence_key::public(context.data());
    }
    keys.iter().map(|path| evidence_key::read_public(path)).collect()
}
