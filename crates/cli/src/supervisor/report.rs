//! What the supervisor tells: to a person at a terminal, or through a pipe to the `up --detach` that started it.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use dujiang_control::Status;
use serde::{Deserialize, Serialize};

use super::payment::Payment;
use crate::commands::status;
use crate::failure::Failure;
use crate::output::{self, Format, Paint};
use crate::progress::Progress;

/// Between two live statuses.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// A platform that serves, and where everything of it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub platform: String,
    /// How many data centers it has.
    pub data_centers: usize,
    /// How many units it has.
    pub units: usize,
    /// The control plane's URL.
    pub control: String,
    /// Data centers and the URLs of their gateways.
    pub gateways: Vec<(String, String)>,
    /// Its folder.
    pub data: PathBuf,
    /// The first payment; `None` if it has no bank, or if it failed.
    pub payment: Option<Payment>,
    /// Why the first payment failed.
    pub trouble: Option<String>,
    /// Milliseconds from the start to serving.
    pub serving_ms: u64,
    /// Milliseconds from the start to the first payment's answer.
    pub first_payment_ms: u64,
}

/// A line of the pipe between a supervisor and the command that started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// What is being waited for.
    Say(String),
    /// It serves.
    Serving(Box<Summary>),
    /// It does not serve in time, but goes on trying.
    NotServing(String),
    /// Another supervisor has the folder.
    RunsAlready(u32),
    /// It cannot be started.
    Failed(Failure),
}

/// Where the supervisor's words go.
#[derive(Debug)]
pub enum Reporter {
    /// To the person who waits.
    Person {
        /// What is being waited for.
        progress: Progress,
        /// How the summary is printed.
        format: Format,
        /// Lines of the live status on the terminal now.
        lines: Cell<usize>,
        /// What a log was last told.
        told: RefCell<String>,
    },
    /// Through standard output to the command that started this one.
    Pipe,
}

impl Reporter {
    /// To the person who waits.
    pub fn person(format: Format) -> Self {
        Self::Person { progress: Progress::new(), format, lines: Cell::new(0), told: RefCell::default() }
    }

    /// What is being waited for.
    pub fn say(&self, what: &str) {
        match self {
            Self::Person { progress, lines, .. } => {
                // What comes now stands below the live status.
                lines.set(0);
                progress.say(what);
            }
            Self::Pipe => send(&Message::Say(what.to_owned())),
        }
    }

    /// Nothing is being waited for any more.
    pub fn quiet(&self) {
        if let Self::Person { progress, .. } = self {
            progress.clear();
        }
    }

    /// The platform serves.
    pub fn serving(&self, summary: &Summary) {
        match self {
            Self::Person { progress, format, .. } => {
                progress.clear();
                // A closed standard output is no reason to stop a bank.
                let _ = summary.print(*format);
            }
            Self::Pipe => send(&Message::Serving(Box::new(summary.clone()))),
        }
    }

    /// The platform does not serve in time, but goes on trying.
    pub fn not_serving(&self, missing: &str) {
        match self {
            Self::Person { progress, .. } => {
                progress.clear();
                let yellow = Paint::stderr().yellow("does not serve yet:");
                eprintln!("{yellow} {missing}; it goes on trying");
            }
            Self::Pipe => send(&Message::NotServing(missing.to_owned())),
        }
    }

    /// How often a live status is of use; `None` if it never is.
    pub fn shows_status_every(&self) -> Option<Duration> {
        match self {
            Self::Person { format: Format::Table, .. } => Some(STATUS_EVERY),
            Self::Person { format: Format::Json, .. } | Self::Pipe => None,
        }
    }

    /// The live status: in place on a terminal; elsewhere a line per unit, when something has changed.
    pub fn status(&self, status: Result<&Status, &Failure>) {
        let Self::Person { lines, told, .. } = self else { return };
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            let text = match status {
                Ok(status) => status::render(status, Paint::stdout()),
                Err(failure) => format!("{}\n", failure.message()),
            };
            let mut all = String::new();
            if lines.get() > 0 {
                let _ = write!(all, "\x1b[{}A\x1b[J", lines.get());
            }
            // Without wrapping, so that a line of text is a line of the terminal.
            let _ = write!(all, "\x1b[?7l\n{text}\nCtrl-C stops everything in order\n\x1b[?7h");
            lines.set(text.lines().count() + 3);
            let _ = out.write_all(all.as_bytes()).and_then(|()| out.flush());
        } else if let Ok(status) = status {
            let text = status::brief(status);
            if *told.borrow() != text {
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                told.replace(text);
            }
        }
    }
}

/// Tells the command that started this one; it may be gone, and then nobody needs to know.
pub fn send(message: &Message) {
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

/// Follows a supervisor's messages until it serves, fails or ends. `Ok(None)`: another one has the folder.
pub fn follow(pipe: impl BufRead, log: &std::path::Path) -> Result<Option<Summary>, Failure> {
    let progress = Progress::new();
    for line in pipe.lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Message::Say(what)) => progress.say(what),
            Ok(Message::Serving(summary)) => return Ok(Some(*summary)),
            Ok(Message::NotServing(missing)) => {
                return Err(Failure::failed(format!("it does not serve yet: {missing}")).hint(
                    "it goes on trying in the background: `dujiang status` and `dujiang logs` tell more",
                ));
            }
            Ok(Message::RunsAlready(_)) => return Ok(None),
            Ok(Message::Failed(failure)) => return Err(failure),
            Err(_) => {}
        }
    }
    Err(Failure::failed("the supervisor ended without a word").hint(format!("its log: {}", log.display())))
}

impl Summary {
    /// Prints it to stdout.
    pub fn print(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Json => output::json(self),
            Format::Table => output::bytes(self.text(Paint::stdout()).as_bytes()),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{} {}: {} data centers, {} units, after {:.1} s",
            paint.bold(&self.platform),
            paint.green("serves"),
            self.data_centers,
            self.units,
            seconds(self.serving_ms)
        );
        for (n, (dc, url)) in self.gateways.iter().enumerate() {
            let _ = writeln!(out, "  {:<9} {dc}  {}", if n == 0 { "gateways" } else { "" }, paint.cyan(url));
        }
        let _ = writeln!(out, "  {:<9} {}  (/openapi.json)", "API", paint.cyan(&self.control));
        let _ = writeln!(out, "  {:<9} {}", "data", self.data.display());
        let _ = writeln!(out, "  {:<9} `dujiang logs -f`, {}", "logs", self.data.join("log").display());
        if let Some(Payment { from, to, amount, posting, took_ms }) = &self.payment {
            let after = seconds(self.first_payment_ms);
            let _ = writeln!(
                out,
                "  {:<9} {amount} from {from} to {to} in {took_ms} ms, {after:.1} s after the start (posting {posting})",
                "payment"
            );
        }
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(out, "  {:<9} {}", "payment", paint.red(trouble));
        }
        out
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people, to a tenth")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
