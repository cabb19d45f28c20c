//! Reports of what happened, signed.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dujiang_evidence::{Digest, Envelope, Kind, Outcome, Report};
use dujiang_types::{Code, OperationId, Problem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::body::Json;
use crate::error::{ApiError, ApiResult, chain};
use crate::evidence::{self, EvidenceError};

/// Reports of drills begin so: no operation of the platform's does.
const DRILL_PREFIX: &str = "drill-";

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceLine {
    /// Its name.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// What happened.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// Who asked for it.
    pub asked_by: String,
    /// Digest of what is signed.
    pub digest: Digest,
}

/// The list of reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceList {
    /// Newest first.
    pub items: Vec<EvidenceLine>,
    /// The public key they are signed with, as PEM.
    pub key: String,
    /// Its fingerprint.
    pub fingerprint: String,
}

/// Lists reports. Their signatures are for the reader to check, with a key from elsewhere.
#[utoipa::path(get, path = "/v1/evidence", tag = "evidence",
    responses((status = 200, body = EvidenceList), (status = 503, body = Problem)))]
pub(super) async fn list(State(app): State<App>) -> ApiResult<axum::Json<EvidenceList>> {
    let suite = app.shared.signing.key.suite();
    let mut items = Vec::new();
    for (id, envelope) in evidence::all(&app.shared).await? {
        let digest = envelope.digest(suite).map_err(EvidenceError::from)?;
        let Report { kind, subject, outcome, began, asked_by, .. } =
            envelope.read().map_err(EvidenceError::from)?;
        items.push(EvidenceLine { id, kind, subject, outcome, began, asked_by, digest });
    }
    items.sort_by_key(|line| std::cmp::Reverse(line.began));
    let public = app.shared.signing.key.public();
    let key = public.to_pem().map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    Ok(axum::Json(EvidenceList { items, key, fingerprint: public.fingerprint() }))
}

/// Reads one report in its envelope.
#[utoipa::path(get, path = "/v1/evidence/{id}", tag = "evidence", params(("id" = String, Path,)),
    responses((status = 200, body = Envelope), (status = 404, body = Problem)))]
pub(super) async fn get(State(app): State<App>, Path(id): Path<String>) -> ApiResult<axum::Json<Envelope>> {
    let missing = || ApiError::new(Code::NotFound, format!("there is no report {id:?}"));
    OperationId::new(id.clone()).map_err(|_| missing())?;
    evidence::get(&app.shared, &id).await?.map(axum::Json).ok_or_else(missing)
}

/// Hands in what a drill showed. The platform adds its name, its version and the report before, and signs it: that it
/// was handed in so, by who did it.
#[utoipa::path(post, path = "/v1/evidence", tag = "evidence", request_body = Report,
    responses((status = 201, body = Envelope), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn create(State(app): State<App>, Json(report): Json<Report>) -> ApiResult<Response> {
    if report.kind != Kind::Drill || !report.id.starts_with(DRILL_PREFIX) {
        return Err(ApiError::invalid(
            "only reports of drills are handed in; all others the platform writes",
        ));
    }
    OperationId::new(report.id.clone()).map_err(|e| ApiError::invalid(format!("id: {e}")))?;
    if report.format != dujiang_evidence::FORMAT {
        return Err(ApiError::invalid(format!("format: {} is expected", dujiang_evidence::FORMAT)));
    }
    let written = Timestamp::now();
    let (_, envelope) = evidence::append(&app.shared, Report { written, ..report }).await?;
    Ok((StatusCode::CREATED, axum::Json(envelope)).into_response())
}

impl From<EvidenceError> for ApiError {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::Store(error) => Self::of_write(&error),
            EvidenceError::Exists(id) => Self::new(Code::AlreadyExists, format!("there is a report {id}")),
            EvidenceError::Busy => {
                Self::new(Code::RevisionConflict, "reports are written all the time; try again")
            }
            error => {
                tracing::error!(error = chain(&error), "evidence cannot be used");
                Self::new(Code::Internal, error.to_string())
            }
        }
    }
}
