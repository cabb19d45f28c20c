//! The supervisor behind `dujiang up`: from a manifest and a folder to a serving platform, and back.

pub mod children;
pub mod folder;
pub mod identities;
pub mod payment;
pub mod ports;
pub mod processes;
pub mod readiness;
pub mod report;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dujiang_agent::{ETCD, files};
use dujiang_control::Status;
use dujiang_types::platform::DataCenterSpec;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use self::children::{Children, POWER_LOOK_EVERY};
use self::folder::{Folder, Lock};
use self::identities::Issuer;
use self::report::{Reporter, Summary};
use crate::client::Client;
use crate::commands::version::VERSION;
use crate::evidence_key;
use crate::failure::Failure;
use crate::logging;
use crate::manifest::check::Programs;
use crate::manifest::{ControlPlane, MEMBERS_MIN, Manifest};
use crate::platform::Running;

/// The control plane opens a file and listens, or three members of etcd find each other.
const CONTROL_START_MAX: Duration = Duration::from_secs(30);
/// Databases are made, cloned or recovered meanwhile. Longer than this something is wrong, or it is a large platform
/// that goes on starting by itself.
const SERVE_MAX: Duration = Duration::from_secs(180);
/// Folders under which distributions put PostgreSQL, one per major version.
const POSTGRES_ROOT: &str = "/usr/lib/postgresql";

/// What to run and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The manifest; `None` resumes with the one in force.
    pub manifest: Option<PathBuf>,
    /// The folder.
    pub data: PathBuf,
    /// Run a control server and a member of etcd in every data center, whatever the manifest says.
    pub ha: bool,
}

/// How a supervisor's run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was stopped in order.
    Stopped,
    /// Another supervisor runs the platform of this folder.
    RunsAlready(u32),
}

/// Runs a platform until this process is told to end. The manifest is judged before anything is touched.
pub async fn run(options: &Options, reporter: &Reporter) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let (mut manifest, text) = read_manifest(options)?;
    check_postgres(Path::new(POSTGRES_ROOT))?;
    let folder = Folder::prepare(&options.data)?;
    let lock = match folder.lock()? {
        Ok(lock) => lock,
        Err(pid) => return Ok(Outcome::RunsAlready(pid)),
    };
    let log = folder.supervisor_log();
    let file =
        folder::open_log(&log).map_err(|e| Failure::because(format!("cannot open {}", log.display()), &e))?;
    logging::to_file(file);
    tracing::info!(version = VERSION, platform = %manifest.platform, data = %folder.path().display(), "the supervisor begins");
    folder.take_over()?;
    if options.ha || folder.has_etcd() {
        manifest.control = ControlPlane::Everywhere;
    }
    if let Some(sites) = folder.control_sites()? {
        manifest.control_sites = sites;
    }
    check_control(&manifest, &folder)?;
    ports::check(&manifest, folder.path())?;
    let supervisor = Supervisor::new(folder, manifest, lock)?;
    let result = tokio::select! {
        result = supervisor.live(&text, began, reporter) => result.map(|never| match never {}),
        name = signals.next() => {
            tracing::info!(signal = name, "told to end");
            Ok(Outcome::Stopped)
        }
    };
    if let Err(failure) = &result {
        tracing::error!(why = failure.message(), "giving up");
    }
    reporter.say("stopping: gateways and applications, then databases, then the rest");
    supervisor.stop().await;
    reporter.quiet();
    tracing::info!("everything is stopped");
    result
}

/// A manifest from the file given, or else the one in force.
fn read_manifest(options: &Options) -> Result<(Manifest, String), Failure> {
    let file = options.manifest.clone().unwrap_or_else(|| options.data.join("manifest.yaml"));
    if options.manifest.is_none() && !file.exists() {
        return Err(Failure::usage(format!("there is no platform in {} yet", options.data.display()))
            .hint("say what it consists of with -f MANIFEST, for example -f examples/two-regions.yaml"));
    }
    Manifest::read(&file, &Programs::of_this_process()).map_err(|refused| Failure::of_manifest(&refused))
}

fn check_postgres(root: &Path) -> Result<(), Failure> {
    let versions = std::fs::read_dir(root);
    let found = versions
        .is_ok_and(|mut dirs| dirs.any(|dir| dir.is_ok_and(|dir| dir.path().join("bin/initdb").exists())));
    if found {
        return Ok(());
    }
    Err(Failure::failed(format!("PostgreSQL is not installed: there is no {}/*/bin/initdb", root.display()))
        .hint("install it from the distribution: scripts/install-deps, or `apt-get install postgresql`"))
}

/// A platform keeps the store it was begun with: its records are there and nowhere else.
fn check_control(manifest: &Manifest, folder: &Folder) -> Result<(), Failure> {
    if manifest.control != ControlPlane::Everywhere {
        return match &manifest.witness {
            None => Ok(()),
            Some(witness) => Err(Failure::usage(format!("{} is a witness without a vote", witness.name))
                .hint("a witness is a member of etcd: write `control: { store: etcd }`, or start with --ha")),
        };
    }
    check_members(manifest, folder)?;
    if folder.has_redb() {
        return Err(Failure::usage(format!(
            "the platform in {} keeps its records in a file",
            folder.path().display()
        ))
        .hint(
            "a control server in every data center takes a new platform: name another folder with --data DIR",
        ));
    }
    let data_centers = manifest.data_centers.len();
    if manifest.witness.is_none() && data_centers < MEMBERS_MIN {
        return Err(Failure::usage(format!("--ha with {data_centers} data centers"))
            .hint(format!("it takes {MEMBERS_MIN} members of etcd to survive the loss of one")));
    }
    if !Path::new(ETCD).exists() {
        return Err(Failure::failed(format!("etcd is not installed: there is no {ETCD}"))
            .hint("install it from the distribution: `apt-get install etcd-server`"));
    }
    Ok(())
}

/// Members know each other from the beginning: one that is added or left out later would not be one of them.
fn check_members(manifest: &Manifest, folder: &Folder) -> Result<(), Failure> {
    let name = |dir: PathBuf| dir.parent().and_then(Path::file_name).map(OsStr::to_os_string);
    let begun: BTreeSet<_> = folder.members().into_iter().filter_map(name).collect();
    let wanted: BTreeSet<_> = manifest.members().into_keys().map(|name| name.as_str().into()).collect();
    // Fewer: not all of them had begun.
    if begun.is_subset(&wanted) {
        return Ok(());
    }
    let list = |names: &BTreeSet<OsString>| {
        names.iter().map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ")
    };
    Err(Failure::usage(format!(
        "the control store in {} has members in {}, by the manifest it has them in {}",
        folder.path().display(),
        list(&begun),
        list(&wanted)
    ))
    .hint(
        "a platform keeps the members it was begun with: write into the manifest what was there, or name another folder",
    ))
}

/// The signals that mean "end in order".
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::because("cannot listen for signals", &e));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

fn url_of(dc: &DataCenterSpec) -> String {
    format!("http://{}", dc.gateway_address())
}

/// What cannot happen.
enum Never {}

struct Supervisor {
    folder: Folder,
    manifest: Manifest,
    issuer: Issuer,
    client: Client,
    /// Everything here runs on one thread; never borrowed over an await.
    children: RefCell<Children>,
    _lock: Lock,
}

impl Supervisor {
    fn new(folder: Folder, manifest: Manifest, lock: Lock) -> Result<Self, Failure> {
        let issuer = Issuer::prepare(&folder, &manifest)?;
        issuer.renew_operator()?;
        issuer.start_agents(&folder, &manifest)?;
        let identity = issuer.own()?;
        let children = Children::new(&folder, &identity)?;
        let client = Client::new(&manifest.control_urls(None), &identity)?;
        Ok(Self { folder, manifest, issuer, client, children: RefCell::new(children), _lock: lock })
    }

    /// Starts everything and keeps it running. Returns only if the platform cannot be started at all.
    async fn live(&self, text: &str, began: Instant, reporter: &Reporter) -> Result<Never, Failure> {
        self.write_running()?;
        evidence_key::load_or_make(self.folder.path(), Some(self.manifest.evidence))?;
        self.start_control(reporter).await?;
        reporter.say("putting what the manifest says");
        readiness::apply(&self.client, &self.manifest).await?;
        self.write_manifest(text)?;
        if matches!(self.manifest.control, ControlPlane::One(_)) {
            self.start_agents().await;
        }
        let power = async {
            loop {
                sleep(POWER_LOOK_EVERY).await;
                self.children.borrow_mut().obey_power();
            }
        };
        let renew = async {
            loop {
                sleep(identities::LOOK_EVERY).await;
                if let Err(failure) = self.issuer.renew_operator() {
                    tracing::error!(why = failure.message(), "the operator's identity is not renewed");
                }
                if let Err(failure) = self.issuer.renew_witness(&self.folder, &self.manifest) {
                    tracing::error!(why = failure.message(), "the witness's identity is not renewed");
                }
            }
        };
        let serve = async {
            match self.wait_until_serving(reporter).await {
                Ok(()) => reporter.serving(&self.pay(began).await),
                Err(missing) => reporter.not_serving(&missing),
            }
            self.show(reporter).await
        };
        tokio::select! {
            never = power => Ok(never),
            never = renew => Ok(never),
            never = serve => Ok(never),
        }
    }

    /// From now on it is the one the next `up` resumes with; a manifest that was not accepted never is.
    fn write_manifest(&self, text: &str) -> Result<(), Failure> {
        let path = self.folder.manifest();
        let write = files::write_durably(&path, text.as_bytes(), files::MODE_PUBLIC);
        write.map_err(|e| Failure::because(format!("cannot write {}", path.display()), &e))
    }

    /// Tells other commands that there is a platform, and where.
    fn write_running(&self) -> Result<(), Failure> {
        let running = Running {
            version: VERSION.to_owned(),
            program: std::env::current_exe().unwrap_or_default(),
            supervisor: std::process::id(),
            control: self.client.servers().to_vec(),
            platform: self.manifest.platform.to_string(),
        };
        let path = Running::path(self.folder.path());
        files::write_json(&path, &running)
            .map_err(|e| Failure::because(format!("cannot write {}", path.display()), &e))
    }

    async fn start_agents(&self) {
        children::stop_strangers(&self.folder, &self.manifest).await;
        self.children.borrow_mut().start_agents(&self.manifest);
    }

    /// With a server in every data center the agents run them, and so have to be there first.
    async fn start_control(&self, reporter: &Reporter) -> Result<(), Failure> {
        match self.manifest.control {
            ControlPlane::One(listen) => self.children.borrow_mut().start_control(listen),
            ControlPlane::Everywhere => self.start_agents().await,
        }
        let deadline = Instant::now() + CONTROL_START_MAX;
        loop {
            reporter.say("waiting for the control plane");
            let answered = self.client.get::<Status>("/v1/status").await;
            let failure = match answered {
                Ok(status) if !status.leader.is_empty() => return Ok(()),
                Ok(_) => Failure::unreachable("no control server leads"),
                Err(failure) => failure,
            };
            let trouble = self.children.borrow().control_trouble();
            if Instant::now() > deadline || !failure.is_unreachable() {
                let why = trouble.unwrap_or_else(|| failure.message().to_owned());
                let log = match self.manifest.control {
                    ControlPlane::One(_) => "log/control.log",
                    ControlPlane::Everywhere => "dc/*/log/{control,etcd}.log",
                };
                let log = self.folder.path().join(log);
                return Err(Failure::failed(format!("the control plane did not start: {why}"))
                    .hint(format!("its log says why: {}", log.display())));
            }
            sleep(readiness::LOOK_EVERY).await;
        }
    }

    /// What is still missing, if it takes too long.
    async fn wait_until_serving(&self, reporter: &Reporter) -> Result<(), String> {
        let deadline = Instant::now() + SERVE_MAX;
        loop {
            let missing = match self.client.get::<Status>("/v1/status").await {
                Ok(status) => {
                    readiness::missing(&self.manifest, &status, |dc| self.folder.power_off(dc).exists())
                }
                Err(failure) => Some(failure.message().to_owned()),
            };
            let Some(missing) = missing else { return Ok(()) };
            let troubles = self.children.borrow().agent_troubles();
            let missing =
                if troubles.is_empty() { missing } else { format!("{missing}; {}", troubles.join("; ")) };
            if Instant::now() > deadline {
                return Err(missing);
            }
            reporter.say(&missing);
            sleep(readiness::LOOK_EVERY).await;
        }
    }

    /// Makes the first payment and sums up where everything is.
    async fn pay(&self, began: Instant) -> Summary {
        let ms = |since: Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let serving_ms = ms(began);
        let gateways: Vec<(String, String)> =
            (self.manifest.data_centers.iter()).map(|(dc, spec)| (dc.to_string(), url_of(spec))).collect();
        let mut on = self.manifest.data_centers.iter().filter(|(dc, _)| !self.folder.power_off(dc).exists());
        let paid = match on.next() {
            Some((_, spec)) => payment::first(&self.manifest, &url_of(spec)).await,
            None => Ok(None),
        };
        let (payment, trouble) = match paid {
            Ok(payment) => (payment, None),
            Err(failure) => {
                tracing::error!(why = failure.message(), "no first payment");
                (None, Some(failure.message().to_owned()))
            }
        };
        tracing::info!(serving_ms, paid = payment.is_some(), "the platform serves");
        Summary {
            platform: self.manifest.platform.to_string(),
            data_centers: self.manifest.data_centers.len(),
            units: self.manifest.units.len(),
            control: self.client.servers().join(" "),
            gateways,
            data: self.folder.path().to_owned(),
            payment,
            trouble,
            serving_ms,
            first_payment_ms: ms(began),
        }
    }

    /// The live status, for ever.
    async fn show(&self, reporter: &Reporter) -> Never {
        loop {
            if let Some(every) = reporter.shows_status_every() {
                reporter.status(self.client.get::<Status>("/v1/status").await.as_ref());
                sleep(every).await;
            } else {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn stop(self) {
        self.children.into_inner().stop().await;
        // Without it nobody asks a control plane that is gone.
        if let Err(error) = files::remove_file(&Running::path(self.folder.path())) {
            tracing::warn!(%error, "the record of the running platform cannot be removed");
        }
    }
}
