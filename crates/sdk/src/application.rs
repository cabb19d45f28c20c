//! What the SDK needs to know of an application.

use axum::Router;

use crate::failure::Failure;
use crate::message::{Message, MessageOutcome};
use crate::migrate::Migration;
use crate::transaction::Transaction;
use crate::units::Unit;

/// An application on the platform.
pub trait Application: Send + Sync + 'static {
    /// Its name: what databases and logs show.
    const NAME: &'static str;

    /// Its schema, in order.
    fn migrations(&self) -> &'static [Migration];

    /// Its routes that work on units; their handlers get a [`crate::UnitContext`].
    fn unit_routes(&self) -> Router;

    /// Its OpenAPI document, served at `/openapi.json`.
    fn openapi(&self) -> utoipa::openapi::OpenApi;

    /// Takes a message from another unit: its effect, or [`Failure::Refused`], for good. Runs once per message as
    /// far as effects are concerned.
    fn receive(
        &self,
        tx: &Transaction,
        unit: &Unit,
        message: &Message,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Takes note of what a message of this unit came to: completes or compensates. Runs once per message as far
    /// as effects are concerned; it must not refuse.
    fn settle(
        &self,
        tx: &Transaction,
        message: &Message,
        outcome: &MessageOutcome,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
