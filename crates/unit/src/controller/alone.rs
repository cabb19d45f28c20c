//! A home that is to acknowledge with nobody else having it: the last replica that is left when all others are lost.
//!
//! With durability `zero` a commit waits for another replica, and waits for ever if there is none. That is what was
//! promised; but who has lost a region and has one data center left must be able to decide that paying on is worth more. It
//! takes two operators, because the loss of this one data center then loses what was acknowledged. It ends by itself: as
//! soon as a replica streams, commits wait for it again (`sync_set`).

use dujiang_types::unit::{Claim, Durability, Phase, SyncSet, Unit, UnitStatus};

use super::view::{View, streaming_of};
use crate::safety::{Refusal, Rule, refuse};

/// Whether the home is one that nobody else has: why it does not acknowledge, or why it must not be ordered to do so alone.
pub fn is_alone(view: &View) -> Result<String, Refusal> {
    let status = &view.unit.status;
    let home = &status.home;
    let refused = |rule, why: String| Err(refuse(rule, why));
    if view.unit.spec.durability == Durability::Bounded {
        let why = "the unit acknowledges without waiting for a replica as it is".to_owned();
        return refused(Rule::OneOperation, why);
    }
    if !matches!(status.phase, Phase::Serving | Phase::Promoting { .. }) {
        return refused(Rule::OneOperation, format!("the unit is {}", status.phase));
    }
    let Some(standbys) = view.home_standbys() else {
        return refused(Rule::TargetReady, format!("nothing current is known of a primary in {home}"));
    };
    if status.wanted_set().is_none_or(|set| set.need == 0) {
        return refused(Rule::OneOperation, format!("{home} acknowledges alone already"));
    }
    if let Some(other) = streaming_of(standbys).first() {
        return refused(
            Rule::NothingLost,
            format!("{other} streams from {home}: nothing has to be given up"),
        );
    }
    Ok(format!("no other replica streams from {home}, so it acknowledges nothing"))
}

/// The record in which the home acknowledges alone. It is written before PostgreSQL waits for nobody, and beside the
/// claims that are there.
pub fn run_alone(unit: &Unit) -> UnitStatus {
    let mut status = unit.status.clone();
    let set = SyncSet { members: [].into(), need: 0 };
    status.claims.push(Claim { epoch: status.epoch, primary: status.home.clone(), set });
    status.reason = format!("two operators ordered {} to acknowledge alone", status.home);
    status
}
