//! The guard: the process between an agent and one PostgreSQL that holds the lease.
//!
//! An agent can be killed, frozen or slow; a primary must not outlive its lease for it. So the deadline is kept
//! by a process that does nothing else, and that is itself tied to PostgreSQL by the kernel:
//!
//! | what happens | what stops the primary |
//! |---|---|
//! | the agent is dead or frozen, or cannot renew | the guard, when the deadline passes |
//! | the guard is killed | the kernel: parent-death signal `SIGQUIT` to the postmaster |
//! | the guard is frozen | the agent, when the guard does not answer (see [`client`]) |
//!
//! A lease that has lapsed never comes back: the run is over, an election follows. The guard ends only when no
//! process of its PostgreSQL is left, so "the guard has ended by itself" means "nothing can commit here".

mod child;
pub mod client;
mod serve;

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use child::exec;
pub use serve::run;

/// From `SIGQUIT` to `SIGKILL`: PostgreSQL needs a few milliseconds for an immediate shutdown; one that takes
/// longer hangs in a disk or is frozen.
pub const KILL_AFTER_MS: u64 = 300;
/// Longest lease accepted: a deadline further away is a mistake, and would not protect anybody.
pub const LEASE_MS_MAX: u64 = 60_000;
/// Longest line of the protocol; commands have less than a hundred bytes.
const LINE_BYTES_MAX: usize = 1024;

/// What to guard: written by the agent to a file whose path is the guard's only argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Names this run: part of the socket's name and of the exit record.
    pub token: String,
    /// The `postgres` program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Whom to run it as; `None` runs it as the guard's own user.
    pub user: Option<UserIds>,
    /// Locked while a guard lives: there is never a second one for the same replica.
    pub lock: PathBuf,
    /// Where the [`Exit`] is written when nothing runs any more.
    pub exit: PathBuf,
}

impl Spec {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, GuardError> {
        let wrong = |source| GuardError::Spec { path: path.to_owned(), source };
        crate::files::read_json(path)
            .map_err(wrong)?
            .ok_or_else(|| wrong(io::Error::from(io::ErrorKind::NotFound)))
    }
}

/// Where a guard listens: a name in the kernel's abstract namespace, so nothing is left behind by a kill.
pub fn address(token: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("dujiang-guard-{token}"))
}

/// Numeric ids of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// A command to the guard: one JSON object a line. Each is answered with a line holding a [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Extend (or begin) the lease.
    Lease(Until),
    /// Stop PostgreSQL.
    Stop(Mode),
    /// Say how it stands.
    Status(Nothing),
}

/// When a lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// On `CLOCK_BOOTTIME`, in milliseconds.
    pub until_ms: u64,
}

/// An empty object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// How to stop PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In order: sessions are ended, a shutdown checkpoint is written and sent to the standbys (`SIGINT`).
    Fast,
    /// At once, leaving recovery to the next start (`SIGQUIT`, `SIGKILL` after [`KILL_AFTER_MS`]).
    Immediate,
    /// `SIGKILL` to every process.
    Kill,
}

/// How a guard and its PostgreSQL stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Process id of the postmaster.
    pub postmaster: i32,
    /// True while any process of PostgreSQL is left.
    pub running: bool,
    /// The lease.
    pub lease: Lease,
    /// Why the command was not carried out, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The state of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Lease {
    /// None was given yet: a replica needs none.
    None,
    /// In force.
    Held {
        /// Milliseconds left.
        left_ms: u64,
    },
    /// Passed unextended. For good.
    Lapsed,
}

/// Written when the guard ends: nothing of this run's PostgreSQL is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Which run.
    pub token: String,
    /// Exit status of the postmaster, if it exited.
    pub status: Option<i32>,
    /// Signal that ended the postmaster, if one did.
    pub signal: Option<i32>,
    /// True if the lease had passed.
    pub lapsed: bool,
}

/// Why a guard cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The file given as argument is missing or not a [`Spec`].
    #[error("{} cannot be read as a guard's specification", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another guard lives for the same replica.
    #[error("another guard holds {}", .0.display())]
    Locked(PathBuf),
    /// The parent is gone already: nobody would stop PostgreSQL.
    #[error("the guard ended before PostgreSQL was started")]
    Orphaned,
    /// The system refused something.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Shorthand for [`GuardError::System`].
fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> GuardError {
    move |source| GuardError::System { what, source: source.into() }
}
