//! The `dujiang` binary: what people type, and the entry points of the platform's own processes.

pub mod cli;
pub mod commands;
pub mod context;
pub mod failure;
pub mod manifest;
pub mod output;
