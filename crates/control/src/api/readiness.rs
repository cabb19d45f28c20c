//! Whether takeovers would work now: what is known of all of them, and examinations by the agents.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dujiang_types::readiness::{ExaminationRequest, Examine, Examined, Readiness};
use dujiang_types::{Code, Problem};
use dujiang_unit::readiness;
use jiff::Timestamp;
use uuid::Uuid;

use super::App;
use super::body::Json;
use super::operator::Operator;
use crate::controller::Sight;
use crate::error::{ApiError, ApiResult, not_leading};

/// Tells of every unit and data center with a replica of it whether a takeover there would work now, as far as that can be
/// told from what is recorded and reported.
#[utoipa::path(get, path = "/v1/readiness", tag = "platform", responses((status = 200, body = Readiness)))]
pub(super) async fn readiness(State(app): State<App>) -> axum::Json<Readiness> {
    let records = app.shared.records();
    let mut takeovers = Vec::new();
    for (id, unit) in &records.units {
        let sight = Sight::of(&app.shared, id);
        let progress = app.shared.observed().progress(id);
        let view = sight.view(unit, None);
        takeovers.extend(unit.spec.replicas.iter().map(|dc| readiness::takeover(id, &view, &progress, dc)));
    }
    axum::Json(Readiness { at: Timestamp::now(), takeovers })
}

/// Has a data center's agent look at identities, and promote a copy of its replica if that is asked for. One at a time in
/// a data center.
#[utoipa::path(post, path = "/v1/examinations", tag = "platform", request_body = ExaminationRequest,
    responses((status = 201, body = Examined), (status = 400, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem, description = "another one is at work there")))]
pub(super) async fn examine(
    State(app): State<App>,
    Operator(asked_by): Operator,
    Json(request): Json<ExaminationRequest>,
) -> ApiResult<Response> {
    let ExaminationRequest { unit, dc, trial } = request;
    let records = app.shared.records();
    let replicas = records.units.get(&unit).map(|unit| &unit.spec.replicas);
    if !replicas.is_some_and(|replicas| replicas.contains(&dc)) {
        return Err(ApiError::new(Code::NotFound, format!("{dc} holds no replica of {unit}")));
    }
    let order = Examine { id: format!("examination-{}", Uuid::new_v4().simple()), unit, trial };
    let (now, shared) = (Instant::now(), &app.shared);
    let latest = shared.observed().agents.get(&dc).and_then(|seen| seen.report.examined.clone());
    let mut examinations = shared.examinations();
    examinations
        .ask(&dc, order.clone(), latest.as_ref(), now)
        .map_err(|why| ApiError::new(Code::Refused, why))?;
    tracing::info!(asked_by, %dc, unit = %order.unit, trial, id = order.id, "an examination is asked for");
    let waiting = examinations.waiting(&order.id, now);
    Ok((StatusCode::CREATED, axum::Json(waiting)).into_response())
}

/// How an examination stands.
#[utoipa::path(get, path = "/v1/examinations/{id}", tag = "platform", params(("id" = String, Path,)),
    responses((status = 200, body = Examined), (status = 404, body = Problem,
    description = "it is not known here: nobody took it up, or the agent was restarted"),
    (status = 503, body = Problem)))]
pub(super) async fn examination(
    State(app): State<App>,
    Path(id): Path<String>,
) -> ApiResult<axum::Json<Examined>> {
    let shared = &app.shared;
    let told: BTreeMap<String, Examined> = {
        let observed = shared.observed();
        let of_agents = observed.agents.values().filter_map(|seen| seen.report.examined.clone());
        of_agents.map(|examined| (examined.id.clone(), examined)).collect()
    };
    if let Some(examined) =
        told.get(&id).cloned().or_else(|| shared.examinations().waiting(&id, Instant::now()))
    {
        return Ok(axum::Json(examined));
    }
    // What waits is known only to who leads.
    if shared.leader.leads().is_none() {
        return Err(not_leading());
    }
    Err(ApiError::new(Code::NotFound, format!("there is no examination {id:?}")))
}
