//! What happened, for people: one line per fact, with the virtual time, who, what and why.

use std::fmt::Write as _;

/// Virtual time in microseconds since the world began.
pub type Us = u64;

/// Microseconds of a millisecond.
pub const MS: Us = 1_000;
/// Microseconds of a second.
pub const SECOND: Us = 1_000_000;

/// Lines kept when a trace is wanted. A run of a few virtual minutes stays well below; a runaway is cut off.
const LINES_MAX: usize = 400_000;

/// Collects lines when a trace is wanted, else does nothing at no cost.
#[derive(Debug, Default)]
pub struct Trace {
    wanted: bool,
    lines: Vec<String>,
}

impl Trace {
    /// A trace that keeps lines only if `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self { wanted, lines: Vec::new() }
    }

    /// Adds a line. The sentence is only made if it is kept.
    pub fn say(&mut self, at: Us, who: impl std::fmt::Display, what: impl FnOnce() -> String) {
        if self.wanted && self.lines.len() < LINES_MAX {
            let mut line = String::new();
            let who = who.to_string();
            let _ = write!(line, "{:>4}.{:06} {who:<28} {}", at / SECOND, at % SECOND, what());
            self.lines.push(line);
        }
    }

    /// The lines so far.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
