//! Watches: order, completeness, resumption, compaction, slow readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use dujiang_store::{Batch, Error, Store, Txn};
use dujiang_types::Revision;
use tokio::task::JoinHandle;

use super::{Fixture, commit, first, next, put, within, words};

const WRITERS: usize = 4;
const WRITES: usize = 50;

/// Writers on keys of their own under `w/`, and noise under another prefix. Each returns what it wrote by revision.
fn write_much(store: &Arc<dyn Store>) -> Vec<JoinHandle<BTreeMap<Revision, Vec<String>>>> {
    let writer = |number: usize| {
        let store = Arc::clone(store);
        async move {
            let mut written = BTreeMap::new();
            for i in 0..WRITES {
                let (a, b) = (format!("w/{number}/a"), format!("w/{number}/b"));
                let txn = Txn::new().put(format!("noise/{number}"), i.to_string());
                let (txn, events) = match i % 3 {
                    0 => (txn.put(a.clone(), i.to_string()), vec![format!("{a}={i}")]),
                    1 => {
                        let words = vec![format!("{a}={i}"), format!("{b}={i}")];
                        (txn.put(b, i.to_string()).put(a, i.to_string()), words)
                    }
                    _ => (txn.delete(a.clone()), vec![a]),
                };
                written.insert(commit(&store, txn).await, events);
                put(&store, "noise", "n").await;
            }
            written
        }
    };
    (0..WRITERS).map(|number| tokio::spawn(writer(number))).collect()
}

async fn join(writers: Vec<JoinHandle<BTreeMap<Revision, Vec<String>>>>) -> Vec<(Revision, Vec<String>)> {
    let mut written = BTreeMap::new();
    for writer in writers {
        written.extend(within("a writer", writer).await.unwrap());
    }
    assert_eq!(written.len(), WRITERS * WRITES);
    written.into_iter().collect()
}

fn told(batches: &[Batch]) -> Vec<(Revision, Vec<String>)> {
    batches.iter().map(|batch| (batch.revision, words(batch))).collect()
}

pub(crate) async fn events_come_in_order_without_gap_while_writing(fixture: Fixture) {
    let store = &fixture.store;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("w/", start).await.unwrap();
    let writers = write_much(store);
    let mut batches = Vec::new();
    while batches.len() < WRITERS * WRITES {
        batches.push(next(&mut watch).await);
    }
    let written = join(writers).await;
    assert_eq!(told(&batches), written);
    // From the beginning, after the fact.
    let mut late = store.watch("w/", start).await.unwrap();
    for expected in written {
        let batch = next(&mut late).await;
        assert_eq!((batch.revision, words(&batch)), expected);
    }
}

pub(crate) async fn a_resumed_watch_misses_and_repeats_nothing(fixture: Fixture) {
    let store = &fixture.store;
    let mut after = store.revision().await.unwrap();
    let writers = write_much(store);
    let mut batches = Vec::new();
    while batches.len() < WRITERS * WRITES {
        let mut watch = store.watch("w/", after).await.unwrap();
        for _ in 0..7.min(WRITERS * WRITES - batches.len()) {
            batches.push(next(&mut watch).await);
        }
        after = batches[batches.len() - 1].revision;
    }
    assert_eq!(told(&batches), join(writers).await);
}

pub(crate) async fn the_changes_of_a_revision_come_together(fixture: Fixture) {
    let store = &fixture.store;
    let made = put(store, "units/b", "0").await;
    let mut watch = store.watch("units/", made).await.unwrap();
    let txn = Txn::new().put("units/c", "1").delete("units/b").put("other", "1").put("units/a", "1");
    let revision = commit(store, txn).await;
    let batch = next(&mut watch).await;
    assert_eq!(batch.revision, revision);
    assert_eq!(words(&batch), ["units/a=1", "units/b", "units/c=1"]);
    let listing = store.list("units/").await.unwrap();
    put(store, "units/d", "1").await;
    assert_eq!(words(&first(store, "units/", listing.revision).await.unwrap()), ["units/d=1"]);
}

pub(crate) async fn a_revision_is_never_split(fixture: Fixture) {
    let store = &fixture.store;
    let mut watch = store.watch("", store.revision().await.unwrap()).await.unwrap();
    let mut revisions = Vec::new();
    // Sizes at which any page of a whole number of MiB ends within a revision.
    for _ in 0..12 {
        let large = vec![1_u8; 100 * 1024];
        let txn = Txn::new().put("a", large.clone()).put("b", large.clone()).put("c", large);
        revisions.push(commit(store, txn).await);
    }
    for revision in revisions {
        let batch = next(&mut watch).await;
        assert_eq!((batch.revision, batch.events.len()), (revision, 3));
    }
}

pub(crate) async fn a_compacted_revision_is_refused(fixture: Fixture) {
    let store = &fixture.store;
    let start = store.revision().await.unwrap();
    put(store, "a", "1").await;
    let changed = put(store, "a", "2").await;
    let deleted = commit(store, Txn::new().delete("a")).await;
    let last = put(store, "a", "3").await;

    store.compact(deleted).await.unwrap();
    for after in [start, changed] {
        let refused = first(store, "", after).await;
        assert!(matches!(refused, Err(Error::Compacted { oldest }) if oldest == deleted), "{refused:?}");
    }
    assert_eq!(first(store, "", deleted).await.unwrap().revision, last);
    // Compacting what is compacted already, or less, changes nothing; the future cannot be compacted.
    store.compact(deleted).await.unwrap();
    store.compact(start).await.unwrap();
    store.compact(Revision(0)).await.unwrap();
    assert_eq!(first(store, "", deleted).await.unwrap().revision, last);
    assert!(matches!(store.compact(Revision(last.0 + 1)).await, Err(Error::Invalid { .. })));
    // Compaction drops history, not entries, and leaves the revision alone.
    assert_eq!(store.revision().await.unwrap(), last);
    assert_eq!(&store.get("a").await.unwrap().unwrap().value[..], b"3");
}

pub(crate) async fn a_revision_of_the_future_is_refused(fixture: Fixture) {
    let store = &fixture.store;
    let revision = put(store, "a", "1").await;
    let refused = first(store, "", Revision(revision.0 + 1)).await;
    assert!(matches!(refused, Err(Error::Compacted { .. })), "{refused:?}");
}

/// Writes batches of 16 KiB each, far more in all than a watch may hold.
async fn write_large(store: &Arc<dyn Store>, count: usize) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for i in 0..count {
        let value = vec![u8::try_from(i % 256).unwrap(); 16 * 1024];
        revisions.push(commit(store, Txn::new().put(format!("k{i}"), value)).await);
    }
    revisions
}

const LARGE_WRITES: usize = 300;

pub(crate) async fn a_slow_reader_gets_everything_that_is_kept(fixture: Fixture) {
    let store = &fixture.store;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("", start).await.unwrap();
    let revisions = write_large(store, LARGE_WRITES).await;
    for revision in revisions {
        assert_eq!(next(&mut watch).await.revision, revision);
    }
}

pub(crate) async fn a_slow_reader_holds_little_and_is_told_what_is_lost(fixture: Fixture) {
    let store = &fixture.store;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("", start).await.unwrap();
    put(store, "first", "1").await;
    next(&mut watch).await;
    let revisions = write_large(store, LARGE_WRITES).await;
    let last = revisions[LARGE_WRITES - 1];
    store.compact(last).await.unwrap();
    let mut held = 0;
    let end = loop {
        match within("the end of the watch", watch.next()).await {
            Ok(batch) => {
                assert_eq!(batch.revision, revisions[held], "no gap before the end");
                held += 1;
            }
            Err(end) => break end,
        }
    };
    assert!(held <= LARGE_WRITES / 3, "it held {held} of {LARGE_WRITES} batches");
    assert!(matches!(end, Error::Compacted { oldest } if oldest == last), "{end:?}");
    assert!(matches!(watch.next().await, Err(Error::Closed)), "an error is the last thing a watch says");
    // As told: list, and watch from there.
    let listing = store.list("").await.unwrap();
    let newer = put(store, "newer", "1").await;
    assert_eq!(first(store, "", listing.revision).await.unwrap().revision, newer);
}
