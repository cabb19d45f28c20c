//! Operations that are over are evidence, but not for ever: the newest are kept.

use std::sync::Arc;
use std::time::Duration;

use dujiang_store::{Entry, resources};
use dujiang_types::Kind;
use dujiang_types::operation::{Operation, OperationState, Step};
use jiff::Timestamp;

use crate::error::chain;
use crate::evidence;
use crate::records::at_work;
use crate::state::Shared;

/// Operations that are over and kept: years of moves and drills of a platform, and a few MiB in the store. Whoever
/// needs them longer exports them from the API.
const OVER_MAX: usize = 2_000;
/// How often they are counted: a unit whose every election fails adds a few in this time.
const PERIOD: Duration = Duration::from_secs(60);

/// Ends requests that nobody approved in time.
async fn expire(shared: &Shared) -> dujiang_store::Result<()> {
    let records = shared.records();
    let now = Timestamp::now();
    for operation in records.operations.values() {
        let late = operation.status.approval.as_ref().filter(|approval| now >= approval.expires_at);
        let Some(approval) = late.filter(|_| operation.status.state == OperationState::Awaiting) else {
            continue;
        };
        let reason = format!("nobody approved it until {:.0}", approval.expires_at);
        let unit = operation.spec.work.unit().and_then(|unit| records.units.get(unit));
        let epoch = unit.map(|unit| unit.status.epoch).unwrap_or_default();
        let mut operation = operation.clone();
        operation.status.state = OperationState::Failed;
        operation.status.steps.push(Step { name: "expired".to_owned(), at: now, epoch, reason });
        // A conflict means that it was approved at the last moment.
        let _ = shared.resources.save(operation).await?;
    }
    Ok(())
}

/// Deletes the oldest, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if shared.leader.leads().is_none() {
            continue;
        }
        if let Err(error) = expire(&shared).await {
            tracing::warn!(error = chain(&error), "requests that are too late could not be ended");
        }
        if let Err(error) = prune(&shared, OVER_MAX).await {
            tracing::warn!(error = chain(&error), "old operations could not be deleted");
        }
        if let Err(error) = evidence::prune(&shared).await {
            tracing::warn!(error = chain(&error), "old reports could not be deleted");
        }
    }
}

async fn prune(shared: &Shared, keep: usize) -> dujiang_store::Result<()> {
    let store = shared.store();
    let listing = store.list(&resources::prefix(Kind::Operation)).await?;
    for entry in surplus(&listing.entries, keep) {
        // A conflict means that it was deleted meanwhile; one that is over does not change.
        if store.delete_if(&entry.key, entry.revision).await?.committed().is_some() {
            tracing::debug!(key = entry.key, "an old operation was deleted");
        }
    }
    Ok(())
}

/// The oldest of those that are over, beyond the number to keep. What cannot be read stays: nobody knows what it is.
fn surplus(entries: &[Entry], keep: usize) -> Vec<&Entry> {
    let over =
        |entry: &&Entry| resources::decode(entry).is_ok_and(|operation: Operation| !at_work(&operation));
    let mut over: Vec<&Entry> = entries.iter().filter(over).collect();
    over.sort_by_key(|entry| entry.revision);
    over.truncate(over.len().saturating_sub(keep));
    over
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::operation::{OperationSpec, OperationState, OperationStatus, Work};
    use dujiang_types::{Resource, Revision, UnitId};

    use crate::fixture::dc;

    fn entry(revision: u64, state: OperationState) -> Entry {
        let work = Work::Move { unit: UnitId::new("unit-1").unwrap(), to: dc("b") };
        let operation = Resource {
            kind: Kind::Operation,
            name: format!("move-{revision}"),
            labels: std::collections::BTreeMap::new(),
            revision: Revision(0),
            spec: OperationSpec { work, asked_by: "tester".to_owned() },
            status: OperationStatus { state, steps: Vec::new(), approval: None },
        };
        Entry {
            key: Kind::Operation.key(&operation.name),
            value: resources::encode(&operation).unwrap(),
            revision: Revision(revision),
            created: Revision(revision),
            lease: None,
        }
    }

    #[test]
    fn the_oldest_that_are_over_go_and_nothing_else() {
        let entries = [
            entry(5, OperationState::Succeeded),
            entry(1, OperationState::Running),
            entry(2, OperationState::Pending),
            entry(3, OperationState::Failed),
            entry(4, OperationState::Succeeded),
        ];
        let revisions = |keep| surplus(&entries, keep).iter().map(|e| e.revision.0).collect::<Vec<_>>();
        assert_eq!(revisions(3), Vec::<u64>::new());
        assert_eq!(revisions(1), [3, 4]);
        assert_eq!(revisions(0), [3, 4, 5]);
    }
}
