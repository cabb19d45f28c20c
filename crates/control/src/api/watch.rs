//! `GET /v1/watch`: every change of resources, as server-sent events, with no gap.

use std::collections::BTreeSet;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event as Sse;
use dujiang_store::{Batch, Error, Event, Listing, Watch};
use dujiang_types::{Code, Kind, Problem, Revision};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::resources::{AnyResource, document};
use super::stream::{Gone, Hangup, Sender, respond};
use crate::error::{ApiError, ApiResult};
use crate::records::split_key;

/// Where an interrupted watch was, as browsers send it on their own.
const LAST_EVENT_ID: &str = "last-event-id";

/// What to watch.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WatchQuery {
    /// Kinds, separated by commas; all of them if absent.
    #[param(example = "units,datacenters")]
    kinds: Option<String>,
    /// Every change from this revision on, that one included: give the revision of the last event seen. Changes
    /// of one transaction share a revision, so after a break some may be repeated. Without it (and without
    /// `Last-Event-ID`) the watch begins with a `snapshot`.
    from: Option<u64>,
}

/// Data of the event `snapshot`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Snapshot {
    /// The store's revision.
    revision: Revision,
    /// All resources of the kinds watched.
    #[schema(value_type = Vec<AnyResource>)]
    items: Vec<Value>,
}

/// Data of the event `delete`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deleted {
    /// What kind of thing it was.
    kind: Kind,
    /// Its name.
    name: String,
    /// Revision of the deletion.
    revision: Revision,
}

/// Streams changes: `snapshot` first unless resumed, then `put` (data: the resource) and `delete`.
#[utoipa::path(get, path = "/v1/watch", tag = "resources",
    params(WatchQuery, ("Last-Event-ID" = Option<String>, Header, description = "like `from`")), responses(
    (status = 200, body = String, content_type = "text/event-stream"), (status = 400, body = Problem),
    (status = 410, body = Problem, description = "the revision is gone: watch without `from`"),
    (status = 503, body = Problem)))]
pub(super) async fn watch(
    State(app): State<App>,
    Query(query): Query<WatchQuery>,
    headers: HeaderMap,
    hangup: Option<Extension<Hangup>>,
) -> ApiResult<Response> {
    let kinds = kinds_of(query.kinds.as_deref())?;
    let from = query.from.map_or_else(|| last_event_id(&headers), |from| Ok(Some(from)))?;
    let store = app.shared.store();
    let (first, watch) = if let Some(from) = from {
        (None, store.watch("", Revision(from.saturating_sub(1))).await?)
    } else {
        let listing = store.list("").await?;
        (Some(snapshot(&listing, &kinds)?), store.watch("", listing.revision).await?)
    };
    respond(&app, hangup.map(|Extension(hangup)| hangup), |sender| serve(sender, first, watch, kinds))
}

async fn serve(
    sender: Sender,
    first: Option<Sse>,
    mut watch: Watch,
    kinds: BTreeSet<Kind>,
) -> Result<(), Gone> {
    if let Some(first) = first {
        sender.send(first).await?;
    }
    loop {
        let batch = tokio::select! {
            batch = watch.next() => batch,
            () = sender.closed() => return Err(Gone),
        };
        match batch.map_err(ApiError::from) {
            Ok(batch) => {
                for event in events(&batch, &kinds) {
                    sender.send(event).await?;
                }
            }
            Err(ApiError(problem)) => {
                // The status line is long gone, so the problem is an event.
                return sender
                    .send(Sse::default().event("problem").json_data(problem).map_err(|_| Gone)?)
                    .await;
            }
        }
    }
}

fn snapshot(listing: &Listing, kinds: &BTreeSet<Kind>) -> ApiResult<Sse> {
    let wanted = listing.entries.iter().filter(|entry| is_of(&entry.key, kinds));
    let items = wanted.filter_map(|entry| readable(&entry.key, document(entry))).collect();
    let event = Sse::default().event("snapshot").id(listing.revision.to_string());
    json(event, &Snapshot { revision: listing.revision, items })
}

fn events(batch: &Batch, kinds: &BTreeSet<Kind>) -> Vec<Sse> {
    let wanted = batch.events.iter().filter(|event| is_of(event.key(), kinds));
    wanted.filter_map(|event| readable(event.key(), sse_of(event, batch.revision))).collect()
}

/// One record that cannot be read must not keep everyone from watching the others. `/v1/status` names it.
fn readable<T>(key: &str, result: ApiResult<T>) -> Option<T> {
    result.inspect_err(|error| tracing::error!(key, error = %error.0, "left out of a watch")).ok()
}

fn sse_of(event: &Event, revision: Revision) -> ApiResult<Sse> {
    let sse = Sse::default().id(revision.to_string());
    match event {
        Event::Put(entry) => json(sse.event("put"), &document(entry)?),
        Event::Delete { key } => {
            let (kind, name) = split_key(key)
                .ok_or_else(|| Error::Corrupt { key: key.clone(), what: "it is no resource".to_owned() })?;
            json(sse.event("delete"), &Deleted { kind, name: name.to_owned(), revision })
        }
    }
}

fn json(event: Sse, data: &impl Serialize) -> ApiResult<Sse> {
    event.json_data(data).map_err(|e| ApiError::new(Code::Internal, e.to_string()))
}

fn is_of(key: &str, kinds: &BTreeSet<Kind>) -> bool {
    split_key(key).is_some_and(|(kind, _)| kinds.contains(&kind))
}

fn kinds_of(text: Option<&str>) -> ApiResult<BTreeSet<Kind>> {
    let Some(text) = text else { return Ok(Kind::ALL.iter().copied().collect()) };
    let kind = |word: &str| Kind::ALL.iter().copied().find(|kind| kind.plural() == word);
    let unknown = |word: &str| ApiError::invalid(format!("kinds: {word:?} is no kind of resource"));
    text.split(',').map(|word| kind(word).ok_or_else(|| unknown(word))).collect()
}

fn last_event_id(headers: &HeaderMap) -> ApiResult<Option<u64>> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|id| id.parse().ok());
    id.map(Some).ok_or_else(|| ApiError::invalid("Last-Event-ID: is not a revision"))
}
