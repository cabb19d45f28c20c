//! Messages between processes that are not resources.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::exposure::{Host, Meter};
use crate::readiness::{Examine, Examined};
use crate::report::{GatewayReport, InstanceReport, ReplicaReport};
use crate::{DcId, Epoch, Revision, UnitId};

/// Header carrying the unit a request was routed to.
pub const HEADER_UNIT: &str = "dujiang-unit";
/// Header carrying the epoch a request was routed under.
pub const HEADER_EPOCH: &str = "dujiang-epoch";
/// Header a gateway adds when it forwards to another data center's gateway, which then never forwards again.
pub const HEADER_HOP: &str = "dujiang-hop";
/// Header of every write a client can retry.
pub const HEADER_IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header saying that the answer is the first outcome of an earlier request with the same key.
pub const HEADER_IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";

/// `POST /v1/agents/{dc}/report`: what an agent sees; doubles as the renewal of its primaries' leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentReport {
    /// The agent's data center.
    pub dc: DcId,
    /// Chosen anew at every start of the agent.
    pub session: String,
    /// Counts up within the session; an older one arriving late is ignored.
    pub sequence: u64,
    /// Replicas by unit.
    pub units: BTreeMap<UnitId, ReplicaReport>,
    /// Instances of applications by name, and the gateway as `gateway`.
    pub instances: BTreeMap<String, InstanceReport>,
    /// Leases asked for: the agent, its PostgreSQL and a real write are well.
    pub renew: BTreeMap<UnitId, Epoch>,
    /// What is counted in the replicas, by unit.
    #[serde(default)]
    pub meters: BTreeMap<UnitId, Meter>,
    /// The host it runs on; `None` if that could not be read.
    #[serde(default)]
    pub host: Option<Host>,
    /// Versions of what it runs: `postgresql`, `dujiang`. For the evidence; nothing is decided by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// How the examination stands that was asked for last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examined: Option<Examined>,
}

/// Answer to an [`AgentReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentReply {
    /// True if the server that answers decides at the moment; the others only listen.
    pub leads: bool,
    /// Leases granted. Each counts from the moment the agent *sent* the report.
    pub leases: BTreeMap<UnitId, Lease>,
    /// Latest revision of the store: an agent that has seen less is behind.
    pub revision: Revision,
    /// An examination that an operator asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examine: Option<Examine>,
}

/// Permission to acknowledge under an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// The epoch it is for.
    pub epoch: Epoch,
    /// How long, from when the renewal was sent.
    pub ttl_ms: u64,
}

/// `POST /v1/promises` of an agent: "do not let your replica of this unit be promoted for that long".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromiseRequest {
    /// The unit.
    pub unit: UnitId,
    /// The epoch of the primary that asks.
    pub epoch: Epoch,
    /// The data center that asks.
    pub dc: DcId,
    /// For how long, from when the request is received.
    pub ttl_ms: u64,
}

/// Answer to a [`PromiseRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromiseReply {
    /// True if it is promised.
    pub granted: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `POST /v1/gateways/{dc}/report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayReportRequest {
    /// What the gateway sees.
    pub report: GatewayReport,
}

/// `POST /v1/identities`: an agent has its own and its processes' identities certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificatesRequest {
    /// One per identity.
    pub requests: Vec<CertificateRequest>,
}

/// A request for one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateRequest {
    /// The identity's name, e.g. `spiffe://demo/dc/chengdu-1/gateway`.
    pub name: String,
    /// A certificate signing request in PEM; only its key counts.
    pub request: String,
}

/// Answer to a [`CertificatesRequest`], in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificatesReply {
    /// One per request.
    pub certificates: Vec<Certificate>,
}

/// `POST /v1/join`: whoever shows a token has its own key certified as that of the data center's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequest {
    /// A certificate signing request in PEM; only its key counts.
    pub request: String,
}

/// A certificate and who issued it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    /// The certificate in PEM.
    pub certificate: String,
    /// The authority's certificate in PEM: what the other end is to be checked against.
    pub authority: String,
}
