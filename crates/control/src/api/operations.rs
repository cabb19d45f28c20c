//! Asking for a move, and ordering a promotion without proof.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use dujiang_store::{TxnOutcome, resources};
use dujiang_types::api::{HEADER_IDEMPOTENCY_KEY, HEADER_IDEMPOTENCY_REPLAYED};
use dujiang_types::operation::{Operation, OperationSpec, OperationState, OperationStatus, Step, Work};
use dujiang_types::report::ReplicaState;
use dujiang_types::unit::{Phase, Unit, UnitStatus};
use dujiang_types::{Code, DcId, Kind, Problem, Resource, Revision, UnitId};
use dujiang_unit::controller;
use dujiang_unit::safety::Rule;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::body::Json;
use super::operator::Operator;
use super::resources::answer;
use crate::controller::Sight;
use crate::error::{ApiError, ApiResult};
use crate::records::at_work;

/// Longest `Idempotency-Key`.
const KEY_LEN_MAX: usize = 200;
/// The label that holds the `Idempotency-Key` an operation was asked for with.
const LABEL_KEY: &str = "idempotency-key";
/// Part of the unit's name in an operation's name, so that the whole stays a name.
const UNIT_PART_MAX: usize = 40;

/// An order to promote without proof.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct ForcePromote {
    /// The data center whose replica is to be promoted.
    pub to: DcId,
    /// Who orders it: filled in from the identity of who asks.
    #[serde(default)]
    pub asked_by: String,
}

/// Asks for a move.
#[utoipa::path(post, path = "/v1/operations", tag = "operations", request_body = OperationSpec,
    params(("Idempotency-Key" = Option<String>, Header, description = "repeating it returns the first outcome")),
    responses((status = 201, body = Operation), (status = 400, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem, description = "refused; the detail says by which rule"),
    (status = 422, body = Problem)))]
pub(super) async fn create(
    State(app): State<App>,
    Operator(asked_by): Operator,
    headers: HeaderMap,
    Json(mut spec): Json<OperationSpec>,
) -> ApiResult<Response> {
    // Who asks is who the certificate says, whatever the request says.
    spec.asked_by = asked_by;
    let key = idempotency_key(&headers)?;
    let Work::Move { unit, to } = &spec.work else {
        return Err(ApiError::new(
            Code::Refused,
            "only moves can be asked for; a failover is begun by the platform",
        ));
    };
    unit_record(&app, unit).await?;
    let cell = app.shared.unit(unit);
    // Two that ask at once are not both told that nobody else did.
    let _memory = cell.turn.lock().await;
    let record = unit_record(&app, unit).await?;
    let operations = readable_operations(&app).await?;
    if let Some(first) = operations.iter().find(|o| key.is_some() && o.labels.get(LABEL_KEY) == key.as_ref())
    {
        return replay(first, &spec);
    }
    if let Some(other) = operations.iter().find(|o| at_work(o) && o.spec.work.unit() == unit) {
        let detail = format!("{}: {} is at work on {unit}", Rule::OneOperation, other.name);
        return Err(ApiError::new(Code::Refused, detail));
    }
    if let Some(refusal) = controller::refusal(&Sight::of(&app.shared, unit).view(&record, None), to) {
        return Err(ApiError::new(Code::Refused, refusal.to_string()));
    }
    let operation = requested(unit, &record, spec.clone(), key);
    let saved = app.shared.resources.save(operation).await.map_err(|e| ApiError::of_write(&e))?;
    match saved {
        dujiang_store::Saved::Written(operation) => Ok(answer(StatusCode::CREATED, &operation)),
        dujiang_store::Saved::Conflict(_) => Err(ApiError::new(Code::AlreadyExists, "ask again")),
    }
}

/// One that cannot be read must not keep all others from being asked for; the controller complains about it.
async fn readable_operations(app: &App) -> ApiResult<Vec<Operation>> {
    let listing = app.shared.store().list(&resources::prefix(Kind::Operation)).await?;
    Ok(listing.entries.iter().filter_map(|entry| resources::decode(entry).ok()).collect())
}

fn requested(unit: &UnitId, record: &Unit, spec: OperationSpec, key: Option<String>) -> Operation {
    let step = Step {
        name: "requested".to_owned(),
        at: Timestamp::now(),
        epoch: record.status.epoch,
        reason: format!("asked for by {}", spec.asked_by),
    };
    let labels: BTreeMap<String, String> = key.map(|key| (LABEL_KEY.to_owned(), key)).into_iter().collect();
    let status = OperationStatus { state: OperationState::Pending, steps: vec![step] };
    Resource { kind: Kind::Operation, name: name_of_move(unit), labels, revision: Revision(0), spec, status }
}

/// Ordered by time within a unit. The first half of the identifier is the time in milliseconds, the other random.
fn name_of_move(unit: &UnitId) -> String {
    let id = Uuid::now_v7().simple().to_string();
    let unit: String = unit.as_str().chars().take(UNIT_PART_MAX).collect();
    format!("move-{unit}-{}{}", &id[..12], &id[28..])
}

fn replay(first: &Operation, spec: &OperationSpec) -> ApiResult<Response> {
    if first.spec != *spec {
        let detail = format!("it was used for {}", first.name);
        return Err(ApiError::new(Code::IdempotencyKeyReused, detail));
    }
    let mut response = answer(StatusCode::CREATED, first);
    let replayed = HeaderName::from_static(HEADER_IDEMPOTENCY_REPLAYED);
    response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    Ok(response)
}

/// Orders the promotion of a replica although it cannot be proven that it holds every acknowledged commit.
#[utoipa::path(post, path = "/v1/units/{name}/force-promote", tag = "operations", request_body = ForcePromote,
    params(("name" = String, Path,)), responses((status = 200, body = Unit), (status = 400, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem, description = "not while the home serves"),
    (status = 412, body = Problem)))]
pub(super) async fn force_promote(
    State(app): State<App>,
    Operator(asked_by): Operator,
    Path(name): Path<String>,
    Json(order): Json<ForcePromote>,
) -> ApiResult<Response> {
    let order = ForcePromote { asked_by, ..order };
    let unit = unit_of(&name)?;
    unit_record(&app, &unit).await?;
    let cell = app.shared.unit(&unit);
    let _memory = cell.turn.lock().await;
    // Read again: it may have changed while waiting for the turn.
    let record = unit_record(&app, &unit).await?;
    if home_serves(&app, &unit, &record) {
        let detail = format!("{} serves; ask for a move instead", record.status.home);
        return Err(ApiError::new(Code::Refused, detail));
    }
    let status = controller::force(&record, &order.to).map_err(|rule| ApiError::new(Code::Refused, rule))?;
    tracing::warn!(unit = name, to = %order.to, asked_by = order.asked_by, "promotion without proof is ordered");
    let record = write_order(&app, record, status, &order).await?;
    app.shared.wake.notify_one();
    Ok(answer(StatusCode::OK, &record))
}

/// An order given while the home is well would lie in wait and make a later failover lose data.
fn home_serves(app: &App, unit: &UnitId, record: &Unit) -> bool {
    let sight = Sight::of(&app.shared, unit);
    let report = sight.fresh_report(&record.status.home);
    record.status.phase == Phase::Serving
        && report.is_some_and(|report| matches!(report.state, ReplicaState::Primary { .. }))
}

/// Writes the order, and into the record of the failover at work who gave it.
async fn write_order(app: &App, record: Unit, status: UnitStatus, order: &ForcePromote) -> ApiResult<Unit> {
    let resources = &app.shared.resources;
    let mut record = Resource { status, ..record };
    let (check, write) = resources::change(&record)?;
    let mut txn = dujiang_store::Txn { checks: vec![check], writes: vec![write] };
    if let Some(id) = &record.status.operation
        && let Some(mut operation) =
            resources.get::<OperationSpec, OperationStatus>(Kind::Operation, id.as_str()).await?
    {
        operation.status.steps.push(Step {
            name: "forced".to_owned(),
            at: Timestamp::now(),
            epoch: record.status.epoch,
            reason: format!("{} ordered {} to be promoted without proof", order.asked_by, order.to),
        });
        let (check, write) = resources::change(&operation)?;
        txn.checks.push(check);
        txn.writes.push(write);
    }
    match resources.store().transact(txn).await.map_err(|e| ApiError::of_write(&e))? {
        TxnOutcome::Committed(revision) => {
            record.revision = revision;
            Ok(record)
        }
        TxnOutcome::Conflict { .. } => {
            Err(ApiError::new(Code::RevisionConflict, "the unit has just changed; look and order again"))
        }
    }
}

pub(super) fn unit_of(name: &str) -> ApiResult<UnitId> {
    UnitId::new(name).map_err(|_| no_unit(name))
}

pub(super) async fn unit_record(app: &App, unit: &UnitId) -> ApiResult<Unit> {
    let record = app.shared.resources.get(Kind::Unit, unit.as_str()).await?;
    record.ok_or_else(|| no_unit(unit.as_str()))
}

fn no_unit(name: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no unit {name:?}"))
}

fn idempotency_key(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let Some(value) = headers.get(HEADER_IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_LEN_MAX);
    let wrong = || ApiError::invalid(format!("Idempotency-Key: 1 to {KEY_LEN_MAX} visible characters"));
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dujiang_types::OperationId;

    #[test]
    fn a_move_of_any_unit_gets_a_valid_name_of_its_own() {
        for unit in ["u".to_owned(), "u".repeat(63), format!("{}-{}", "u".repeat(39), "x".repeat(20))] {
            let unit = UnitId::new(unit).unwrap();
            let (one, two) = (name_of_move(&unit), name_of_move(&unit));
            assert_ne!(one, two);
            OperationId::new(one).unwrap();
        }
    }
}
