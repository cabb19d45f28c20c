//! The agent of a data center: follows the records, keeps gateway and applications running, drives each unit's
//! replica, reports.

mod act;
mod examine;
mod handle;
mod identities;
mod instances;
mod known;
mod listen;
mod machine;
mod member;
mod memory;
mod metrics;
mod report;
mod server;
mod servers;
mod sse;
mod task;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dujiang_identity::{Expect, Identity, Name, Role, http_client};
use dujiang_types::platform::DataCenterSpec;
use dujiang_types::report::InstanceReport;
use dujiang_types::unit::Unit;
use dujiang_types::{DcId, UnitId};
use dujiang_unit::Timing;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::postgres::{PostgresError, Programs, Reach, Settings, Tuning};
use crate::process::Spec;
use crate::secret::Secret;
use examine::Examiner;
use handle::Handle;
use identities::Identities;
pub use identities::IdentityFolder;
use instances::Instances;
use known::Known;
use member::Member;
pub use member::{ETCD, peer_url};
use metrics::Metrics;
use report::Reporter;
pub(crate) use report::describe;
use servers::Server;

/// Two reports are at least so far apart: news often come in twos and threes.
const REPORT_APART: Duration = Duration::from_millis(10);
/// How long making a connection may take. Within a region less than ten milliseconds; but it takes two round trips, and
/// the kernel sends a first packet that was lost again after a second.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long all replicas together may take to stop when the data center is shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its data center.
    pub dc: DcId,
    /// Base URLs of the control servers, e.g. `https://127.0.1.1:7000`, the nearest first: all are reported to, and one
    /// after the other is watched.
    pub control: Vec<String>,
    /// Main hosts of all data centers if each has a member of the control plane, which then is the agent's to run;
    /// empty if the control plane is none of its business.
    pub members: BTreeMap<DcId, IpAddr>,
    /// The platform's folder.
    pub data: PathBuf,
    /// Its identity, renewed in its file.
    pub identity: Identity,
    /// The `dujiang` program: runs gateway and guards.
    pub program: PathBuf,
}

impl Options {
    /// With the running program as `dujiang`.
    pub fn new(dc: DcId, control: Vec<String>, data: PathBuf, identity: Identity) -> io::Result<Self> {
        Ok(Self { dc, control, members: BTreeMap::new(), data, identity, program: std::env::current_exe()? })
    }

    /// Where an identity of this data center is kept.
    fn identity_file(&self, name: &Name) -> PathBuf {
        IdentityFolder::of(&self.data, &self.dc).file(name)
    }

    /// What every process below the agent carries, by which drills find all of a data center.
    fn env(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("DUJIANG_DATA".to_owned(), self.data.display().to_string()),
            ("DUJIANG_DC".to_owned(), self.dc.to_string()),
        ])
    }
}

/// Why an agent cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The platform's secret cannot be read.
    #[error("cannot read the platform's secret {}", path.display())]
    Secret {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The data center's folder cannot be made.
    #[error("cannot create {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no PostgreSQL to run.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The agent's identity cannot be used.
    #[error("the identity cannot be used")]
    Identity(#[from] dujiang_identity::Error),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The data center's folder.
#[derive(Debug, Clone)]
struct Folder {
    dc: PathBuf,
}

impl Folder {
    fn make(data: &Path, dc: &DcId) -> Result<Self, AgentError> {
        let folder = Self { dc: data.join("dc").join(dc.as_str()) };
        for path in [folder.run(), folder.log(), folder.dc.join("units"), folder.dc.join("gateway")] {
            std::fs::create_dir_all(&path).map_err(|source| AgentError::Folder { path, source })?;
        }
        Ok(folder)
    }

    fn run(&self) -> PathBuf {
        self.dc.join("run")
    }

    fn log(&self) -> PathBuf {
        self.dc.join("log")
    }

    fn memory_file(&self) -> PathBuf {
        self.dc.join("known.json")
    }

    fn units_file(&self) -> PathBuf {
        self.dc.join("units.json")
    }

    /// A process of this data center, with its log and record where everybody looks for them.
    fn process(
        &self,
        options: &Options,
        name: &str,
        program: PathBuf,
        args: Vec<String>,
        ready: String,
    ) -> Spec {
        Spec {
            name: name.to_owned(),
            program,
            args,
            env: options.env(),
            dir: self.dc.clone(),
            log: self.log().join(format!("{name}.log")),
            record: self.run().join(format!("{name}.json")),
            ready: Some(ready),
        }
    }
}

/// What the agent's parts share.
#[derive(Debug)]
struct Shared {
    options: Options,
    servers: Vec<Arc<Server>>,
    /// For control servers.
    client: reqwest::Client,
    /// For other agents.
    promises: reqwest::Client,
    metrics: Metrics,
    handles: Mutex<BTreeMap<UnitId, Arc<Handle>>>,
    instances: Mutex<BTreeMap<String, InstanceReport>>,
    /// Of what runs here, for the evidence.
    versions: BTreeMap<String, String>,
    examiner: Examiner,
}

impl Shared {
    fn handles(&self) -> BTreeMap<UnitId, Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn instances(&self) -> BTreeMap<String, InstanceReport> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, instances: BTreeMap<String, InstanceReport>) {
        *self.instances.lock().unwrap_or_else(PoisonError::into_inner) = instances;
    }
}

/// Versions of what runs in this data center.
async fn versions(programs: &Programs) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("dujiang".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    match programs.version().await {
        Ok(version) => drop(versions.insert("postgresql".to_owned(), version)),
        Err(error) => tracing::warn!(error = error.chain(), "PostgreSQL does not tell its version"),
    }
    versions
}

/// Runs the agent until `shutdown`, then stops everything of the data center in order.
///
/// An agent that is killed instead leaves databases, gateway and applications running; the next one adopts them.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let path = options.data.join("secret");
    let secret = Secret::read(&path).map_err(|source| AgentError::Secret { path, source })?;
    let folder = Folder::make(&options.data, &options.dc)?;
    let programs = Programs::find()?;
    let to = |expect| -> Result<_, AgentError> {
        let client = http_client(&options.identity, expect)?;
        client.connect_timeout(CONNECT_TIMEOUT).build().map_err(AgentError::Client)
    };
    let own = to(Expect::roles(&[Role::Gateway, Role::Application]).within(&options.dc))?;
    let promises = to(Expect::roles(&[Role::Agent]))?;
    let client = to(Expect::roles(&[Role::Control]))?;
    let (sender, known) = watch::channel(memory::recall(&folder.memory_file()));
    let member = Member::start(&options, &options.members, &folder, &client);
    let servers = Server::all(&options.control);
    let watching = tokio::spawn(known::follow(servers.clone(), client.clone(), sender));
    let remembering = tokio::spawn(memory::keep(folder.memory_file(), options.dc.clone(), known.clone()));
    let (renewed, renewals) = watch::channel(0);
    let identities = Identities {
        folder: IdentityFolder::of(&options.data, &options.dc),
        dc: options.dc.clone(),
        platform: options.identity.name().platform().clone(),
        member: options.members.contains_key(&options.dc),
        servers: servers.clone(),
        client: client.clone(),
    };
    let keeping = tokio::spawn(identities.keep(known.clone(), renewed));
    let shared = Arc::new(Shared {
        options: options.clone(),
        servers,
        client,
        promises,
        metrics: Metrics::new(),
        handles: Mutex::default(),
        instances: Mutex::default(),
        versions: versions(&programs).await,
        examiner: Examiner::default(),
    });
    let (stop, stopping) = watch::channel(false);
    let news = Arc::new(Notify::new());
    let given = task::Given { timing: Timing::default(), known: known.clone(), news: news.clone(), stopping };
    let over = Arc::new(Notify::new());
    let reporter = Reporter::new(shared.clone(), known.clone());
    let reporting = tokio::spawn(report_until(reporter, news, over.clone()));
    let instances = Instances::new(options, folder.clone(), own);
    let mut agent = Agent {
        shared,
        known,
        renewals,
        given,
        folder,
        secret,
        programs,
        instances,
        tasks: BTreeMap::new(),
        serving: None,
    };
    tokio::select! {
        () = agent.run() => {}
        () = shutdown => {}
    }
    agent.shut_down(&stop).await;
    over.notify_one();
    if let Ok(reporter) = reporting.await {
        // That everything is stopped: others need not wait for leases to run out.
        reporter.close().await;
    }
    watching.abort();
    keeping.abort();
    remembering.abort();
    if let Some(member) = member {
        member.stop().await;
    }
    Ok(())
}

/// Runs a witness until `shutdown`: the member of the control store at a site that has nothing else. It talks to no
/// control server, and nobody but the other members talks to it.
pub async fn witness(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let folder = Folder::make(&options.data, &options.dc)?;
    let member = Member::witness(&options, &folder);
    shutdown.await;
    if let Some(member) = member {
        member.stop().await;
    }
    Ok(())
}

/// Reports regularly, and at once when there is news.
async fn report_until(mut reporter: Reporter, news: Arc<Notify>, over: Arc<Notify>) -> Reporter {
    let every = Duration::from_millis(Timing::default().renew_ms);
    loop {
        let begun = Instant::now();
        reporter.report();
        // Not earlier than a moment after the last one, not later than a renewal after it.
        let (mut wanted, mut due) = (false, false);
        while !due {
            tokio::select! {
                () = sleep_until(begun + every) => due = true,
                () = sleep_until(begun + REPORT_APART), if wanted => due = true,
                () = news.notified(), if !wanted => wanted = true,
                Some(answer) = reporter.answer() => wanted |= reporter.take(answer),
                () = over.notified() => return reporter,
            }
        }
    }
}

struct Agent {
    shared: Arc<Shared>,
    known: watch::Receiver<Known>,
    renewals: watch::Receiver<u64>,
    given: task::Given,
    folder: Folder,
    secret: Secret,
    programs: Programs,
    instances: Instances,
    tasks: BTreeMap<UnitId, JoinHandle<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Agent {
    async fn run(&mut self) {
        let every = Duration::from_millis(self.given.timing.renew_ms);
        loop {
            let known = self.known.borrow_and_update().clone();
            if let Some(dc) = known.data_centers.get(&self.shared.options.dc) {
                self.serve(&dc.spec);
                self.drive_units(&dc.spec, &known);
                self.instances.apply(&known).await;
            }
            self.shared.show(self.instances.report());
            tokio::select! {
                changed = timeout(every, self.known.changed()) => {
                    if let Ok(Err(_)) = changed {
                        return;
                    }
                }
                Ok(()) = self.renewals.changed() => {}
            }
        }
    }

    fn serve(&mut self, dc: &DataCenterSpec) {
        self.serving.get_or_insert_with(|| {
            tokio::spawn(server::serve(self.shared.clone(), self.known.clone(), dc.agent_address()))
        });
    }

    /// A task for each unit with a replica here. Each ends by itself when its unit is gone.
    fn drive_units(&mut self, dc: &DataCenterSpec, known: &Known) {
        // It is on its way; no database starts without, nor can one be reached.
        if !self.database_identity().exists() {
            return;
        }
        let mut handles = self.shared.handles.lock().unwrap_or_else(PoisonError::into_inner);
        self.tasks.retain(|unit, task| {
            if task.is_finished() {
                handles.remove(unit);
            }
            !task.is_finished()
        });
        let here =
            known.units.iter().filter(|(_, unit)| unit.spec.replicas.contains(&self.shared.options.dc));
        for (name, unit) in here {
            if !self.tasks.contains_key(name) {
                let (handle, task) = task::spawn(self.settings(dc, name, unit), self.given.clone());
                handles.insert(name.clone(), handle);
                self.tasks.insert(name.clone(), task);
            }
        }
    }

    fn database_identity(&self) -> PathBuf {
        let options = &self.shared.options;
        options.identity_file(&Name::in_dc(options.identity.name().platform(), &options.dc, Role::Postgres))
    }

    fn settings(&self, dc: &DataCenterSpec, name: &UnitId, unit: &Unit) -> Settings {
        Settings {
            unit: name.clone(),
            dc: self.shared.options.dc.clone(),
            application: unit.spec.application.clone(),
            address: dc.database_address(unit.spec.port),
            reach: Reach::Network,
            dir: self.folder.dc.join("units").join(name.as_str()),
            run: self.folder.run(),
            log: self.folder.log(),
            identity: self.shared.options.identity.clone(),
            database_identity: self.database_identity(),
            secret: self.secret.clone(),
            programs: self.programs.clone(),
            guard: self.shared.options.program.clone(),
            env: self.shared.options.env(),
            tuning: Tuning::default(),
        }
    }

    /// Clients first, then the databases, so that nobody meets a database that is going.
    async fn shut_down(&mut self, stop: &watch::Sender<bool>) {
        tracing::info!("shutting the data center down");
        self.shared.examiner.close().await;
        self.instances.stop().await;
        self.shared.show(BTreeMap::new());
        stop.send_replace(true);
        let tasks = std::mem::take(&mut self.tasks).into_values();
        if timeout(SHUTDOWN_TIMEOUT, futures_util::future::join_all(tasks)).await.is_err() {
            tracing::error!(
                "not everything has stopped in order; guards stop their databases when leases end"
            );
        }
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}
