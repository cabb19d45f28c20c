//! The control plane's decision about one unit.
//!
//! [`decide`] looks at the committed record, the latest reports and the time, and either keeps the record or
//! changes it by exactly one transition. It is level-triggered: called again with the same input it answers the
//! same, and a change that was lost on the way to the store is simply decided again.

mod alone;
mod change;
mod failover;
mod moves;
mod promotion;
mod restored;
mod sync_set;
mod view;

use dujiang_types::unit::Phase;

pub use alone::{is_alone, run_alone};
pub use change::{Change, Decision, Effect};
pub use failover::{force, forcible, provable};
pub use moves::refusal;
pub use restored::{UNKNOWN, born, distrust};
pub use view::{Memory, Seen, View};

use crate::exposure::note_durability;
use change::keep;
use failover::{elect, lost_home, void_order};
use moves::{begin_move, hold, seal};
use promotion::{ended, failed_promotion, settle};
use restored::{behind, recount};
use sync_set::reconfigure;

/// Decides about one unit.
pub fn decide(view: &View, memory: &mut Memory) -> Decision {
    memory.observe(view);
    let mut decision = transition(view, memory);
    if let Decision::Change(change) = &mut decision {
        note_durability(&view.unit.spec, &mut change.status, view.wall);
    }
    decision
}

fn transition(view: &View, memory: &Memory) -> Decision {
    let status = &view.unit.status;
    if status.epoch == UNKNOWN {
        return recount(view);
    }
    if let Some(decision) = behind(view) {
        return decision;
    }
    match &status.phase {
        Phase::Forming => {
            reconfigure(view, memory).or_else(|| settle(view)).or_else(|| ended(view)).unwrap_or_else(|| {
                let home = &status.home;
                let doing = view.fresh(home).map_or("nothing heard from its agent", |r| r.note.as_str());
                keep(format!("{home} forms the unit: {doing}"))
            })
        }
        Phase::Serving => lost_home(view, memory)
            .or_else(|| void_order(view))
            .or_else(|| reconfigure(view, memory))
            .or_else(|| begin_move(view))
            .unwrap_or_else(|| keep("serving")),
        Phase::Holding { to } => lost_home(view, memory).unwrap_or_else(|| hold(view, memory, to)),
        Phase::Sealing { to } => seal(view, memory, to),
        Phase::Electing => elect(view, memory),
        Phase::Promoting { from } => reconfigure(view, memory)
            .or_else(|| settle(view))
            .or_else(|| ended(view))
            .or_else(|| failed_promotion(view, memory))
            .unwrap_or_else(|| keep(format!("{} is being promoted (from {from})", status.home))),
    }
}
