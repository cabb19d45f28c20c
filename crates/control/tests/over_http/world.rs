//! Agents and gateways of three data centers, as simple as they can be while keeping the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dujiang_types::api::{AgentReply, AgentReport, GatewayReportRequest};
use dujiang_types::operation::Operation;
use dujiang_types::report::{DataState, GatewayReport, ReplicaReport, ReplicaState, StandbyReport};
use dujiang_types::unit::{Phase, Unit};
use dujiang_types::{DcId, Epoch, Lsn, Position, UnitId};
use reqwest::Method;
use serde_json::json;

use crate::plane::{DEADLINE, Plane, unit};

pub(crate) const UNIT: &str = "unit-1";

pub(crate) fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

/// What the world is like apart from the control plane.
pub(crate) struct World {
    pub(crate) alive: BTreeSet<DcId>,
    session: u32,
    sequence: u64,
    /// The last record each agent has seen; kept when the control plane cannot be reached.
    seen: Option<Unit>,
    primary_epoch: BTreeMap<DcId, Epoch>,
    /// Requests in flight of the unit at every gateway.
    pub(crate) in_flight: u64,
    pub(crate) leases: BTreeMap<DcId, Epoch>,
    /// When the last report was sent that a lease was granted for: the lease counts from then.
    pub(crate) leased_at: Option<Instant>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            alive: ["a", "b", "c"].map(dc).into(),
            session: 1,
            sequence: 0,
            seen: None,
            primary_epoch: BTreeMap::new(),
            in_flight: 0,
            leases: BTreeMap::new(),
            leased_at: None,
        }
    }

    /// Every living agent and gateway looks at its records and reports. The control plane may be unreachable.
    pub(crate) async fn tick(&mut self, plane: &Plane) {
        let Ok(response) = plane.request(Method::GET, &format!("/v1/units/{UNIT}")).send().await else {
            return;
        };
        if let Ok(unit) = response.json::<Unit>().await {
            self.seen = Some(unit);
        }
        let Some(unit) = self.seen.clone() else { return };
        self.sequence += 1;
        for dc in self.alive.clone() {
            let report = self.report(&dc, &unit);
            let sent_at = Instant::now();
            let sent =
                plane.request(Method::POST, &format!("/v1/agents/{dc}/report")).json(&report).send().await;
            if let Ok(response) = sent
                && let Ok(reply) = response.json::<AgentReply>().await
            {
                match reply.leases.values().next() {
                    Some(lease) => {
                        self.leases.insert(dc.clone(), lease.epoch);
                        self.leased_at = Some(sent_at);
                    }
                    None => drop(self.leases.remove(&dc)),
                }
            }
            self.gateway(plane, &dc).await;
        }
    }

    async fn gateway(&self, plane: &Plane, dc: &DcId) {
        let Ok(response) = plane.request(Method::GET, "/v1/routing").send().await else { return };
        let Ok(table) = response.json::<dujiang_routing::RoutingTable>().await else { return };
        let in_flight = BTreeMap::from([(UnitId::new(UNIT).unwrap(), self.in_flight)]);
        let report =
            GatewayReport { table: table.version, in_flight, held: BTreeMap::new(), turns: BTreeMap::new() };
        let path = format!("/v1/gateways/{dc}/report");
        drop(plane.request(Method::POST, &path).json(&GatewayReportRequest { report }).send().await);
    }

    /// The next report of an agent, which the caller sends.
    pub(crate) fn report_of(&mut self, dc: &DcId) -> AgentReport {
        self.sequence += 1;
        let unit = self.seen.clone().unwrap();
        self.report(dc, &unit)
    }

    fn report(&mut self, dc: &DcId, unit: &Unit) -> AgentReport {
        let id = UnitId::new(UNIT).unwrap();
        let state = self.state(dc, unit);
        let mut renew = BTreeMap::new();
        if let ReplicaState::Primary { epoch, .. } = &state {
            self.primary_epoch.insert(dc.clone(), *epoch);
            renew.insert(id.clone(), *epoch);
        }
        let report = ReplicaReport {
            revision: unit.revision,
            epoch_seen: unit.status.epoch,
            data: DataState::Present { primary_epoch: self.primary_epoch.get(dc).copied() },
            state,
            position: Some(Position { timeline: 1, flushed: Lsn(200) }),
            replayed: Some(Lsn(200)),
            promised_ms: 0,
            note: String::new(),
        };
        AgentReport {
            dc: dc.clone(),
            session: format!("session-{}", self.session),
            sequence: self.sequence,
            units: BTreeMap::from([(id, report)]),
            instances: BTreeMap::new(),
            renew,
            meters: BTreeMap::new(),
            host: None,
            versions: BTreeMap::new(),
            examined: None,
        }
    }

    fn state(&self, dc: &DcId, unit: &Unit) -> ReplicaState {
        let status = &unit.status;
        let at_home = status.home == *dc;
        match &status.phase {
            Phase::Electing => ReplicaState::Detached { epoch: status.epoch },
            Phase::Sealing { .. } if at_home => {
                ReplicaState::Stopped { sealed: Some(Position { timeline: 1, flushed: Lsn(100) }) }
            }
            _ if at_home => {
                let standby = StandbyReport { streaming: true, flushed: Lsn(200), lag_bytes: 0 };
                let others = self.alive.iter().filter(|other| *other != dc);
                ReplicaState::Primary {
                    epoch: status.epoch,
                    open: true,
                    confirmed: status.wanted_set().cloned(),
                    standbys: others.map(|other| (other.clone(), standby.clone())).collect(),
                }
            }
            _ => ReplicaState::Following { from: status.home.clone(), epoch: status.epoch, streaming: true },
        }
    }

    /// Ticks until the unit's record is as wanted.
    pub(crate) async fn until(&mut self, plane: &Plane, what: &str, wanted: impl Fn(&Unit) -> bool) -> Unit {
        let began = Instant::now();
        loop {
            self.tick(plane).await;
            if let Some(unit) = self.seen.as_ref().filter(|unit| wanted(unit)) {
                return unit.clone();
            }
            assert!(began.elapsed() < DEADLINE, "never {what}; last seen: {:#?}", self.seen);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ticks until the unit serves with all its living replicas in the sync set, and returns its record.
    pub(crate) async fn until_served(&mut self, plane: &Plane) -> Unit {
        let standbys = self.alive.len() - 1;
        self.until(plane, "serving", |unit| {
            let set = unit.status.wanted_set().map_or(0, |set| set.members.len());
            unit.status.phase == Phase::Serving && unit.status.claims.len() == 1 && set == standbys
        })
        .await
    }
}

/// Makes the unit and brings it to serving.
pub(crate) async fn serving(plane: &Plane) -> World {
    plane.put(&format!("/v1/units/{UNIT}"), &unit("0-16383", 5401, "zero")).await;
    let mut world = World::new();
    world.until_served(plane).await;
    world
}

/// Asks for a move and returns the operation's name.
pub(crate) async fn ask_to_move(plane: &Plane, to: &str) -> String {
    let body = json!({"work": {"name": "move", "unit": UNIT, "to": to}, "asked_by": "tester"});
    let response = plane.request(Method::POST, "/v1/operations").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
    response.json::<Operation>().await.unwrap().name
}

pub(crate) async fn operation(plane: &Plane, name: &str) -> Operation {
    serde_json::from_value(plane.get(&format!("/v1/operations/{name}")).await).unwrap()
}

pub(crate) async fn operations(plane: &Plane) -> Vec<Operation> {
    let page = plane.get("/v1/operations").await;
    serde_json::from_value(page["items"].clone()).unwrap()
}
