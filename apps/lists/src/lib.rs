//! Lists that transactions append to and read: an application for tests of the platform.
//!
//! Lists show what a database did in which order (crate `dujiang-history`), so this application gets the platform's
//! promise tested where the bank cannot: that transactions of a unit are serializable, in an order that agrees with
//! time, also when homes change. It does so with the means every application has, and the bank uses: it locks what it
//! touches in a fixed order, commits once for a key, and reads in one snapshot.
//!
//! Lists have an owner, which is the routing key: transactions stay within an owner's unit, like those of the bank.

mod planted;
mod transactions;

use axum::Router;
use dujiang_sdk::{Application, Code, Failure, Message, MessageOutcome, Migration, Transaction, Unit};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use planted::{Plant, Planted};
pub use transactions::{LISTS_MAX, STEPS_MAX};

const MIGRATIONS: &[Migration] =
    &[Migration { component: "lists", version: 1, sql: include_str!("sql/001_lists.sql") }];

/// The lists.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    planted: Planted,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Dujiang lists",
    description = "Lists to append to and read, for tests. Errors are problem documents (RFC 9457) with stable codes."
))]
struct Document;

impl Lists {
    /// With mistakes made on purpose, to show that they are found.
    pub fn with(plants: &[Plant]) -> Self {
        Self { planted: Planted::new(plants) }
    }

    fn api(&self) -> OpenApiRouter {
        OpenApiRouter::with_openapi(Document::openapi())
            .routes(routes!(transactions::transact))
            .routes(routes!(transactions::read))
            .layer(axum::Extension(self.planted.clone()))
    }
}

impl Application for Lists {
    const NAME: &'static str = "lists";

    fn migrations(&self) -> &'static [Migration] {
        MIGRATIONS
    }

    fn unit_routes(&self) -> Router {
        self.api().into()
    }

    fn openapi(&self) -> utoipa::openapi::OpenApi {
        self.api().into_openapi()
    }

    async fn receive(&self, _: &Transaction, _: &Unit, _: &Message) -> Result<(), Failure> {
        Err(Failure::refused(Code::NotFound, "lists take no messages"))
    }

    async fn settle(&self, _: &Transaction, _: &Message, _: &MessageOutcome) -> Result<(), Failure> {
        Err(Failure::internal("lists send no messages"))
    }
}
