//! The journal of a load: every attempt, written down before it is sent and again when its outcome is known.
//!
//! One JSON document per line. A line reaches the operating system before the request it announces is sent, so a
//! load killed at any moment leaves a journal that names everything the bank may have seen. Several loads may
//! append to one journal, which then covers the whole life of a platform.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dujiang_types::{Code, DcId, Problem, UnitId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::request::Request;

/// Version of the journal's format, written in its header lines.
pub const FORMAT: u32 = 1;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// A load began to write here.
    Began(Began),
    /// An attempt is about to be sent.
    Sent(Sent),
    /// An attempt's outcome is known, even if it is that nobody knows.
    Ended(Ended),
}

/// Header of one load's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// [`FORMAT`].
    pub format: u32,
    /// Prefix of all keys of this load.
    pub run: String,
    /// Seed its choices came from.
    pub seed: u64,
    /// Wall clock; `at_us` of the following lines counts from here.
    pub at: Timestamp,
}

/// An attempt that may reach the bank from this moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Idempotency key; the same for all attempts of one operation.
    pub key: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What is asked.
    pub request: Request,
    /// Unit that owns the slot of the request.
    pub unit: UnitId,
    /// Wall clock.
    pub at: Timestamp,
    /// Microseconds since the load began, monotonic.
    pub at_us: u64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Idempotency key.
    pub key: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Data center of the gateway it was sent to; `None` if no gateway took the connection.
    pub gateway: Option<DcId>,
    /// Gateways that refused the connection before that one was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<DcId>,
    /// Unit that owns the slot of the request.
    pub unit: UnitId,
    /// Wall clock.
    pub at: Timestamp,
    /// When it was sent, microseconds since the load began, monotonic.
    pub sent_us: u64,
    /// When it ended, likewise.
    pub at_us: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What is known after an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Outcome {
    /// The bank says it is done.
    Acknowledged(Receipt),
    /// It is certain that this attempt did nothing.
    Refused {
        /// Code of the problem document.
        code: Code,
    },
    /// Nobody knows whether it was done.
    Unknown {
        /// What was seen instead of an answer.
        why: String,
    },
}

/// What the bank hands out for something done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The posting made, for anything that moves money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posting: Option<String>,
    /// The account's number, for an account opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// True if the money is still on its way to another unit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_transit: bool,
    /// True if the answer repeats the outcome of an earlier attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// The lists read, in the order of asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Vec<Vec<u64>>>,
}

/// Why a journal cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system said no.
    #[error("cannot {doing} the journal {}", path.display())]
    Io {
        /// `open`, `write` or `read`.
        doing: &'static str,
        /// The journal.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A line in the middle is not a journal line.
    #[error("{}:{line}: not a journal line; only the last line of a load that was killed may be cut off", path.display())]
    Malformed {
        /// The journal.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// Writes a journal. Shared by all tasks of a load.
#[derive(Debug)]
pub struct JournalWriter {
    path: PathBuf,
    file: Mutex<File>,
    began: Instant,
}

impl JournalWriter {
    /// Opens the journal, appending to what an earlier load has written, and writes the header.
    pub fn open(path: &Path, run: &str, seed: u64) -> Result<Self, JournalError> {
        let fail = |source| JournalError::Io { doing: "open", path: path.to_owned(), source };
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(fail)?;
        end_cut_off_line(&mut file).map_err(fail)?;
        let writer = Self { path: path.to_owned(), file: Mutex::new(file), began: Instant::now() };
        let began = Began { format: FORMAT, run: run.to_owned(), seed, at: Timestamp::now() };
        writer.write(&Line::Began(began))?;
        Ok(writer)
    }

    /// Microseconds since the load began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Appends one line and hands it to the operating system.
    pub fn write(&self, line: &Line) -> Result<(), JournalError> {
        let fail = |source| JournalError::Io { doing: "write", path: self.path.clone(), source };
        let mut text = serde_json::to_vec(line).map_err(|e| fail(e.into()))?;
        text.push(b'\n');
        // One write call per line: lines of concurrent tasks do not mix, and a kill cuts off the last one at most.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).map_err(fail)
    }
}

/// A load killed while writing leaves half a line; the next one starts on a line of its own.
fn end_cut_off_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// One operation: all attempts under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What was asked.
    pub request: Request,
    /// Unit that owned the slot of the request.
    pub unit: UnitId,
    /// Attempts sent.
    pub attempts: u32,
    /// When the first attempt was sent, in microseconds of its load's clock.
    pub first_sent_us: u64,
    /// From when to when the attempt that was acknowledged took, likewise.
    pub acknowledged_us: Option<(u64, u64)>,
    /// Attempts that may have been executed for all we know.
    open: u32,
    acknowledged: Option<Receipt>,
    /// The bank refused the request itself; it remembers that under the key, for earlier attempts too.
    refused: Option<Code>,
    /// The last refusal that speaks of its own attempt only.
    passed: Option<Code>,
    why: String,
}

impl Operation {
    fn new(request: Request, unit: UnitId, first_sent_us: u64) -> Self {
        Self {
            request,
            unit,
            attempts: 0,
            first_sent_us,
            acknowledged_us: None,
            open: 0,
            acknowledged: None,
            refused: None,
            passed: None,
            why: "no outcome was written down".to_owned(),
        }
    }

    fn ended(&mut self, outcome: Outcome, times_us: (u64, u64)) {
        match outcome {
            Outcome::Acknowledged(receipt) => {
                self.acknowledged = Some(receipt);
                self.acknowledged_us = Some(times_us);
            }
            Outcome::Refused { code } if is_transient(code) => {
                self.open = self.open.saturating_sub(1);
                self.passed = Some(code);
            }
            Outcome::Refused { code } => self.refused = Some(code),
            Outcome::Unknown { why } => self.why = why,
        }
    }

    /// True if it was not acknowledged and an attempt may have been executed all the same, now or later.
    pub fn may_have_happened(&self) -> bool {
        self.acknowledged.is_none() && self.open > u32::from(self.refused.is_some())
    }

    /// What is known of the operation after all its attempts.
    pub fn outcome(&self) -> Outcome {
        match (&self.acknowledged, self.refused, self.passed) {
            (Some(receipt), _, _) => Outcome::Acknowledged(receipt.clone()),
            (None, Some(code), _) => Outcome::Refused { code },
            (None, None, Some(code)) if self.open == 0 => Outcome::Refused { code },
            _ => Outcome::Unknown { why: self.why.clone() },
        }
    }
}

/// Reads a journal line by line. A cut off line is tolerated where a load was killed: at the end, or before the
/// header of the next load.
pub fn scan(path: &Path, mut take: impl FnMut(Line)) -> Result<(), JournalError> {
    let fail = |source| JournalError::Io { doing: "read", path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(fail)?);
    let mut cut_off: Option<(usize, serde_json::Error)> = None;
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        if reader.read_until(b'\n', &mut text).map_err(fail)? == 0 {
            break;
        }
        let parsed = serde_json::from_slice::<Line>(&text);
        if let Some((line, source)) = cut_off.take()
            && !matches!(parsed, Ok(Line::Began(_)))
        {
            return Err(JournalError::Malformed { path: path.to_owned(), line, source });
        }
        match parsed {
            Ok(line) => take(line),
            Err(source) => cut_off = Some((number, source)),
        }
    }
    Ok(())
}

/// What a journal says, operation by operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// Operations by key.
    pub operations: BTreeMap<String, Operation>,
    /// Loads that wrote it.
    pub loads: usize,
}

impl Journal {
    /// Reads a whole journal; see [`scan`].
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let mut journal = Self::default();
        scan(path, |line| journal.add(line))?;
        Ok(journal)
    }

    /// Takes in one line.
    pub fn add(&mut self, line: Line) {
        match line {
            Line::Began(_) => self.loads += 1,
            Line::Sent(sent) => {
                let operation = self
                    .operations
                    .entry(sent.key)
                    .or_insert_with(|| Operation::new(sent.request, sent.unit, sent.at_us));
                operation.attempts += 1;
                operation.open += 1;
            }
            Line::Ended(ended) => {
                if let Some(operation) = self.operations.get_mut(&ended.key) {
                    operation.ended(ended.outcome, (ended.sent_us, ended.at_us));
                }
            }
        }
    }
}

/// True if the same request may succeed later: the code speaks of one attempt, not of the request.
pub fn is_transient(code: Code) -> bool {
    Problem::new(code, "").nothing_done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::{Currency, Money};

    fn sent(key: &str, attempt: u32) -> Line {
        let amount = Money::new(1, Currency::CNY);
        Line::Sent(Sent {
            key: key.into(),
            attempt,
            request: Request::Transfer { from: "1".into(), to: "2".into(), amount },
            unit: UnitId::new("unit-1").unwrap(),
            at: Timestamp::UNIX_EPOCH,
            at_us: 0,
        })
    }

    fn ended(key: &str, attempt: u32, outcome: Outcome) -> Line {
        Line::Ended(Ended {
            key: key.into(),
            attempt,
            gateway: None,
            passed_over: vec![],
            unit: UnitId::new("unit-1").unwrap(),
            at: Timestamp::UNIX_EPOCH,
            sent_us: 0,
            at_us: 1,
            outcome,
        })
    }

    fn refused(code: Code) -> Outcome {
        Outcome::Refused { code }
    }

    fn unknown() -> Outcome {
        Outcome::Unknown { why: "reset".into() }
    }

    fn acknowledged() -> Outcome {
        Outcome::Acknowledged(Receipt { posting: Some("p".into()), ..Receipt::default() })
    }

    fn final_outcome(attempts: &[Option<Outcome>]) -> Outcome {
        let mut journal = Journal::default();
        for (number, outcome) in (1..).zip(attempts) {
            journal.add(sent("k", number));
            if let Some(outcome) = outcome {
                journal.add(ended("k", number, outcome.clone()));
            }
        }
        journal.operations["k"].outcome()
    }

    #[test]
    fn the_outcome_of_an_operation_never_claims_more_than_its_attempts() {
        let moved = refused(Code::UnitMoved);
        let poor = refused(Code::InsufficientFunds);
        assert_eq!(final_outcome(&[Some(moved.clone()), Some(moved.clone())]), moved);
        assert_eq!(final_outcome(&[Some(unknown()), Some(moved.clone())]), unknown());
        assert_eq!(final_outcome(&[Some(moved.clone()), Some(unknown())]), unknown());
        assert_eq!(final_outcome(&[Some(unknown()), Some(refused(Code::RequestIncomplete))]), unknown());
        assert!(matches!(final_outcome(&[Some(moved.clone()), None]), Outcome::Unknown { .. }));
        assert_eq!(final_outcome(&[Some(unknown()), Some(acknowledged())]), acknowledged());
        assert_eq!(final_outcome(&[Some(unknown()), Some(poor.clone())]), poor);
        assert_eq!(final_outcome(&[Some(acknowledged()), Some(unknown())]), acknowledged());
        assert!(matches!(final_outcome(&[None]), Outcome::Unknown { .. }));
    }

    #[test]
    fn a_killed_load_leaves_a_readable_journal_and_the_next_one_appends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let first = JournalWriter::open(&path, "a", 1).unwrap();
        first.write(&sent("a-1", 1)).unwrap();
        first.write(&ended("a-1", 1, acknowledged())).unwrap();
        first.write(&sent("a-2", 1)).unwrap();
        drop(first);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 7]).unwrap();
        assert_eq!(Journal::read(&path).unwrap().operations.len(), 1);

        let second = JournalWriter::open(&path, "b", 1).unwrap();
        second.write(&sent("b-1", 1)).unwrap();
        let journal = Journal::read(&path).unwrap();
        assert_eq!(journal.loads, 2);
        assert_eq!(journal.operations.keys().collect::<Vec<_>>(), ["a-1", "b-1"]);
        assert_eq!(journal.operations["a-1"].outcome(), acknowledged());
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let writer = JournalWriter::open(&path, "a", 1).unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        (&file).write_all(b"{\"event\":\n").unwrap();
        writer.write(&sent("a-1", 1)).unwrap();
        let error = Journal::read(&path).unwrap_err();
        assert!(matches!(error, JournalError::Malformed { line: 2, .. }), "{error}");
    }
}
