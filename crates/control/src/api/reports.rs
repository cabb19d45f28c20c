//! What agents and gateways report, and the leases that go back.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use dujiang_types::api::{AgentReply, AgentReport, GatewayReportRequest, Lease};
use dujiang_types::unit::{UnitSpec, UnitStatus};
use dujiang_types::{Code, DcId, Epoch, Kind, Problem, Revision, UnitId};
use futures_util::future::join_all;

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
    let order = |_| app.shared.examinations().order_for(&report, Instant::now());
    let examine = term.and_then(order);
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
        // Who does not lead takes reports to be ready, and grants nothing. One unit's lease does not wait for another's.
        let asked = renew.into_iter().filter(|_| term.is_some());
        let grants = asked.map(|(unit, epoch)| grant(&app, term, &dc, unit, epoch));
        for granted in join_all(grants).await {
            leases.extend(granted?);
        }
    }
    let revision = app.shared.records().revision;
    Ok(axum::Json(AgentReply { leads: term.is_some(), leases, revision, examine }))
}

/// Grants if the committed record allows it. Remembered before it is answered, so that nobody else is promoted
/// before it has run out.
///
/// Only the first grant of a term reads the store: after that nobody but this server changes who may have a lease, and
/// a store that is slow for a moment must not cost one.
async fn grant(
    app: &App,
    term: Option<Revision>,
    dc: &DcId,
    unit: UnitId,
    epoch: Epoch,
) -> ApiResult<Option<(UnitId, Lease)>> {
    let records = app.shared.records();
    let Some(watched) = records.units.get(&unit) else { return Ok(None) };
    let cell = app.shared.unit(&unit);
    if let Some(reading) = cell.reading() {
        let read = app.shared.resources.get::<UnitSpec, UnitStatus>(Kind::Unit, unit.as_str()).await?;
        let Some(record) = read else { return Ok(None) };
        cell.learn(&record, reading);
    }
    cell.follow(watched);
    // Asked after whatever the store took: a lease granted later than this server leads is one the next leader
    // does not count with.
    let leads = app.shared.leader.leads() == term;
    if !leads || !cell.grant(dc, epoch, app.shared.now_ms()) {
        return Ok(None);
    }
    app.shared.metrics.leases_granted.inc();
    Ok(Some((unit, Lease { epoch, ttl_ms: app.shared.timing.lease_ms })))
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
