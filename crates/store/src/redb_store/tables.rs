//! Tables of the file and their rows.

use bytes::Bytes;
use dujiang_types::Revision;
use redb::{ReadableTable, TableDefinition};

use crate::{Entry, Event, LeaseId};

/// Results whose error is the engine's: the file can no longer be trusted in this process.
pub(super) type Stored<T> = Result<T, redb::Error>;

/// Revision of the write, revision of the key's creation, lease (0: none), value.
pub(super) type EntryRow = (u64, u64, u64, &'static [u8]);
/// The current entries by key.
pub(super) const ENTRIES: TableDefinition<&str, EntryRow> = TableDefinition::new("entries");

/// Key, revision of the key's creation (0: the key was deleted), lease (0: none), value.
pub(super) type EventRow = (&'static str, u64, u64, &'static [u8]);
/// The events by revision and their number within the revision. Complete above [`META_COMPACTED`].
pub(super) const HISTORY: TableDefinition<(u64, u32), EventRow> = TableDefinition::new("history");

/// Leases with their time to live in seconds. When one ends is known only to the process.
pub(super) const LEASES: TableDefinition<u64, u32> = TableDefinition::new("leases");
/// Lease and key bound to it.
pub(super) const LEASE_KEYS: TableDefinition<(u64, &str), ()> = TableDefinition::new("lease_keys");

/// Numbers by name.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Version of this layout.
pub(super) const META_FORMAT: &str = "format";
/// The store's revision.
pub(super) const META_REVISION: &str = "revision";
/// The history is complete above this revision.
pub(super) const META_COMPACTED: &str = "compacted";
/// Size of the history as [`event_bytes`] counts it.
pub(super) const META_HISTORY_BYTES: &str = "history_bytes";
/// The last lease granted.
pub(super) const META_LEASE: &str = "lease";

/// The layout this code reads and writes.
pub(super) const FORMAT: u64 = 1;
/// Revision of a store never written to; etcd's is the same.
pub(super) const FIRST_REVISION: u64 = 1;

/// Reads a number; one never written is 0.
pub(super) fn meta(table: &impl ReadableTable<&'static str, u64>, name: &str) -> Stored<u64> {
    Ok(table.get(name)?.map_or(0, |number| number.value()))
}

/// The entry of a row.
pub(super) fn entry(key: &str, (revision, created, lease, value): (u64, u64, u64, &[u8])) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value),
        revision: Revision(revision),
        created: Revision(created),
        lease: lease_of(lease),
    }
}

/// The event of a row.
pub(super) fn event(revision: u64, (key, created, lease, value): (&str, u64, u64, &[u8])) -> Event {
    if created == 0 {
        Event::Delete { key: key.to_owned() }
    } else {
        Event::Put(entry(key, (revision, created, lease, value)))
    }
}

/// What an event counts towards the size of the history: its key and value, and 64 bytes for the rest of its row.
pub(super) fn event_bytes(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len() + 64) as u64
}

fn lease_of(number: u64) -> Option<LeaseId> {
    (number != 0).then_some(LeaseId(number))
}
