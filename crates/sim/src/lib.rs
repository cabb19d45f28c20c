//! A deterministic world for `dujiang-unit`: everything that happens follows from a seed.
//!
//! Three data centers with agents, guards, databases and gateways, a control plane and clients live in virtual
//! time. Network, disks, clocks and processes fail as the seed says. The decisions are taken by the very code the
//! real processes run; only the shells around it and PostgreSQL are models. After every event the invariants are
//! checked by somebody who sees everything ([`check`]).

pub mod acting;
pub mod check;
pub mod client;
pub mod control;
pub mod database;
pub mod event;
pub mod faults;
pub mod gateway;
pub mod host;
pub mod liveness;
pub mod network;
pub mod place;
pub mod postgres;
pub mod process;
pub mod replication;
pub mod run;
pub mod trace;
pub mod world;

pub use run::{Options, Outcome, Sabotage, Scenario, run, run_many};
