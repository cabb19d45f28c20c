//! An operator has looked at a unit that goes to and fro.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use dujiang_types::unit::Unit;
use dujiang_types::{Code, Problem};

use super::App;
use super::operations::{unit_of, unit_record};
use super::operator::Operator;
use super::resources::answer;
use crate::error::{ApiError, ApiResult};

/// Lets a unit fail over again at once although it has done so a short while ago: its failovers are counted anew.
#[utoipa::path(post, path = "/v1/units/{name}/allow-failover", tag = "operations",
    params(("name" = String, Path,)), responses((status = 200, body = Unit), (status = 400, body = Problem),
    (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn allow_failover(
    State(app): State<App>,
    Operator(asked_by): Operator,
    Path(name): Path<String>,
) -> ApiResult<Response> {
    let unit = unit_of(&name)?;
    unit_record(&app, &unit).await?;
    let cell = app.shared.unit(&unit);
    let _turn = cell.turn().await;
    let mut record = unit_record(&app, &unit).await?;
    if record.status.last_failover.take().is_none() {
        return Ok(answer(StatusCode::OK, &record));
    }
    tracing::warn!(unit = name, asked_by, "an operator lets the unit fail over again");
    match app.shared.resources.save(record).await.map_err(|e| ApiError::of_write(&e))? {
        dujiang_store::Saved::Written(record) => {
            app.shared.wake.notify_one();
            Ok(answer(StatusCode::OK, &record))
        }
        dujiang_store::Saved::Conflict(_) => {
            Err(ApiError::new(Code::RevisionConflict, "the unit has just changed; look and ask again"))
        }
    }
}
