//! What new records begin with.

use std::collections::BTreeSet;

use dujiang_types::Epoch;
use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, UnitSpec, UnitStatus};
use jiff::Timestamp;

/// Status of a unit nobody has seen yet: epoch 1, forming at its first home. Its sync set has no members, so with
/// durability `zero` nothing can be acknowledged before a replica has been added to it.
pub(crate) fn unit_status(spec: &UnitSpec, now: Timestamp) -> UnitStatus {
    let need = match spec.durability {
        Durability::Zero => 1,
        Durability::Bounded => 0,
    };
    let set = SyncSet { members: BTreeSet::new(), need };
    UnitStatus {
        epoch: Epoch(1),
        home: spec.home.clone(),
        phase: Phase::Forming,
        claims: vec![Claim { epoch: Epoch(1), primary: spec.home.clone(), set }],
        operation: None,
        forced: None,
        last_failover: None,
        reason: "the unit was created".to_owned(),
        since: now,
        conditions: Vec::new(),
    }
}
