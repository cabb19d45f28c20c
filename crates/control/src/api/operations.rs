//! Asking for a move, or for a promotion without proof.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use dujiang_store::resources;
use dujiang_types::api::{HEADER_IDEMPOTENCY_KEY, HEADER_IDEMPOTENCY_REPLAYED};
use dujiang_types::operation::{
    Approval, Operation, OperationSpec, OperationState, OperationStatus, Step, Work,
};
use dujiang_types::unit::Unit;
use dujiang_types::{Code, Kind, Problem, Resource, Revision, UnitId};
use dujiang_unit::controller;
use dujiang_unit::safety::Rule;
use jiff::Timestamp;
use uuid::Uuid;

use super::App;
use super::body::Json;
use super::forced;
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

/// Asks for a move; or for a promotion without proof, which then awaits the approval of another operator.
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
    let (Work::Move { unit, .. } | Work::ForcePromote { unit, .. } | Work::RunAlone { unit }) = &spec.work
    else {
        let detail =
            "moves, and what two operators order, can be asked for; a failover is begun by the platform";
        return Err(ApiError::new(Code::Refused, detail));
    };
    unit_record(&app, unit).await?;
    let cell = app.shared.unit(unit);
    // Two that ask at once are not both told that nobody else did.
    let _turn = cell.turn().await;
    let record = unit_record(&app, unit).await?;
    let operations = readable_operations(&app).await?;
    if let Some(first) = operations.iter().find(|o| key.is_some() && o.labels.get(LABEL_KEY) == key.as_ref())
    {
        return replay(first, &spec);
    }
    if let Some(other) = operations.iter().find(|o| is_in_the_way(o, &spec.work)) {
        let detail = format!("{}: {} is at work on {unit}", Rule::OneOperation, other.name);
        return Err(ApiError::new(Code::Refused, detail));
    }
    let sight = Sight::of(&app.shared, unit);
    let view = sight.view(&record, None);
    let approval = match &spec.work {
        Work::Move { to, .. } => match controller::refusal(&view, to) {
            Some(refusal) => return Err(ApiError::new(Code::Refused, refusal.to_string())),
            None => None,
        },
        work => Some(forced::approval(&view, &app.shared.observed().progress(unit), work)?),
    };
    let operation = requested(unit, &record, spec.clone(), key, approval);
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

/// Only one operation touches a unit. A failover under way is not in the way of a promotion without proof, which is to
/// bring it to an end; nor is what waits for an approval in the way of a move. A promotion that is at work waits for
/// nothing but a home that may acknowledge alone.
fn is_in_the_way(other: &Operation, work: &Work) -> bool {
    let ordered = |work: &Work| matches!(work, Work::ForcePromote { .. } | Work::RunAlone { .. });
    let waits_for = |other: &Work| match work {
        Work::ForcePromote { .. } => matches!(other, Work::Failover { .. }),
        Work::RunAlone { .. } => matches!(other, Work::Failover { .. } | Work::ForcePromote { .. }),
        _ => false,
    };
    at_work(other)
        && other.spec.work.unit() == work.unit()
        && match other.status.state {
            OperationState::Awaiting => ordered(work),
            _ => !waits_for(&other.spec.work),
        }
}

fn requested(
    unit: &UnitId,
    record: &Unit,
    spec: OperationSpec,
    key: Option<String>,
    approval: Option<Approval>,
) -> Operation {
    let given_up = approval.as_ref().map(|approval| format!("; {}", forced::describe(&spec.work, approval)));
    let step = Step {
        name: "requested".to_owned(),
        at: Timestamp::now(),
        epoch: record.status.epoch,
        reason: format!("asked for by {}{}", spec.asked_by, given_up.unwrap_or_default()),
    };
    let labels: BTreeMap<String, String> = key.map(|key| (LABEL_KEY.to_owned(), key)).into_iter().collect();
    let (verb, state) = match (&spec.work, &approval) {
        (Work::RunAlone { .. }, _) => ("alone", OperationState::Awaiting),
        (_, Some(_)) => ("force", OperationState::Awaiting),
        (_, None) => ("move", OperationState::Pending),
    };
    let status = OperationStatus { state, steps: vec![step], approval };
    let name = name_of(verb, unit);
    Resource { kind: Kind::Operation, name, labels, revision: Revision(0), spec, status }
}

/// Ordered by time within a unit. The first half of the identifier is the time in milliseconds, the other random.
fn name_of(verb: &str, unit: &UnitId) -> String {
    let id = Uuid::now_v7().simple().to_string();
    let unit: String = unit.as_str().chars().take(UNIT_PART_MAX).collect();
    format!("{verb}-{unit}-{}{}", &id[..12], &id[28..])
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
            let (one, two) = (name_of("move", &unit), name_of("move", &unit));
            assert_ne!(one, two);
            OperationId::new(one).unwrap();
        }
    }
}
