//! `dujiang completion SHELL`

use clap_complete::Shell;

use crate::failure::Failure;
use crate::output;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  source <(dujiang completion bash)
  dujiang completion zsh > ~/.zfunc/_dujiang
  dujiang completion fish > ~/.config/fish/completions/dujiang.fish")]
pub struct Args {
    /// Which shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, command: &mut clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "dujiang", &mut script);
    output::bytes(&script)
}
