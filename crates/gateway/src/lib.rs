//! The access layer: takes clients' requests, finds the unit each belongs to, and forwards it to the unit's home.
//!
//! ```text
//! client ─► worker thread: hyper ─► hygiene ─► routing table ─┬─► instance here
//!                                                             ├─► gateway of the home (mesh), at most once
//!                                                             └─► hold, until the table changes
//! ```
//!
//! * [`Gateway`] is a set of worker threads, each with its own listeners (`SO_REUSEPORT`), runtime, connection
//!   pools, counters and view of the routing table. They share nothing that a request touches.
//! * One thread beside them keeps the link to control: it watches the routing table and reports. Traffic never
//!   waits for it, and goes on when control is gone.
//! * A request is repeated only if that is safe: no byte was sent, the answer says that nothing was done, or it
//!   reads or carries an `Idempotency-Key`. Otherwise the client is told that the outcome is unknown.
//! * Everything is bounded: `limits` names every bound and why it is what it is.

mod access_log;
mod admin;
mod answer;
mod answers;
mod body;
mod cache;
mod chunked;
mod client;
mod cores;
mod dns;
mod error;
mod forward;
mod gateway;
mod health;
mod hold;
mod hygiene;
pub mod limits;
mod link;
mod listen;
mod metrics;
mod options;
mod problem;
mod proxy;
mod shard;
mod sse;
mod threads;
mod turn;
mod upstream;
mod worker;

pub use error::Error;
pub use gateway::{Addresses, Gateway, run};
pub use options::{AccessLog, Limits, Options};
