//! What agents and gateways report, and the leases that go back.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use dujiang_types::api::{AgentReply, AgentReport, GatewayReportRequest, Lease};
use dujiang_types::unit::{UnitSpec, UnitStatus};
use dujiang_types::{Code, DcId, Epoch, Kind, Problem, Revision, UnitId};
use dujiang_unit::lease;

use super::App;
use super::body::Json;
use crate::error::{ApiError, ApiResult};

/// Longest session identifier of an agent.
const SESSION_LEN_MAX: usize = 64;

/// Takes an agent's report and answers with the leases granted.
#[utoipa::path(post, path = "/v1/agents/{dc}/report", tag = "agents", params(("dc" = String, Path,)),
    request_body = AgentReport, responses((status = 200, body = AgentReply), (status = 400, body = Problem),
    (status = 404, body = Problem)))]
pub(super) async fn agent(
    State(app): State<App>,
    Path(dc): Path<String>,
    Json(report): Json<AgentReport>,
) -> ApiResult<axum::Json<AgentReply>> {
    let dc = known_data_center(&app, &dc)?;
    if report.dc != dc {
        return Err(ApiError::invalid(format!("dc: the report is about {}, not {dc}", report.dc)));
    }
    if report.session.is_empty() || report.session.len() > SESSION_LEN_MAX {
        return Err(ApiError::invalid(format!("session: 1 to {SESSION_LEN_MAX} bytes")));
    }
    let renew = report.renew.clone();
    let term = app.shared.leader.leads();
    // One that was overtaken says nothing about now, so nothing is granted on its word.
    let current = {
        let mut observed = app.shared.observed();
        let current = observed.agent(report, Instant::now());
        if current {
            observed.note_progress(&dc, &app.shared.records(), app.shared.now_ms());
        }
        current
    };
    let mut leases = BTreeMap::new();
    if current {
        app.shared.wake.notify_one();
        // Who does not lead takes reports to be ready, and grants nothing.
        for (unit, epoch) in renew.into_iter().filter(|_| term.is_some()) {
            if grant(&app, term, &dc, &unit, epoch).await? {
                leases.insert(unit, Lease { epoch, ttl_ms: app.shared.timing.lease_ms });
            }
        }
    }
    Ok(axum::Json(AgentReply { leads: term.is_some(), leases, revision: app.shared.records().revision }))
}

/// Grants if the committed record allows it. Remembered before it is answered, so that nobody else is promoted
/// before it has run out.
async fn grant(app: &App, term: Option<Revision>, dc: &DcId, unit: &UnitId, epoch: Epoch) -> ApiResult<bool> {
    if !app.shared.records().units.contains_key(unit) {
        return Ok(false);
    }
    let cell = app.shared.unit(unit);
    let mut memory = cell.turn.lock().await;
    let record = app.shared.resources.get::<UnitSpec, UnitStatus>(Kind::Unit, unit.as_str()).await?;
    // Asked again after whatever the store took: a lease granted later than this server leads is one the next leader
    // does not count with.
    let leads = app.shared.leader.leads() == term;
    let granted = leads && record.is_some_and(|record| lease::may_grant(&record, dc, epoch));
    if granted {
        memory.last_grant_ms = app.shared.now_ms();
        app.shared.metrics.leases_granted.inc();
    }
    Ok(granted)
}

/// Takes a gateway's report.
#[utoipa::path(post, path = "/v1/gateways/{dc}/report", tag = "gateways", params(("dc" = String, Path,)),
    request_body = GatewayReportRequest, responses((status = 204), (status = 400, body = Problem),
    (status = 404, body = Problem)))]
pub(super) async fn gateway(
    State(app): State<App>,
    Path(dc): Path<String>,
    Json(request): Json<GatewayReportRequest>,
) -> ApiResult<StatusCode> {
    let dc = known_data_center(&app, &dc)?;
    app.shared.observed().gateway(dc, request.report, Instant::now());
    app.shared.wake.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

/// Reports are kept by data center, so only those that exist may report.
fn known_data_center(app: &App, name: &str) -> ApiResult<DcId> {
    let unknown = || ApiError::new(Code::NotFound, format!("there is no data center {name:?}"));
    let dc = DcId::new(name).map_err(|_| unknown())?;
    if app.shared.records().datacenters.contains_key(&dc) { Ok(dc) } else { Err(unknown()) }
}
