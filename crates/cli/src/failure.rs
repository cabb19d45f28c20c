//! How a command ends when it does not succeed: a sentence, what to do about it, and an exit code.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use dujiang_types::error::chain;
use dujiang_types::{Code, Problem};
use serde::{Deserialize, Serialize};

use crate::manifest::mistake::Refused;
use crate::output::Paint;

/// Why a command did not succeed; see the exit codes in `cli`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    exit: u8,
    message: String,
    hint: Option<String>,
}

/// Something failed.
const EXIT_FAILED: u8 = 1;
/// The command line or the manifest is wrong.
const EXIT_USAGE: u8 = 2;
/// A safety rule, or a person at a prompt, says no.
const EXIT_REFUSED: u8 = 3;
/// Nobody answers.
const EXIT_UNREACHABLE: u8 = 4;

impl Failure {
    /// Something failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { exit: EXIT_FAILED, message: message.into(), hint: None }
    }

    /// The command line or the manifest is wrong; nothing was done.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: EXIT_USAGE, message: message.into(), hint: None }
    }

    /// A safety rule, or a person at a prompt, says no.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { exit: EXIT_REFUSED, message: message.into(), hint: None }
    }

    /// No platform runs here, or its control plane does not answer.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { exit: EXIT_UNREACHABLE, message: message.into(), hint: None }
    }

    /// Nobody reads our output any more: not an error, but there is nothing left to do.
    pub fn output_closed() -> Self {
        Self { exit: 0, message: String::new(), hint: None }
    }

    /// An exit code whose reason was printed already.
    pub fn silent(exit: u8) -> Self {
        Self { exit, message: String::new(), hint: None }
    }

    /// Something failed because of `error`, told with all its causes.
    pub fn because(what: impl Into<String>, error: &dyn Error) -> Self {
        let message = format!("{}: {}", what.into(), chain(error));
        Self::failed(message)
    }

    /// A manifest with mistakes: each on a line of its own.
    pub fn of_manifest(refused: &Refused) -> Self {
        let (count, noun) = match refused.mistakes.len() {
            1 => (1, "mistake"),
            count => (count, "mistakes"),
        };
        Self::usage(format!("{count} {noun} in {}; nothing was started\n{refused}", refused.file.display()))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The sentence, without what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// True if nobody answered, so that trying again may help.
    pub fn is_unreachable(&self) -> bool {
        self.exit == EXIT_UNREACHABLE
    }

    /// Prints itself to stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let paint = Paint::stderr();
        let mut err = io::stderr().lock();
        if !self.message.is_empty() {
            let _ = writeln!(err, "{} {}", paint.red("error:"), self.message);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(err, "{} {hint}", paint.cyan("what to do:"));
        }
        ExitCode::from(self.exit)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let message = if problem.detail.is_empty() { problem.title.clone() } else { problem.detail.clone() };
        let message = format!("{message} [{}]", problem.code);
        match problem.code {
            Code::Refused | Code::RevisionConflict | Code::AlreadyExists => Self::refused(message),
            Code::RequestInvalid | Code::RouteUnknown => Self::usage(message),
            _ => Self::failed(message),
        }
    }
}
