//! What is going on while people wait, and questions they are asked. All of it on stderr.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// What takes less needs no explanation.
const QUIET: Duration = Duration::from_secs(2);

/// One line that says what is being waited for: rewritten in place on a terminal, printed once per text elsewhere.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    began: Instant,
    last: RefCell<Option<String>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Begins now; nothing is said for the first two seconds.
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), began: Instant::now(), last: RefCell::new(None) }
    }

    /// Says what is being waited for.
    pub fn say(&self, what: impl Display) {
        if self.began.elapsed() < QUIET {
            return;
        }
        let what = what.to_string();
        let last = self.last.take();
        let mut err = io::stderr().lock();
        let seconds = self.began.elapsed().as_secs();
        // Nothing can be done about a closed stderr.
        let _ = if self.terminal {
            write!(err, "\r\x1b[2K{what} ({seconds} s)").and_then(|()| err.flush())
        } else if last.as_ref() == Some(&what) {
            Ok(())
        } else {
            writeln!(err, "{what}")
        };
        self.last.replace(Some(what));
    }

    /// Takes the line away, so that something else can be printed.
    pub fn clear(&self) {
        if let Some(last) = self.last.take() {
            if self.terminal {
                let mut err = io::stderr().lock();
                let _ = write!(err, "\r\x1b[2K").and_then(|()| err.flush());
            } else {
                self.last.replace(Some(last));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Asks a person to type `yes`. Without a terminal nobody can answer: that is a no.
pub fn confirm(question: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::refused("this needs to be confirmed, and nobody is at a terminal to ask")
            .hint("add --yes if you are sure"));
    }
    let mut err = io::stderr().lock();
    let _ = write!(err, "{question} Type yes: ").and_then(|()| err.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::refused("not confirmed; nothing was done"))
    }
}
