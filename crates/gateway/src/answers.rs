//! The journal of answers: what clients were told about writes they can retry. Should acknowledged commits be lost one
//! day, this tells which of them were acknowledged.
//!
//! It is never in the way of a request: an answer is handed over or dropped, and a thread of its own writes. It is
//! bounded: two files of a fixed size, the older of which goes when the newer is full. What is not in it is not known.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use dujiang_types::loss::{Answer, OLDER_ANSWERS};
use dujiang_types::{Epoch, UnitId};
use jiff::Timestamp;

use crate::limits::ANSWERS_QUEUE;

/// A file holds half a million answers: hours of a busy gateway.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Answers written at once.
const BATCH_MAX: usize = 1024;

/// A worker's end of the journal.
#[derive(Debug, Clone)]
pub(crate) struct AnswerQueue(SyncSender<Told>);

/// What a client was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) at: SystemTime,
    pub(crate) unit: UnitId,
    pub(crate) epoch: Epoch,
    pub(crate) key: String,
    pub(crate) status: u16,
}

impl AnswerQueue {
    /// Hands an answer over, never waiting. False if the writer is too far behind and the answer is dropped.
    pub(crate) fn write(&self, told: Told) -> bool {
        self.0.try_send(told).is_ok()
    }
}

/// Opens the journal; its writer ends when the last queue is dropped.
pub(crate) fn open(path: &Path, threads: usize) -> io::Result<(AnswerQueue, impl FnOnce() + Send + use<>)> {
    let mut journal = Journal::open(path)?;
    let (sender, receiver) = sync_channel(ANSWERS_QUEUE * threads);
    Ok((AnswerQueue(sender), move || journal.write_all(&receiver)))
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    failing: bool,
}

impl Journal {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, failing: false })
    }

    fn write_all(&mut self, told: &Receiver<Told>) {
        while let Ok(first) = told.recv() {
            let mut lines = line(&first);
            for next in told.try_iter().take(BATCH_MAX) {
                lines.push_str(&line(&next));
            }
            let result = self.append(&lines);
            if let Err(error) = &result
                && !self.failing
            {
                tracing::error!(%error, "cannot write the journal of answers");
            }
            self.failing = result.is_err();
        }
    }

    fn append(&mut self, lines: &str) -> io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX {
            fs::rename(&self.path, self.path.with_extension(OLDER_ANSWERS))?;
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(lines.as_bytes())?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

fn line(told: &Told) -> String {
    let at = Timestamp::try_from(told.at).unwrap_or_default().to_string();
    let answer =
        Answer { at, unit: told.unit.clone(), epoch: told.epoch, key: told.key.clone(), status: told.status };
    let mut line = serde_json::to_string(&answer).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written_and_the_journal_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway/answers.jsonl");
        let (queue, writer) = open(&path, 1).unwrap();
        let writer = std::thread::spawn(writer);
        let told = |key: &str| Told {
            at: SystemTime::UNIX_EPOCH,
            unit: UnitId::new("unit-1").unwrap(),
            epoch: Epoch(3),
            key: key.to_owned(),
            status: 201,
        };
        assert!(queue.write(told("a\"\n")));
        drop(queue);
        writer.join().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let answer: Answer = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((answer.key.as_str(), answer.status, answer.epoch), ("a\"\n", 201, Epoch(3)));

        let mut journal = Journal::open(&path).unwrap();
        journal.bytes = FILE_BYTES_MAX;
        journal.append("next\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
        assert_eq!(fs::read_to_string(path.with_extension(OLDER_ANSWERS)).unwrap(), text);
    }
}
