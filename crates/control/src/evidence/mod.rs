//! Writes a signed report of every operation that is over, and of drills that are handed in.

mod compose;
pub(crate) mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dujiang_evidence::{Envelope, Link, Report, Signer};
use dujiang_store::{Check, Entry, Store, Txn, TxnOutcome, Write, resources};
use dujiang_types::operation::{Operation, OperationSpec, OperationStatus, Work};
use dujiang_types::unit::{UnitSpec, UnitStatus};
use dujiang_types::{DcId, Kind, OperationId, Revision};
use jiff::Timestamp;

use crate::error::chain;
use crate::records::at_work;
use crate::state::Shared;

/// Reports are no resources: nobody writes or deletes one through the API.
const PREFIX: &str = "evidence/";
/// Which report the next one follows.
const HEAD_KEY: &str = "evidence-head";
/// Reports kept: the newest; a platform that moves every unit every night keeps a year of three units. Some 8 KiB each,
/// in a store of hundreds of MiB. Whoever needs them longer exports them: `dujiang evidence export`.
const KEPT_MAX: usize = 1_000;
/// How often operations that are over are looked for.
const TICK: Duration = Duration::from_millis(500);
/// Gateways report every second what they saw; this long after the end they all have.
const SETTLE: Duration = Duration::from_secs(4);
/// Tries to follow the newest report while another one is being written.
const TRIES: usize = 8;

/// With what reports are signed, and in whose name.
#[derive(Debug)]
pub struct Signing {
    /// The platform's key.
    pub key: Signer,
    /// The platform's name.
    pub platform: String,
}

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("the store does not take the report")]
    Store(#[from] dujiang_store::Error),
    #[error("the report cannot be signed")]
    Envelope(#[from] dujiang_evidence::EnvelopeError),
    #[error("{what} cannot be read")]
    Unreadable {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("there is a report {0} already")]
    Exists(String),
    #[error("others wrote reports all the time")]
    Busy,
}

/// What the writer remembers between its looks.
#[derive(Default)]
struct Memory {
    /// The term it was learnt in.
    term: Option<Revision>,
    /// Operations at work, with when their unit's home was last heard before.
    at_work: BTreeMap<OperationId, Option<Timestamp>>,
    /// Operations that are over and have no report yet, with when that was noticed.
    due: BTreeMap<OperationId, (Instant, Option<Timestamp>)>,
    /// Operations whose report is written, as long as they are among those that were over last.
    done: BTreeSet<OperationId>,
}

/// Writes what is due, for as long as this server runs.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut memory = Memory::default();
    loop {
        tick.tick().await;
        let Some(term) = shared.leader.leads() else {
            memory = Memory::default();
            continue;
        };
        if memory.term != Some(term) {
            // Whoever led before may have left some.
            match missing(&**shared.store()).await {
                Ok(missing) => {
                    let due = missing.into_iter().map(|id| (id, (Instant::now(), None)));
                    let done = shared.records().over.iter().cloned().collect();
                    memory = Memory { term: Some(term), due: due.collect(), done, ..Memory::default() };
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "operations cannot be read");
                    continue;
                }
            }
        }
        memory.look(&shared);
        memory.write(&shared).await;
    }
}

impl Memory {
    /// Notes what began and what is over.
    fn look(&mut self, shared: &Shared) {
        let records = shared.records();
        for (id, operation) in &records.operations {
            let heard = || home_heard(shared, operation);
            self.at_work.entry(id.clone()).or_insert_with(heard);
        }
        self.at_work.retain(|id, _| records.operations.contains_key(id) || records.over.contains(id));
        self.done.retain(|id| records.over.contains(id));
        for id in &records.over {
            let heard = self.at_work.remove(id).flatten();
            if !self.done.contains(id) && !self.due.contains_key(id) {
                self.due.insert(id.clone(), (Instant::now(), heard));
            }
        }
    }

    async fn write(&mut self, shared: &Shared) {
        let due: Vec<OperationId> = self
            .due
            .iter()
            .filter(|(_, (since, _))| since.elapsed() >= SETTLE)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let heard = self.due.get(&id).and_then(|(_, heard)| *heard);
            match of_operation(shared, &id, heard).await {
                // It was deleted, or written by a task before this one.
                Ok(None) | Err(EvidenceError::Exists(_)) => {}
                Ok(Some(report)) => tracing::info!(operation = %id, report, "evidence is written"),
                Err(EvidenceError::Store(error)) => {
                    tracing::warn!(operation = %id, error = chain(&error), "evidence is not written yet");
                    continue;
                }
                Err(error) => {
                    tracing::error!(operation = %id, error = chain(&error), "evidence cannot be written");
                }
            }
            self.due.remove(&id);
            self.done.insert(id);
        }
    }
}

/// When the home of a failover was last heard before it: not known any more if it was heard since.
fn home_heard(shared: &Shared, operation: &Operation) -> Option<Timestamp> {
    let Work::Failover { from, .. } = &operation.spec.work else { return None };
    let age_ms = shared.observed().agents.get(from).map(|seen| shared.age_ms(seen.at))?;
    let age = jiff::SignedDuration::from_millis(i64::try_from(age_ms).ok()?);
    let heard = Timestamp::now().checked_sub(age).ok()?;
    let first = operation.status.steps.first()?;
    (heard <= first.at).then_some(heard)
}

/// Operations that are over and have no report.
async fn missing(store: &dyn Store) -> dujiang_store::Result<Vec<OperationId>> {
    let written = store.list(PREFIX).await?;
    let written: BTreeSet<&str> = written.entries.iter().filter_map(|e| e.key.strip_prefix(PREFIX)).collect();
    let operations = store.list(&resources::prefix(Kind::Operation)).await?;
    let over = operations.entries.iter().filter_map(|entry| {
        let operation: Operation = resources::decode(entry).ok()?;
        (!at_work(&operation) && !written.contains(operation.name.as_str())).then_some(operation.name)
    });
    Ok(over.filter_map(|name| OperationId::new(name).ok()).collect())
}

/// Composes and writes the report of an operation; its name.
async fn of_operation(
    shared: &Shared,
    id: &OperationId,
    heard: Option<Timestamp>,
) -> Result<Option<String>, EvidenceError> {
    let stored = shared.resources.get::<OperationSpec, OperationStatus>(Kind::Operation, id.as_str()).await?;
    let Some(operation) = stored.filter(|operation| !at_work(operation)) else { return Ok(None) };
    let home_heard = heard.or_else(|| home_heard(shared, &operation));
    // Of the store as a whole there is nothing to tell beyond the record itself.
    let Some(unit) = operation.spec.work.unit() else { return Ok(None) };
    let record = shared.resources.get::<UnitSpec, UnitStatus>(Kind::Unit, unit.as_str()).await?;
    let epoch = operation.status.steps.last().map(|step| step.epoch);
    let home = record.filter(|record| Some(record.status.epoch) == epoch).map(|record| record.status.home);
    let from = match &operation.spec.work {
        Work::Failover { from, .. } => Some(from.clone()),
        Work::Move { .. } | Work::ForcePromote { .. } => left(&operation),
        Work::RunAlone { .. } | Work::Restore { .. } | Work::Recover { .. } => None,
    };
    let seen = {
        let observed = shared.observed();
        let turns = observed
            .gateways
            .iter()
            .filter_map(|(dc, seen)| Some((dc.clone(), seen.report.turns.get(unit)?.clone())));
        compose::Observed {
            home_heard,
            moments: observed.moments.of(unit),
            turns: turns.filter(|(_, turn)| Some(turn.epoch) == epoch).collect(),
            from,
            to: home,
        }
    };
    let report = compose::report(&operation, seen, Timestamp::now());
    append(shared, report).await.map(|(report, _)| Some(report.id))
}

/// Whom a move left: the phase names it.
fn left(operation: &Operation) -> Option<DcId> {
    let mut names = operation.status.steps.iter().map(|step| step.name.as_str());
    let from = names.find_map(|name| name.strip_prefix("promoting (from ")?.strip_suffix(')'))?;
    DcId::new(from).ok()
}

/// Signs a report and writes it behind the newest one.
pub(crate) async fn append(shared: &Shared, mut report: Report) -> Result<(Report, Envelope), EvidenceError> {
    let signing = &shared.signing;
    let store = shared.store();
    report.platform.clone_from(&signing.platform);
    report.versions.extend(shared.observed().versions());
    report.versions.insert("dujiang@control".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let key = format!("{PREFIX}{}", report.id);
    for _ in 0..TRIES {
        let head = store.get(HEAD_KEY).await?;
        report.previous = head.as_ref().map(|head| json(HEAD_KEY, &head.value)).transpose()?;
        let envelope = Envelope::seal(&report, &signing.key)?;
        let link = Link { id: report.id.clone(), digest: envelope.digest(signing.key.suite())? };
        let txn = Txn {
            checks: vec![
                Check { key: key.clone(), revision: Revision(0) },
                Check { key: HEAD_KEY.to_owned(), revision: head.map_or(Revision(0), |head| head.revision) },
            ],
            writes: vec![put(&key, &envelope)?, put(HEAD_KEY, &link)?],
        };
        match store.transact(txn).await? {
            TxnOutcome::Committed(_) => return Ok((report, envelope)),
            TxnOutcome::Conflict { key: at, .. } if at == key => {
                return Err(EvidenceError::Exists(report.id));
            }
            TxnOutcome::Conflict { .. } => {}
        }
    }
    Err(EvidenceError::Busy)
}

/// All reports, by name.
pub(crate) async fn all(shared: &Shared) -> Result<BTreeMap<String, Envelope>, EvidenceError> {
    let listing = shared.store().list(PREFIX).await?;
    let read = |entry: &Entry| {
        let id = entry.key.strip_prefix(PREFIX).unwrap_or(&entry.key).to_owned();
        Ok((id, json(&entry.key, &entry.value)?))
    };
    listing.entries.iter().map(read).collect()
}

/// One report.
pub(crate) async fn get(shared: &Shared, id: &str) -> Result<Option<Envelope>, EvidenceError> {
    let key = format!("{PREFIX}{id}");
    let entry = shared.store().get(&key).await?;
    entry.map(|entry| json(&key, &entry.value)).transpose()
}

/// Deletes the oldest reports beyond those that are kept.
pub(crate) async fn prune(shared: &Shared) -> dujiang_store::Result<()> {
    let store = shared.store();
    let mut entries = store.list(PREFIX).await?.entries;
    entries.sort_by_key(|entry| entry.created);
    entries.truncate(entries.len().saturating_sub(KEPT_MAX));
    for entry in entries {
        // A conflict means that it was deleted meanwhile: reports do not change.
        let _ = store.delete_if(&entry.key, entry.revision).await?;
    }
    Ok(())
}

fn put(key: &str, value: &impl serde::Serialize) -> Result<Write, EvidenceError> {
    let unreadable = |source| EvidenceError::Unreadable { what: key.to_owned(), source };
    let value = Bytes::from(serde_json::to_vec(value).map_err(unreadable)?);
    Ok(Write::Put { key: key.to_owned(), value, lease: None })
}

fn json<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, EvidenceError> {
    serde_json::from_slice(value).map_err(|source| EvidenceError::Unreadable { what: key.to_owned(), source })
}
