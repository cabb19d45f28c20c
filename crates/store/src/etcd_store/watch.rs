//! Watches over etcd's.
//!
//! A task of its own reads etcd's stream into a small buffer. When the reader does not keep up, the task lets go of
//! the stream and asks for it again from the last batch taken, once there is room: so etcd keeps what the reader has
//! not read, nothing piles up here, and a stuck reader does not hold up the other calls on the connection.

use std::time::Duration;

use dujiang_types::Revision;
use etcd_client::{EventType, WatchOptions, WatchResponse};
use futures_util::stream::unfold;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::call::{CALL_TIMEOUT, is_too_large};
use super::convert::{self, Base, entry, our_key};
use super::{EtcdStore, call};
use crate::{Batch, Error, Event, Result, Store, Watch};

/// Batches waiting for the reader: enough to ride out a pause of scheduling, and at most as many transactions in
/// memory.
const BATCHES_MAX: usize = 64;
/// Room for so many makes it worth to ask for the stream again: each time etcd sends more than is taken.
const BATCHES_RESUME: usize = BATCHES_MAX / 2;
/// Pause before a broken stream is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

struct Follower {
    store: EtcdStore,
    prefix: String,
    /// Everything up to and including this revision was handed over.
    after: Revision,
    reader: Sender<Result<Batch>>,
}

/// Why a stream ended.
enum End {
    /// The reader has gone.
    Dropped,
    /// The reader does not keep up.
    Full,
    /// The connection or the member failed.
    Broken(Error),
    /// It cannot be resumed.
    Lost(Error),
}

/// Starts a watch whose start is not above the store's revision.
pub(super) fn start(store: EtcdStore, prefix: &str, after: Revision) -> Watch {
    let (reader, batches) = mpsc::channel(BATCHES_MAX);
    tokio::spawn(Follower { store, prefix: prefix.to_owned(), after, reader }.run());
    Watch::new(unfold(batches, async |mut batches| batches.recv().await.map(|batch| (batch, batches))))
}

impl Follower {
    async fn run(mut self) {
        let reader = self.reader.clone();
        loop {
            let end = tokio::select! {
                () = reader.closed() => return,
                end = self.follow() => end,
            };
            match end {
                End::Dropped => return,
                End::Full => {
                    if reader.reserve_many(BATCHES_RESUME).await.is_err() {
                        return;
                    }
                }
                End::Broken(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        prefix = self.prefix,
                        "watch broke; resuming"
                    );
                    sleep(RETRY_PAUSE).await;
                }
                End::Lost(error) => {
                    // The reader may be gone: then nobody needs to know.
                    reader.send(Err(error)).await.unwrap_or_default();
                    return;
                }
            }
        }
    }

    /// Follows one stream of etcd's to its end.
    async fn follow(&mut self) -> End {
        // A store put back from a copy may be behind what the reader has seen; etcd would wait in silence.
        match self.store.revision().await {
            Ok(revision) if revision < self.after => return End::Lost(Error::Compacted { oldest: revision }),
            Ok(_) => {}
            Err(error) => return End::Broken(error),
        }
        // From the last revision seen and not the one after it: etcd would serve a stream that begins right at a
        // compacted revision although it may have dropped a deletion made there.
        let options = WatchOptions::new()
            .with_range(convert::range_end(&self.prefix))
            .with_start_revision(self.store.base.theirs(self.after).max(1))
            // The timed notice, not one asked for: before 3.4.25 and 3.5.8 that could overtake events.
            .with_progress_notify();
        let mut client = self.store.watch.clone();
        let watching = timeout(CALL_TIMEOUT, client.watch(convert::key(&self.prefix), Some(options)));
        let Ok(watching) = watching.await else {
            return End::Broken(call::Failure::TimedOut { doing: "watch" }.into());
        };
        let mut stream = match watching {
            Ok(stream) => stream,
            Err(error) => return End::Broken(Error::unavailable("watch", error)),
        };
        loop {
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return End::Broken(Error::Closed),
                // Too far behind to be served in one piece.
                Err(error) if is_too_large(&error) => return self.lost().await,
                Err(error) => return End::Broken(Error::unavailable("watch", error)),
            };
            if let Some(end) = self.take(&response) {
                return end;
            }
        }
    }

    async fn lost(&self) -> End {
        match self.store.revision().await {
            Ok(oldest) => End::Lost(Error::Compacted { oldest }),
            Err(error) => End::Broken(error),
        }
    }

    /// Hands the batches of a response to the reader.
    fn take(&mut self, response: &WatchResponse) -> Option<End> {
        if response.compact_revision() > 0 {
            let oldest = self.store.base.ours(response.compact_revision());
            return Some(End::Lost(Error::Compacted { oldest }));
        }
        if response.canceled() {
            let reason = std::io::Error::other(response.cancel_reason().to_owned());
            return Some(End::Broken(Error::unavailable("watch", reason)));
        }
        if response.events().is_empty() && !response.created() {
            let header = response.header();
            let progress = header.map_or(self.after, |header| self.store.base.ours(header.revision()));
            debug!(prefix = self.prefix, %progress, "nothing new");
            self.after = self.after.max(progress);
        }
        let batches = match batches(response, self.after, self.store.base) {
            Ok(batches) => batches,
            Err(error) => return Some(End::Lost(error)),
        };
        for batch in batches {
            let revision = batch.revision;
            match self.reader.try_send(Ok(batch)) {
                Ok(()) => self.after = revision,
                Err(TrySendError::Full(_)) => return Some(End::Full),
                Err(TrySendError::Closed(_)) => return Some(End::Dropped),
            }
        }
        None
    }
}

/// The events above `after` by revision. etcd never splits a revision over two responses.
fn batches(response: &WatchResponse, after: Revision, base: Base) -> Result<Vec<Batch>> {
    let mut batches: Vec<Batch> = Vec::new();
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        let revision = base.ours(kv.mod_revision());
        if revision <= after {
            continue;
        }
        let event = match event.event_type() {
            EventType::Put => Event::Put(entry(kv, base)?),
            EventType::Delete => Event::Delete { key: our_key(kv)? },
        };
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.events.push(event),
            _ => batches.push(Batch { revision, events: vec![event] }),
        }
    }
    for batch in &mut batches {
        batch.events.sort_by(|a, b| a.key().cmp(b.key()));
    }
    Ok(batches)
}
