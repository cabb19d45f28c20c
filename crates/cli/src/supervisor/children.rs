//! The supervisor's children: the control plane and one agent per data center, kept running.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_agent::IdentityFolder;
use dujiang_agent::process::{Keeper, Process, Spec};
use dujiang_identity::{Expect, Identity, Name, Role, http_client};
use dujiang_types::DcId;
use futures_util::future::join_all;

use super::folder::Folder;
use super::processes::{self, ENV_DATA, ENV_DC};
use crate::failure::Failure;
use crate::manifest::{ControlPlane, Manifest};

/// Between two looks at the marks of switched-off data centers: shorter than the pause before a restart.
pub const POWER_LOOK_EVERY: Duration = Duration::from_millis(25);
/// An agent stops its gateway, its applications and its databases, each in order and within bounds of its own.
const AGENT_GRACE: Duration = Duration::from_secs(40);
/// The control plane has nothing to do but to finish its answers.
const CONTROL_GRACE: Duration = Duration::from_secs(5);
/// What is left after the agents are gone was nobody's any more.
const SWEEP_GRACE: Duration = Duration::from_secs(5);
/// Environment variable that changes with the binary, so that processes of another build are replaced.
const ENV_BUILD: &str = "DUJIANG_BUILD";

/// Everything the supervisor keeps.
#[derive(Debug)]
pub struct Children {
    folder: Folder,
    program: PathBuf,
    build: String,
    /// For control servers.
    http: reqwest::Client,
    control: Option<Keeper>,
    agents: BTreeMap<DcId, Agent>,
}

/// An agent, or that its data center is switched off.
#[derive(Debug)]
enum Agent {
    Kept(Keeper, Spec),
    Off(Spec),
}

impl Children {
    /// Nothing is started yet.
    pub fn new(folder: &Folder, identity: &Identity) -> Result<Self, Failure> {
        let program =
            std::env::current_exe().map_err(|e| Failure::because("cannot tell which program this is", &e))?;
        let build = build_of(&program);
        let http = http_client(identity, Expect::roles(&[Role::Control]))
            .map_err(|e| Failure::because("the supervisor's identity cannot be used", &e))?
            .build();
        Ok(Self {
            folder: folder.clone(),
            program,
            build,
            http: http.map_err(|e| Failure::because("cannot make an HTTP client", &e))?,
            control: None,
            agents: BTreeMap::new(),
        })
    }

    /// Starts the control plane, or adopts the one that survived.
    pub fn start_control(&mut self, listen: SocketAddr) {
        let data = self.folder.path();
        let args = ["control".to_owned(), "--listen".to_owned(), listen.to_string()];
        let mut spec = self.spec("control", args.into(), BTreeMap::new());
        spec.log = data.join("log/control.log");
        spec.ready = Some(format!("https://{listen}/readyz"));
        self.control = Some(Keeper::start(spec, self.http.clone()));
    }

    /// Starts the agents of all data centers, or adopts those that survived.
    pub fn start_agents(&mut self, manifest: &Manifest) {
        let witness = manifest.witness.as_ref().map(|witness| &witness.name);
        // A witness that has no member has nothing.
        let witness = witness.filter(|name| manifest.members().contains_key(*name));
        for dc in manifest.data_centers.keys().chain(witness) {
            let control = manifest.control_urls(Some(dc)).join(",");
            let mut args = ["agent", "--dc", dc.as_str(), "--control", &control].map(str::to_owned).to_vec();
            let platform = &manifest.platform;
            let identity =
                IdentityFolder::of(self.folder.path(), dc).file(&Name::in_dc(platform, dc, Role::Agent));
            args.extend(["--identity".to_owned(), identity.display().to_string()]);
            if manifest.control == ControlPlane::Everywhere {
                let members = manifest.members().into_iter();
                let members = members.map(|(dc, host)| format!("--member={dc}={host}"));
                args.extend(members);
            }
            if Some(dc) == witness {
                args.push("--witness".to_owned());
            }
            let env = BTreeMap::from([(ENV_DC.to_owned(), dc.to_string())]);
            let mut spec = self.spec(&format!("agent-{dc}"), args, env);
            spec.log = self.folder.path().join("dc").join(dc.as_str()).join("log/agent.log");
            if let Some([launcher, words @ ..]) = manifest.launchers.get(dc).map(Vec::as_slice) {
                let program = std::mem::replace(&mut spec.program, launcher.into());
                let agent = std::mem::take(&mut spec.args);
                spec.args =
                    words.iter().cloned().chain([program.display().to_string()]).chain(agent).collect();
            }
            self.agents.insert(dc.clone(), Agent::Off(spec));
        }
        self.obey_power();
    }

    /// Starts, adopts or kills agents as the marks of switched-off data centers say.
    pub fn obey_power(&mut self) {
        let mut agents = std::mem::take(&mut self.agents);
        for (dc, agent) in &mut agents {
            let off = self.folder.power_off(dc).exists();
            match agent {
                Agent::Kept(_, spec) if off => {
                    // Dropping the keeper leaves the process; the power cut does not.
                    *agent = Agent::Off(spec.clone());
                    let killed = processes::power_cut(self.folder.path(), dc);
                    tracing::warn!(%dc, killed, "the data center is switched off");
                }
                // What was being started at that moment.
                Agent::Off(_) if off => {
                    processes::power_cut(self.folder.path(), dc);
                }
                Agent::Off(spec) => {
                    tracing::info!(%dc, "starting the agent");
                    *agent = Agent::Kept(Keeper::start(spec.clone(), self.http.clone()), spec.clone());
                }
                Agent::Kept(..) => {}
            }
        }
        self.agents = agents;
    }

    /// Why the control plane does not run, if it does not.
    pub fn control_trouble(&self) -> Option<String> {
        trouble(self.control.as_ref()?)
    }

    /// Agents that do not run although they should, with the reason.
    pub fn agent_troubles(&self) -> Vec<String> {
        let kept = self.agents.iter().filter_map(|(dc, agent)| match agent {
            Agent::Kept(keeper, _) => trouble(keeper).map(|why| format!("the agent of {dc} {why}")),
            Agent::Off(_) => None,
        });
        kept.collect()
    }

    /// Stops everything in order: agents first, each of which stops its gateway, its applications and then its
    /// databases; the control plane last, so that leases are renewed as long as databases run.
    pub async fn stop(mut self) {
        let agents = std::mem::take(&mut self.agents).into_values();
        let stops = agents.filter_map(|agent| match agent {
            Agent::Kept(keeper, _) => Some(keeper.stop(AGENT_GRACE)),
            Agent::Off(_) => None,
        });
        join_all(stops).await;
        if let Some(control) = self.control.take() {
            control.stop(CONTROL_GRACE).await;
        }
        let left = processes::sweep(self.folder.path(), SWEEP_GRACE).await;
        if left > 0 {
            tracing::warn!(left, "processes were left over and are stopped");
        }
    }

    fn spec(&self, name: &str, mut args: Vec<String>, mut env: BTreeMap<String, String>) -> Spec {
        let data = self.folder.path();
        args.extend(["--data".to_owned(), data.display().to_string()]);
        env.insert(ENV_DATA.to_owned(), data.display().to_string());
        env.insert(ENV_BUILD.to_owned(), self.build.clone());
        Spec {
            name: name.to_owned(),
            program: self.program.clone(),
            args,
            env,
            dir: data.to_owned(),
            log: data.join("log").join(format!("{name}.log")),
            record: data.join("run").join(format!("{name}.json")),
            ready: None,
        }
    }
}

/// Stops the surviving agents of data centers that are not in the manifest any more.
pub async fn stop_strangers(folder: &Folder, manifest: &Manifest) {
    for record in records(folder.path()) {
        let name = record.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(dc) = name.strip_prefix("agent-") else { continue };
        let witness = manifest.witness.iter().map(|witness| &witness.name);
        if !manifest.data_centers.keys().chain(witness).any(|known| known.as_str() == dc) {
            tracing::info!(dc, "stopping the agent of a data center that is not in the manifest any more");
            stop_recorded(&record, AGENT_GRACE).await;
        }
    }
}

/// Stops what a killed supervisor left running, in the same order. Returns whether there was anything.
pub async fn stop_orphans(data: &Path) -> bool {
    let found = !processes::of(data, None).is_empty();
    let (agents, others): (Vec<_>, Vec<_>) = records(data).into_iter().partition(|record| {
        record.file_name().is_some_and(|name| name.to_string_lossy().starts_with("agent-"))
    });
    join_all(agents.iter().map(|record| stop_recorded(record, AGENT_GRACE))).await;
    join_all(others.iter().map(|record| stop_recorded(record, CONTROL_GRACE))).await;
    processes::sweep(data, SWEEP_GRACE).await;
    found
}

/// Process records of the supervisor's children.
fn records(data: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(data.join("run")) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let is_record = |path: &PathBuf| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name == "control.json" || name.starts_with("agent-") && name.ends_with(".json")
        })
    };
    paths.filter(is_record).collect()
}

async fn stop_recorded(record: &Path, grace: Duration) {
    match Process::adopt(record) {
        Ok(Some(process)) => {
            if let Err(error) = process.stop(grace).await {
                tracing::error!(record = %record.display(), %error, source = %error.source, "a process does not stop");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::error!(record = %record.display(), %error, "a process record cannot be used"),
    }
    if let Err(error) = dujiang_agent::files::remove_file(record) {
        tracing::warn!(record = %record.display(), %error, "a process record cannot be removed");
    }
}

fn trouble(keeper: &Keeper) -> Option<String> {
    let status = keeper.status();
    (status.pid.is_none() && status.starts > 0).then(|| format!("does not stay up: {}", status.note))
}

/// Changes whenever the binary is built anew.
fn build_of(program: &Path) -> String {
    let version = crate::commands::version::VERSION;
    match std::fs::metadata(program) {
        Ok(meta) => format!("{version}-{}-{}-{}", meta.ino(), meta.mtime(), meta.size()),
        Err(_) => version.to_owned(),
    }
}
