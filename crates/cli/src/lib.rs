//! The `dujiang` binary: what people type, and the entry points of the platform's own processes.

pub mod asked_by;
pub mod cli;
pub mod client;
pub mod commands;
pub mod context;
pub mod evidence_key;
pub mod exposure;
pub mod failure;
pub mod figures;
pub mod logging;
pub mod manifest;
pub mod output;
pub mod platform;
pub mod progress;
pub mod store;
pub mod supervisor;
pub mod table;
pub mod token;
pub mod view;
