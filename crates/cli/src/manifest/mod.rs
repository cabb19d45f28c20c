//! The manifest: what a platform consists of, in one YAML file that is judged as a whole before anything starts.

pub mod check;
pub mod draft;
pub mod fields;
pub mod mistake;
pub mod names;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use dujiang_evidence::Suite;
use dujiang_identity::Policy;
use dujiang_types::platform::{ApplicationSpec, DataCenterSpec, GatewaySpec, Network, RouteRule};
use dujiang_types::unit::UnitSpec;
use dujiang_types::{AppId, DcId, PlatformId, UnitId};

use self::check::Programs;
use self::draft::{ApplicationDraft, DataCenterDraft, Draft, RouteDraft, StoreKind, UnitDraft, WitnessDraft};
use self::mistake::{Mistakes, Refused};
use self::tree::Place;

/// A manifest without mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the platform.
    pub platform: PlatformId,
    /// The control plane.
    pub control: ControlPlane,
    /// How evidence is signed.
    pub evidence: Suite,
    /// How long certificates hold.
    pub identities: Policy,
    /// Data centers.
    pub data_centers: BTreeMap<DcId, DataCenterSpec>,
    /// Applications.
    pub applications: BTreeMap<AppId, ApplicationSpec>,
    /// Units.
    pub units: BTreeMap<UnitId, UnitSpec>,
    /// Of data centers whose agents are not started here directly: the command their program and arguments are
    /// given to. It must become the agent (as `ip netns exec` or `nsenter` do), so that its process is the agent's.
    pub launchers: BTreeMap<DcId, Vec<String>>,
    /// A site that only has a member of the control store.
    pub witness: Option<Witness>,
    /// Sites that have a member of the control store, if it is [`ControlPlane::Everywhere`]: data centers, each with a
    /// control server beside it, and the witness. Fewer than [`Manifest::all_sites`] after the store was re-formed from
    /// the last member.
    pub control_sites: BTreeSet<DcId>,
}

/// A site in neither of two regions, with a member of the control store and nothing else: with it the loss of either region
/// leaves a majority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its name, beside those of the data centers.
    pub name: DcId,
    /// Its network; the member binds its main host.
    pub network: Network,
}

impl Witness {
    /// Where its member listens.
    pub fn main_host(&self) -> IpAddr {
        self.network.host(DataCenterSpec::HOST_MAIN)
    }
}

/// How the control plane is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlPlane {
    /// One server beside the data centers, with its records in a file.
    One(SocketAddr),
    /// A server and a member of etcd in every data center.
    Everywhere,
}

/// Fewer members than this do not survive the loss of one.
pub const MEMBERS_MIN: usize = 3;

/// A manifest is written by hand: larger than this, it is some other file.
const BYTES_MAX: u64 = 1 << 20;

impl Manifest {
    /// URLs of the control servers; that of `near` first, if it has one.
    pub fn control_urls(&self, near: Option<&DcId>) -> Vec<String> {
        if let ControlPlane::One(address) = self.control {
            return vec![format!("https://{address}")];
        }
        let mut dcs: Vec<_> = self.members_specs().collect();
        dcs.sort_by_key(|(dc, _)| Some(*dc) != near);
        dcs.into_iter().map(|(_, spec)| format!("https://{}", spec.control_address())).collect()
    }

    /// The sites that have a member of the control store, with their main hosts; none if it is a file.
    pub fn members(&self) -> BTreeMap<DcId, IpAddr> {
        if let ControlPlane::One(_) = self.control {
            return BTreeMap::new();
        }
        let beside_servers = self.members_specs().map(|(dc, spec)| (dc.clone(), spec.main_host()));
        let witness = self.witness.iter().filter(|witness| self.control_sites.contains(&witness.name));
        beside_servers.chain(witness.map(|witness| (witness.name.clone(), witness.main_host()))).collect()
    }

    /// The sites that have a member when none was lost: every data center; with a witness one data center of each
    /// region, the first by name, because two of the same region would be lost together.
    pub fn all_sites(&self) -> BTreeSet<DcId> {
        let Some(witness) = &self.witness else { return self.data_centers.keys().cloned().collect() };
        let mut regions = BTreeMap::new();
        for (dc, spec) in &self.data_centers {
            regions.entry(&spec.region).or_insert(dc);
        }
        regions.into_values().chain([&witness.name]).cloned().collect()
    }

    fn members_specs(&self) -> impl Iterator<Item = (&DcId, &DataCenterSpec)> {
        self.data_centers.iter().filter(|(dc, _)| self.control_sites.contains(*dc))
    }

    /// Reads and judges a file. Returns the manifest with the text it was read from.
    pub fn read(file: &Path, programs: &Programs) -> Result<(Self, String), Refused> {
        let refuse = |wrong: String, right: &str| {
            let mut mistakes = Mistakes::default();
            mistakes.add(Place::START, wrong, right);
            Refused { file: file.to_owned(), mistakes: mistakes.into_sorted() }
        };
        let size = std::fs::metadata(file).map(|meta| meta.len());
        if size.is_ok_and(|size| size > BYTES_MAX) {
            return Err(refuse(
                format!("the file is larger than {BYTES_MAX} bytes"),
                "is it a manifest at all?",
            ));
        }
        let text = std::fs::read_to_string(file).map_err(|error| {
            refuse(
                format!("cannot read the file: {error}"),
                "give the path of a manifest with -f, for example examples/two-regions.yaml",
            )
        })?;
        let manifest = Self::parse(&text, programs)
            .map_err(|mistakes| Refused { file: file.to_owned(), mistakes: mistakes.into_sorted() })?;
        Ok((manifest, text))
    }

    /// Judges a text.
    pub fn parse(text: &str, programs: &Programs) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let root = match tree::parse(text) {
            Ok(root) => root,
            Err(error) => {
                mistakes.add(
                    error.at,
                    format!("this is not YAML: {}", error.message),
                    "mind indentation, quotes and brackets",
                );
                return Err(mistakes);
            }
        };
        let Some(draft) = Draft::read(&root, &mut mistakes) else { return Err(mistakes) };
        check::check(&draft, programs, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        draft.finish().ok_or_else(|| {
            mistakes.add(
                root.at,
                "something is missing",
                "this is a defect of dujiang: please report the manifest",
            );
            mistakes
        })
    }
}

/// `None` if a value is missing, which the reader has noted as a mistake.
impl Draft {
    fn finish(self) -> Option<Manifest> {
        let witness = match self.witness {
            None => None,
            Some(WitnessDraft { name, network, launcher, .. }) => {
                Some((Witness { name: name?.value, network: network?.value }, launcher))
            }
        };
        let launched = self.data_centers.iter().filter(|dc| !dc.launcher.is_empty());
        let launchers = launched.map(|dc| Some((dc.name.as_ref()?.value.clone(), dc.launcher.clone())));
        let mut launchers = launchers.collect::<Option<BTreeMap<_, _>>>()?;
        let witness = witness.map(|(witness, launcher)| {
            if !launcher.is_empty() {
                launchers.insert(witness.name.clone(), launcher);
            }
            witness
        });
        let data_centers: BTreeMap<DcId, DataCenterSpec> =
            self.data_centers.into_iter().map(DataCenterDraft::finish).collect::<Option<_>>()?;
        let manifest = Manifest {
            launchers,
            witness,
            control_sites: BTreeSet::new(),
            platform: self.platform?.value,
            control: match self.store {
                StoreKind::Redb => ControlPlane::One(self.control?.value),
                StoreKind::Etcd => ControlPlane::Everywhere,
            },
            evidence: self.evidence,
            identities: self
                .lifetime
                .map_or_else(Policy::default, |lifetime| Policy { lifetime_s: lifetime.value.0.as_secs() }),
            data_centers,
            applications: self
                .applications
                .into_iter()
                .map(ApplicationDraft::finish)
                .collect::<Option<_>>()?,
            units: self.units.into_iter().map(UnitDraft::finish).collect::<Option<_>>()?,
        };
        Some(Manifest { control_sites: manifest.all_sites(), ..manifest })
    }
}

impl DataCenterDraft {
    fn finish(self) -> Option<(DcId, DataCenterSpec)> {
        let gateway = GatewaySpec { port: self.gateway_port?.value, threads: self.gateway_threads?.value };
        Some((
            self.name?.value,
            DataCenterSpec { region: self.region?, network: self.network?.value, gateway },
        ))
    }
}

impl ApplicationDraft {
    fn finish(self) -> Option<(AppId, ApplicationSpec)> {
        let spec = ApplicationSpec {
            program: self.program?.value,
            args: self.args,
            env: self.env,
            data_centers: self.data_centers.into_iter().map(|dc| dc.value).collect(),
            instances: self.instances?.value,
            port: self.port?.value,
            dns: self.dns.map(|dns| dns.value),
            routes: self.routes.into_iter().map(RouteDraft::finish).collect::<Option<_>>()?,
        };
        Some((self.name?.value, spec))
    }
}

impl RouteDraft {
    fn finish(self) -> Option<RouteRule> {
        Some(RouteRule { prefix: self.prefix?.value, key: self.key? })
    }
}

impl UnitDraft {
    fn finish(self) -> Option<(UnitId, UnitSpec)> {
        let spec = UnitSpec {
            application: self.application?.value,
            home: self.home?.value,
            replicas: self.replicas.into_iter().map(|dc| dc.value).collect(),
            slots: self.slots.into_iter().map(|range| range.value).collect(),
            durability: self.durability?,
            port: self.port?.value,
        };
        Some((self.name?.value, spec))
    }
}
