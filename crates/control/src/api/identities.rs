//! Certificates for the processes of a data center, at its agent's request.

use std::net::IpAddr;

use axum::extract::{Extension, State};
use dujiang_identity::{Name, Peer, Role};
use dujiang_types::api::{Certificate, CertificatesReply, CertificatesRequest};
use dujiang_types::platform::DataCenterSpec;
use dujiang_types::{AppId, Code, DcId, Problem};

use super::App;
use super::body::Json;
use crate::error::{ApiError, ApiResult};

/// Identities asked for at once: an agent, a gateway, the databases, a member of the store, and applications.
const REQUESTS_MAX: usize = 64;

/// Certifies identities of the agent's own data center.
#[utoipa::path(post, path = "/v1/identities", tag = "identities", request_body = CertificatesRequest,
    responses((status = 200, body = CertificatesReply), (status = 400, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn certify(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(asked): Json<CertificatesRequest>,
) -> ApiResult<axum::Json<CertificatesReply>> {
    if asked.requests.len() > REQUESTS_MAX {
        return Err(ApiError::invalid(format!("requests: at most {REQUESTS_MAX}")));
    }
    let dc = peer.name.dc().ok_or_else(|| ApiError::new(Code::Forbidden, "of no data center"))?;
    let mut certificates = Vec::new();
    for (number, request) in asked.requests.iter().enumerate() {
        let name: Name = request.name.parse().map_err(|error| ApiError::invalid(format!("{error}")))?;
        let addresses = judge(&app, &peer, dc, &name)?;
        let trust = &app.shared.trust;
        let store = name.role() == Role::Store;
        let authority = if store { &trust.store_authority } else { &trust.authority };
        let signed = authority.sign(&request.request, &name, &addresses);
        let certificate =
            signed.map_err(|error| ApiError::invalid(format!("requests[{number}].request: {error}")))?;
        tracing::info!(%name, by = %peer.name, "an identity is certified");
        certificates.push(Certificate { certificate, authority: authority.certificate().to_owned() });
    }
    Ok(axum::Json(CertificatesReply { certificates }))
}

/// The addresses the identity may be reached at, if the agent may have it certified at all.
fn judge(app: &App, peer: &Peer, dc: &DcId, name: &Name) -> ApiResult<Vec<IpAddr>> {
    let refuse = |why: &str| Err(ApiError::new(Code::Forbidden, format!("{name}: {why}")));
    if name.platform() != peer.name.platform() || name.dc() != Some(dc) {
        return refuse(&format!("{} has only its own data center's certified", peer.name));
    }
    let records = app.shared.records();
    let Some(record) = records.datacenters.get(dc) else {
        return Err(ApiError::new(Code::NotFound, format!("there is no data center {dc}")));
    };
    match name.role() {
        Role::Agent | Role::Gateway | Role::Postgres | Role::Store => {}
        Role::Application => {
            let application = name.within_role().and_then(|name| AppId::new(name).ok());
            let application = application.and_then(|name| records.applications.get(&name));
            if !application.is_some_and(|application| application.spec.data_centers.contains(dc)) {
                return refuse("the application does not run here");
            }
        }
        Role::Control | Role::Operator | Role::Joiner => {
            return refuse("only the platform's authority itself makes these");
        }
    }
    Ok(addresses(&record.spec))
}

/// Everything of a data center listens on one of these.
pub(super) fn addresses(dc: &DataCenterSpec) -> Vec<IpAddr> {
    vec![dc.main_host(), dc.network.host(DataCenterSpec::HOST_APPS)]
}
