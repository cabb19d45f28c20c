//! What the platform is tested with: a load client that writes down all it does, a checker that compares its
//! journal with the databases, drills that break things on purpose, and whole platforms of real processes.
//!
//! The checker shares no code with the bank: it reads the tables by its own queries. What clients saw of lists is checked
//! by `dujiang-history`.

pub mod cluster;
pub mod drill;
pub mod journal;
pub mod lists;
pub mod load;
pub mod losses;
pub mod platform;
pub mod processes;
pub mod request;
pub mod status;
pub mod verify;
