//! The store in process: one file, written by one task.

mod file;
mod history;
mod leases;
mod session;
mod tables;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dujiang_types::Revision;
use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot, watch};

use self::tables::{ENTRIES, META, META_REVISION, Stored, entry, meta};
use self::writer::{COMMANDS_MAX, Command, Writer};
use crate::{Entry, Error, LeaseId, Listing, Result, Size, Store, Txn, TxnOutcome, Watch, limits};

/// A store in a file of this process.
///
/// * A write is acknowledged once it is synced to the disk. Writes that wait together are committed together.
/// * The latest [`HISTORY_EVENTS_MAX`](session::HISTORY_EVENTS_MAX) events are kept for watches (fewer if values are
///   large), also over a restart.
/// * Leases survive a restart: every lease then has its full time to live again, because for how long the process
///   was away cannot be told by a monotonic clock.
/// * When writing the file fails, every call fails from then on: open it anew to learn what has reached the disk.
///
/// Needs a tokio runtime. Dropping the store ends its watches and closes the file.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What the store, its writer and its watches share.
#[derive(Debug)]
struct Shared {
    database: Database,
    /// The revision committed last.
    revision: watch::Receiver<Revision>,
    /// Why the writer has stopped, if not because the store was dropped.
    fault: OnceLock<Error>,
}

impl Shared {
    fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.clone()
    }

    fn fail(&self, fault: Error) {
        // Only the writer calls this, and stops then: a second fault cannot come.
        self.fault.get_or_init(|| fault);
    }

    /// Why nothing is answered any more.
    fn ended(&self) -> Error {
        self.fault.get().cloned().unwrap_or(Error::Closed)
    }

    /// Reads the file on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Database) -> Stored<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        match tokio::task::spawn_blocking(move || read(&shared.database)).await {
            Ok(outcome) => outcome.map_err(|fault| Error::unavailable("read its file", fault)),
            Err(panic) => Err(Error::unavailable("read its file", panic)),
        }
    }
}

impl RedbStore {
    /// Opens the file, or makes it with the folders above it. Waits a moment for a process that is just letting go
    /// of it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let opened = file::open(path.as_ref()).await?;
        let (revision, latest) = watch::channel(opened.revision);
        let shared = Arc::new(Shared { database: opened.database, revision: latest, fault: OnceLock::new() });
        let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
        let writer =
            Writer { shared: Arc::clone(&shared), commands: waiting, revision, leases: opened.leases };
        tokio::spawn(writer.run());
        Ok(Self { path: path.as_ref().to_owned(), shared, commands })
    }

    /// Makes a file that did not exist, with these entries all written at that revision and no history before it.
    pub async fn create_with(
        path: impl AsRef<Path>,
        revision: Revision,
        entries: Vec<(String, Bytes)>,
    ) -> Result<()> {
        let path = path.as_ref().to_owned();
        let made = tokio::task::spawn_blocking(move || file::create_with(&path, revision, &entries)).await;
        made.map_err(|panic| Error::unavailable("make its file", panic))?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (answer, outcome) = oneshot::channel();
        if self.commands.send(command(answer)).await.is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        // The writer drops what it cannot answer, then says why, then goes.
        self.commands.closed().await;
        Err(self.shared.ended())
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        limits::check_key(key)?;
        let key = key.to_owned();
        self.shared
            .read(move |database| {
                let entries = database.begin_read()?.open_table(ENTRIES)?;
                Ok(entries.get(key.as_str())?.map(|row| entry(&key, row.value())))
            })
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Listing> {
        limits::check_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.shared.read(move |database| list(database, &prefix)).await
    }

    async fn transact(&self, txn: Txn) -> Result<TxnOutcome> {
        limits::check_txn(&txn)?;
        self.ask(|answer| Command::Transact(txn, answer)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        limits::check_prefix(prefix)?;
        self.shared.read(move |database| history::check_start(database, after)).await??;
        Ok(Watch::new(history::follow(&self.shared, prefix.to_owned(), after)))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        let ttl_seconds = limits::lease_ttl_seconds(ttl)?;
        self.ask(|answer| Command::Grant { ttl_seconds, answer }).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.ask(|answer| Command::KeepAlive(lease, answer)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.ask(|answer| Command::Revoke(lease, answer)).await
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn revision(&self) -> Result<Revision> {
        Ok(*self.shared.revision.borrow())
    }

    async fn size(&self) -> Result<Size> {
        let path = self.path.clone();
        let meta = tokio::task::spawn_blocking(move || std::fs::metadata(path)).await;
        let meta = meta.map_err(|panic| Error::unavailable("measure its file", panic))?;
        let meta = meta.map_err(|cause| Error::unavailable("measure its file", cause))?;
        Ok(Size { bytes: meta.len(), quota_bytes: limits::STORE_BYTES_MAX, alarms: Vec::new() })
    }

    async fn reclaim(&self) -> Result<()> {
        // The file uses space given up again by itself.
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.ask(|answer| Command::Compact(revision, answer)).await
    }
}

fn list(database: &Database, prefix: &str) -> Stored<Listing> {
    let transaction = database.begin_read()?;
    let mut entries = Vec::new();
    for row in transaction.open_table(ENTRIES)?.range(prefix..)? {
        let (key, row) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        entries.push(entry(key.value(), row.value()));
    }
    let revision = meta(&transaction.open_table(META)?, META_REVISION)?;
    Ok(Listing { entries, revision: Revision(revision) })
}
