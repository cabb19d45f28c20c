//! Opening the file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use dujiang_types::Revision;
use redb::{Builder, Database, DatabaseError, ReadableTable};
use tokio::time::{Instant, sleep};
use tracing::info;

use super::leases::Leases;
use super::session;
use super::tables::{
    ENTRIES, FIRST_REVISION, FORMAT, HISTORY, LEASE_KEYS, LEASES, META, META_COMPACTED, META_FORMAT,
    META_REVISION, Stored, meta,
};
use crate::{Error, LeaseId, Result};

/// How long to wait for another process to let go of the file: what a process that is told to stop needs for its
/// last commit.
const UNLOCK_WAIT: Duration = Duration::from_secs(5);
/// How often to look.
const UNLOCK_POLL: Duration = Duration::from_millis(20);
/// Memory the engine may use to cache pages: all records of a platform fit several times.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// An open file.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) revision: Revision,
    /// All leases, each beginning now.
    pub(super) leases: Leases,
}

/// Opens the file, or makes it.
pub(super) async fn open(path: &Path) -> Result<Opened> {
    let deadline = Instant::now() + UNLOCK_WAIT;
    loop {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || open_blocking(&path)).await;
        match opened.map_err(|panic| Error::unavailable("open its file", panic))? {
            Err(Error::Locked { .. }) if Instant::now() < deadline => sleep(UNLOCK_POLL).await,
            outcome => return outcome,
        }
    }
}

fn open_blocking(path: &Path) -> Result<Opened> {
    let exists = path.try_exists().map_err(|cause| Error::unavailable("open its file", cause))?;
    let database = if exists { engine(path)? } else { create(path)? };
    let (revision, leases) =
        read_start(&database, path).map_err(|fault| Error::unavailable("read its file", fault))??;
    Ok(Opened { database, revision, leases })
}

fn engine(path: &Path) -> Result<Database> {
    match Builder::new().set_cache_size(CACHE_BYTES).create(path) {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(Error::Locked { path: path.to_owned() }),
        Err(fault) => Err(Error::unavailable("open its file", fault)),
    }
}

/// Makes the file under another name first: one left half made by a crash never stands under the true name.
fn create(path: &Path) -> Result<Database> {
    let unavailable = |cause: io::Error| Error::unavailable("make its file", cause);
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(unavailable)?;
    let mut half_made = OsString::from(path);
    half_made.push(".new");
    let half_made = PathBuf::from(half_made);
    match fs::remove_file(&half_made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(error)),
        _ => {}
    }
    let database = engine(&half_made)?;
    format(&database).map_err(|fault| Error::unavailable("make its file", fault))?;
    // A link, unlike a rename, cannot replace the store that another process has made in the meantime.
    match fs::hard_link(&half_made, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Locked { path: path.to_owned() });
        }
        outcome => outcome.map_err(unavailable)?,
    }
    fs::remove_file(&half_made).map_err(unavailable)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unavailable)?;
    info!(path = %path.display(), "made a new store");
    Ok(database)
}

/// Makes a file with these entries, all of that revision.
pub(super) fn create_with(path: &Path, revision: Revision, entries: &[(String, Bytes)]) -> Result<()> {
    let database = create(path)?;
    fill(&database, revision, entries).map_err(|fault| Error::unavailable("make its file", fault))
}

fn fill(database: &Database, revision: Revision, entries: &[(String, Bytes)]) -> Stored<()> {
    let transaction = session::begin(database)?;
    {
        let mut table = transaction.open_table(ENTRIES)?;
        for (key, value) in entries {
            table.insert(key.as_str(), (revision.0, revision.0, 0, &value[..]))?;
        }
        let mut table = transaction.open_table(META)?;
        table.insert(META_REVISION, revision.0)?;
        table.insert(META_COMPACTED, revision.0)?;
    }
    transaction.commit()?;
    Ok(())
}

fn format(database: &Database) -> Stored<()> {
    let transaction = session::begin(database)?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(HISTORY)?;
    transaction.open_table(LEASES)?;
    transaction.open_table(LEASE_KEYS)?;
    {
        let mut table = transaction.open_table(META)?;
        table.insert(META_FORMAT, FORMAT)?;
        table.insert(META_REVISION, FIRST_REVISION)?;
    }
    transaction.commit()?;
    Ok(())
}

fn read_start(database: &Database, path: &Path) -> Stored<Result<(Revision, Leases)>> {
    // A transaction that writes, because it takes a foreign file without our tables as well as ours.
    let transaction = session::begin(database)?;
    let (format, revision) = {
        let table = transaction.open_table(META)?;
        (meta(&table, META_FORMAT)?, meta(&table, META_REVISION)?)
    };
    if format != FORMAT {
        let what = format!("its layout is version {format}, this program reads version {FORMAT}");
        return Ok(Err(Error::Corrupt { key: path.display().to_string(), what }));
    }
    let mut leases = Leases::default();
    let now = Instant::now();
    for row in transaction.open_table(LEASES)?.iter()? {
        let (lease, ttl_seconds) = row?;
        leases.insert(LeaseId(lease.value()), Duration::from_secs(ttl_seconds.value().into()), now);
    }
    transaction.abort()?;
    Ok(Ok((Revision(revision), leases)))
}
