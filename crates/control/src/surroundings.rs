//! What the safety rules look at beyond a unit's own record and reports.

use dujiang_types::operation::Work;
use dujiang_types::{DcId, UnitId};
use dujiang_unit::safety::{Serving, Surroundings};

use crate::controller::requested;
use crate::observed::{Observed, SeenAgent};
use crate::records::Records;
use crate::state::Shared;
use crate::status::GATEWAY_FRESH_MS;

/// What is around a unit now.
pub(crate) fn of(shared: &Shared, observed: &Observed, unit: &UnitId) -> Surroundings {
    let records = shared.records();
    let heard = |seen: &&SeenAgent| shared.age_ms(seen.at) <= shared.timing.fresh_ms;
    let agent = |dc: &DcId| observed.agents.get(dc).filter(heard);
    let agents = || records.datacenters.keys().filter_map(|dc| Some((dc.clone(), agent(dc)?)));
    // A gateway that was never heard is one that nobody waits for; one that has fallen silent is missed.
    let gateway =
        |dc: &DcId| observed.gateways.get(dc).is_none_or(|seen| shared.age_ms(seen.at) <= GATEWAY_FRESH_MS);
    let now = agents().map(|(dc, _)| dc).filter(gateway).collect();
    Surroundings {
        hosts: agents().filter_map(|(dc, seen)| Some((dc, seen.report.host?))).collect(),
        meters: agents().filter_map(|(dc, seen)| Some((dc, *seen.report.meters.get(unit)?))).collect(),
        serving: Some(Serving { now, of: records.datacenters.len() }),
        moves_at_work: moves_at_work(&records, unit),
    }
}

/// Moves of other units that are not over, but none that was asked for after this unit's own.
fn moves_at_work(records: &Records, unit: &UnitId) -> usize {
    let own = requested(records, unit).map(|operation| operation.revision);
    let counts = |work: &Work| matches!(work, Work::Move { unit: other, .. } if other != unit);
    let operations = records.operations.values().filter(|operation| counts(&operation.spec.work));
    operations.filter(|operation| own.is_none_or(|own| operation.revision < own)).count()
}
