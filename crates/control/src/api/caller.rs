//! What an identity may do here.

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dujiang_identity::{Name, Peer, Role};
use dujiang_types::Code;

use crate::error::ApiError;

/// Everyone of the platform may read. Agents and gateways report for their own data center, agents have their data
/// center's identities certified, who shows a token may become an agent and nothing else, and everything else is for
/// operators.
pub(super) async fn authorize(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let permitted = match peer {
        Some(peer) => permits(&peer.name, request.method(), request.uri().path()),
        None => Err("the connection shows no identity".to_owned()),
    };
    match permitted {
        Ok(()) => next.run(request).await,
        Err(why) => {
            tracing::warn!(why, path = request.uri().path(), "a request is refused");
            ApiError::new(Code::Forbidden, why).into_response()
        }
    }
}

fn permits(peer: &Name, method: &Method, path: &str) -> Result<(), String> {
    if method.is_safe() && peer.role() != Role::Joiner {
        return Ok(());
    }
    let words: Vec<&str> = path.split('/').skip(1).collect();
    let (role, dc) = match words.as_slice() {
        ["v1", "agents", dc, "report"] => (Role::Agent, Some(*dc)),
        ["v1", "gateways", dc, "report"] => (Role::Gateway, Some(*dc)),
        ["v1", "identities"] => (Role::Agent, None),
        ["v1", "join"] => (Role::Joiner, None),
        _ => (Role::Operator, None),
    };
    let own = |dc: &str| peer.dc().is_some_and(|own| own.as_str() == dc);
    match dc {
        _ if peer.role() == Role::Joiner && role != Role::Joiner => Err(format!("{peer} is only to join")),
        _ if peer.role() != role => Err(format!("{peer} is not of the role {role}")),
        Some(dc) if !own(dc) => Err(format!("{peer} does not speak for {dc}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_does_its_own_and_nothing_else() {
        let all = [
            "dc/a/agent",
            "dc/b/agent",
            "dc/a/gateway",
            "dc/a/application/bank",
            "dc/a/control",
            "control",
            "dc/a/postgres",
            "operator/zhang",
            "dc/a/joiner/t-1",
        ];
        let of_platform = &all[..all.len() - 1];
        let may = |method: Method, path: &str| -> Vec<&str> {
            let name = |who: &str| format!("spiffe://p/{who}").parse::<Name>().unwrap();
            all.into_iter().filter(|who| permits(&name(who), &method, path).is_ok()).collect()
        };
        assert_eq!(may(Method::GET, "/v1/status"), of_platform);
        assert_eq!(may(Method::POST, "/v1/join"), ["dc/a/joiner/t-1"]);
        assert_eq!(may(Method::POST, "/v1/agents/a/report"), ["dc/a/agent"]);
        assert_eq!(may(Method::POST, "/v1/gateways/a/report"), ["dc/a/gateway"]);
        assert_eq!(may(Method::POST, "/v1/identities"), ["dc/a/agent", "dc/b/agent"]);
        for (method, path) in [
            (Method::PUT, "/v1/units/unit-1"),
            (Method::DELETE, "/v1/datacenters/a"),
            (Method::POST, "/v1/operations"),
            (Method::POST, "/v1/tokens"),
            (Method::DELETE, "/v1/tokens/t-1"),
            (Method::POST, "/v1/units/unit-1/force-promote"),
            (Method::POST, "/v1/agents/a/report/"),
            (Method::POST, "//v1/identities"),
        ] {
            assert_eq!(may(method, path), ["operator/zhang"], "{path}");
        }
    }
}
