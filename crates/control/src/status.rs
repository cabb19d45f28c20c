//! `GET /v1/status`: everything a person needs to know at a glance, in one document.

use std::collections::BTreeMap;

use dujiang_types::exposure::Exposure;
use dujiang_types::operation::Operation;
use dujiang_types::report::{GatewayReport, InstanceReport, ReplicaReport, ReplicaState};
use dujiang_types::unit::Unit;
use dujiang_types::{DcId, Revision, UnitId};
use dujiang_unit::exposure;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::controller::Sight;
use crate::records::Records;
use crate::restore::Restored;
use crate::state::Shared;

/// The platform as it is known at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// When this was written down (wall clock).
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The control server that decides, by name; empty while there is none.
    pub leader: String,
    /// Revision of the records.
    pub revision: Revision,
    /// Version of the routing table.
    pub routing: Revision,
    /// Units by name.
    pub units: BTreeMap<UnitId, UnitView>,
    /// Agents by data center; every data center has an entry.
    pub agents: BTreeMap<DcId, AgentView>,
    /// Gateways by data center; every data center has an entry.
    pub gateways: BTreeMap<DcId, GatewayView>,
    /// Operations that are not over.
    pub operations: Vec<Operation>,
    /// What the store of the server that was asked takes on disk; `None` until it was measured.
    #[serde(default)]
    pub store: Option<StoreView>,
    /// How the store was put back from a backup or from its last member, if it ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// Records that cannot be read, by key, with the reason. Nothing is decided about them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unreadable: BTreeMap<String, String>,
}

/// What the store takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreView {
    /// Bytes its file takes.
    pub bytes: u64,
    /// Beyond this many etcd takes nothing but deletions.
    pub quota_bytes: u64,
    /// What is wrong with its size and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UnitView {
    /// Its record.
    pub unit: Unit,
    /// What the controller is waiting for, or that all is well.
    pub waiting: String,
    /// Replicas by data center; each of the spec has an entry.
    pub replicas: BTreeMap<DcId, ReplicaView>,
    /// What the loss of the home would cost now.
    pub exposure: Exposure,
}

impl UnitView {
    /// True if something current is known of the home.
    pub fn is_home_heard(&self) -> bool {
        self.replicas.get(&self.unit.status.home).is_some_and(|replica| replica.known)
    }
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaView {
    /// False: nothing current is known of it. What is shown may have been long ago.
    pub known: bool,
    /// Milliseconds since its agent reported; `None` if it never did.
    pub age_ms: Option<u64>,
    /// What its agent reported last.
    pub report: Option<ReplicaReport>,
    /// Bytes it is behind the primary, as the primary sees it. `None` for the primary, and if it is not known.
    pub lag_bytes: Option<u64>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// False: nothing current is known of it.
    pub known: bool,
    /// Milliseconds since it reported; `None` if it never did.
    pub age_ms: Option<u64>,
    /// Instances of applications, and the gateway, as it reported them last.
    pub instances: BTreeMap<String, InstanceReport>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayView {
    /// False: nothing current is known of it.
    pub known: bool,
    /// Milliseconds since it reported; `None` if it never did.
    pub age_ms: Option<u64>,
    /// What it reported last.
    pub report: Option<GatewayReport>,
}

/// A gateway reports every second, so after three of them it is not known any more how it is.
pub(crate) const GATEWAY_FRESH_MS: u64 = 3_000;

/// Writes down everything that is known.
pub(crate) fn status(shared: &Shared) -> Status {
    let records = shared.records();
    let units = records.units.iter().map(|(id, unit)| (id.clone(), unit_view(shared, id, unit)));
    Status {
        at: Timestamp::now(),
        leader: shared.leader.name(),
        revision: records.revision,
        routing: shared.table.borrow().version,
        units: units.collect(),
        agents: agents(shared, &records),
        gateways: gateways(shared, &records),
        operations: records.operations.values().cloned().collect(),
        store: shared.size.borrow().clone(),
        restored: records.restored.clone(),
        unreadable: records.broken.clone(),
    }
}

fn unit_view(shared: &Shared, id: &UnitId, unit: &Unit) -> UnitView {
    let sight = Sight::of(shared, id);
    let home = sight.fresh_report(&unit.status.home);
    let standbys = home.and_then(|report| match &report.state {
        ReplicaState::Primary { standbys, .. } => Some(standbys),
        _ => None,
    });
    let lag = |dc: &DcId| standbys.and_then(|standbys| standbys.get(dc)).map(|standby| standby.lag_bytes);
    let replicas = unit.spec.replicas.iter().map(|dc| {
        let seen = sight.report(dc);
        let age_ms = seen.map(|seen| seen.age_ms);
        let known = age_ms.is_some_and(|age| age <= shared.timing.fresh_ms);
        (
            dc.clone(),
            ReplicaView { known, age_ms, report: seen.map(|s| s.report.clone()), lag_bytes: lag(dc) },
        )
    });
    let replicas: BTreeMap<_, _> = replicas.collect();
    let exposure = exposure_of(shared, id, &sight, unit);
    UnitView { unit: unit.clone(), waiting: shared.unit(id).waiting(), replicas, exposure }
}

fn exposure_of(shared: &Shared, id: &UnitId, sight: &Sight, unit: &Unit) -> Exposure {
    let progress = shared.observed().progress(id);
    exposure::exposure(&sight.view(unit, None), &progress)
}

/// The exposure of every unit.
pub(crate) fn exposures(shared: &Shared) -> BTreeMap<UnitId, Exposure> {
    let records = shared.records();
    let of =
        |(id, unit): (&UnitId, &Unit)| (id.clone(), exposure_of(shared, id, &Sight::of(shared, id), unit));
    records.units.iter().map(of).collect()
}

fn agents(shared: &Shared, records: &Records) -> BTreeMap<DcId, AgentView> {
    let observed = shared.observed();
    let view = |dc: &DcId| {
        let seen = observed.agents.get(dc);
        let age_ms = seen.map(|seen| shared.age_ms(seen.at));
        let known = age_ms.is_some_and(|age| age <= shared.timing.fresh_ms);
        AgentView { known, age_ms, instances: seen.map(|s| s.report.instances.clone()).unwrap_or_default() }
    };
    records.datacenters.keys().map(|dc| (dc.clone(), view(dc))).collect()
}

fn gateways(shared: &Shared, records: &Records) -> BTreeMap<DcId, GatewayView> {
    let observed = shared.observed();
    let view = |dc: &DcId| {
        let seen = observed.gateways.get(dc);
        let age_ms = seen.map(|seen| shared.age_ms(seen.at));
        let known = age_ms.is_some_and(|age| age <= GATEWAY_FRESH_MS);
        GatewayView { known, age_ms, report: seen.map(|seen| seen.report.clone()) }
    };
    records.datacenters.keys().map(|dc| (dc.clone(), view(dc))).collect()
}
