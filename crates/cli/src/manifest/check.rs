//! What has to fit together in a manifest: names, networks, ports, slots, replicas, programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use dujiang_types::ids::SLOT_COUNT;
use dujiang_types::platform::{DataCenterSpec, GatewaySpec};
use dujiang_types::unit::Durability;
use dujiang_types::{AppId, DcId, RegionId, UnitId};
use nix::unistd::{AccessFlags, access};

use super::MEMBERS_MIN;
use super::draft::{ApplicationDraft, Draft, RouteDraft, StoreKind, UnitDraft, WitnessDraft};
use super::fields::At;
use super::mistake::{Mistakes, nearest};
use super::tree::Place;

/// Names of applications that are taken: by PostgreSQL as database, role or word of `pg_hba.conf`, or by us.
const APPLICATIONS_RESERVED: &[&str] = &[
    "agent",
    "all",
    "control",
    "dujiang",
    "gateway",
    "guard",
    "none",
    "postgres",
    "public",
    "replication",
    "samegroup",
    "samerole",
    "sameuser",
    "template0",
    "template1",
];
/// Replicas a unit needs so that a commit can be in two data centers.
const REPLICAS_FOR_ZERO: usize = 2;

/// As many regions as a witness decides between.
const WITNESSED_REGIONS: usize = 2;

/// Where programs are looked for.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Folder of the `dujiang` binary: first for bare names.
    pub beside: PathBuf,
    /// `PATH`.
    pub path: Vec<PathBuf>,
}

impl Programs {
    /// As the running process sees them.
    pub fn of_this_process() -> Self {
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
        let path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect());
        Self { beside: beside.unwrap_or_default(), path: path.unwrap_or_default() }
    }

    /// The file to run: a path is taken as it is, a bare name is looked up.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        let runs = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
        if program.contains('/') {
            // Agents run elsewhere than the person who writes the manifest: a relative path would mean another file.
            return Some(PathBuf::from(program)).filter(|path| path.is_absolute()).filter(runs);
        }
        std::iter::once(&self.beside).chain(&self.path).map(|dir| dir.join(program)).find(runs)
    }
}

/// Notes everything that does not fit together.
pub fn check(draft: &Draft, programs: &Programs, mistakes: &mut Mistakes) {
    unique("region", draft.regions.iter(), mistakes);
    unique("data center", draft.data_centers.iter().filter_map(|dc| dc.name.as_ref()), mistakes);
    unique("application", draft.applications.iter().filter_map(|app| app.name.as_ref()), mistakes);
    unique("unit", draft.units.iter().filter_map(|unit| unit.name.as_ref()), mistakes);
    addresses(draft, mistakes);
    networks(draft, mistakes);
    if let Some(witness) = &draft.witness {
        check_witness(witness, draft, mistakes);
    }
    let known = Known::of(draft);
    for app in &draft.applications {
        application(app, &known, programs, mistakes);
    }
    for unit in &draft.units {
        check_unit(unit, &known, mistakes);
    }
    slots(draft, mistakes);
    ports(draft, mistakes);
}

/// The names others may refer to.
struct Known<'a> {
    data_centers: Vec<&'a DcId>,
    regions: Vec<&'a RegionId>,
    applications: BTreeMap<&'a AppId, &'a ApplicationDraft>,
}

impl<'a> Known<'a> {
    fn of(draft: &'a Draft) -> Self {
        let named = |app: &'a ApplicationDraft| Some((&app.name.as_ref()?.value, app));
        Self {
            data_centers: draft.data_centers.iter().filter_map(|dc| Some(&dc.name.as_ref()?.value)).collect(),
            applications: draft.applications.iter().filter_map(named).collect(),
            regions: draft.regions.iter().map(|region| &region.value).collect(),
        }
    }

    fn data_center(&self, dc: &At<DcId>, mistakes: &mut Mistakes) -> bool {
        let found = self.data_centers.contains(&&dc.value);
        if !found {
            let right =
                right_name(dc.value.as_str(), self.data_centers.iter().map(|dc| dc.as_str()), "data centers");
            mistakes.add(dc.at, format!("there is no data center `{}`", dc.value), right);
        }
        found
    }
}

fn right_name<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone, what: &str) -> String {
    match nearest(word, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the {what} are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

fn unique<'a, T: Display + Eq + Ord + 'a>(
    what: &str,
    names: impl Iterator<Item = &'a At<T>>,
    mistakes: &mut Mistakes,
) {
    let mut seen: BTreeMap<&T, Place> = BTreeMap::new();
    for name in names {
        if let Some(first) = seen.get(&name.value) {
            let wrong = format!("there is already a {what} `{}` (line {})", name.value, first.line);
            mistakes.add(name.at, wrong, "give each its own name");
        } else {
            seen.insert(&name.value, name.at);
        }
    }
}

/// Loopback only, unless the manifest says otherwise.
fn addresses(draft: &Draft, mistakes: &mut Mistakes) {
    const RIGHT: &str =
        "take one of 127.0.0.0/8, or write `allow_non_loopback: true` at the top if others may reach it";
    if draft.store == StoreKind::Etcd && draft.witness.is_none() && draft.data_centers.len() < MEMBERS_MIN {
        let wrong = format!("`store: etcd` with {} data centers", draft.data_centers.len());
        let right = format!(
            "it takes {MEMBERS_MIN} members to survive the loss of one; add a data center, with two regions a `witness`, or write `store: redb`"
        );
        mistakes.add(draft.control_at, wrong, right);
    }
    if let Some(control) = &draft.control {
        if control.value.port() == 0 {
            mistakes.add(control.at, "`listen` has port 0", "name the port, for example 127.0.1.1:7000");
        }
        if control.value.ip().is_unspecified() && draft.allow_non_loopback {
            let wrong = format!("`listen`: {} is not an address others can call", control.value.ip());
            mistakes.add(control.at, wrong, "name the address the other machines reach this one by");
        } else if !control.value.ip().is_loopback() && !draft.allow_non_loopback {
            mistakes.add(
                control.at,
                format!("`listen`: {} is not a loopback address", control.value.ip()),
                RIGHT,
            );
        }
    }
    let witness = draft.witness.iter().filter_map(|witness| witness.network.as_ref());
    for network in draft.data_centers.iter().filter_map(|dc| dc.network.as_ref()).chain(witness) {
        if !network.value.is_loopback() && !draft.allow_non_loopback {
            mistakes.add(
                network.at,
                format!("`network`: {} is not a loopback network", network.value),
                RIGHT,
            );
        }
    }
}

/// A witness is for two regions, of which neither has a majority without it.
fn check_witness(witness: &WitnessDraft, draft: &Draft, mistakes: &mut Mistakes) {
    if let Some(name) = &witness.name
        && draft.data_centers.iter().filter_map(|dc| dc.name.as_ref()).any(|dc| dc.value == name.value)
    {
        mistakes.add(
            name.at,
            format!("`{}` is a data center", name.value),
            "give the witness a name of its own",
        );
    }
    if draft.regions.len() != WITNESSED_REGIONS {
        let wrong = format!("a witness for {} regions", draft.regions.len());
        let right =
            "a witness decides between two regions: leave it out, with three each has a member that counts";
        mistakes.add(witness.at, wrong, right);
    }
}

fn networks(draft: &Draft, mistakes: &mut Mistakes) {
    let data_centers =
        draft.data_centers.iter().filter_map(|dc| Some((dc.name.as_ref()?, dc.network.as_ref()?)));
    let witness = draft.witness.iter().filter_map(|site| Some((site.name.as_ref()?, site.network.as_ref()?)));
    let networks: Vec<_> = data_centers.chain(witness).collect();
    for (n, (_, network)) in networks.iter().enumerate() {
        if let Some((name, other)) = networks[..n].iter().find(|(_, o)| o.value.overlaps(network.value)) {
            let wrong = format!("{} overlaps {} of data center `{}`", network.value, other.value, name.value);
            mistakes.add(network.at, wrong, "give each data center a network of its own");
        }
    }
}

fn application(app: &ApplicationDraft, known: &Known<'_>, programs: &Programs, mistakes: &mut Mistakes) {
    if let Some(name) = &app.name
        && APPLICATIONS_RESERVED.contains(&name.value.as_str())
    {
        let right = format!("choose another, for example `{}-app`", name.value);
        mistakes.add(name.at, format!("`{}` is a reserved name", name.value), right);
    }
    for dc in &app.data_centers {
        known.data_center(dc, mistakes);
    }
    if let Some(program) = &app.program
        && programs.find(&program.value).is_none()
    {
        let (wrong, right) = if program.value.contains('/') {
            let wrong =
                format!("program `{}` is not the absolute path of a file that can be run", program.value);
            (wrong, "write a path from `/`, or the bare name of a program".to_owned())
        } else {
            let wrong =
                format!("program `{}` is neither beside the `dujiang` binary nor in PATH", program.value);
            let beside = programs.beside.display();
            (wrong, format!("build it (`cargo build`) so that it lies in {beside}, or give its path"))
        };
        mistakes.add(program.at, wrong, right);
    }
    routes(&app.routes, mistakes);
    if let Some(dns) = &app.dns {
        for dc in dns.value.weights.keys() {
            known.data_center(&At { at: dns.at, value: dc.clone() }, mistakes);
        }
        for region in dns.value.regions.keys().filter(|region| !known.regions.contains(region)) {
            mistakes.add(dns.at, format!("`dns`: there is no region `{region}`"), "name one of `regions`");
        }
    }
}

/// The first rule that matches wins, so a rule behind a shorter prefix is never reached.
fn routes(routes: &[RouteDraft], mistakes: &mut Mistakes) {
    let prefixes: Vec<&At<String>> = routes.iter().filter_map(|route| route.prefix.as_ref()).collect();
    for (n, prefix) in prefixes.iter().enumerate() {
        if !prefix.value.starts_with('/') {
            let wrong = format!("`prefix`: {:?} does not begin with '/'", prefix.value);
            mistakes.add(prefix.at, wrong, format!("write `/{}`", prefix.value));
        } else if let Some(before) = prefixes[..n].iter().find(|p| prefix.value.starts_with(&p.value)) {
            let wrong = format!(
                "route `{}` is never reached: `{}` before it matches first",
                prefix.value, before.value
            );
            mistakes.add(prefix.at, wrong, "put the longer prefix first");
        }
    }
}

fn check_unit(unit: &UnitDraft, known: &Known<'_>, mistakes: &mut Mistakes) {
    if let Some(app) = &unit.application
        && !known.applications.contains_key(&app.value)
    {
        let right =
            right_name(app.value.as_str(), known.applications.keys().map(|a| a.as_str()), "applications");
        mistakes.add(app.at, format!("there is no application `{}`", app.value), right);
    }
    replicas(unit, known, mistakes);
    if let Some(home) = &unit.home
        && known.data_center(home, mistakes)
        && !unit.replicas.is_empty()
        && unit.replicas.iter().all(|dc| dc.value != home.value)
    {
        let wrong = format!("home `{}` is not among the unit's replicas", home.value);
        let right = format!("add `{}` to `replicas` (line {})", home.value, unit.replicas_at.line);
        mistakes.add(home.at, wrong, right);
    }
    if unit.durability == Some(Durability::Zero) && (1..REPLICAS_FOR_ZERO).contains(&unit.replicas.len()) {
        mistakes.add(
            unit.replicas_at,
            "durability `zero` needs at least 2 replicas: a commit is acknowledged once it is in two data centers",
            "add a data center to `replicas` (3 to keep serving when one is lost), or write `durability: bounded`",
        );
    }
}

/// A unit can be at home wherever it has a replica, so its application has to run there.
fn replicas(unit: &UnitDraft, known: &Known<'_>, mistakes: &mut Mistakes) {
    let app = unit.application.as_ref().and_then(|app| known.applications.get_key_value(&app.value));
    for dc in &unit.replicas {
        if !known.data_center(dc, mistakes) {
            continue;
        }
        if let Some((name, app)) = app
            && !app.data_centers.is_empty()
            && app.data_centers.iter().all(|other| other.value != dc.value)
        {
            let wrong = format!("application `{name}` does not run in `{}`", dc.value);
            let right =
                format!("add `{}` to the application's `data_centers`, or take the replica away", dc.value);
            mistakes.add(dc.at, wrong, right);
        }
    }
}

/// Every slot of an application belongs to exactly one unit; applications have slots of their own.
fn slots(draft: &Draft, mistakes: &mut Mistakes) {
    let mut applications = BTreeMap::<&AppId, Vec<&UnitDraft>>::new();
    let is_known = |name: &AppId| {
        draft.applications.iter().filter_map(|app| app.name.as_ref()).any(|known| known.value == *name)
    };
    // A unit without a readable name, application or slots was named already; what it would own is not known.
    let mut complete = true;
    for unit in &draft.units {
        complete &= unit.name.is_some() && !unit.slots.is_empty();
        complete &= unit.application.as_ref().is_some_and(|application| is_known(&application.value));
        if let Some(application) = &unit.application {
            applications.entry(&application.value).or_default().push(unit);
        }
    }
    for (application, units) in applications {
        let owners = owners(&units, mistakes);
        for (from, to) in gaps(&owners).into_iter().filter(|_| complete) {
            let wrong = format!(
                "slots {from}-{to} belong to no unit of `{application}`: their customers could not be served"
            );
            mistakes.add(draft.units_at, wrong, format!("add `{from}-{to}` to the `slots` of a unit"));
        }
    }
}

/// The first unit that names each slot; that there is a second one is a mistake.
fn owners<'a>(units: &[&'a UnitDraft], mistakes: &mut Mistakes) -> Vec<Option<&'a UnitId>> {
    let mut owners: Vec<Option<&UnitId>> = vec![None; usize::from(SLOT_COUNT)];
    for unit in units {
        let Some(name) = &unit.name else { continue };
        for range in &unit.slots {
            let (first, last) = (range.value.first.get(), range.value.last.get());
            let mut taken: Option<(u16, u16, &UnitId)> = None;
            for slot in first..=last {
                match owners[usize::from(slot)] {
                    None => owners[usize::from(slot)] = Some(&name.value),
                    Some(owner) => taken = Some((taken.map_or(slot, |(from, ..)| from), slot, owner)),
                }
            }
            if let Some((from, to, owner)) = taken {
                let wrong = format!("slots {from}-{to} belong to unit `{owner}` already");
                mistakes.add(range.at, wrong, "give every slot to exactly one unit");
            }
        }
    }
    owners
}

fn gaps(owners: &[Option<&UnitId>]) -> Vec<(usize, usize)> {
    let mut gaps: Vec<(usize, usize)> = Vec::new();
    for slot in (0..owners.len()).filter(|slot| owners[*slot].is_none()) {
        match gaps.last_mut() {
            Some((_, to)) if *to + 1 == slot => *to = slot,
            _ => gaps.push((slot, slot)),
        }
    }
    gaps
}

/// Every address of the platform is bound by one process only.
fn ports(draft: &Draft, mistakes: &mut Mistakes) {
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    if let Some(control) = &draft.control {
        taken.insert(control.value, "the control plane".to_owned());
    }
    // A unit's port is the same in every data center: its clash is named once, not once for each.
    let mut noted: BTreeSet<Place> = BTreeSet::new();
    let mut take = |at: Place, address: SocketAddr, by: String, mistakes: &mut Mistakes| {
        if let Some(other) = taken.get(&address) {
            if noted.insert(at) {
                let wrong = format!("{by} would listen on {address}, as {other} does");
                mistakes.add(at, wrong, "choose another port");
            }
        } else {
            taken.insert(address, by);
        }
    };
    for (n, dc) in draft.data_centers.iter().enumerate() {
        let (Some(name), Some(network)) = (&dc.name, &dc.network) else { continue };
        let before = draft.data_centers[..n].iter().filter_map(|other| other.network.as_ref());
        if before.into_iter().any(|other| other.value.overlaps(network.value)) {
            continue; // Named already; every single address would clash too.
        }
        let name = &name.value;
        let main = |port| SocketAddr::new(network.value.host(DataCenterSpec::HOST_MAIN), port);
        let fixed = fixed_addresses(network);
        for (address, what) in fixed {
            take(network.at, address, format!("the {what} of `{name}`"), mistakes);
        }
        if let Some(port) = &dc.gateway_port {
            take(port.at, main(port.value), format!("the gateway of `{name}`"), mistakes);
        }
        for unit in draft.units.iter().filter(|unit| unit.replicas.iter().any(|dc| dc.value == *name)) {
            let (Some(unit), Some(port)) = (&unit.name, &unit.port) else { continue };
            take(port.at, main(port.value), format!("the database of `{}`", unit.value), mistakes);
        }
        for dns in draft.applications.iter().filter_map(|app| app.dns.as_ref()) {
            take(dns.at, main(dns.value.port), format!("the names of `{name}`"), mistakes);
        }
        let apps = network.value.host(DataCenterSpec::HOST_APPS);
        for app in draft.applications.iter().filter(|app| app.data_centers.iter().any(|dc| dc.value == *name))
        {
            take_instances(app, apps, &mut take, mistakes);
        }
    }
}

/// What every data center has at the same ports, some of it only with a control server in each.
fn fixed_addresses(network: &At<dujiang_types::platform::Network>) -> [(SocketAddr, &'static str); 6] {
    // Only the network matters for these.
    let gateway = GatewaySpec { port: 0, threads: 1 };
    let region = dujiang_types::RegionId::new("any");
    let region = region.unwrap_or_else(|_| unreachable!("a constant that is a name"));
    let spec = DataCenterSpec { region, network: network.value, gateway };
    [
        (spec.agent_address(), "agent"),
        (spec.mesh_address(), "gateway (for other gateways)"),
        (spec.gateway_admin_address(), "gateway (for health checks)"),
        (spec.control_address(), "control server"),
        (spec.etcd_address(), "etcd member"),
        (spec.etcd_peer_address(), "etcd member (for other members)"),
    ]
}

fn take_instances(
    app: &ApplicationDraft,
    host: IpAddr,
    take: &mut impl FnMut(Place, SocketAddr, String, &mut Mistakes),
    mistakes: &mut Mistakes,
) {
    let (Some(name), Some(port), Some(instances)) = (&app.name, &app.port, &app.instances) else { return };
    for number in 0..instances.value {
        let Some(instance) = port.value.checked_add(number) else {
            let wrong = format!("instance {number} of `{}` would need a port above 65535", name.value);
            mistakes.add(port.at, wrong, "choose a lower port or fewer instances");
            return;
        };
        let by = format!("instance {number} of application `{}`", name.value);
        take(port.at, SocketAddr::new(host, instance), by, mistakes);
    }
}
