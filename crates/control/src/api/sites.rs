//! Leading customers away from a site, and back.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use dujiang_store::{Txn, TxnOutcome};
use dujiang_types::{Code, DcId, Problem, Revision};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::operator::Operator;
use crate::drain::{self, Drained};
use crate::error::{ApiError, ApiResult};
use crate::records::Records;

/// How often a mark is tried again that somebody else was faster with.
const TRIES_MAX: usize = 3;

/// What has become of the sites.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Sites {
    /// Every gateway whose table is at least of this version leads customers so.
    pub revision: Revision,
    /// Drained sites.
    pub drained: BTreeMap<DcId, Drained>,
    /// For how many seconds resolvers may still give an earlier answer; 0 if the sites answer for no names.
    pub ttl_s: u16,
}

/// Leads nobody new to a site; who is connected is served to the end.
#[utoipa::path(post, path = "/v1/sites/{name}/drain", tag = "gateways", params(("name" = String, Path,)),
    responses((status = 200, body = Sites), (status = 400, body = Problem), (status = 404, body = Problem),
    (status = 409, body = Problem, description = "it is the last one")))]
pub(super) async fn drain(
    State(app): State<App>,
    Operator(asked_by): Operator,
    Path(name): Path<String>,
) -> ApiResult<axum::Json<Sites>> {
    change(&app, &name, Some(Drained { asked_by, at: Timestamp::now() })).await
}

/// Leads customers to a site again.
#[utoipa::path(post, path = "/v1/sites/{name}/undrain", tag = "gateways", params(("name" = String, Path,)),
    responses((status = 200, body = Sites), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn undrain(
    State(app): State<App>,
    Operator(asked_by): Operator,
    Path(name): Path<String>,
) -> ApiResult<axum::Json<Sites>> {
    tracing::info!(asked_by, site = name, "customers are to be led there again");
    change(&app, &name, None).await
}

async fn change(app: &App, name: &str, mark: Option<Drained>) -> ApiResult<axum::Json<Sites>> {
    let dc = DcId::new(name).map_err(|_| no_site(name))?;
    // Two that drain the last two sites at once are not both let.
    let _admission = app.shared.admission.lock().await;
    let store = app.shared.store();
    for _ in 0..TRIES_MAX {
        let mut records = Records::of(&store.list("").await?);
        if !records.datacenters.contains_key(&dc) {
            return Err(no_site(name));
        }
        let others = records.datacenters.keys().filter(|other| **other != dc);
        if mark.is_some() && others.clone().all(|other| records.drained.contains_key(other)) {
            return Err(ApiError::new(Code::Refused, format!("{dc} is the last site customers are led to")));
        }
        let key = drain::key(&dc);
        let stored = store.get(&key).await?;
        let txn = Txn::new().check(&*key, stored.as_ref().map_or(Revision(0), |entry| entry.revision));
        let txn = match &mark {
            // Who asked first stays written.
            Some(_) if stored.is_some() => return Ok(axum::Json(sites(&records, records.revision))),
            Some(mark) => {
                let json =
                    serde_json::to_vec(mark).map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
                records.drained.insert(dc.clone(), mark.clone());
                txn.put(&*key, json)
            }
            None if stored.is_none() => return Ok(axum::Json(sites(&records, records.revision))),
            None => {
                records.drained.remove(&dc);
                txn.delete(&*key)
            }
        };
        if let TxnOutcome::Committed(revision) =
            store.transact(txn).await.map_err(|e| ApiError::of_write(&e))?
        {
            tracing::warn!(%dc, drained = mark.is_some(), "customers are led elsewhere");
            return Ok(axum::Json(sites(&records, revision)));
        }
    }
    Err(ApiError::new(Code::RevisionConflict, "somebody else changes the same site; try again"))
}

fn sites(records: &Records, revision: Revision) -> Sites {
    let mut specs = records.applications.values().filter_map(|application| application.spec.dns.as_ref());
    Sites { revision, drained: records.drained.clone(), ttl_s: specs.next().map_or(0, |spec| spec.ttl_s) }
}

fn no_site(name: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no data center {name:?}"))
}
