//! Resources: read, write and delete, the same for every kind.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dujiang_store::{Entry, Saved, TxnOutcome, resources};
use dujiang_types::ids::NameError;
use dujiang_types::operation::Operation;
use dujiang_types::platform::{Application, ApplicationSpec, DataCenter, DataCenterSpec, Empty};
use dujiang_types::unit::{Unit, UnitSpec, UnitStatus};
use dujiang_types::{AppId, Code, DcId, Kind, Problem, Resource, Revision, UnitId};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::RawJson;
use super::precondition::{Precondition, etag};
use crate::error::{ApiError, ApiResult};
use crate::records::{Records, at_work};
use crate::{births, validate};

/// Resources in one page at most: a page of them stays below a few MiB.
const LIST_MAX: usize = 500;
/// How often a write without a precondition begins anew because a controller was faster.
const WRITE_TRIES: usize = 8;
/// Labels of a resource, and the length of each of their parts: bounds what people can attach.
const LABELS_MAX: usize = 64;
const LABEL_LEN_MAX: usize = 256;

/// A page of resources of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page {
    /// The store's revision they are at: watch from there to miss nothing.
    revision: Revision,
    /// The resources, by name.
    #[schema(value_type = Vec<AnyResource>)]
    items: Vec<Value>,
    /// Ask for the next page with `after` set to this; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A resource of any kind.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "names the alternatives in the API document; never built")]
pub(super) enum AnyResource {
    /// A data center.
    DataCenter(DataCenter),
    /// An application.
    Application(Application),
    /// A unit.
    Unit(Box<Unit>),
    /// An operation.
    Operation(Operation),
}

/// The spec of any kind that can be written.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "names the alternatives in the API document; never built")]
pub(super) enum AnySpec {
    /// Of a data center.
    DataCenter(DataCenterSpec),
    /// Of an application.
    Application(ApplicationSpec),
    /// Of a unit.
    Unit(UnitSpec),
}

/// What is written of a resource: its intent. The rest is not the client's to say.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Intent<S> {
    /// Free key/value pairs to select by.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Intent.
    spec: S,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Resources at most, 1 to 500.
    limit: Option<usize>,
    /// Only names after this one.
    after: Option<String>,
}

fn kind_of(plural: &str) -> ApiResult<Kind> {
    let kind = Kind::ALL.iter().copied().find(|kind| kind.plural() == plural);
    kind.ok_or_else(|| {
        let kinds = Kind::ALL.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(", ");
        ApiError::new(Code::RouteUnknown, format!("{plural:?} is no kind of resource; there are {kinds}"))
    })
}

fn not_found(kind: Kind, name: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no {name:?} among {}", kind.plural()))
}

/// The resource as clients see it.
pub(super) fn document(entry: &Entry) -> ApiResult<Value> {
    let corrupt = |what: String| dujiang_store::Error::Corrupt { key: entry.key.clone(), what };
    let mut value: Value = serde_json::from_slice(&entry.value).map_err(|e| corrupt(e.to_string()))?;
    let object = value.as_object_mut().ok_or_else(|| corrupt("it is no JSON object".to_owned()))?;
    object.insert("revision".to_owned(), Value::from(entry.revision.0));
    Ok(value)
}

/// Lists resources of a kind, by name.
#[utoipa::path(get, path = "/v1/{kind}", tag = "resources", params(("kind" = Kind, Path,), PageQuery), responses(
    (status = 200, body = Page), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn list(
    State(app): State<App>,
    Path(kind): Path<String>,
    Query(page): Query<PageQuery>,
) -> ApiResult<axum::Json<Page>> {
    list_kind(&app, kind_of(&kind)?, page).await
}

/// Lists operations, by name.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", params(PageQuery), responses(
    (status = 200, body = Page), (status = 400, body = Problem)))]
pub(super) async fn list_operations(
    State(app): State<App>,
    Query(page): Query<PageQuery>,
) -> ApiResult<axum::Json<Page>> {
    list_kind(&app, Kind::Operation, page).await
}

async fn list_kind(app: &App, kind: Kind, page: PageQuery) -> ApiResult<axum::Json<Page>> {
    let limit = page.limit.unwrap_or(LIST_MAX);
    if !(1..=LIST_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("limit: {limit} is not between 1 and {LIST_MAX}")));
    }
    let prefix = resources::prefix(kind);
    let listing = app.shared.store().list(&prefix).await?;
    let name_of = |entry: &Entry| entry.key[prefix.len()..].to_owned();
    let after = page.after.unwrap_or_default();
    let mut rest = listing.entries.iter().filter(|entry| name_of(entry) > after).peekable();
    let taken: Vec<&Entry> = rest.by_ref().take(limit).collect();
    let next = rest.peek().and(taken.last()).map(|last| name_of(last));
    let items = taken.into_iter().map(document).collect::<ApiResult<_>>()?;
    Ok(axum::Json(Page { revision: listing.revision, items, next }))
}

/// Reads a resource.
#[utoipa::path(get, path = "/v1/{kind}/{name}", tag = "resources",
    params(("kind" = Kind, Path,), ("name" = String, Path,)), responses(
    (status = 200, body = inline(AnyResource), headers(("ETag" = String, description = "its revision"))),
    (status = 404, body = Problem)))]
pub(super) async fn get(
    State(app): State<App>,
    Path((kind, name)): Path<(String, String)>,
) -> ApiResult<Response> {
    let kind = kind_of(&kind)?;
    // A name that cannot exist is not there; the store would complain about some of them instead.
    let id = check_name(&name).map_err(|_| not_found(kind, &name))?;
    let entry =
        app.shared.store().get(&kind.key(id.as_str())).await?.ok_or_else(|| not_found(kind, &name))?;
    Ok(([(header::ETAG, etag(entry.revision))], axum::Json(document(&entry)?)).into_response())
}

/// Creates a resource or changes its intent.
#[utoipa::path(put, path = "/v1/{kind}/{name}", tag = "resources",
    params(("kind" = Kind, Path,), ("name" = String, Path,),
        ("If-Match" = Option<String>, Header, description = "the revision to change, in quotes, or *"),
        ("If-None-Match" = Option<String>, Header, description = "*: only create")),
    request_body = inline(Intent<AnySpec>), responses(
    (status = 200, body = inline(AnyResource), description = "changed, or nothing to change"),
    (status = 201, body = inline(AnyResource), description = "created"),
    (status = 400, body = Problem), (status = 404, body = Problem), (status = 405, body = Problem),
    (status = 409, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn put(
    State(app): State<App>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: RawJson,
) -> ApiResult<Response> {
    let kind = kind_of(&kind)?;
    let precondition = Precondition::of(&headers)?;
    let name = check_name(&name)?;
    let _turn = app.shared.admission.lock().await;
    match kind {
        Kind::DataCenter => write::<DataCenterSpec>(&app, &name, precondition, &body).await,
        Kind::Application => write::<ApplicationSpec>(&app, &name, precondition, &body).await,
        Kind::Unit => write::<UnitSpec>(&app, &name, precondition, &body).await,
        Kind::Operation => Err(ApiError::new(
            Code::MethodNotAllowed,
            "an operation is asked for with POST /v1/operations and cannot be changed",
        )),
    }
}

/// Deletes a resource that nothing depends on.
#[utoipa::path(delete, path = "/v1/{kind}/{name}", tag = "resources",
    params(("kind" = Kind, Path,), ("name" = String, Path,),
        ("If-Match" = Option<String>, Header, description = "the revision to delete, in quotes, or *")), responses(
    (status = 204, description = "deleted"), (status = 400, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn delete(
    State(app): State<App>,
    Path((kind, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<StatusCode> {
    let kind = kind_of(&kind)?;
    let precondition = Precondition::of(&headers)?;
    let id = check_name(&name).map_err(|_| not_found(kind, &name))?;
    let _turn = app.shared.admission.lock().await;
    let store = app.shared.store();
    for _ in 0..WRITE_TRIES {
        let entry = store.get(&kind.key(&id)).await?.ok_or_else(|| not_found(kind, &name))?;
        precondition.check(Some(entry.revision))?;
        // Read after the entry: what came to depend on it since shows.
        let records = Records::of(&store.list("").await?);
        if let Some(reason) = in_use(&records, kind, &entry)? {
            return Err(ApiError::new(Code::Refused, reason));
        }
        let deleted = store.delete_if(&entry.key, entry.revision).await;
        if let TxnOutcome::Committed(_) = deleted.map_err(|e| ApiError::of_write(&e))? {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(too_busy(kind, &name))
}

fn in_use(records: &Records, kind: Kind, entry: &Entry) -> ApiResult<Option<String>> {
    let name = &entry.key[resources::prefix(kind).len()..];
    let users = match kind {
        Kind::DataCenter => DcId::new(name).map(|id| validate::users_of(records, &id)).unwrap_or_default(),
        Kind::Application => AppId::new(name).map(|id| validate::units_of(records, &id)).unwrap_or_default(),
        Kind::Unit => {
            let operations = records.operations.values();
            let at_work = operations
                .filter(|operation| operation.spec.work.unit().is_some_and(|unit| unit.as_str() == name));
            at_work.map(|operation| operation.name.clone()).collect()
        }
        Kind::Operation => {
            let operation: Operation = resources::decode(entry)?;
            if at_work(&operation) { vec!["itself: it is not over".to_owned()] } else { Vec::new() }
        }
    };
    Ok((!users.is_empty()).then(|| format!("{name} is in use by {}", users.join(", "))))
}

fn too_busy(kind: Kind, name: &str) -> ApiError {
    let detail = format!("{} {name} is being changed all the time; try again", kind.plural());
    ApiError::new(Code::RevisionConflict, detail)
}

/// Names of all kinds follow one rule.
fn check_name(name: &str) -> ApiResult<String> {
    let id = DcId::new(name).map_err(|e| ApiError::invalid(format!("name: {e}")))?;
    Ok(id.into())
}

/// A spec that can be written by `PUT`.
trait Spec: Serialize + DeserializeOwned + Clone + PartialEq {
    type Name: TryFrom<String, Error = NameError>;
    type Status: Serialize + DeserializeOwned;
    const KIND: Kind;

    /// Its mistakes, alone and beside all other records.
    fn mistakes(&self, records: &Records, name: &Self::Name) -> Vec<String>;

    /// The status of a new resource.
    fn birth(&self, restored: bool) -> Self::Status;
}

impl Spec for DataCenterSpec {
    type Name = DcId;
    type Status = Empty;
    const KIND: Kind = Kind::DataCenter;

    fn mistakes(&self, records: &Records, name: &DcId) -> Vec<String> {
        validate::data_center(records, name, self)
    }

    fn birth(&self, _restored: bool) -> Empty {
        Empty {}
    }
}

impl Spec for ApplicationSpec {
    type Name = AppId;
    type Status = Empty;
    const KIND: Kind = Kind::Application;

    fn mistakes(&self, records: &Records, name: &AppId) -> Vec<String> {
        validate::application(records, name, self)
    }

    fn birth(&self, _restored: bool) -> Empty {
        Empty {}
    }
}

impl Spec for UnitSpec {
    type Name = UnitId;
    type Status = UnitStatus;
    const KIND: Kind = Kind::Unit;

    fn mistakes(&self, records: &Records, name: &UnitId) -> Vec<String> {
        validate::unit(records, name, self)
    }

    fn birth(&self, restored: bool) -> UnitStatus {
        births::unit_status(self, restored, Timestamp::now())
    }
}

async fn write<S: Spec>(
    app: &App,
    name: &str,
    precondition: Precondition,
    body: &RawJson,
) -> ApiResult<Response> {
    let id = S::Name::try_from(name.to_owned()).map_err(|e| ApiError::invalid(format!("name: {e}")))?;
    let Intent { labels, spec } = body.parse::<Intent<S>>()?;
    check_labels(&labels)?;
    let resources = &app.shared.resources;
    for _ in 0..WRITE_TRIES {
        let old: Option<Resource<S, S::Status>> = resources.get(S::KIND, name).await?;
        precondition.check(old.as_ref().map(|old| old.revision))?;
        let records = Records::of(&resources.store().list("").await?);
        let restored = records.restored.is_some();
        let mistakes = spec.mistakes(&records, &id);
        if !mistakes.is_empty() {
            return Err(ApiError::invalid(mistakes.join("; ")));
        }
        let done = if old.is_none() { StatusCode::CREATED } else { StatusCode::OK };
        let (revision, status) = match old {
            Some(old) if old.spec == spec && old.labels == labels => return Ok(answer(StatusCode::OK, &old)),
            Some(old) => (old.revision, old.status),
            None => (Revision(0), spec.birth(restored)),
        };
        let (labels, spec) = (labels.clone(), spec.clone());
        let new = Resource { kind: S::KIND, name: name.to_owned(), labels, revision, spec, status };
        match resources.save(new).await.map_err(|e| ApiError::of_write(&e))? {
            Saved::Written(new) => return Ok(answer(done, &new)),
            Saved::Conflict(_) => {}
        }
    }
    Err(too_busy(S::KIND, name))
}

fn check_labels(labels: &BTreeMap<String, String>) -> ApiResult<()> {
    if labels.len() > LABELS_MAX {
        return Err(ApiError::invalid(format!("labels: {} labels are more than {LABELS_MAX}", labels.len())));
    }
    match labels.iter().find(|(key, value)| key.len().max(value.len()) > LABEL_LEN_MAX) {
        None => Ok(()),
        Some(_) => Err(ApiError::invalid(format!("labels: a label is longer than {LABEL_LEN_MAX} bytes"))),
    }
}

pub(super) fn answer<S: Serialize, T: Serialize>(status: StatusCode, resource: &Resource<S, T>) -> Response {
    (status, [(header::ETAG, etag(resource.revision))], axum::Json(resource)).into_response()
}
