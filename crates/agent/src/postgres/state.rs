//! The replica's state file: everything about it that must outlive the agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dujiang_types::unit::SyncSet;
use dujiang_types::{DcId, Epoch};
use serde::{Deserialize, Serialize};

use super::error::{PostgresError, file};
use crate::files;

/// Its name, in the replica's folder.
pub(super) const FILE: &str = "replica.json";

/// Content of `replica.json`. PostgreSQL's configuration files are made from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The highest epoch whose record was acted on.
    pub epoch_seen: Epoch,
    /// The highest epoch this data was promoted under; written before promoting, cleared when the data is
    /// replaced.
    pub primary_epoch: Option<Epoch>,
    /// True from before the data is touched by a rewind or swapped by a clone until that is done: what is there
    /// meanwhile is neither the old database nor the new one.
    pub broken: bool,
    /// Whom it receives from.
    pub upstream: Option<Upstream>,
    /// The timeline it recovers to, if there is a newer one of which it has no log. `None`: the newest.
    pub target: Option<u32>,
    /// The sync set its configuration names. `None`: commits wait for ever, the safe setting of a standby.
    pub set: Option<SyncSet>,
    /// True if clients are admitted.
    pub open: bool,
}

/// The database another one receives from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its data center.
    pub dc: DcId,
    /// Where it listens.
    pub address: SocketAddr,
}

impl State {
    /// What the file in a replica's folder says; a replica without one is new.
    pub fn in_folder(dir: &Path) -> Result<Self, PostgresError> {
        Self::read(&dir.join(FILE))
    }

    /// Reads the file; a replica without one is new.
    fn read(path: &Path) -> Result<Self, PostgresError> {
        Ok(files::read_json(path).map_err(file("read", path))?.unwrap_or_default())
    }

    /// Writes the file durably.
    fn write(&self, path: &Path) -> Result<(), PostgresError> {
        files::write_json(path, self).map_err(file("write", path))
    }
}

/// The state with its file.
#[derive(Debug)]
pub(super) struct Durable {
    path: PathBuf,
    state: Mutex<State>,
}

impl Durable {
    /// Reads the file.
    pub(super) fn read(path: PathBuf) -> Result<Self, PostgresError> {
        let state = Mutex::new(State::read(&path)?);
        Ok(Self { path, state })
    }

    /// What is on disk.
    pub(super) fn get(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state, on disk first. Waits for the disk; changes must not be made at the same time.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), PostgresError> {
        let mut changed = self.get();
        change(&mut changed);
        if changed != self.get() {
            changed.write(&self.path)?;
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = changed;
        }
        Ok(())
    }
}
