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
    let (manifest, _) = read(file)?;
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

/// Reads a manifest; a wrong one is told to stderr mistake by mistake.
pub fn read(file: &std::path::Path) -> Result<(Manifest, String), Failure> {
    Manifest::read(file, &Programs::of_this_process()).map_err(|refused| {
        let paint = Paint::stderr();
        for line in refused.to_string().lines() {
            let (place, rest) = line.split_once(": ").unwrap_or((line, ""));
            eprintln!("{}: {rest}", paint.bold(place));
        }
        let (count, noun) = match refused.mistakes.len() {
            1 => (1, "mistake"),
            count => (count, "mistakes"),
        };
        Failure::usage(format!("{count} {noun} in {}; nothing was started", file.display()))
    })
}
