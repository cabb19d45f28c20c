//! Between etcd's words and ours.

use bytes::Bytes;
use dujiang_types::Revision;
use etcd_client::{KeyValue, ResponseHeader};

use super::NAMESPACE;
use crate::{Entry, Error, LeaseId, Result};

/// Our key as etcd has it.
pub(super) fn key(key: &str) -> Vec<u8> {
    [NAMESPACE, key].concat().into_bytes()
}

/// The least of etcd's keys above all that begin with our prefix. The last byte of a text is never 255, so it can be
/// raised.
pub(super) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = key(prefix);
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Our key of etcd's.
pub(super) fn our_key(kv: &KeyValue) -> Result<String> {
    let text = kv.key_str().ok().and_then(|text| text.strip_prefix(NAMESPACE));
    text.map(str::to_owned).ok_or_else(|| Error::Corrupt {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        what: "the key is not a text under our namespace".to_owned(),
    })
}

/// How far our revisions are above etcd's. A cluster that was made from a backup begins to count anew, and our
/// revisions must never fall: whoever has seen a higher one would take the new for old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Base(pub(super) u64);

impl Base {
    /// Our revision of etcd's.
    pub(super) fn ours(self, revision: i64) -> Revision {
        Revision(if revision == 0 { 0 } else { self.0 + unsigned(revision) })
    }

    /// etcd's revision of ours; 0 stays 0. One of before this cluster was made matches nothing.
    pub(super) fn theirs(self, revision: Revision) -> i64 {
        match revision.0 {
            0 => 0,
            ours if ours <= self.0 => i64::MAX,
            ours => number(ours - self.0),
        }
    }
}

/// Our entry of etcd's.
pub(super) fn entry(kv: &KeyValue, base: Base) -> Result<Entry> {
    Ok(Entry {
        key: our_key(kv)?,
        value: Bytes::copy_from_slice(kv.value()),
        revision: base.ours(kv.mod_revision()),
        created: base.ours(kv.create_revision()),
        lease: (kv.lease() != 0).then(|| LeaseId(unsigned(kv.lease()))),
    })
}

/// The store's revision when it answered.
pub(super) fn revision_of(header: Option<&ResponseHeader>, base: Base) -> Result<Revision> {
    let missing =
        || Error::Corrupt { key: NAMESPACE.to_owned(), what: "an answer without header".to_owned() };
    header.map(|header| base.ours(header.revision())).ok_or_else(missing)
}

/// A number as etcd takes it. It has no numbers above `i64::MAX`, so one asked for from outside matches nothing.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of etcd's, which are never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
