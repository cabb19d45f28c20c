//! A manifest as it was written: every value with its place, and holes where a mistake was noted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use dujiang_evidence::Suite;
use dujiang_types::dns::DnsSpec;
use dujiang_types::platform::{KeyForm, KeySource, Network};
use dujiang_types::unit::Durability;
use dujiang_types::{AppId, DcId, PlatformId, RegionId, SlotRange, UnitId};

use crate::figures::parse_duration;

use super::fields::{At, Fields, describe, text};
use super::mistake::Mistakes;
use super::tree::{Node, Place, Value};

/// More worker threads than this no gateway here makes use of.
const THREADS_MAX: u16 = 64;
/// More instances than this would overrun the ports of the next application.
const INSTANCES_MAX: u16 = 100;

/// The whole file.
#[derive(Debug)]
pub struct Draft {
    /// `platform`
    pub platform: Option<At<PlatformId>>,
    /// `allow_non_loopback`
    pub allow_non_loopback: bool,
    /// `control.listen`
    pub control: Option<At<SocketAddr>>,
    /// `control.store`
    pub store: StoreKind,
    /// Where `control` stands.
    pub control_at: Place,
    /// `evidence.suite`
    pub evidence: Suite,
    /// `identities.lifetime`
    pub lifetime: Option<At<Lifetime>>,
    /// `regions`
    pub regions: Vec<At<RegionId>>,
    /// All data centers of all regions.
    pub data_centers: Vec<DataCenterDraft>,
    /// `witness`
    pub witness: Option<WitnessDraft>,
    /// `applications`
    pub applications: Vec<ApplicationDraft>,
    /// `units`
    pub units: Vec<UnitDraft>,
    /// Where `units` stands.
    pub units_at: Place,
}

/// Where the records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In a file of the one control server.
    Redb,
    /// In etcd, with a member in every data center.
    Etcd,
}

/// How long a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Duration);

impl Lifetime {
    /// Half of it must be ample for asking several control servers several times.
    const MIN: Duration = Duration::from_secs(60);
    /// A certificate is not revoked, it runs out: beyond a week that is no answer to a stolen key.
    const MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
}

impl FromStr for Lifetime {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let time = parse_duration(text).ok().filter(|time| (Self::MIN..=Self::MAX).contains(time));
        time.map(Self)
            .ok_or_else(|| format!("{text:?} is not a lifetime: write for example 24h, from 1m to 168h"))
    }
}

/// One data center.
#[derive(Debug)]
pub struct DataCenterDraft {
    /// `name`
    pub name: Option<At<DcId>>,
    /// The region it stands in.
    pub region: Option<RegionId>,
    /// `network`
    pub network: Option<At<Network>>,
    /// `gateway.port`
    pub gateway_port: Option<At<u16>>,
    /// `gateway.threads`
    pub gateway_threads: Option<At<u16>>,
    /// `launcher`
    pub launcher: Vec<String>,
}

/// The witness.
#[derive(Debug)]
pub struct WitnessDraft {
    /// Where it stands.
    pub at: Place,
    /// `name`
    pub name: Option<At<DcId>>,
    /// `network`
    pub network: Option<At<Network>>,
    /// `launcher`
    pub launcher: Vec<String>,
}

/// One application.
#[derive(Debug)]
pub struct ApplicationDraft {
    /// `name`
    pub name: Option<At<AppId>>,
    /// `program`
    pub program: Option<At<String>>,
    /// `args`
    pub args: Vec<String>,
    /// `env`
    pub env: BTreeMap<String, String>,
    /// `data_centers`
    pub data_centers: Vec<At<DcId>>,
    /// `instances`
    pub instances: Option<At<u16>>,
    /// `port`
    pub port: Option<At<u16>>,
    /// `routes`
    pub routes: Vec<RouteDraft>,
    /// `dns`
    pub dns: Option<At<DnsSpec>>,
}

/// One route of an application.
#[derive(Debug)]
pub struct RouteDraft {
    /// `prefix`
    pub prefix: Option<At<String>>,
    /// `key`
    pub key: Option<KeySource>,
}

/// One unit.
#[derive(Debug)]
pub struct UnitDraft {
    /// `name`
    pub name: Option<At<UnitId>>,
    /// `application`
    pub application: Option<At<AppId>>,
    /// `home`
    pub home: Option<At<DcId>>,
    /// `replicas`
    pub replicas: Vec<At<DcId>>,
    /// Where `replicas` stands.
    pub replicas_at: Place,
    /// `slots`
    pub slots: Vec<At<SlotRange>>,
    /// `durability`
    pub durability: Option<Durability>,
    /// `port`
    pub port: Option<At<u16>>,
}

impl Draft {
    /// Takes the tree apart. `None` if it is not even a mapping.
    pub fn read(root: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        const FIELDS: &[&str] = &[
            "platform",
            "allow_non_loopback",
            "control",
            "evidence",
            "identities",
            "regions",
            "witness",
            "applications",
            "units",
        ];
        let fields = Fields::of(root, "the manifest", FIELDS, mistakes)?;
        let (store, control) = read_control(&fields, mistakes);
        let (regions, data_centers) = read_regions(&fields, mistakes);
        let applications = fields.items("applications", "[{ name: bank, ... }]", mistakes);
        let units = fields.items("units", "[{ name: unit-1, ... }]", mistakes);
        Some(Self {
            platform: fields.parsed("platform", "two-regions", mistakes),
            allow_non_loopback: read_flag(&fields, "allow_non_loopback", mistakes),
            control,
            store,
            control_at: fields.place("control"),
            evidence: read_evidence(&fields, mistakes),
            lifetime: read_lifetime(&fields, mistakes),
            regions,
            data_centers,
            witness: WitnessDraft::read(&fields, mistakes),
            applications: applications.iter().filter_map(|n| ApplicationDraft::read(n, mistakes)).collect(),
            units: units.iter().filter_map(|n| UnitDraft::read(n, mistakes)).collect(),
            units_at: fields.place("units"),
        })
    }
}

/// With a server in every data center there is nothing to say about where they listen.
fn read_control(fields: &Fields<'_>, mistakes: &mut Mistakes) -> (StoreKind, Option<At<SocketAddr>>) {
    const STORES: &[(&str, StoreKind)] = &[("redb", StoreKind::Redb), ("etcd", StoreKind::Etcd)];
    let control = fields.required("control", "{ listen: 127.0.1.1:7000 }", mistakes);
    let control = control.and_then(|node| Fields::of(node, "`control`", &["listen", "store"], mistakes));
    let Some(control) = control else { return (StoreKind::Redb, None) };
    let store = control.optional("store").and_then(|_| control.choice("store", STORES, mistakes));
    let store = store.unwrap_or(StoreKind::Redb);
    let listens = store == StoreKind::Redb || control.optional("listen").is_some();
    (store, if listens { control.parsed("listen", "127.0.1.1:7000", mistakes) } else { None })
}

/// Evidence is signed internationally unless the national suite is asked for.
fn read_evidence(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Suite {
    const SUITES: &[(&str, Suite)] =
        &[("international", Suite::International), ("national", Suite::National)];
    let evidence = fields.optional("evidence");
    let evidence = evidence.and_then(|node| Fields::of(node, "`evidence`", &["suite"], mistakes));
    evidence.and_then(|evidence| evidence.choice("suite", SUITES, mistakes)).unwrap_or_default()
}

/// Certificates hold as long as the identity crate says, unless another time is asked for.
fn read_lifetime(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Option<At<Lifetime>> {
    let identities = fields.optional("identities")?;
    let identities = Fields::of(identities, "`identities`", &["lifetime"], mistakes)?;
    identities.parsed("lifetime", "24h", mistakes)
}

fn read_flag(fields: &Fields<'_>, name: &str, mistakes: &mut Mistakes) -> bool {
    match fields.optional(name).map(|node| (node.at, &node.value)) {
        None => false,
        Some((_, Value::Bool(value))) => *value,
        Some((at, other)) => {
            mistakes.add(at, format!("`{name}` is {}", describe(other)), "write `true` or `false`");
            false
        }
    }
}

fn read_regions(fields: &Fields<'_>, mistakes: &mut Mistakes) -> (Vec<At<RegionId>>, Vec<DataCenterDraft>) {
    let mut names = Vec::new();
    let mut data_centers = Vec::new();
    for node in fields.items("regions", "[{ name: chengdu, data_centers: [...] }]", mistakes) {
        let Some(region) = Fields::of(node, "a region", &["name", "data_centers"], mistakes) else {
            continue;
        };
        let name = region.parsed::<RegionId>("name", "chengdu", mistakes);
        for node in region.items("data_centers", "[{ name: chengdu-1, ... }]", mistakes) {
            let region = name.as_ref().map(|name| name.value.clone());
            data_centers.extend(DataCenterDraft::read(node, region, mistakes));
        }
        names.extend(name);
    }
    (names, data_centers)
}

impl WitnessDraft {
    fn read(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let node = fields.optional("witness")?;
        let witness = Fields::of(node, "`witness`", &["name", "network", "launcher"], mistakes)?;
        Some(Self {
            at: node.at,
            name: witness.parsed("name", "xian", mistakes),
            network: witness.parsed("network", "127.0.31.0/24", mistakes),
            launcher: read_words(&witness, "launcher", "[ip, netns, exec, xian]", mistakes),
        })
    }
}

impl DataCenterDraft {
    fn read(node: &Node, region: Option<RegionId>, mistakes: &mut Mistakes) -> Option<Self> {
        let fields =
            Fields::of(node, "a data center", &["name", "network", "gateway", "launcher"], mistakes)?;
        let name = fields.parsed("name", "chengdu-1", mistakes);
        let network = fields.parsed("network", "127.0.11.0/24", mistakes);
        let gateway = fields
            .required("gateway", "{ port: 8080, threads: 1 }", mistakes)
            .and_then(|node| Fields::of(node, "`gateway`", &["port", "threads"], mistakes));
        let (gateway_port, gateway_threads) = gateway.map_or((None, None), |gateway| {
            (
                gateway.number("port", 1..=u16::MAX, "8080", mistakes),
                gateway.number("threads", 1..=THREADS_MAX, "1", mistakes),
            )
        });
        let launcher = read_words(&fields, "launcher", "[ip, netns, exec, chengdu-1]", mistakes);
        Some(Self { name, region, network, gateway_port, gateway_threads, launcher })
    }
}

impl ApplicationDraft {
    fn read(node: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        const FIELDS: &[&str] =
            &["name", "program", "args", "env", "data_centers", "instances", "port", "routes", "dns"];
        let fields = Fields::of(node, "an application", FIELDS, mistakes)?;
        let routes = fields.items("routes", "[{ prefix: /, key: { in: none } }]", mistakes);
        Some(Self {
            name: fields.parsed("name", "bank", mistakes),
            program: fields.parsed("program", "dujiang-bank", mistakes),
            args: read_words(&fields, "args", "[--verbose]", mistakes),
            env: read_env(&fields, mistakes),
            data_centers: fields.parsed_items("data_centers", "[chengdu-1]", mistakes),
            instances: fields.number("instances", 1..=INSTANCES_MAX, "1", mistakes),
            port: fields.number("port", 1..=u16::MAX, "9000", mistakes),
            routes: routes.iter().filter_map(|node| RouteDraft::read(node, mistakes)).collect(),
            dns: fields.optional("dns").and_then(|node| super::names::read(node, mistakes)),
        })
    }
}

/// An optional list of texts, such as arguments.
fn read_words(fields: &Fields<'_>, name: &str, example: &str, mistakes: &mut Mistakes) -> Vec<String> {
    match fields.optional(name).map(|node| (node.at, &node.value)) {
        None => Vec::new(),
        Some((_, Value::List(list))) => list
            .iter()
            .filter_map(|node| {
                let text = text(node);
                if text.is_none() {
                    let wrong = format!("an argument is {}", describe(&node.value));
                    mistakes.add(node.at, wrong, "write text, in quotes if need be");
                }
                text
            })
            .collect(),
        Some((at, other)) => {
            let wrong = format!("`{name}` is {}", describe(other));
            mistakes.add(at, wrong, format!("write a list, for example `{name}: {example}`"));
            Vec::new()
        }
    }
}

fn read_env(fields: &Fields<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, String> {
    match fields.optional("env").map(|node| (node.at, &node.value)) {
        None => BTreeMap::new(),
        Some((_, Value::Map(map))) => map
            .iter()
            .filter_map(|(key, node)| {
                let text = text(node);
                if text.is_none() {
                    let wrong = format!("`{}` is {}", key.text, describe(&node.value));
                    mistakes.add(node.at, wrong, "write text, in quotes if need be");
                }
                // What every process is found and configured by is the platform's own to set.
                if key.text.starts_with("DUJIANG_") {
                    let wrong = format!("`{}` is one of the platform's own variables", key.text);
                    mistakes.add(key.at, wrong, "choose a name that does not begin with `DUJIANG_`");
                }
                text.map(|text| (key.text.clone(), text))
            })
            .collect(),
        Some((at, other)) => {
            let wrong = format!("`env` is {}", describe(other));
            mistakes.add(at, wrong, "write a mapping, for example `env: { LANG: C }`");
            BTreeMap::new()
        }
    }
}

impl RouteDraft {
    fn read(node: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        let fields = Fields::of(node, "a route", &["prefix", "key"], mistakes)?;
        let prefix = fields.parsed::<String>("prefix", "/v1/accounts/", mistakes);
        let key = fields.required("key", "{ in: segment, form: hash }", mistakes);
        Some(Self { prefix, key: key.and_then(|node| read_key(node, mistakes)) })
    }
}

#[derive(Clone, Copy)]
enum KeyPlace {
    Segment,
    Header,
    None,
}

fn read_key(node: &Node, mistakes: &mut Mistakes) -> Option<KeySource> {
    let fields = Fields::of(node, "a routing key", &["in", "form", "name"], mistakes)?;
    let places = [("segment", KeyPlace::Segment), ("header", KeyPlace::Header), ("none", KeyPlace::None)];
    let place = fields.choice("in", &places, mistakes)?;
    let unwanted = |name: &str, mistakes: &mut Mistakes| {
        if fields.optional(name).is_some() {
            let wrong = format!("field `{name}` means nothing for a key of this place");
            mistakes.add(fields.place(name), wrong, "leave it out");
        }
    };
    let forms = [("hash", KeyForm::Hash), ("account", KeyForm::Account)];
    match place {
        KeyPlace::None => {
            unwanted("form", mistakes);
            unwanted("name", mistakes);
            Some(KeySource::None)
        }
        KeyPlace::Segment => {
            unwanted("name", mistakes);
            fields.choice("form", &forms, mistakes).map(|form| KeySource::Segment { form })
        }
        KeyPlace::Header => {
            let form = fields.choice("form", &forms, mistakes);
            let name = fields.parsed::<String>("name", "bank-customer", mistakes)?;
            if !is_header_name(&name.value) {
                let wrong = format!("`name`: {:?} is not a header's name in lower case", name.value);
                mistakes.add(name.at, wrong, "write a-z, 0-9 and '-', for example `bank-customer`");
                return None;
            }
            Some(KeySource::Header { name: name.value, form: form? })
        }
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl UnitDraft {
    fn read(node: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        const FIELDS: &[&str] = &["name", "application", "home", "replicas", "slots", "durability", "port"];
        let fields = Fields::of(node, "a unit", FIELDS, mistakes)?;
        let durabilities = [("zero", Durability::Zero), ("bounded", Durability::Bounded)];
        Some(Self {
            name: fields.parsed("name", "unit-1", mistakes),
            application: fields.parsed("application", "bank", mistakes),
            home: fields.parsed("home", "chengdu-1", mistakes),
            replicas: fields.parsed_items("replicas", "[chengdu-1, chengdu-2]", mistakes),
            replicas_at: fields.place("replicas"),
            slots: fields.parsed_items("slots", "[0-16383]", mistakes),
            durability: fields.choice("durability", &durabilities, mistakes),
            port: fields.number("port", 1..=u16::MAX, "5401", mistakes),
        })
    }
}
