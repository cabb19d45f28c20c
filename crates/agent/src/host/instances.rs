//! What else runs in the data center: its gateway, and the instances of applications.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_identity::{Name, Role};
use dujiang_types::DcId;
use dujiang_types::platform::{ApplicationSpec, DataCenterSpec};
use dujiang_types::report::InstanceReport;
use futures_util::future::join_all;
use serde::Serialize;

use super::known::Known;
use super::{Folder, Options};
use crate::files;
use crate::process::{Keeper, Spec};

/// How long a gateway or an instance may take to finish what it has in hand.
const GRACE: Duration = Duration::from_secs(10);
/// The gateway's name in reports and records.
const GATEWAY: &str = "gateway";

/// The data center's gateway and instances, each kept running.
#[derive(Debug)]
pub(super) struct Instances {
    options: Options,
    folder: Folder,
    client: reqwest::Client,
    kept: BTreeMap<String, Kept>,
    units: Option<UnitsFile>,
}

#[derive(Debug)]
struct Kept {
    spec: Spec,
    address: SocketAddr,
    keeper: Keeper,
}

/// What should run.
struct Wanted {
    spec: Spec,
    address: SocketAddr,
    /// The file it cannot do without.
    identity: PathBuf,
}

/// What applications need to know of their units: `units.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct UnitsFile {
    dc: DcId,
    /// For customers.
    gateway: String,
    /// For the applications themselves.
    mesh: String,
    units: Vec<UnitEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct UnitEntry {
    unit: String,
    application: String,
    host: String,
    port: u16,
    database: String,
    role: String,
    slots: Vec<String>,
}

impl Instances {
    pub(super) fn new(options: Options, folder: Folder, client: reqwest::Client) -> Self {
        Self { options, folder, client, kept: BTreeMap::new(), units: None }
    }

    /// Brings what runs in line with the records.
    pub(super) async fn apply(&mut self, known: &Known) {
        let Some(dc) = known.data_centers.get(&self.options.dc) else { return };
        self.write_units(&dc.spec, known);
        let wanted = self.wanted(&dc.spec, known);
        let outdated: Vec<String> = self
            .kept
            .iter()
            .filter(|(name, kept)| wanted.get(*name).is_none_or(|wanted| wanted.spec != kept.spec))
            .map(|(name, _)| name.clone())
            .collect();
        let stops = outdated.iter().filter_map(|name| self.kept.remove(name));
        join_all(stops.map(|kept| kept.keeper.stop(GRACE))).await;
        for (name, Wanted { spec, address, identity }) in wanted {
            // It is on its way; whoever starts without would only end at once.
            if !identity.exists() {
                continue;
            }
            let client = self.client.clone();
            self.kept.entry(name).or_insert_with(|| Kept {
                keeper: Keeper::start(spec.clone(), client),
                spec,
                address,
            });
        }
    }

    /// How they stand.
    pub(super) fn report(&self) -> BTreeMap<String, InstanceReport> {
        let report = |kept: &Kept| {
            let status = kept.keeper.status();
            InstanceReport {
                address: kept.address,
                ready: status.ready,
                pid: status.pid.and_then(|pid| u32::try_from(pid).ok()),
                starts: status.starts,
                note: status.note,
            }
        };
        self.kept.iter().map(|(name, kept)| (name.clone(), report(kept))).collect()
    }

    /// Ends them all.
    pub(super) async fn stop(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        join_all(kept.into_values().map(|kept| kept.keeper.stop(GRACE))).await;
    }

    fn wanted(&self, dc: &DataCenterSpec, known: &Known) -> BTreeMap<String, Wanted> {
        let platform = self.options.identity.name().platform();
        let identity = self.options.identity_file(&Name::in_dc(platform, &self.options.dc, Role::Gateway));
        let gateway = Wanted { spec: self.gateway(dc, &identity), address: dc.gateway_address(), identity };
        let mut wanted = BTreeMap::from([(GATEWAY.to_owned(), gateway)]);
        for (app, record) in &known.applications {
            if !record.spec.data_centers.contains(&self.options.dc) {
                continue;
            }
            for number in 0..record.spec.instances {
                let name = format!("{app}-{number}");
                let address = dc.instance_address(&record.spec, number);
                let identity =
                    self.options.identity_file(&Name::application(platform, &self.options.dc, app));
                let spec = self.instance(&name, &record.spec, address, &identity);
                wanted.insert(name, Wanted { spec, address, identity });
            }
        }
        wanted
    }

    fn gateway(&self, dc: &DataCenterSpec, identity: &Path) -> Spec {
        let admin = dc.gateway_admin_address();
        let mut args: Vec<String> = ["gateway", "--dc", self.options.dc.as_str()].map(str::to_owned).into();
        for url in &self.options.control {
            args.extend(["--control".to_owned(), url.clone()]);
        }
        let rest = [
            ("--listen", dc.gateway_address().to_string()),
            ("--mesh", dc.mesh_address().to_string()),
            ("--admin", admin.to_string()),
            ("--identity", identity.display().to_string()),
            ("--threads", dc.gateway.threads.to_string()),
            ("--cache", self.folder.dc.join("gateway/routing.json").display().to_string()),
        ];
        args.extend(rest.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        self.spec(GATEWAY, self.options.program.clone(), args, BTreeMap::new(), admin)
    }

    fn instance(&self, name: &str, app: &ApplicationSpec, address: SocketAddr, identity: &Path) -> Spec {
        let mut args = vec![
            "--listen".to_owned(),
            address.to_string(),
            "--units".to_owned(),
            self.folder.units_file().display().to_string(),
            "--secret".to_owned(),
            self.options.data.join("secret").display().to_string(),
            "--identity".to_owned(),
            identity.display().to_string(),
        ];
        args.extend(app.args.iter().cloned());
        self.spec(name, look_up(&app.program, &self.options.program), args, app.env.clone(), address)
    }

    fn spec(
        &self,
        name: &str,
        program: PathBuf,
        args: Vec<String>,
        mut env: BTreeMap<String, String>,
        ready: SocketAddr,
    ) -> Spec {
        let spec = self.folder.process(&self.options, name, program, args, format!("https://{ready}/readyz"));
        env.extend(spec.env);
        Spec { env, ..spec }
    }

    fn write_units(&mut self, dc: &DataCenterSpec, known: &Known) {
        let here = known.units.iter().filter(|(_, unit)| unit.spec.replicas.contains(&self.options.dc));
        let units = here.map(|(name, unit)| {
            let address = dc.database_address(unit.spec.port);
            let app = unit.spec.application.to_string();
            UnitEntry {
                unit: name.to_string(),
                host: address.ip().to_string(),
                port: address.port(),
                database: app.clone(),
                role: app.clone(),
                application: app,
                slots: unit.spec.slots.iter().map(ToString::to_string).collect(),
            }
        });
        let file = UnitsFile {
            dc: self.options.dc.clone(),
            gateway: format!("http://{}", dc.gateway_address()),
            mesh: format!("https://{}", dc.mesh_address()),
            units: units.collect(),
        };
        if self.units.as_ref() == Some(&file) {
            return;
        }
        let path = self.folder.units_file();
        match files::write_json(&path, &file) {
            Ok(()) => self.units = Some(file),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot write what applications need");
            }
        }
    }
}

/// A bare name is looked for beside our own program; otherwise the system's path decides.
fn look_up(program: &str, own: &Path) -> PathBuf {
    let beside = files::parent(own).join(program);
    if !program.contains('/') && beside.is_file() { beside } else { PathBuf::from(program) }
}
