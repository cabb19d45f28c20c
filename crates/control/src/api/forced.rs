//! A promotion without proof: asked for by one operator, approved by another.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use dujiang_store::{Txn, TxnOutcome, resources};
use dujiang_types::operation::{
    Approval, Operation, OperationSpec, OperationState, OperationStatus, Step, Work,
};
use dujiang_types::unit::Unit;
use dujiang_types::{Code, Kind, OperationId, Problem, Resource};
use dujiang_unit::controller::{self, View};
use dujiang_unit::exposure::{self, Progress};
use jiff::{SignedDuration, Timestamp};

use super::App;
use super::operations::unit_record;
use super::operator::Operator;
use super::resources::answer;
use crate::controller::Sight;
use crate::error::{ApiError, ApiResult};

/// How long an approval may be given: time to find a second operator and to look, short enough that what was shown is
/// still what is.
const APPROVAL_VALID: SignedDuration = SignedDuration::from_mins(15);

/// What an approval of that work is about; or why there is nothing to approve.
pub(super) fn approval(view: &View, progress: &Progress, work: &Work) -> ApiResult<Approval> {
    let Work::ForcePromote { to, .. } = work else {
        return Err(ApiError::new(Code::Refused, "only a promotion without proof needs an approval"));
    };
    let refused = |refusal: dujiang_unit::safety::Refusal| ApiError::new(Code::Refused, refusal.to_string());
    let reason = controller::forcible(view, to).map_err(refused)?;
    let missing = exposure::missing(view, progress, to, reason);
    Ok(Approval { missing, expires_at: view.wall + APPROVAL_VALID, by: None })
}

/// What may be missing, in one sentence.
pub(super) fn describe(approval: &Approval) -> String {
    let missing = &approval.missing;
    let unheard = format!("whatever was acknowledged in {} ms after its last report", missing.unheard_ms);
    match missing.known {
        None => format!("what may be missing in {} is not known: {}", missing.to, missing.reason),
        Some(known) => {
            let transfers = known.transfers.map(|count| format!(", {count} transfers")).unwrap_or_default();
            format!(
                "may be missing in {}: {} bytes, {} ms{transfers} by the last known positions, and {unheard}; {}",
                missing.to, known.bytes, known.lag_ms, missing.reason
            )
        }
    }
}

/// Approves work that awaits it, and has it begun.
#[utoipa::path(post, path = "/v1/operations/{name}/approve", tag = "operations", params(("name" = String, Path,)), responses((status = 200, body = Operation), (status = 400, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem, description = "not by who asked, not too late, not \
    if there is nothing to force any more"), (status = 412, body = Problem)))]
pub(super) async fn approve(
    State(app): State<App>,
    Operator(by): Operator,
    Path(name): Path<String>,
) -> ApiResult<Response> {
    let absent = || ApiError::new(Code::NotFound, format!("there is no operation {name:?}"));
    let id = OperationId::new(name.clone()).map_err(|_| absent())?;
    let unit = operation_of(&app, &id).await?.and_then(|operation| operation.spec.work.unit().cloned());
    let unit = unit.ok_or_else(absent)?;
    unit_record(&app, &unit).await?;
    let cell = app.shared.unit(&unit);
    let _turn = cell.turn().await;
    // Read again: it may have changed while waiting for the turn.
    let operation = operation_of(&app, &id).await?.ok_or_else(absent)?;
    let record = unit_record(&app, &unit).await?;
    let to = approvable(&operation, &by)?;
    let sight = Sight::of(&app.shared, &unit);
    approval(&sight.view(&record, None), &app.shared.observed().progress(&unit), &operation.spec.work)?;
    let status = controller::force(&record, &to, id);
    tracing::warn!(unit = %unit, %to, asked_by = operation.spec.asked_by, approved_by = by, "promotion without proof is ordered");
    let previous = record.status.operation.clone();
    let approved = with_approval(operation, &record, &by);
    let approved = write(&app, Resource { status, ..record }, approved, previous).await?;
    app.shared.wake.notify_one();
    Ok(answer(StatusCode::OK, &approved))
}

async fn operation_of(app: &App, id: &OperationId) -> ApiResult<Option<Operation>> {
    let found =
        app.shared.resources.get::<OperationSpec, OperationStatus>(Kind::Operation, id.as_str()).await?;
    Ok(found)
}

/// The data center to promote, if that operator may approve it now.
fn approvable(operation: &Operation, by: &str) -> ApiResult<dujiang_types::DcId> {
    let refused = |detail: String| Err(ApiError::new(Code::Refused, detail));
    let name = &operation.name;
    let (Work::ForcePromote { to, .. }, Some(approval), OperationState::Awaiting) =
        (&operation.spec.work, &operation.status.approval, operation.status.state)
    else {
        return refused(format!("{name} does not await an approval"));
    };
    if operation.spec.asked_by == by {
        return refused(format!("{by} asked for {name}; another operator has to approve it"));
    }
    if Timestamp::now() >= approval.expires_at {
        return refused(format!(
            "{name} could be approved until {:.0}; ask for it again",
            approval.expires_at
        ));
    }
    Ok(to.clone())
}

fn with_approval(mut operation: Operation, record: &Unit, by: &str) -> Operation {
    let reason = format!("approved by {by}: to be promoted without proof");
    operation.status.steps.push(step("forced", record, reason));
    operation.status.state = OperationState::Running;
    if let Some(approval) = &mut operation.status.approval {
        approval.by = Some(by.to_owned());
    }
    operation
}

fn step(name: &str, record: &Unit, reason: String) -> Step {
    Step { name: name.to_owned(), at: Timestamp::now(), epoch: record.status.epoch, reason }
}

/// Writes the order, the approved operation, and that what was at work before is over; as one.
async fn write(
    app: &App,
    record: Unit,
    mut approved: Operation,
    previous: Option<OperationId>,
) -> ApiResult<Operation> {
    let mut txn = Txn::new();
    let mut add = |(check, write)| {
        txn.checks.push(check);
        txn.writes.push(write);
    };
    add(resources::change(&record)?);
    add(resources::change(&approved)?);
    if let Some(id) = previous
        && let Some(mut before) = operation_of(app, &id).await?
    {
        before.status.state = OperationState::Failed;
        let reason = format!("a promotion without proof was ordered by {}", approved.name);
        before.status.steps.push(step("superseded", &record, reason));
        add(resources::change(&before)?);
    }
    match app.shared.store().transact(txn).await.map_err(|e| ApiError::of_write(&e))? {
        TxnOutcome::Committed(revision) => {
            approved.revision = revision;
            Ok(approved)
        }
        TxnOutcome::Conflict { .. } => {
            Err(ApiError::new(Code::RevisionConflict, "the unit has just changed; look and approve again"))
        }
    }
}
