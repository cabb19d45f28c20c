//! The store as a whole: its content for a backup, and its size.

use axum::extract::State;
use axum::http::StatusCode;
use dujiang_store::backup::Content;
use dujiang_types::{Code, Problem};

use super::App;
use super::operator::Operator;
use crate::error::{ApiError, ApiResult};
use crate::size;

/// Where room is made; every server takes it, see `leader_writes`.
pub(super) const COMPACT_PATH: &str = "/v1/store/compact";

/// Every lasting entry of the store at one revision.
#[utoipa::path(get, path = "/v1/store/backup", tag = "platform",
    responses((status = 200, body = Object), (status = 503, body = Problem)))]
pub(super) async fn backup(State(app): State<App>, _: Operator) -> ApiResult<axum::Json<Content>> {
    let listing = app.shared.store().list("").await?;
    let content = Content::of(&listing).map_err(|error| ApiError::new(Code::Internal, error.to_string()))?;
    Ok(axum::Json(content))
}

/// Forgets the history, gives the space back and lifts etcd's alarm; with several members that of the one below the
/// server that is asked. Watches begin anew.
#[utoipa::path(post, path = "/v1/store/compact", tag = "platform",
    responses((status = 204), (status = 503, body = Problem)))]
pub(super) async fn compact(State(app): State<App>, _: Operator) -> ApiResult<StatusCode> {
    let store = app.shared.store();
    let before = store.size().await?;
    store.compact(store.revision().await?).await?;
    store.reclaim().await?;
    size::measure(&app.shared).await?;
    let after = store.size().await?;
    tracing::warn!(
        before_bytes = before.bytes,
        after_bytes = after.bytes,
        "the store was compacted by order"
    );
    Ok(StatusCode::NO_CONTENT)
}
