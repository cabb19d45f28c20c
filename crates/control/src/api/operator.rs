//! Who asks. Everything that must know a person's name asks here: a handler that takes an [`Operator`] is for operators
//! only, and knows which one by their certificate.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dujiang_identity::{Name, Peer, Role};
use dujiang_types::Code;

use crate::error::ApiError;

/// The name of the operator who asks, as their certificate says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operator(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<Peer>();
        let operator = peer.map(|peer| &peer.name).filter(|name| name.role() == Role::Operator);
        let name = operator.and_then(Name::within_role);
        name.map(|name| Self(name.to_owned()))
            .ok_or_else(|| ApiError::new(Code::Forbidden, "only an operator may do this"))
    }
}
