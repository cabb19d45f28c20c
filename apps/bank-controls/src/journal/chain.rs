//! Records, and how the next one is made.

use super::act::{Act, ActError};
use super::digest::{Digest, Fields};

/// Which journal a chain is of: a unit's, by name. Part of every digest, so no record fits into another journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JournalId(String);

impl JournalId {
    /// A journal's name: 1 to 63 visible ASCII characters; `None` for anything else.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let ok = (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        ok.then_some(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the first record follows.
    fn origin(&self) -> Digest {
        Fields::of("dujiang journal origin 1").text(&self.0).digest()
    }
}

/// An act in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub number: u64,
    /// Digest of the record before; of the first one, the journal's origin.
    pub previous: Digest,
    /// What was done.
    pub act: Act,
    /// Of all this.
    pub digest: Digest,
}

impl Record {
    /// The digest that a record of these contents has.
    pub(super) fn computed(&self, journal: &JournalId) -> Digest {
        digest_of(journal, self.number, self.previous, &self.act)
    }
}

fn digest_of(journal: &JournalId, number: u64, previous: Digest, act: &Act) -> Digest {
    let fields = Fields::of("dujiang journal record 1")
        .text(journal.as_str())
        .number(number.into())
        .bytes(previous.as_bytes());
    act.encode(fields).digest()
}

/// Number and digest of a record, kept elsewhere: what was there then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The record's number; 0 is before the first one.
    pub number: u64,
    /// Its digest.
    pub digest: Digest,
}

/// The end of a journal, to which the next act is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    journal: JournalId,
    head: Checkpoint,
}

impl Chain {
    /// A journal without records.
    pub fn begin(journal: JournalId) -> Self {
        let digest = journal.origin();
        Self { journal, head: Checkpoint { number: 0, digest } }
    }

    /// A journal that goes on after its last record.
    pub fn resume(journal: JournalId, head: Checkpoint) -> Self {
        Self { journal, head }
    }

    /// Which journal.
    pub fn journal(&self) -> &JournalId {
        &self.journal
    }

    /// Its last record: the checkpoint to be kept elsewhere.
    pub fn head(&self) -> Checkpoint {
        self.head
    }

    /// Adds an act. Its times are cut to the microseconds that the digest covers and a database keeps.
    pub fn append(&mut self, act: Act) -> Result<Record, ActError> {
        let act = act.in_microseconds();
        act.check()?;
        let number = self.head.number.checked_add(1).ok_or(ActError::Full)?;
        let previous = self.head.digest;
        let digest = digest_of(&self.journal, number, previous, &act);
        self.head = Checkpoint { number, digest };
        Ok(Record { number, previous, act, digest })
    }
}
