//! What takes two operators: a promotion without proof, and a home that acknowledges alone. One asks, another approves.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use dujiang_store::{Txn, TxnOutcome, resources};
use dujiang_types::exposure::{Behind, Missing};
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
    let refused = |refusal: dujiang_unit::safety::Refusal| ApiError::new(Code::Refused, refusal.to_string());
    let missing = match work {
        Work::ForcePromote { to, .. } => {
            let reason = controller::forcible(view, to).map_err(refused)?;
            exposure::missing(view, progress, to, reason)
        }
        Work::RunAlone { .. } => {
            let reason = controller::is_alone(view).map_err(refused)?;
            // Nothing is missing now: it is about what is acknowledged from then on.
            Missing {
                to: view.unit.status.home.clone(),
                known: Some(Behind::default()),
                unheard_ms: 0,
                reason,
            }
        }
        _ => return Err(ApiError::new(Code::Refused, "this work needs no approval")),
    };
    Ok(Approval { missing, expires_at: view.wall + APPROVAL_VALID, by: None })
}

/// What is given up, in one sentence.
pub(super) fn describe(work: &Work, approval: &Approval) -> String {
    let missing = &approval.missing;
    if let Work::RunAlone { .. } = work {
        return format!(
            "{}; from then on the loss of {} loses what it has acknowledged, until another replica streams",
            missing.reason, missing.to
        );
    }
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
    approvable(&operation, &by)?;
    let sight = Sight::of(&app.shared, &unit);
    approval(&sight.view(&record, None), &app.shared.observed().progress(&unit), &operation.spec.work)?;
    let status = match &operation.spec.work {
        Work::ForcePromote { to, .. } => controller::force(&record, to, id),
        _ => controller::run_alone(&record),
    };
    tracing::warn!(unit = %unit, work = ?operation.spec.work, asked_by = operation.spec.asked_by, approved_by = by, "ordered by two operators");
    // What is at work ends with a promotion without proof; it goes on beside a home that acknowledges alone.
    let replaces = matches!(operation.spec.work, Work::ForcePromote { .. });
    let previous = record.status.operation.clone().filter(|_| replaces);
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

/// Whether that operator may approve it now.
fn approvable(operation: &Operation, by: &str) -> ApiResult<()> {
    let refused = |detail: String| Err(ApiError::new(Code::Refused, detail));
    let name = &operation.name;
    let (Some(approval), OperationState::Awaiting) = (&operation.status.approval, operation.status.state)
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
    Ok(())
}

fn with_approval(mut operation: Operation, record: &Unit, by: &str) -> Operation {
    // The order to acknowledge alone is carried out by being written.
    let (name, what, state) = match operation.spec.work {
        Work::RunAlone { .. } => ("alone", "acknowledges alone from now on", OperationState::Succeeded),
        _ => ("forced", "to be promoted without proof", OperationState::Running),
    };
    operation.status.steps.push(step(name, record, format!("approved by {by}: {what}")));
    operation.status.state = state;
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
