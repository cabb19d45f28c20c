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

/// Our entry of etcd's.
pub(super) fn entry(kv: &KeyValue) -> Result<Entry> {
    Ok(Entry {
        key: our_key(kv)?,
        value: Bytes::copy_from_slice(kv.value()),
        revision: Revision(unsigned(kv.mod_revision())),
        created: Revision(unsigned(kv.create_revision())),
        lease: (kv.lease() != 0).then(|| LeaseId(unsigned(kv.lease()))),
    })
}

/// The store's revision when it answered.
pub(super) fn revision_of(header: Option<&ResponseHeader>) -> Result<Revision> {
    let missing =
        || Error::Corrupt { key: NAMESPACE.to_owned(), what: "an answer without header".to_owned() };
    header.map(|header| Revision(unsigned(header.revision()))).ok_or_else(missing)
}

/// A number as etcd takes it. It has no numbers above `i64::MAX`, so one asked for from outside matches nothing.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of etcd's, which are never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
