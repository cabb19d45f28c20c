//! What is going on while people wait, and questions they are asked. All of it on stderr.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// What takes less needs no explanation.
const QUIET: Duration = Duration::from_secs(2);

/// Between two lines where they cannot be rewritten: details change many times a second.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One line that says what is being waited for: rewritten in place on a terminal, printed now and then elsewhere.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    began: Instant,
    last: RefCell<Option<String>>,
    printed: Cell<Option<Instant>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Begins now; nothing is said for the first two seconds.
    pub fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            began: Instant::now(),
            last: RefCell::new(None),
            printed: Cell::new(None),
        }
    }

    /// Says what is being waited for.
    pub fn say(&self, what: impl Display) {
        if self.began.elapsed() < QUIET {
            return;
        }
        let what = what.to_string();
        let seconds = self.began.elapsed().as_secs();
        let mut err = io::stderr().lock();
        // Nothing can be done about a closed stderr.
        if self.terminal {
            // Without wrapping: what does not fit in a line could not be taken away again.
            let _ = write!(err, "\r\x1b[2K\x1b[?7l{what} ({seconds} s)\x1b[?7h").and_then(|()| err.flush());
            self.last.replace(Some(what));
        } else if self.last.borrow().as_ref() != Some(&what)
            && self.printed.get().is_none_or(|at| at.elapsed() >= LINE_EVERY)
        {
            let _ = writeln!(err, "{what} ({seconds} s)");
            self.printed.set(Some(Instant::now()));
            self.last.replace(Some(what));
        }
    }

    /// Takes the line away, so that something else can be printed.
    pub fn clear(&self) {
        if self.terminal && self.last.take().is_some() {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[2K").and_then(|()| err.flush());
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
