//! What an application links to live on the platform.
//!
//! * [`Server`] serves an [`Application`]: its routes, health, metrics, OpenAPI document, messages.
//! * [`UnitContext`] is the unit and epoch a request was routed under. Its transactions enter through the fence in
//!   the unit's database, so that work meant for an older epoch is refused by the database itself.
//! * [`Write`] and [`UnitContext::once`] make a write take effect once however often it is sent.
//! * [`Transaction::send`] writes a message to another unit; the relay sends it until its outcome is known.
//!
//! Every answer says what is certain: done, refused for good, nothing done (safe to send again), or not known.

mod application;
mod background;
mod body;
mod context;
mod failure;
mod idempotency;
mod message;
mod metrics;
mod migrate;
mod pool;
mod problem;
mod relay;
mod secret;
mod server;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod units;

pub use application::Application;
pub use body::BODY_BYTES_MAX;
pub use context::UnitContext;
pub use dujiang_types::{Code, Problem};
pub use failure::Failure;
pub use idempotency::{KEY_LEN_MAX, Outcome, Reply, RequestKey, Write};
pub use message::{HEADER_SIGNATURE, Message, MessageOutcome};
pub use migrate::Migration;
pub use pool::SESSIONS_MAX;
pub use problem::Rejection;
pub use secret::Secret;
pub use server::{Options, Server, StartError};
pub use session::Call;
pub use transaction::{Transaction, Work};
pub use units::{Unit, UnitEntry, Units, UnitsError, UnitsFile};
