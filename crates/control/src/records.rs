//! Every record of the store, decoded: what validation, controllers and the routing table read.

use std::collections::{BTreeMap, VecDeque};

use dujiang_store::{Batch, Entry, Event, Listing, resources};
use dujiang_types::operation::{Operation, OperationState};
use dujiang_types::platform::{Application, DataCenter};
use dujiang_types::unit::Unit;
use dujiang_types::{AppId, DcId, Kind, OperationId, Resource, Revision, UnitId};
use serde::de::DeserializeOwned;

use crate::drain::{self, Drained};
use crate::restore::{self, Restored};

/// Operations remembered to be over: far more than end between two looks.
const OVER_MAX: usize = 256;

/// All records at one revision of the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    /// The revision all of it is at.
    pub(crate) revision: Revision,
    pub(crate) datacenters: BTreeMap<DcId, DataCenter>,
    pub(crate) applications: BTreeMap<AppId, Application>,
    pub(crate) units: BTreeMap<UnitId, Unit>,
    /// Operations that are not over. Those that are over are read from the store when asked for.
    pub(crate) operations: BTreeMap<OperationId, Operation>,
    /// The operations that were over last, newest last: some are begun and over between two looks of whoever waits
    /// for them.
    pub(crate) over: VecDeque<OperationId>,
    /// Keys whose value cannot be read, with the reason. Nothing is decided about them.
    pub(crate) broken: BTreeMap<String, String>,
    /// Sites nobody new shall be sent to.
    pub(crate) drained: BTreeMap<DcId, Drained>,
    /// How the store was put back, if it ever was: then a unit that is new to it need not be new.
    pub(crate) restored: Option<Restored>,
}

impl Records {
    /// All records of a listing of the whole store.
    pub(crate) fn of(listing: &Listing) -> Self {
        let mut records = Self { revision: listing.revision, ..Self::default() };
        listing.entries.iter().for_each(|entry| records.put(entry));
        records
    }

    /// Takes over all changes of one revision.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            match event {
                Event::Put(entry) => self.put(entry),
                Event::Delete { key } => self.delete(key),
            }
        }
        self.revision = batch.revision;
    }

    /// Takes over one write. A value that cannot be read is remembered as broken and takes the record out of
    /// what is decided about: a controller must not act on half a record.
    fn put(&mut self, entry: &Entry) {
        self.delete(&entry.key);
        if let Some(Err(reason)) = self.insert(entry) {
            tracing::error!(key = entry.key, reason, "a record cannot be read; nothing is decided about it");
            self.broken.insert(entry.key.clone(), reason);
        }
    }

    /// Takes over one deletion.
    fn delete(&mut self, key: &str) {
        self.broken.remove(key);
        if key == restore::MARK {
            self.restored = None;
        }
        if let Some(dc) = drain::site_of(key) {
            self.drained.remove(&dc);
        }
        let Some((kind, name)) = split_key(key) else { return };
        match kind {
            Kind::DataCenter => drop(DcId::new(name).map(|id| self.datacenters.remove(&id))),
            Kind::Application => drop(AppId::new(name).map(|id| self.applications.remove(&id))),
            Kind::Unit => drop(UnitId::new(name).map(|id| self.units.remove(&id))),
            Kind::Operation => drop(OperationId::new(name).map(|id| self.operations.remove(&id))),
        }
    }

    /// `None` for a key that is no resource's.
    fn insert(&mut self, entry: &Entry) -> Option<Result<(), String>> {
        if let Some(dc) = drain::site_of(&entry.key) {
            let drained = serde_json::from_slice(&entry.value).map_err(|error| error.to_string());
            return Some(drained.map(|drained| drop(self.drained.insert(dc, drained))));
        }
        if entry.key == restore::MARK {
            let mark = serde_json::from_slice(&entry.value).map_err(|error| error.to_string());
            return Some(mark.map(|mark| self.restored = Some(mark)));
        }
        let (kind, name) = split_key(&entry.key)?;
        Some(match kind {
            Kind::DataCenter => read(name, entry).map(|(id, r)| drop(self.datacenters.insert(id, r))),
            Kind::Application => read(name, entry).map(|(id, r)| drop(self.applications.insert(id, r))),
            Kind::Unit => read(name, entry).map(|(id, r)| drop(self.units.insert(id, r))),
            Kind::Operation => read(name, entry).map(|(id, operation): (_, Operation)| {
                if at_work(&operation) {
                    self.operations.insert(id, operation);
                } else {
                    self.over.push_back(id);
                    if self.over.len() > OVER_MAX {
                        self.over.pop_front();
                    }
                }
            }),
        })
    }
}

/// True for an operation that is not over.
pub(crate) fn at_work(operation: &Operation) -> bool {
    use OperationState::{Awaiting, Pending, Running};
    matches!(operation.status.state, Awaiting | Pending | Running)
}

/// The kind and name in a store key.
pub(crate) fn split_key(key: &str) -> Option<(Kind, &str)> {
    let (plural, name) = key.split_once('/')?;
    let kind = Kind::ALL.iter().copied().find(|kind| kind.plural() == plural)?;
    Some((kind, name))
}

fn read<I, S, T>(name: &str, entry: &Entry) -> Result<(I, Resource<S, T>), String>
where
    I: TryFrom<String>,
    I::Error: std::fmt::Display,
    S: DeserializeOwned,
    T: DeserializeOwned,
{
    let id = I::try_from(name.to_owned()).map_err(|e| e.to_string())?;
    Ok((id, resources::decode(entry).map_err(|e| e.to_string())?))
}
