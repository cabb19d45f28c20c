//! The drivers against real processes and a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod faults;
mod guard;
mod identity;
mod killed;
mod memory;
mod meter;
mod outlive;
mod pitfalls;
mod prepared;
mod process;
mod rejoin;
mod replica;
mod stand_in;
mod timelines;
mod trial;
mod world;
