//! The routing table, once and as a stream.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use dujiang_routing::RoutingTable;
use dujiang_types::Problem;

use super::App;
use super::stream::{Gone, Hangup, respond};
use crate::error::ApiResult;

/// The routing table in force.
#[utoipa::path(get, path = "/v1/routing", tag = "gateways", responses((status = 200, body = RoutingTable)))]
pub(super) async fn table(State(app): State<App>) -> axum::Json<RoutingTable> {
    let table = app.shared.table.borrow().clone();
    axum::Json(RoutingTable::clone(&table))
}

/// Streams the routing table: events `table`, the first at once, then one for each change. A reader that is slow
/// gets the latest table, not every one in between.
#[utoipa::path(get, path = "/v1/routing/watch", tag = "gateways", responses(
    (status = 200, body = String, content_type = "text/event-stream"), (status = 503, body = Problem)))]
pub(super) async fn watch(State(app): State<App>, hangup: Option<Extension<Hangup>>) -> ApiResult<Response> {
    let mut tables = app.shared.table.subscribe();
    respond(&app, hangup.map(|Extension(hangup)| hangup), |sender| async move {
        loop {
            let table = tables.borrow_and_update().clone();
            let event = Event::default().event("table").id(table.version.to_string());
            sender.send(event.json_data(&*table).map_err(|_| Gone)?).await?;
            tokio::select! {
                changed = tables.changed() => changed.map_err(|_| Gone)?,
                () = sender.closed() => return Err(Gone),
            }
        }
    })
}
