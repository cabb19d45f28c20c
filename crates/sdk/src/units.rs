//! The units file: which units there are, and how to reach the local replica of each.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dujiang_database::Tls;
use dujiang_types::{DcId, Slot, SlotRange, UnitId};
use serde::Deserialize;
use tokio::sync::{Notify, watch};

use crate::Secret;
use crate::pool::Pool;

/// The units file, `units.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UnitsFile {
    /// The data center this process runs in.
    pub dc: DcId,
    /// Base URL of the local gateway for those with an identity, over which messages to other units go.
    pub mesh: String,
    /// Every unit that has a replica here, of any application.
    pub units: Vec<UnitEntry>,
}

/// One unit and its local replica.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UnitEntry {
    /// The unit.
    pub unit: UnitId,
    /// Its application.
    pub application: String,
    /// Host of the local replica.
    pub host: String,
    /// Port of the local replica.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role to connect as.
    pub role: String,
    /// Slots the unit owns.
    pub slots: Vec<SlotRange>,
}

impl UnitEntry {
    /// True if sessions to the one are sessions to the other.
    fn same_database(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.database, &self.role)
            == (&other.host, other.port, &other.database, &other.role)
    }
}

/// A unit and its sessions.
pub struct Unit {
    entry: UnitEntry,
    pub(crate) pool: Pool,
    /// Wakes the unit's background work: a message was written, or its schema was missed.
    pub(crate) wake: Arc<Notify>,
}

impl Unit {
    /// The unit's name.
    pub fn name(&self) -> &UnitId {
        &self.entry.unit
    }

    /// True if the unit owns the slot.
    pub fn owns(&self, slot: Slot) -> bool {
        self.entry.slots.iter().any(|range| range.contains(slot))
    }
}

/// Why the units file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum UnitsError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is not a units file")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

/// All units, kept in step with the file. Cheap to clone.
#[derive(Clone)]
pub struct Units(Arc<Inner>);

struct Inner {
    path: PathBuf,
    secret: Secret,
    tls: Tls,
    role: String,
    application_name: String,
    table: RwLock<Arc<Table>>,
    // What the file was when it was last read; held while reading, so that one reload runs at a time.
    stamp: Mutex<Stamp>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    mesh: String,
    units: BTreeMap<UnitId, Arc<Unit>>,
}

/// Identity of the file's content: it is replaced atomically, so a new content has a new inode or time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified_ns: i128,
    size: u64,
}

impl Units {
    /// Reads the file. `tls` is for the databases of this data center, `role` the one it proves to them: units of other
    /// applications, whose databases admit other roles, are left out. `application_name` is what databases show for our
    /// sessions.
    pub fn open(
        path: &Path,
        secret: Secret,
        tls: Tls,
        role: &str,
        application_name: &str,
    ) -> Result<Self, UnitsError> {
        let units = Self(Arc::new(Inner {
            path: path.to_owned(),
            secret,
            tls,
            role: role.to_owned(),
            application_name: application_name.to_owned(),
            table: RwLock::default(),
            stamp: Mutex::default(),
            changed: watch::Sender::new(0),
        }));
        units.refresh()?;
        Ok(units)
    }

    /// Reads the file again if it was replaced. An unreadable file leaves everything as it was.
    pub fn refresh(&self) -> Result<(), UnitsError> {
        let inner = &*self.0;
        let mut stamp = inner.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = |source| UnitsError::Read { path: inner.path.clone(), source };
        let found = Stamp::of(&inner.path).map_err(unreadable)?;
        if found == *stamp {
            return Ok(());
        }
        let text = std::fs::read(&inner.path).map_err(unreadable)?;
        let mut file: UnitsFile = serde_json::from_slice(&text)
            .map_err(|source| UnitsError::Malformed { path: inner.path.clone(), source })?;
        file.units.retain(|entry| entry.role == inner.role);
        let before = self.table();
        let after = Arc::new(before.follow(file, |entry| self.unit_of(entry)));
        *inner.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        before.close_what_is_not_in(&after);
        *stamp = found;
        tracing::info!(units = after.units.len(), "units file read");
        inner.changed.send_modify(|version| *version += 1);
        Ok(())
    }

    fn unit_of(&self, entry: UnitEntry) -> Unit {
        let pool = Pool::new(&entry, &self.0.secret, self.0.tls.clone(), &self.0.application_name);
        Unit { entry, pool, wake: Arc::default() }
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The unit of that name; the file is looked at again if there seems to be none.
    pub fn unit(&self, name: &UnitId) -> Option<Arc<Unit>> {
        if let Some(unit) = self.table().units.get(name) {
            return Some(Arc::clone(unit));
        }
        if let Err(error) = self.refresh() {
            tracing::warn!(error = &error as &dyn std::error::Error, "units file");
        }
        self.table().units.get(name).cloned()
    }

    /// The unit that owns the slot.
    pub fn owner(&self, slot: Slot) -> Option<Arc<Unit>> {
        self.table().units.values().find(|unit| unit.owns(slot)).cloned()
    }

    /// Every unit.
    pub fn all(&self) -> Vec<Arc<Unit>> {
        self.table().units.values().cloned().collect()
    }

    /// Base URL of the local gateway for those with an identity.
    pub fn mesh(&self) -> String {
        self.table().mesh.clone()
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// Changes whenever the file was read anew.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

impl Table {
    /// The table of the new file; units whose database stays keep their sessions.
    fn follow(&self, file: UnitsFile, make: impl Fn(UnitEntry) -> Unit) -> Self {
        let units = file.units.into_iter().map(|entry| {
            let kept = self.units.get(&entry.unit).filter(|unit| unit.entry.same_database(&entry));
            let unit = match kept {
                Some(unit) => Unit { entry, pool: unit.pool.clone(), wake: Arc::clone(&unit.wake) },
                None => make(entry),
            };
            (unit.entry.unit.clone(), Arc::new(unit))
        });
        Self { mesh: file.mesh, units: units.collect() }
    }

    fn close_what_is_not_in(&self, after: &Self) {
        for (name, unit) in &self.units {
            if !after.units.get(name).is_some_and(|new| new.entry.same_database(&unit.entry)) {
                unit.pool.close();
            }
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        let modified_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Ok(Self { inode: meta.ino(), modified_ns, size: meta.size() })
    }
}

#[cfg(test)]
mod tests {
    use dujiang_identity::testing::TestAuthority;

    use super::*;

    fn write(path: &Path, units: &[(&str, u16, &str)]) {
        let units: Vec<_> = units
            .iter()
            .map(|(unit, port, slots)| {
                serde_json::json!({"unit": unit, "application": "bank", "host": "127.0.0.1", "port": port,
                    "database": "bank", "role": "bank", "slots": [slots]})
            })
            .collect();
        let file = serde_json::json!({"dc": "a", "mesh": "https://127.0.0.1:1", "units": units});
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, file.to_string()).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }

    fn name(text: &str) -> UnitId {
        UnitId::new(text).unwrap()
    }

    #[tokio::test]
    async fn the_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("units.json");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "s").unwrap();
        let secret = Secret::read(&secret).unwrap();
        let identity = TestAuthority::default().identity("dc/a/application/bank");
        let tls = Tls::new(&identity, &DcId::new("a").unwrap()).unwrap();
        assert!(Units::open(&path, secret.clone(), tls.clone(), "bank", "test").is_err(), "no file yet");

        write(&path, &[("unit-1", 1, "0-8191")]);
        let other = Units::open(&path, secret.clone(), tls.clone(), "lists", "test").unwrap();
        assert!(other.all().is_empty(), "what is another application's is not ours");
        let units = Units::open(&path, secret, tls, "bank", "test").unwrap();
        let first = units.unit(&name("unit-1")).unwrap();
        assert!(first.owns(Slot::new(0).unwrap()) && !first.owns(Slot::new(8192).unwrap()));

        write(&path, &[("unit-1", 1, "0-100"), ("unit-2", 2, "101-16383")]);
        assert!(units.unit(&name("unit-2")).is_some(), "an unknown unit makes it look again");
        let kept = units.unit(&name("unit-1")).unwrap();
        assert!(Arc::ptr_eq(&kept.wake, &first.wake), "the same database keeps its sessions");
        assert_eq!(units.owner(Slot::new(101).unwrap()).unwrap().name(), &name("unit-2"));

        write(&path, &[("unit-1", 3, "0-100")]);
        units.refresh().unwrap();
        let moved = units.unit(&name("unit-1")).unwrap();
        assert!(!Arc::ptr_eq(&moved.wake, &first.wake), "another database has other sessions");
        assert!(units.unit(&name("unit-2")).is_none());

        std::fs::write(&path, "{").unwrap();
        assert!(units.refresh().is_err());
        assert!(units.unit(&name("unit-1")).is_some(), "a broken file leaves everything as it was");
    }
}
