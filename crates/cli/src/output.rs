//! What goes to stdout and how it looks: tables and JSON, colour only for a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

/// Writes bytes to stdout.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Failure::output_closed(),
        _ => Failure::failed(format!("cannot write to standard output: {e}")),
    })
}

/// Writes a line to stdout.
pub fn line(text: impl Display) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a value as indented JSON to stdout.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    line(text.map_err(|e| Failure::because("cannot write the result as JSON", &e))?)
}

/// Writes a value as JSON on one line to stdout: for what comes one after the other and has no end.
pub fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value);
    line(text.map_err(|e| Failure::because("cannot write the result as JSON", &e))?)
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For what is written to stdout.
    pub fn stdout() -> Self {
        Self { on: io::stdout().is_terminal() && wanted() }
    }

    /// For what is written to stderr.
    pub fn stderr() -> Self {
        Self { on: io::stderr().is_terminal() && wanted() }
    }

    /// None at all.
    pub fn none() -> Self {
        Self { on: false }
    }

    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Wrong.
    pub fn red(self, text: impl Display) -> String {
        self.wrap("31", text)
    }

    /// Right.
    pub fn green(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    /// On its way, or worth a look.
    pub fn yellow(self, text: impl Display) -> String {
        self.wrap("33", text)
    }

    /// A name or a hint.
    pub fn cyan(self, text: impl Display) -> String {
        self.wrap("36", text)
    }

    /// A heading.
    pub fn bold(self, text: impl Display) -> String {
        self.wrap("1", text)
    }
}

/// `NO_COLOR` (any non-empty value) and dumb terminals want none.
fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}
