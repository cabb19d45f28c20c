//! Tokens by which a machine that has no identity becomes a data center's agent, and their use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dujiang_identity::{Name, Peer, Role};
use dujiang_store::{Store, Txn, TxnOutcome};
use dujiang_types::api::{Certificate, JoinRequest};
use dujiang_types::{Code, DcId, Problem, Revision};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::body::Json;
use super::identities::addresses;
use super::operator::Operator;
use crate::error::{ApiError, ApiResult};
use crate::tokens::{self, Good, JoinToken};

/// Longest time a token can be used: who needs it longer makes another one.
const TTL_S_MAX: u32 = 7 * 24 * 60 * 60;
/// Tokens whose record is kept: far more than machines join in three months.
const TOKENS_MAX: usize = 1_000;
/// Characters of a token's name, enough to tell those that are kept apart.
const ID_LEN: usize = 12;

/// Asks for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// The data center whose agent it makes.
    pub dc: DcId,
    /// Seconds it can be used for, at most seven days.
    pub ttl_s: u32,
    /// A certificate signing request in PEM with the token's key, which stays with who asks.
    pub request: String,
}

/// A token as its maker gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenReply {
    /// What is kept of it.
    pub token: JoinToken,
    /// For its key.
    pub certificate: Certificate,
}

/// Every token whose record is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// Newest first.
    pub items: Vec<JoinToken>,
}

/// Makes a token. The secret is the key it is made for, and never gets here.
#[utoipa::path(post, path = "/v1/tokens", tag = "identities", request_body = TokenRequest,
    responses((status = 201, body = TokenReply), (status = 400, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem, description = "too many")))]
pub(super) async fn create(
    State(app): State<App>,
    Operator(created_by): Operator,
    Json(asked): Json<TokenRequest>,
) -> ApiResult<Response> {
    if asked.ttl_s == 0 || asked.ttl_s > TTL_S_MAX {
        return Err(ApiError::invalid(format!("ttl_s: 1 to {TTL_S_MAX}")));
    }
    if !app.shared.records().datacenters.contains_key(&asked.dc) {
        return Err(no_data_center(&asked.dc));
    }
    let now = Timestamp::now();
    make_room(app.shared.store(), now).await?;
    let id = format!("t-{}", &Uuid::new_v4().simple().to_string()[..ID_LEN]);
    let lifetime = Duration::from_secs(asked.ttl_s.into());
    let authority = &app.shared.trust.authority;
    let named = Name::joiner(authority.platform(), &asked.dc, &id);
    let named = named.map_err(|error| ApiError::new(Code::Internal, error.to_string()))?;
    let signed = authority.sign_for(&asked.request, &named, &[], lifetime);
    let certificate = signed.map_err(|error| ApiError::invalid(format!("request: {error}")))?;
    let expires_at = now + lifetime;
    let token = JoinToken { id, dc: asked.dc, created_by, created_at: now, expires_at, used: None };
    let key = tokens::key(&token.id);
    let txn = Txn::new().check(&*key, Revision(0)).put(&*key, json(&token)?);
    commit(app.shared.store(), txn).await?;
    tracing::warn!(token = token.id, dc = %token.dc, by = token.created_by, %expires_at, "a token is made");
    let certificate = Certificate { certificate, authority: authority.certificate().to_owned() };
    Ok((StatusCode::CREATED, axum::Json(TokenReply { token, certificate })).into_response())
}

/// Lists tokens; who made them, and what became of them.
#[utoipa::path(get, path = "/v1/tokens", tag = "identities",
    responses((status = 200, body = TokenList), (status = 403, body = Problem)))]
pub(super) async fn list(State(app): State<App>, _: Operator) -> ApiResult<axum::Json<TokenList>> {
    let mut items = read_all(app.shared.store()).await?;
    items.sort_by_key(|token| std::cmp::Reverse(token.created_at));
    Ok(axum::Json(TokenList { items }))
}

/// Forgets a token: from now on it is as if it had never been made.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "identities", params(("id" = String, Path,)),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn delete(
    State(app): State<App>,
    Operator(by): Operator,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let key = tokens::key(&id);
    let missing = || ApiError::new(Code::NotFound, format!("there is no token {id:?}"));
    // A name that could be no token's is none.
    let entry = app.shared.store().get(&key).await.map_err(|error| match error {
        dujiang_store::Error::Invalid { .. } | dujiang_store::Error::TooLarge { .. } => missing(),
        error => error.into(),
    })?;
    let entry = entry.ok_or_else(missing)?;
    commit(app.shared.store(), Txn::new().check(&*key, entry.revision).delete(&*key)).await?;
    tracing::warn!(token = id, by, "a token is deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Certifies the key of whoever shows a token as that of the agent of the token's data center. Once; the same request is
/// answered again, because the first answer may have been lost.
#[utoipa::path(post, path = "/v1/join", tag = "identities", request_body = JoinRequest,
    responses((status = 200, body = Certificate), (status = 400, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn join(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(asked): Json<JoinRequest>,
) -> ApiResult<axum::Json<Certificate>> {
    let forbidden = |why: String| ApiError::new(Code::Forbidden, why);
    let shown = peer.name.within_role().filter(|_| peer.name.role() == Role::Joiner).zip(peer.name.dc());
    let (id, dc) = shown.ok_or_else(|| forbidden(format!("{} shows no token", peer.name)))?;
    let data_center = app.shared.records().datacenters.get(dc).map(|record| record.spec.clone());
    let data_center = data_center.ok_or_else(|| no_data_center(dc))?;
    let key = tokens::key(id);
    let entry = app.shared.store().get(&key).await?;
    let entry =
        entry.ok_or_else(|| forbidden(format!("there is no token {id}; it may have been deleted")))?;
    let token = read(&entry.value)?;
    let now = Timestamp::now();
    let agent = Name::in_dc(peer.name.platform(), dc, Role::Agent);
    let authority = &app.shared.trust.authority;
    let signed = authority.sign(&asked.request, &agent, &addresses(&data_center));
    let certificate = signed.map_err(|error| ApiError::invalid(format!("request: {error}")))?;
    let good = token.judge(dc, &asked.request, now).map_err(forbidden)?;
    if good == Good::Unused {
        // Two agents of one data center would both believe that its databases are theirs.
        if is_heard(&app, dc) {
            let detail =
                format!("the agent of {dc} is at work; stop it before another machine takes its place");
            return Err(ApiError::new(Code::Refused, detail));
        }
        // Written before it is answered: whoever else shows the token from now on has come too late.
        let txn = Txn::new().check(&*key, entry.revision).put(&*key, json(&token.used(&asked.request, now))?);
        commit(app.shared.store(), txn).await?;
    }
    tracing::warn!(token = id, %agent, again = good == Good::Repeated, "a machine has joined");
    Ok(axum::Json(Certificate { certificate, authority: authority.certificate().to_owned() }))
}

fn is_heard(app: &App, dc: &DcId) -> bool {
    let fresh = Duration::from_millis(app.shared.timing.fresh_ms);
    let observed = app.shared.observed();
    observed.agents.get(dc).is_some_and(|seen| Instant::now().saturating_duration_since(seen.at) < fresh)
}

/// Forgets those nobody asks about any more.
async fn make_room(store: &Arc<dyn Store>, now: Timestamp) -> ApiResult<()> {
    let all = read_all(store).await?;
    let (forgotten, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|token| token.is_forgotten(now));
    for token in forgotten {
        commit(store, Txn::new().delete(tokens::key(&token.id))).await?;
    }
    if kept.len() < TOKENS_MAX {
        return Ok(());
    }
    let detail = format!("there are {TOKENS_MAX} tokens already; delete those that are not needed any more");
    Err(ApiError::new(Code::Refused, detail))
}

async fn read_all(store: &Arc<dyn Store>) -> ApiResult<Vec<JoinToken>> {
    let listing = store.list(tokens::PREFIX).await?;
    listing.entries.iter().map(|entry| read(&entry.value)).collect()
}

fn read(value: &[u8]) -> ApiResult<JoinToken> {
    serde_json::from_slice(value)
        .map_err(|error| ApiError::new(Code::Internal, format!("a token's record: {error}")))
}

fn json(token: &JoinToken) -> ApiResult<Vec<u8>> {
    serde_json::to_vec(token).map_err(|error| ApiError::new(Code::Internal, error.to_string()))
}

async fn commit(store: &Arc<dyn Store>, txn: Txn) -> ApiResult<()> {
    match store.transact(txn).await.map_err(|error| ApiError::of_write(&error))? {
        TxnOutcome::Committed(_) => Ok(()),
        TxnOutcome::Conflict { .. } => {
            Err(ApiError::new(Code::RevisionConflict, "somebody else was faster with the same token"))
        }
    }
}

fn no_data_center(dc: &DcId) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no data center {dc}"))
}
