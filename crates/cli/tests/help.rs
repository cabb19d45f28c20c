//! Every help text shows how a command is used, and what it shows can be typed.

use clap::CommandFactory as _;
use dujiang_cli::cli::Cli;

/// Calls `visit` for a command and every visible one below it, with its words from `dujiang` on.
fn walk(command: &clap::Command, words: &[&str], visit: &mut impl FnMut(&clap::Command, &str)) {
    let words = [words, &[command.get_name()]].concat();
    visit(command, &words.join(" "));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        walk(below, &words, visit);
    }
}

/// The lines of a help text's examples, without what is said about them.
fn examples(after_help: &str) -> impl Iterator<Item = &str> {
    let lines = after_help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(str::trim)
}

#[test]
fn every_command_shows_an_example_of_itself() {
    let mut leaves = 0;
    walk(&Cli::command(), &[], &mut |command, words| {
        leaves += usize::from(!command.has_subcommands());
        let after_help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let shown = examples(&after_help).any(|example| example.contains(words));
        assert!(shown, "`{words} --help` shows no example of it: {after_help:?}");
    });
    assert!(leaves > 20, "only {leaves} commands were found");
}

#[test]
fn what_examples_show_can_be_typed() {
    walk(&Cli::command(), &[], &mut |command, _| {
        let after_help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // A remark begins after several blanks; pipes, redirections and further lines are the shell's.
        let typed = examples(&after_help).filter(|example| example.starts_with("dujiang "));
        for example in typed.filter(|example| !example.ends_with('\\')) {
            let end = example.find(['|', '&', '>', ';']).unwrap_or(example.len());
            let words = example[..end].split("   ").next().unwrap_or_default().split_whitespace();
            if let Err(error) = Cli::command().try_get_matches_from(words) {
                panic!("{example:?}: {error}");
            }
        }
    });
}
