//! Watches over the history in the file.
//!
//! A watch holds its position and a page of batches, nothing else: whoever reads slowly reads older history, never
//! fills memory, and learns that it is too late from the history itself.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use dujiang_types::Revision;
use futures_util::stream::{Stream, try_unfold};
use redb::{Database, ReadableDatabase};

use super::Shared;
use super::tables::{HISTORY, META, META_COMPACTED, META_REVISION, Stored, event, event_bytes, meta};
use crate::{Batch, Error, Result};

/// Bytes of events read at a time (a revision is never split, so up to one transaction more): what a watch holds in
/// memory at most.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// A stretch of history.
struct Page {
    batches: VecDeque<Batch>,
    /// Everything up to and including this revision was looked at.
    end: Revision,
}

/// The stream behind a watch. It does not keep the file open when the store is dropped.
pub(super) fn follow(
    shared: &Arc<Shared>,
    prefix: String,
    after: Revision,
) -> impl Stream<Item = Result<Batch>> + Send + 'static {
    let revisions = shared.revisions();
    let page = Page { batches: VecDeque::new(), end: after };
    try_unfold((Arc::downgrade(shared), revisions, page), move |(shared, mut revisions, mut page)| {
        let prefix = prefix.clone();
        async move {
            loop {
                if let Some(batch) = page.batches.pop_front() {
                    return Ok(Some((batch, (shared, revisions, page))));
                }
                if *revisions.borrow_and_update() > page.end {
                    let (prefix, end) = (prefix.clone(), page.end);
                    let shared = shared.upgrade().ok_or(Error::Closed)?;
                    page = shared.read(move |database| read_page(database, &prefix, end)).await??;
                } else if revisions.changed().await.is_err() {
                    return Err(ended(&shared));
                }
            }
        }
    })
}

fn ended(shared: &Weak<Shared>) -> Error {
    shared.upgrade().map_or(Error::Closed, |shared| shared.ended())
}

/// Refuses what can be refused when a watch is asked for.
pub(super) fn check_start(database: &Database, after: Revision) -> Stored<Result<()>> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(META)?;
    let (compacted, revision) = (meta(&table, META_COMPACTED)?, meta(&table, META_REVISION)?);
    let kept = compacted <= after.0 && after.0 <= revision;
    Ok(if kept { Ok(()) } else { Err(Error::Compacted { oldest: Revision(compacted) }) })
}

fn read_page(database: &Database, prefix: &str, after: Revision) -> Stored<Result<Page>> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(META)?;
    let compacted = meta(&table, META_COMPACTED)?;
    if after.0 < compacted {
        return Ok(Err(Error::Compacted { oldest: Revision(compacted) }));
    }
    let mut page = Page { batches: VecDeque::new(), end: after };
    let mut bytes = 0;
    for row in transaction.open_table(HISTORY)?.range((after.0 + 1, 0)..)? {
        let (position, row) = row?;
        let (revision, row) = (position.value().0, row.value());
        if page.end.0 < revision && bytes >= PAGE_BYTES_MAX {
            return Ok(Ok(page));
        }
        page.end = Revision(revision);
        if !row.0.starts_with(prefix) {
            continue;
        }
        bytes += event_bytes(row.0, row.3);
        match page.batches.back_mut() {
            Some(batch) if batch.revision == page.end => batch.events.push(event(revision, row)),
            _ => page.batches.push_back(Batch { revision: page.end, events: vec![event(revision, row)] }),
        }
    }
    page.end = Revision(meta(&table, META_REVISION)?);
    Ok(Ok(page))
}
