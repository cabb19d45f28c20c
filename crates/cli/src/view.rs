//! Resources as rows of a table.

use dujiang_types::Kind;
use dujiang_types::operation::{Operation, OperationState, Work};
use dujiang_types::platform::{Application, DataCenter};
use dujiang_types::unit::{Durability, Phase, SyncSet, Unit};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::table::{Cell, Table, Tone};

/// The table that goes with a kind.
pub fn table(kind: Kind, items: &[Value]) -> Result<Table, Failure> {
    match kind {
        Kind::DataCenter => rows(&["NAME", "REGION", "NETWORK", "GATEWAY", "THREADS"], items, data_center),
        Kind::Application => {
            rows(&["NAME", "PROGRAM", "DATA CENTERS", "INSTANCES", "PORT"], items, application)
        }
        Kind::Unit => {
            rows(&["NAME", "HOME", "EPOCH", "PHASE", "DURABILITY", "SYNC SET", "SLOTS", "WHY"], items, unit)
        }
        Kind::Operation => {
            rows(&["NAME", "WORK", "UNIT", "FROM/TO", "STATE", "LAST STEP", "AT"], items, operation)
        }
    }
}

fn rows<T: DeserializeOwned, const N: usize>(
    headings: &[&'static str; N],
    items: &[Value],
    row: impl Fn(&T) -> [Cell; N],
) -> Result<Table, Failure> {
    let mut table = Table::new(headings);
    for item in items {
        let resource = T::deserialize(item);
        let resource = resource.map_err(|e| Failure::because("a resource cannot be read", &e))?;
        table.row(row(&resource));
    }
    Ok(table)
}

fn data_center(dc: &DataCenter) -> [Cell; 5] {
    let spec = &dc.spec;
    [
        dc.name.as_str().into(),
        spec.region.as_str().into(),
        spec.network.to_string().into(),
        spec.gateway_address().to_string().into(),
        spec.gateway.threads.to_string().into(),
    ]
}

fn application(app: &Application) -> [Cell; 5] {
    let spec = &app.spec;
    [
        app.name.as_str().into(),
        spec.program.as_str().into(),
        join(&spec.data_centers).into(),
        spec.instances.to_string().into(),
        spec.port.to_string().into(),
    ]
}

fn unit(unit: &Unit) -> [Cell; 8] {
    let (spec, status) = (&unit.spec, &unit.status);
    let durability = match spec.durability {
        Durability::Zero => "zero",
        Durability::Bounded => "bounded",
    };
    [
        unit.name.as_str().into(),
        status.home.as_str().into(),
        status.epoch.to_string().into(),
        Cell::new(status.phase.to_string(), phase_tone(&status.phase)),
        durability.into(),
        status.wanted_set().map_or_else(|| "-".to_owned(), sync_set).into(),
        join(&spec.slots).into(),
        status.reason.as_str().into(),
    ]
}

/// The colour of a phase.
pub fn phase_tone(phase: &Phase) -> Tone {
    match phase {
        Phase::Serving => Tone::Good,
        Phase::Electing => Tone::Bad,
        Phase::Forming | Phase::Holding { .. } | Phase::Sealing { .. } | Phase::Promoting { .. } => {
            Tone::Busy
        }
    }
}

/// `1 of chengdu-2, guiyang-1`.
pub fn sync_set(set: &SyncSet) -> String {
    if set.members.is_empty() {
        format!("{} of nobody", set.need)
    } else {
        format!("{} of {}", set.need, join(&set.members))
    }
}

fn operation(operation: &Operation) -> [Cell; 7] {
    let (work, places) = match &operation.spec.work {
        Work::Move { to, .. } => ("move", format!("to {to}")),
        Work::Failover { from, .. } => ("failover", format!("from {from}")),
        Work::Restore { revision, .. } => ("restore", format!("to revision {revision}")),
        Work::Recover { from } => ("recover", format!("from {from}")),
        Work::ForcePromote { to, .. } => ("force-promote", format!("to {to}")),
        Work::RunAlone { .. } => ("run-alone", "-".to_owned()),
    };
    let last = operation.status.steps.last();
    [
        operation.name.as_str().into(),
        work.into(),
        operation.spec.work.unit().map_or("the store", |unit| unit.as_str()).into(),
        places.into(),
        state(operation.status.state),
        last.map_or_else(|| "-".to_owned(), |step| format!("{}: {}", step.name, step.reason)).into(),
        last.map_or_else(|| "-".to_owned(), |step| format!("{:.0}", step.at)).into(),
    ]
}

/// How far an operation is, as a cell.
pub fn state(state: OperationState) -> Cell {
    match state {
        OperationState::Awaiting => Cell::new("awaits approval", Tone::Busy),
        OperationState::Pending => Cell::new("pending", Tone::Busy),
        OperationState::Running => Cell::new("running", Tone::Busy),
        OperationState::Succeeded => Cell::new("succeeded", Tone::Good),
        OperationState::Failed => Cell::new("failed", Tone::Bad),
    }
}

/// The items, separated by commas.
pub fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}
