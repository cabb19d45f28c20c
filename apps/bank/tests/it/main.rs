//! The bank as a whole: real processes, real PostgreSQL, a small router in the place of the gateway.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod api;
mod books;
mod durability;
mod fence;
mod mix;
mod support;
mod transit;
