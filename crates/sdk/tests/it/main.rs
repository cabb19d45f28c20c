//! The SDK under an application that does what applications should not: write before it refuses, swallow errors,
//! panic. Against real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod identity;
mod server;
mod shop;
mod transactions;
