//! Watches: the changes of a store as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use dujiang_types::Revision;
use futures_util::stream::{Stream, StreamExt};

use crate::{Error, Event, Result};

/// All changes one revision made under the watched prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The revision; a put entry has the same.
    pub revision: Revision,
    /// The changes, at least one, ascending by key.
    pub events: Vec<Event>,
}

/// A running watch. Dropping it ends it.
///
/// It holds a bounded number of batches, however slow its reader is: a reader that falls behind further is served
/// from the store's history, and one that falls behind that is told [`Error::Compacted`].
pub struct Watch {
    stream: Pin<Box<dyn Stream<Item = Result<Batch>> + Send>>,
}

impl Watch {
    /// Wraps a stream that keeps the promises of [`crate::Store::watch`].
    pub fn new(stream: impl Stream<Item = Result<Batch>> + Send + 'static) -> Self {
        Self { stream: Box::pin(stream) }
    }

    /// Waits for the next batch. Nothing is lost if the returned future is dropped.
    ///
    /// An error ends the watch: [`Error::Compacted`] means list again and watch from there, [`Error::Closed`] that
    /// the store is gone.
    pub async fn next(&mut self) -> Result<Batch> {
        self.stream.next().await.unwrap_or(Err(Error::Closed))
    }
}

impl Stream for Watch {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
