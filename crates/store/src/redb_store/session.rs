//! One write transaction of the file: carries out any number of the store's writes and commits them together.

use dujiang_types::Revision;
use redb::{Durability, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::tables::{
    ENTRIES, EntryRow, EventRow, HISTORY, LEASE_KEYS, LEASES, META, META_COMPACTED, META_HISTORY_BYTES,
    META_LEASE, META_REVISION, Stored, entry, event_bytes, meta,
};
use crate::{Check, Entry, Error, LeaseId, Result, Txn, TxnOutcome, Write};

/// Most events kept: hours of a busy platform (a move writes some ten), while a watcher that comes back after a
/// restart is minutes behind.
pub(super) const HISTORY_EVENTS_MAX: u64 = 10_000;
/// Most bytes of events kept, so that the file stays small even if values are large.
pub(super) const HISTORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An open write transaction.
pub(super) struct Session<'t> {
    entries: Table<'t, &'static str, EntryRow>,
    history: Table<'t, (u64, u32), EventRow>,
    leases: Table<'t, u64, u32>,
    lease_keys: Table<'t, (u64, &'static str), ()>,
    meta: Table<'t, &'static str, u64>,
    revision: u64,
    compacted: u64,
    history_bytes: u64,
    last_lease: u64,
    /// Position of the next event within `revision`.
    event: u32,
    dirty: bool,
}

/// Begins a write transaction of the file.
///
/// One sync per commit: the new state and the switch to it are written together, both under checksums, and opening
/// after a crash takes the newest state whose checksums hold. A commit torn by the crash was never acknowledged, so
/// falling back to the one before it is right. The two-phase commit the engine also offers doubles the syncs, and
/// thereby the time every decision of a failover waits, to keep out forged checksums by somebody who could as well
/// write the file.
pub(super) fn begin(database: &redb::Database) -> Stored<WriteTransaction> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(false);
    Ok(transaction)
}

impl<'t> Session<'t> {
    /// Opens the tables.
    pub(super) fn open(transaction: &'t WriteTransaction) -> Stored<Self> {
        let meta_table = transaction.open_table(META)?;
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            history: transaction.open_table(HISTORY)?,
            leases: transaction.open_table(LEASES)?,
            lease_keys: transaction.open_table(LEASE_KEYS)?,
            revision: meta(&meta_table, META_REVISION)?,
            compacted: meta(&meta_table, META_COMPACTED)?,
            history_bytes: meta(&meta_table, META_HISTORY_BYTES)?,
            last_lease: meta(&meta_table, META_LEASE)?,
            meta: meta_table,
            event: 0,
            dirty: false,
        })
    }

    /// Trims the history and writes the numbers down. Returns the revision, and whether there is anything to commit.
    pub(super) fn close(mut self) -> Stored<(Revision, bool)> {
        if self.dirty {
            self.trim()?;
            self.meta.insert(META_REVISION, self.revision)?;
            self.meta.insert(META_COMPACTED, self.compacted)?;
            self.meta.insert(META_HISTORY_BYTES, self.history_bytes)?;
            self.meta.insert(META_LEASE, self.last_lease)?;
        }
        Ok((Revision(self.revision), self.dirty))
    }

    /// Carries out a transaction of the store. Whatever is answered but `Committed`, nothing was changed.
    pub(super) fn transact(&mut self, txn: &Txn) -> Stored<Result<TxnOutcome>> {
        for Check { key, revision } in &txn.checks {
            let current = self.get(key)?;
            if current.as_ref().map_or(Revision(0), |entry| entry.revision) != *revision {
                return Ok(Ok(TxnOutcome::Conflict { key: key.clone(), current }));
            }
        }
        for write in &txn.writes {
            if let Write::Put { lease: Some(lease), .. } = write
                && self.leases.get(lease.0)?.is_none()
            {
                return Ok(Err(Error::LeaseNotFound(*lease)));
            }
        }
        let mut writes = Vec::with_capacity(txn.writes.len());
        for write in &txn.writes {
            if matches!(write, Write::Put { .. }) || self.entries.get(write.key())?.is_some() {
                writes.push(write);
            }
        }
        if !writes.is_empty() {
            writes.sort_by_key(|write| write.key());
            self.raise_revision();
            for write in writes {
                match write {
                    Write::Put { key, value, lease } => {
                        self.put(key, value, lease.map_or(0, |lease| lease.0))?;
                    }
                    Write::Delete { key } => self.delete(key)?,
                }
            }
        }
        Ok(Ok(TxnOutcome::Committed(Revision(self.revision))))
    }

    /// Makes a lease.
    pub(super) fn grant(&mut self, ttl_seconds: u32) -> Stored<LeaseId> {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, ttl_seconds)?;
        self.dirty = true;
        Ok(LeaseId(self.last_lease))
    }

    /// Ends a lease and deletes its keys, all in one revision. False if there is no such lease.
    pub(super) fn end_lease(&mut self, lease: LeaseId) -> Stored<bool> {
        if self.leases.remove(lease.0)?.is_none() {
            return Ok(false);
        }
        self.dirty = true;
        let mut keys = Vec::new();
        for row in self.lease_keys.range((lease.0, "")..(lease.0 + 1, ""))? {
            keys.push(row?.0.value().1.to_owned());
        }
        if !keys.is_empty() {
            self.raise_revision();
        }
        for key in keys {
            self.delete(&key)?;
        }
        Ok(true)
    }

    /// Forgets the history up to and including the revision.
    pub(super) fn compact(&mut self, revision: Revision) -> Stored<Result<()>> {
        if revision.0 > self.revision {
            let what = format!("revision {revision} to compact is above the store's own, {}", self.revision);
            return Ok(Err(Error::Invalid { what }));
        }
        if revision.0 > self.compacted {
            self.forget(revision.0)?;
            self.dirty = true;
        }
        Ok(Ok(()))
    }

    fn get(&self, key: &str) -> Stored<Option<Entry>> {
        Ok(self.entries.get(key)?.map(|row| entry(key, row.value())))
    }

    fn raise_revision(&mut self) {
        self.revision += 1;
        self.event = 0;
        self.dirty = true;
    }

    fn put(&mut self, key: &str, value: &[u8], lease: u64) -> Stored<()> {
        let old = self.entries.get(key)?.map(|row| (row.value().1, row.value().2));
        let created = old.map_or(self.revision, |(created, _)| created);
        let old_lease = old.map_or(0, |(_, lease)| lease);
        if old_lease != lease {
            self.rebind(key, old_lease, lease)?;
        }
        self.entries.insert(key, (self.revision, created, lease, value))?;
        self.record(key, created, lease, value)
    }

    fn delete(&mut self, key: &str) -> Stored<()> {
        let lease = self.entries.remove(key)?.map_or(0, |row| row.value().2);
        self.rebind(key, lease, 0)?;
        self.record(key, 0, 0, &[])
    }

    fn rebind(&mut self, key: &str, old_lease: u64, lease: u64) -> Stored<()> {
        if old_lease != 0 {
            self.lease_keys.remove((old_lease, key))?;
        }
        if lease != 0 {
            self.lease_keys.insert((lease, key), ())?;
        }
        Ok(())
    }

    fn record(&mut self, key: &str, created: u64, lease: u64, value: &[u8]) -> Stored<()> {
        self.history.insert((self.revision, self.event), (key, created, lease, value))?;
        self.event += 1;
        self.history_bytes += event_bytes(key, value);
        Ok(())
    }

    /// Drops whole revisions, oldest first, until the history is within its bounds.
    fn trim(&mut self) -> Stored<()> {
        while self.history.len()? > HISTORY_EVENTS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.first()?.map(|(position, _)| position.value().0) else { break };
            self.forget(oldest)?;
        }
        Ok(())
    }

    fn forget(&mut self, revision: u64) -> Stored<()> {
        let mut bytes = 0;
        self.history.retain_in((0, 0)..=(revision, u32::MAX), |_, (key, _, _, value)| {
            bytes += event_bytes(key, value);
            false
        })?;
        self.history_bytes = self.history_bytes.saturating_sub(bytes);
        self.compacted = revision;
        Ok(())
    }
}
