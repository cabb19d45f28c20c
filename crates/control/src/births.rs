//! What new records begin with.

use dujiang_types::unit::{UnitSpec, UnitStatus};
use dujiang_unit::controller::{born, distrust};
use jiff::Timestamp;

/// Status of a unit that is put for the first time. In a store that was restored it may have lived before, after the
/// backup: then the agents are asked first.
pub(crate) fn unit_status(spec: &UnitSpec, restored: bool, now: Timestamp) -> UnitStatus {
    let born = born(spec, now);
    if restored {
        let reason = "the unit was created in a restored store; it may have lived before".to_owned();
        return distrust(spec, &born, reason, now);
    }
    born
}
