//! The routing table: what gateways need to know, derived from the records of units, data centers and
//! applications.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dujiang_types::dns::Directory;
use dujiang_types::platform::RouteRule;
use dujiang_types::{AppId, DcId, Epoch, Revision, Slot, SlotRange, UnitId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything a gateway routes by. Kept on its disk, so it serves on when the control plane is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoutingTable {
    /// Revision of the store the table was derived from.
    pub version: Revision,
    /// Units, each with its own slots.
    pub units: Vec<UnitRoute>,
    /// Where each data center's gateway takes requests from other gateways.
    #[schema(value_type = BTreeMap<String, String>)]
    pub mesh: BTreeMap<DcId, SocketAddr>,
    /// Applications.
    pub applications: BTreeMap<AppId, ApplicationRoute>,
    /// The names customers find the sites by, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Directory>,
}

/// How to route to one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnitRoute {
    /// The unit.
    pub unit: UnitId,
    /// The application that serves it.
    pub application: AppId,
    /// Its epoch; sent along with every request.
    pub epoch: Epoch,
    /// Where it is at home.
    pub home: DcId,
    /// Forward or hold.
    pub mode: Mode,
    /// Slots it owns.
    pub slots: Vec<SlotRange>,
}

/// What to do with a unit's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Send them to the home.
    Forward,
    /// Keep them until the unit's route changes.
    Hold,
}

/// How to route to one application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplicationRoute {
    /// How requests are recognised and where their routing key stands; the first match wins.
    pub routes: Vec<RouteRule>,
    /// Its instances by data center.
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub instances: BTreeMap<DcId, Vec<SocketAddr>>,
}

impl RoutingTable {
    /// The route of the unit that owns the slot.
    pub fn unit_of(&self, slot: Slot) -> Option<&UnitRoute> {
        self.units.iter().find(|unit| unit.slots.iter().any(|range| range.contains(slot)))
    }
}
