//! `dujiang manifest check FILE`

use std::path::{Path, PathBuf};

use clap::Subcommand;
use dujiang_types::{AppId, DcId, PlatformId, UnitId};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::manifest::check::Programs;
use crate::manifest::mistake::{Mistake, Refused};
use crate::output::{self, Format, Paint};

/// Exit code for a manifest with mistakes, which were printed already.
const EXIT_WRONG: u8 = 2;

/// Work with manifests
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  dujiang manifest check examples/two-regions.yaml")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name every mistake in a manifest with its line and what would be right
    #[command(after_help = "\
Examples:
  dujiang manifest check examples/two-regions.yaml
  dujiang manifest check examples/two-regions.yaml -o json | jq '.mistakes[]'")]
    Check {
        /// The manifest
        file: PathBuf,
        /// How to print the verdict
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// What was found, as `-o json` prints it: what the manifest consists of, or what is wrong with it.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    file: &'a Path,
    #[serde(flatten)]
    parts: Option<Parts<'a>>,
    mistakes: &'a [Mistake],
}

/// The names in a manifest without mistakes.
#[derive(Debug, Serialize)]
struct Parts<'a> {
    platform: &'a PlatformId,
    data_centers: Vec<&'a DcId>,
    applications: Vec<&'a AppId>,
    units: Vec<&'a UnitId>,
}

/// Runs the command.
pub fn run(args: &Args, _context: &Context) -> Result<(), Failure> {
    let Command::Check { file, output } = &args.command;
    match (Manifest::read(file, &Programs::of_this_process()), output) {
        (Ok((manifest, _)), Format::Table) => output::line(format_args!(
            "{}: {} with {} data centers, {} applications and {} units {}",
            file.display(),
            manifest.platform,
            manifest.data_centers.len(),
            manifest.applications.len(),
            manifest.units.len(),
            Paint::stdout().green("is right"),
        )),
        (Ok((manifest, _)), Format::Json) => {
            output::json(&Verdict { file, parts: Some(Parts::of(&manifest)), mistakes: &[] })
        }
        (Err(refused), Format::Table) => Err(Failure::of_manifest(&refused)),
        (Err(Refused { mistakes, .. }), Format::Json) => {
            output::json(&Verdict { file, parts: None, mistakes: &mistakes })?;
            Err(Failure::silent(EXIT_WRONG))
        }
    }
}

impl<'a> Parts<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        let Manifest { platform, data_centers, applications, units, .. } = manifest;
        Self {
            platform,
            data_centers: data_centers.keys().collect(),
            applications: applications.keys().collect(),
            units: units.keys().collect(),
        }
    }
}
