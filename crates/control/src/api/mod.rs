//! The HTTP interface: every route, and what all of them share.

mod around;
mod body;
mod caller;
mod evidence;
mod forced;
mod identities;
mod operations;
mod operator;
mod platform;
mod precondition;
mod readiness;
mod reports;
mod resources;
mod routing;
mod sites;
mod steadiness;
mod store;
mod stream;
mod tokens;
mod watch;

use std::sync::Arc;

use axum::{Router, middleware};
use dujiang_types::operation::{OperationSpec, OperationStatus};
use dujiang_types::platform::{ApplicationSpec, DataCenterSpec, Empty};
use dujiang_types::unit::{UnitSpec, UnitStatus};
use dujiang_types::{Kind, Problem};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use evidence::{EvidenceLine, EvidenceList};
pub use sites::Sites;
pub(crate) use stream::Hangup;
pub use tokens::{TokenList, TokenReply, TokenRequest};

use crate::state::Shared;

/// What handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) shared: Arc<Shared>,
    /// The OpenAPI document.
    document: Arc<str>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Dujiang control plane",
        description = "Resources, operations, watches and status of a Dujiang platform. Errors are RFC 9457 problem \
            documents with stable codes."
    ),
    tags(
        (name = "platform", description = "Health, metrics, status"),
        (name = "resources", description = "What the platform knows: intent and state"),
        (name = "operations", description = "Moves and promotions"),
        (name = "evidence", description = "Signed reports of what happened"),
        (name = "agents", description = "Reports of agents, leases of primaries"),
        (name = "gateways", description = "Routing table, reports of gateways"),
        (name = "identities", description = "Certificates of a data center's processes"),
    ),
    components(schemas(resources::AnyResource, resources::AnySpec, UnitSpec, UnitStatus, OperationSpec, OperationStatus,
        DataCenterSpec, ApplicationSpec, Empty, watch::Snapshot, watch::Deleted, Kind, Problem))
)]
struct Document;

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(platform::healthz))
        .routes(routes!(platform::readyz))
        .routes(routes!(platform::metrics))
        .routes(routes!(platform::openapi))
        .routes(routes!(platform::status))
        .routes(routes!(readiness::readiness))
        .routes(routes!(readiness::examine))
        .routes(routes!(readiness::examination))
        .routes(routes!(evidence::list, evidence::create))
        .routes(routes!(evidence::get))
        .routes(routes!(resources::list))
        .routes(routes!(resources::get, resources::put, resources::delete))
        .routes(routes!(operations::create, resources::list_operations))
        .routes(routes!(forced::approve))
        .routes(routes!(steadiness::allow_failover))
        .routes(routes!(sites::drain))
        .routes(routes!(sites::undrain))
        .routes(routes!(store::backup))
        .routes(routes!(store::compact))
        .routes(routes!(watch::watch))
        .routes(routes!(routing::table))
        .routes(routes!(routing::watch))
        .routes(routes!(reports::agent))
        .routes(routes!(reports::gateway))
        .routes(routes!(identities::certify))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
        .routes(routes!(tokens::join))
}

/// Everything the control plane serves.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let (router, document) = routes().split_for_parts();
    let document =
        serde_json::to_string(&document).expect("the document has text for keys and no numbers that fail");
    let app = App { shared, document: Arc::from(document) };
    router
        .method_not_allowed_fallback(around::method_not_allowed)
        .fallback(around::not_found)
        .layer(middleware::from_fn_with_state(app.clone(), around::leader_writes))
        .layer(middleware::from_fn(around::to_the_end))
        .layer(middleware::from_fn(caller::authorize))
        .layer(middleware::from_fn(around::as_problem))
        .layer(middleware::from_fn_with_state(app.clone(), around::account))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    found.push(reference.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_is_openapi_3_1_and_complete_in_itself() {
        let document = serde_json::to_value(routes().split_for_parts().1).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        found.retain(|reference| document.pointer(reference.strip_prefix('#').unwrap()).is_none());
        assert_eq!(found, Vec::<String>::new(), "references that lead nowhere");
        for (path, item) in document["paths"].as_object().unwrap() {
            let names: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
            for (method, operation) in item.as_object().unwrap() {
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
                for name in &names {
                    let parameters = operation["parameters"].as_array().unwrap();
                    let is = |p: &&Value| p["in"] == "path" && p["name"] == **name && p["required"] == true;
                    assert_eq!(parameters.iter().filter(is).count(), 1, "{method} {path}: {name}");
                }
            }
        }
    }
}
