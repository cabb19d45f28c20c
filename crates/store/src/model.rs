//! What the store holds and what is asked of it.

use std::fmt;

use bytes::Bytes;
use dujiang_types::Revision;

/// A lease: keys bound to it vanish when it is not kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision of the write that set the value.
    pub revision: Revision,
    /// Revision of the write that made the key, since it last did not exist.
    pub created: Revision,
    /// The lease the key is bound to.
    pub lease: Option<LeaseId>,
}

/// All entries under a prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries, ascending by key.
    pub entries: Vec<Entry>,
    /// The revision of the store at which they were all so; watch after it to miss nothing.
    pub revision: Revision,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was set.
    Put(Entry),
    /// The key was deleted, or its lease ended.
    Delete {
        /// The key.
        key: String,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key } => key,
        }
    }
}

/// What must hold for a transaction to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The key.
    pub key: String,
    /// The revision its entry must have; 0: the key must not exist.
    pub revision: Revision,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets the key.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// The lease the key is bound to from now on; `None` unbinds it.
        lease: Option<LeaseId>,
    },
    /// Deletes the key. If it does not exist nothing happens.
    Delete {
        /// The key.
        key: String,
    },
}

impl Write {
    /// The key written.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Checks and writes that are carried out as one or not at all. All writes get the same revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All of them must hold.
    pub checks: Vec<Check>,
    /// Carried out if they do. No key twice, no two different leases.
    pub writes: Vec<Write>,
}

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds: the key's entry must have that revision; 0: the key must not exist.
    #[must_use]
    pub fn check(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.checks.push(Check { key: key.into(), revision });
        self
    }

    /// Adds: set the key.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// Adds: set the key and bind it to the lease. All leased writes of a transaction name the same lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.writes.push(Write::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// Adds: delete the key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete { key: key.into() });
        self
    }

    /// The lease its writes bind keys to, if they do.
    pub fn lease(&self) -> Option<LeaseId> {
        self.writes.iter().find_map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete { .. } => None,
        })
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a conflict means that nothing was written"]
pub enum TxnOutcome {
    /// Everything was written and is durable. The revision of the writes; if nothing had to change (no writes, or
    /// only deletes of keys that do not exist) the store's current revision.
    Committed(Revision),
    /// Nothing was written.
    Conflict {
        /// The key of the first check that did not hold.
        key: String,
        /// What is there instead.
        current: Option<Entry>,
    },
}

impl TxnOutcome {
    /// The revision, if it was committed.
    pub fn committed(&self) -> Option<Revision> {
        match self {
            Self::Committed(revision) => Some(*revision),
            Self::Conflict { .. } => None,
        }
    }
}
