//! The host agent: carries out what is assigned to its data center through drivers and reports what it observes.
//!
//! * [`guard`]: the process that holds a primary's lease.
//! * [`process`]: starts, adopts, watches and stops processes.
//! * [`postgres`]: one replica of a unit, from nothing to primary and back.
//! * [`join()`]: how a machine becomes one.
//! * [`run`]: the agent itself.

pub mod clock;
pub mod files;
pub mod guard;
mod host;
mod join;
pub mod postgres;
pub mod proc;
pub mod process;
pub mod secret;

pub use host::{AgentError, ETCD, IdentityFolder, Options, peer_url, run, witness};
pub use join::{JoinError, identity_file, join};
