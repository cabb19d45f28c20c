//! One unit's replica in this data center: PostgreSQL, from nothing to primary and back.
//!
//! [`Replica`] carries out what the pure machine (`dujiang_unit::agent`) decides; each method is one of its
//! actions, can be interrupted anywhere and repeated. What must outlive the agent is in [`State`].
//!
//! * `make`: initialise, clone, rewind; * `run`: start under a guard, stop; * `standby`: follow, detach;
//! * `primary`: promote, sync set, admission, seal; * `observe`: what is; * `identity`: who it shows to be;
//! * `trial`: whether a copy of it could be promoted now; * `short`: log that hides other log;
//! * `memory`: what a killed one leaves behind.

mod conf;
mod error;
mod identity;
mod losses;
mod make;
pub mod memory;
mod meter;
mod observe;
mod primary;
mod programs;
mod run;
mod short;
mod sql;
mod standby;
mod state;
mod target;
pub mod trial;
pub mod wal;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dujiang_database::Tls;
use dujiang_identity::{Identity, Stamp};
use dujiang_types::{AppId, DcId, Epoch, Position, UnitId};

pub use error::PostgresError;
pub use programs::Programs;
pub use standby::Fit;
pub use state::{State, Upstream};

use crate::secret::Secret;
use conf::Files;
use run::Run;
use sql::Session;
use state::Durable;

/// The agent's own role, a superuser.
pub const ROLE_AGENT: &str = dujiang_identity::AGENT_DATABASE_ROLE;
/// The role replicas copy and receive with.
pub const ROLE_REPLICATION: &str = dujiang_identity::REPLICATION_DATABASE_ROLE;

/// Has the postmaster read its configuration again.
const RELOAD: &str = "SELECT pg_reload_conf()";

/// What is given about a replica and does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The unit.
    pub unit: UnitId,
    /// This data center.
    pub dc: DcId,
    /// The application; its database and role have the same name.
    pub application: AppId,
    /// Where this replica listens.
    pub address: SocketAddr,
    /// Who can reach it.
    pub reach: Reach,
    /// The replica's folder (`dc/DC/units/UNIT`).
    pub dir: PathBuf,
    /// Folder of process records (`dc/DC/run`).
    pub run: PathBuf,
    /// Folder of logs (`dc/DC/log`).
    pub log: PathBuf,
    /// The agent's own identity.
    pub identity: Identity,
    /// File of the identity of this data center's databases.
    pub database_identity: PathBuf,
    /// From which passwords are derived.
    pub secret: Secret,
    /// PostgreSQL.
    pub programs: Programs,
    /// A program with the stages `guard` and `exec-postgres`: the `dujiang` binary.
    pub guard: PathBuf,
    /// Added to the environment of everything that is started.
    pub env: BTreeMap<String, String>,
    /// Sizes.
    pub tuning: Tuning,
}

/// Who can reach a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Whoever shows an identity and a password, at its address.
    Network,
    /// This agent alone: it has no address, but a socket in its data directory, which is PostgreSQL's user's alone.
    Socket,
}

/// Sizes of a PostgreSQL server, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Page cache of its own. Small: many replicas share a machine, and the kernel caches too.
    pub shared_buffers_mb: u32,
    /// Log kept for replicas that have no slot yet, such as those of the primary before.
    pub wal_keep_mb: u32,
    /// Most log a slot may hold back.
    pub slot_keep_mb: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { shared_buffers_mb: 64, wal_keep_mb: 128, slot_keep_mb: 1024 }
    }
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    settings: Settings,
    files: Files,
    /// To connect to this database.
    tls: Tls,
    /// The identity PostgreSQL has taken in.
    shown: Mutex<Option<Stamp>>,
    durable: Arc<Durable>,
    /// Whose turn it is to work on the replica's folder.
    disk: Arc<tokio::sync::Mutex<()>>,
    run: Mutex<Option<Run>>,
    /// The shutdown checkpoint of what is stopped; read once for each stop.
    sealed: Mutex<Sealed>,
    /// For observing and acting.
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// For the real-write probe, which may hang in the disk.
    probe: tokio::sync::Mutex<Option<Session>>,
    /// For counting, which may wait for a lock.
    counter: tokio::sync::Mutex<Option<meter::Counter>>,
}

impl Replica {
    /// Opens the replica's folder: reads its state, adopts what runs, ends what runs unguarded, and removes what
    /// was half made.
    pub async fn open(settings: Settings) -> Result<Self, PostgresError> {
        std::fs::create_dir_all(&settings.dir).map_err(error::file("create", &settings.dir))?;
        settings.programs.check_reachable(&settings.dir.join("pgdata"))?;
        let durable = Durable::read(settings.dir.join(state::FILE))?;
        let replica = Self {
            files: Files::new(&settings.dir),
            tls: Tls::new(&settings.identity, &settings.dc).map_err(PostgresError::Identity)?,
            shown: Mutex::new(None),
            settings,
            durable: Arc::new(durable),
            disk: Arc::default(),
            run: Mutex::new(None),
            sealed: Mutex::new(Sealed::Unread),
            session: tokio::sync::Mutex::new(None),
            probe: tokio::sync::Mutex::new(None),
            counter: tokio::sync::Mutex::new(None),
        };
        replica.end_stray_tools()?;
        replica.adopt().await?;
        Ok(replica)
    }

    /// What was given.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The durable state.
    pub fn state(&self) -> State {
        self.durable.get()
    }

    /// Remembers durably that a record of that epoch was acted on. Never lowered.
    pub async fn see_epoch(&self, epoch: Epoch) -> Result<(), PostgresError> {
        self.change(move |state| state.epoch_seen = state.epoch_seen.max(epoch)).await
    }

    async fn change(&self, change: impl FnOnce(&mut State) + Send + 'static) -> Result<(), PostgresError> {
        self.on_disk(move |durable| durable.change(change)).await
    }

    /// Does what waits for the disk, on a thread made for that: a disk that hangs must not hold up other replicas.
    /// One at a time and to its end, also if the action it is for is called off meanwhile: what comes next begins
    /// after it.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Durable) -> Result<T, PostgresError> + Send + 'static,
    ) -> Result<T, PostgresError> {
        let turn = self.disk.clone().lock_owned().await;
        let durable = self.durable.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&durable)
        });
        // It only fails if the work panicked, or while the runtime shuts down.
        let done = done.await;
        done.unwrap_or_else(|error| {
            Err(PostgresError::State(format!("work on the disk was not done: {error}")))
        })
    }

    fn pgdata(&self) -> PathBuf {
        self.settings.dir.join("pgdata")
    }

    fn pg_wal(&self) -> PathBuf {
        self.pgdata().join("pg_wal")
    }

    /// A connection as superuser to the application's database, shared by all who need one briefly.
    async fn session(&self) -> Result<Arc<Session>, PostgresError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = Arc::new(self.new_session().await?);
        *slot = Some(session.clone());
        Ok(session)
    }

    /// A connection of one's own, for statements that take long and to see what new sessions see.
    async fn new_session(&self) -> Result<Session, PostgresError> {
        let password = self.settings.secret.password(&self.settings.unit, ROLE_AGENT);
        let database = self.settings.application.as_str();
        let address = self.settings.address;
        match self.settings.reach {
            Reach::Network => Session::connect(&self.tls, address, ROLE_AGENT, &password, database).await,
            Reach::Socket => {
                Session::over_socket(&self.pgdata(), address.port(), ROLE_AGENT, &password, database).await
            }
        }
    }

    /// Drops the shared connections: the server they led to is gone or does not answer.
    async fn forget_sessions(&self) {
        *self.session.lock().await = None;
        *self.probe.lock().await = None;
        if let Ok(mut counter) = self.counter.try_lock() {
            *counter = None;
        }
    }

    /// Has a changed configuration taken in; returns before it is.
    async fn reload(&self, session: &Session) -> Result<(), PostgresError> {
        self.files.write(&self.settings, &self.state())?;
        session.row("reload the configuration", RELOAD).await.map(drop)
    }
}

/// What the control file says about the last stop.
#[derive(Debug, Clone, Copy)]
enum Sealed {
    /// Not looked at since.
    Unread,
    /// The shutdown checkpoint, if the stop was a primary's and in order.
    Read(Option<Position>),
}

/// A poisoned lock only means that a thread panicked elsewhere; the value is replaced as a whole, never half.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates an empty file, or empties it.
fn write_empty(path: &Path) -> Result<(), PostgresError> {
    std::fs::write(path, b"").map_err(error::file("write", path))
}
