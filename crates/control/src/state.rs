//! What all parts of the control plane share, and how the records get there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dujiang_routing::RoutingTable;
use dujiang_store::fenced::Fenced;
use dujiang_store::{Resources, Store};
use dujiang_types::UnitId;
use dujiang_unit::Timing;
use dujiang_unit::controller::Memory;
use tokio::sync::{Notify, Semaphore, watch};

use crate::Trust;
use crate::cell::UnitCell;
use crate::error::chain;
use crate::evidence::Signing;
use crate::examinations::Examinations;
use crate::leader::{self, Leader};
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::records::Records;
use crate::routing::{next_table, routing_table};
use crate::status::StoreView;

/// Watches served at once. Every agent, gateway and a few dozen people; each costs a task and a few KiB.
const STREAMS_MAX: usize = 256;
/// After the watch of the store broke: long enough not to spin, short enough that decisions hardly wait.
const RELIST_AFTER: Duration = Duration::from_millis(200);
/// A store that has failed for so long is given up, and the process with it: a store in a file has to be opened
/// anew after a failed write. Longer than an etcd cluster takes to elect.
const STORE_LOST_MAX: Duration = Duration::from_secs(10);

/// Shared by all tasks and handlers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) resources: Resources,
    pub(crate) timing: Timing,
    pub(crate) signing: Signing,
    /// When this process began; times handed to decisions count from here.
    pub(crate) started: Instant,
    /// The records as last seen by the watch. May be behind the store: what is decided from it is written with a
    /// check of its revision.
    pub(crate) records: watch::Sender<Arc<Records>>,
    pub(crate) table: watch::Sender<Arc<RoutingTable>>,
    /// Wakes the controller.
    pub(crate) wake: Notify,
    /// Held over validating a spec against the others and writing it, so that two specs that do not fit each
    /// other are not both found to fit. Only the server that leads writes specs.
    pub(crate) admission: tokio::sync::Mutex<()>,
    pub(crate) streams: Arc<Semaphore>,
    /// True once the server is being shut down.
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) metrics: Metrics,
    pub(crate) trust: Trust,
    pub(crate) leader: Arc<Leader>,
    /// What the store takes on disk, as measured last.
    pub(crate) size: watch::Sender<Option<StoreView>>,
    observed: Mutex<Observed>,
    units: Mutex<BTreeMap<UnitId, Arc<UnitCell>>>,
    examinations: Mutex<Examinations>,
}

impl Shared {
    /// Reads everything once, so that nothing is served before the records are known.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        name: String,
        timing: Timing,
        signing: Signing,
        trust: Trust,
    ) -> Result<Arc<Self>, dujiang_store::Error> {
        let records = Records::of(&store.list("").await?);
        let table = routing_table(&records);
        let started = Instant::now();
        let leader = Leader::new(Arc::clone(&store), name, started);
        let right = Arc::clone(&leader);
        Ok(Arc::new(Self {
            resources: Resources::new(Arc::new(Fenced::new(store, move || right.right()))),
            timing,
            signing,
            started,
            leader,
            records: watch::Sender::new(Arc::new(records)),
            table: watch::Sender::new(Arc::new(table)),
            wake: Notify::new(),
            admission: tokio::sync::Mutex::new(()),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            closing: watch::Sender::new(false),
            metrics: Metrics::default(),
            trust,
            size: watch::Sender::new(None),
            observed: Mutex::default(),
            units: Mutex::default(),
            examinations: Mutex::default(),
        }))
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.resources.store()
    }

    /// Milliseconds since the start of this process. The clock may stop while the machine sleeps, which only makes
    /// the controller wait longer for leases that agents count with a clock that does not.
    pub(crate) fn now_ms(&self) -> u64 {
        ms_between(self.started, Instant::now())
    }

    /// Milliseconds since then.
    pub(crate) fn age_ms(&self, at: Instant) -> u64 {
        self.now_ms().saturating_sub(ms_between(self.started, at))
    }

    /// The records as last seen.
    pub(crate) fn records(&self) -> Arc<Records> {
        self.records.borrow().clone()
    }

    /// Everything observed. Never held over an await.
    pub(crate) fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Examinations that no agent has taken up yet. Never held over an await.
    pub(crate) fn examinations(&self) -> MutexGuard<'_, Examinations> {
        self.examinations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory of a unit. Only to be asked for units that exist, so that it stays bounded.
    pub(crate) fn unit(&self, unit: &UnitId) -> Arc<UnitCell> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            units.entry(unit.clone()).or_insert_with(|| Arc::new(UnitCell::new(Memory::new(self.now_ms())))),
        )
    }

    /// Forgets units that are gone. Should one come back its new memory assumes the worst.
    pub(crate) fn forget_units_but(&self, records: &Records) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.retain(|unit, _| records.units.contains_key(unit));
    }

    /// Begins to remember anew: before that moment somebody else may have granted leases.
    pub(crate) fn forget_grants_before(&self, granted_until_ms: u64) {
        let records = self.records();
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.clear();
        for unit in records.units.keys() {
            let mut memory = Memory::new(self.now_ms());
            memory.last_grant_ms = granted_until_ms;
            units.insert(unit.clone(), Arc::new(UnitCell::new(memory)));
        }
    }

    fn publish(&self, records: Records) {
        self.table.send_if_modified(|table| match next_table(table, &records) {
            None => false,
            Some(next) => {
                *table = Arc::new(next);
                true
            }
        });
        self.records.send_replace(Arc::new(records));
        self.wake.notify_one();
    }
}

/// Milliseconds from one moment to another; 0 if that came before.
pub(crate) fn ms_between(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}

/// Follows the store, so that [`Shared::records`] and the routing table are what is stored. Ends only when the store
/// is given up.
pub(crate) async fn follow(shared: Arc<Shared>) -> dujiang_store::Error {
    let mut after = shared.records().revision;
    loop {
        let mut error = follow_from(&shared, after).await;
        tracing::warn!(error = chain(&error), "the watch of the store ended; listing again");
        let lost = Instant::now();
        after = loop {
            tokio::time::sleep(RELIST_AFTER).await;
            match shared.store().list("").await {
                Ok(listing) => {
                    shared.publish(Records::of(&listing));
                    break listing.revision;
                }
                Err(again) => error = again,
            }
            if lost.elapsed() > STORE_LOST_MAX {
                return error;
            }
        };
    }
}

async fn follow_from(shared: &Shared, after: dujiang_types::Revision) -> dujiang_store::Error {
    let mut watch = match shared.store().watch("", after).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match watch.next().await {
            Err(error) => return error,
            // Pulses of the server that leads: nothing anyone decides by.
            Ok(batch) if batch.events.iter().all(|event| event.key().starts_with(leader::PREFIX)) => {}
            Ok(batch) => {
                let mut records = (*shared.records()).clone();
                records.apply(&batch);
                shared.publish(records);
            }
        }
    }
}
