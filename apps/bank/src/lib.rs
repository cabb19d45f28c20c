//! Core banking on the platform: customers, accounts, deposits, transfers within and across units, reversals.
//!
//! Double entry: every posting has two or more entries that sum to zero per currency. A transfer across units goes
//! through the account `in_transit` of either unit, so that the sum over all units is zero at every moment.

mod accounts;
mod customers;
mod input;
mod ledger;
mod postings;
mod transfers;

use axum::Router;
use dujiang_sdk::{Application, Failure, Message, MessageOutcome, Migration, Transaction, Unit};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use input::{AMOUNT_MINOR_MAX, BALANCE_MINOR_MAX};
pub use ledger::{CASH, IN_TRANSIT, PostingKind, PostingState};

const MIGRATIONS: &[Migration] = &[
    Migration { component: "bank", version: 1, sql: include_str!("sql/001_ledger.sql") },
    Migration { component: "bank", version: 2, sql: include_str!("sql/002_numbering.sql") },
    Migration { component: "bank", version: 3, sql: include_str!("sql/003_transfers.sql") },
];

/// The bank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bank;

#[derive(OpenApi)]
#[openapi(info(
    title = "Dujiang bank",
    description = "Core banking: customers, accounts, postings. Errors are problem documents (RFC 9457) with stable codes."
))]
struct Document;

impl Bank {
    fn api() -> OpenApiRouter {
        OpenApiRouter::with_openapi(Document::openapi())
            .routes(routes!(customers::put_customer, customers::get_customer))
            .routes(routes!(accounts::open_account))
            .routes(routes!(accounts::get_account))
            .routes(routes!(accounts::list_entries))
            .routes(routes!(transfers::deposit))
            .routes(routes!(transfers::transfer))
            .routes(routes!(postings::get_posting))
            .routes(routes!(postings::reverse))
    }
}

impl Application for Bank {
    const NAME: &'static str = "bank";

    fn migrations(&self) -> &'static [Migration] {
        MIGRATIONS
    }

    fn unit_routes(&self) -> Router {
        Self::api().into()
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        Self::api().into_openapi()
    }

    async fn receive(&self, tx: &Transaction, unit: &Unit, message: &Message) -> Result<(), Failure> {
        transfers::receive(tx, unit, message).await
    }

    async fn settle(
        &self,
        tx: &Transaction,
        message: &Message,
        outcome: &MessageOutcome,
    ) -> Result<(), Failure> {
        transfers::settle(tx, message, outcome).await
    }
}
