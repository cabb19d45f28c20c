//! `dujiang manifest check FILE`

use std::path::PathBuf;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::manifest::check::Programs;
use crate::output::{self, Paint};

/// Work with manifests
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name every mistake in a manifest with its line and what would be right
    #[command(after_help = "Example:\n  dujiang manifest check examples/two-regions.yaml")]
    Check {
        /// The manifest
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: &Args, _context: &Context) -> Result<(), Failure> {
    let Command::Check { file } = &args.command;
    let judged = Manifest::read(file, &Programs::of_this_process());
    let (manifest, _) = judged.map_err(|refused| Failure::of_manifest(&refused))?;
    let Manifest { platform, data_centers, applications, units, .. } = manifest;
    output::line(format_args!(
        "{}: {platform} with {} data centers, {} applications and {} units {}",
        file.display(),
        data_centers.len(),
        applications.len(),
        units.len(),
        Paint::stdout().green("is right"),
    ))
}
