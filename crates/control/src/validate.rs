//! What a spec must be like, alone and beside the others. Every mistake is named, not only the first.

use std::collections::BTreeSet;

use dujiang_types::platform::{ApplicationSpec, DataCenterSpec, KeySource};
use dujiang_types::unit::{Durability, UnitSpec};
use dujiang_types::{AppId, DcId, SlotRange, UnitId};

use crate::records::Records;

/// Ports of a data center's main host that are the platform's own: agent, mesh, gateway health.
const PORTS_OWN: [u16; 3] = [7100, 7200, 7201];
/// Lower ports need privileges that databases and applications do not have.
const PORT_MIN: u16 = 1024;
/// More workers than any machine of ours has processors would only compete.
const GATEWAY_THREADS_MAX: u16 = 64;
/// Instances of an application per data center: enough for one host, and bounds the routing table.
const INSTANCES_MAX: u16 = 64;
/// Replicas of a unit; every one of them costs the primary a sender and a full copy.
const REPLICAS_MAX: usize = 8;
/// Slot ranges of a unit: bounds what a gateway walks through for every request.
const SLOT_RANGES_MAX: usize = 256;
/// Routes of an application: bounds what a gateway walks through for every request.
const ROUTES_MAX: usize = 64;
/// Names that mean something to PostgreSQL or to the agent's own roles.
const APPLICATION_NAMES_RESERVED: [&str; 4] = ["dujiang", "postgres", "template0", "template1"];

/// Mistakes of a data center's spec; empty if there is none.
pub(crate) fn data_center(records: &Records, name: &DcId, spec: &DataCenterSpec) -> Vec<String> {
    let mut mistakes = Mistakes::default();
    let port = spec.gateway.port;
    mistakes.require(port != 0 && !PORTS_OWN.contains(&port), || {
        format!("spec.gateway.port: {port} cannot be used; 7100, 7200 and 7201 are the platform's own")
    });
    mistakes.require((1..=GATEWAY_THREADS_MAX).contains(&spec.gateway.threads), || {
        format!("spec.gateway.threads: {} is not between 1 and {GATEWAY_THREADS_MAX}", spec.gateway.threads)
    });
    for (other, record) in records.datacenters.iter().filter(|(other, _)| *other != name) {
        mistakes.require(!spec.network.overlaps(record.spec.network), || {
            format!("spec.network: {} overlaps {} of {other}", spec.network, record.spec.network)
        });
    }
    for (unit, record) in records.units.iter().filter(|(_, unit)| unit.spec.replicas.contains(name)) {
        mistakes.require(record.spec.port != port, || {
            format!("spec.gateway.port: {port} is the port of {unit}'s database here")
        });
    }
    if let Some(old) = records.datacenters.get(name) {
        let users = users_of(records, name);
        mistakes.require(old.spec.network == spec.network || users.is_empty(), || {
            format!(
                "spec.network: cannot change from {} while in use by {}",
                old.spec.network,
                users.join(", ")
            )
        });
    }
    mistakes.0
}

/// Mistakes of an application's spec; empty if there is none.
pub(crate) fn application(records: &Records, name: &AppId, spec: &ApplicationSpec) -> Vec<String> {
    let mut mistakes = Mistakes::default();
    mistakes.require(!APPLICATION_NAMES_RESERVED.contains(&name.as_str()), || {
        format!("name: {name} is reserved, because database and role of an application carry its name")
    });
    mistakes.require(!spec.program.is_empty(), || "spec.program: is empty".to_owned());
    let words = spec.args.iter().chain(spec.env.keys()).chain(spec.env.values()).chain([&spec.program]);
    mistakes.require(words.clone().all(|word| !word.contains('\0')), || {
        "spec: program, args and env cannot contain a NUL character".to_owned()
    });
    mistakes.require(spec.env.keys().all(|key| !key.is_empty() && !key.contains('=')), || {
        "spec.env: a name of a variable is neither empty nor contains '='".to_owned()
    });
    if let Some(dns) = &spec.dns {
        for mistake in dns.mistakes() {
            mistakes.require(false, || format!("spec.dns.{mistake}"));
        }
        let others = records.applications.iter().filter(|(other, _)| *other != name);
        for (other, _) in others.filter(|(_, record)| record.spec.dns.is_some()) {
            mistakes
                .require(false, || format!("spec.dns: {other} has names already, and one application can"));
        }
    }
    mistakes.require(!spec.data_centers.is_empty(), || "spec.data_centers: is empty".to_owned());
    known(&mut mistakes, records, "spec.data_centers", &spec.data_centers);
    let instances_ok = (1..=INSTANCES_MAX).contains(&spec.instances);
    mistakes.require(instances_ok, || {
        format!("spec.instances: {} is not between 1 and {INSTANCES_MAX}", spec.instances)
    });
    let ports_ok = spec.port >= PORT_MIN && spec.port.checked_add(spec.instances).is_some();
    mistakes.require(ports_ok, || {
        format!("spec.port: {} and one port per instance do not lie between {PORT_MIN} and 65535", spec.port)
    });
    for (other, record) in records.applications.iter().filter(|(other, _)| *other != name) {
        let shared = record.spec.data_centers.intersection(&spec.data_centers).next();
        mistakes.require(shared.is_none() || !ports_meet(spec, &record.spec), || {
            format!("spec.port: the ports from {} on overlap those of {other}", spec.port)
        });
    }
    for (unit, record) in records.units.iter().filter(|(_, unit)| unit.spec.application == *name) {
        let missing = names(record.spec.replicas.difference(&spec.data_centers));
        mistakes.require(missing.is_empty(), || {
            format!("spec.data_centers: {unit} has replicas in {missing}, so the application must run there")
        });
    }
    routes(&mut mistakes, spec);
    mistakes.0
}

fn ports_meet(a: &ApplicationSpec, b: &ApplicationSpec) -> bool {
    let end = |s: &ApplicationSpec| u32::from(s.port) + u32::from(s.instances);
    u32::from(a.port) < end(b) && u32::from(b.port) < end(a)
}

fn routes(mistakes: &mut Mistakes, spec: &ApplicationSpec) {
    mistakes.require(spec.routes.len() <= ROUTES_MAX, || {
        format!("spec.routes: {} routes are more than {ROUTES_MAX}", spec.routes.len())
    });
    for (n, rule) in spec.routes.iter().enumerate() {
        mistakes.require(rule.prefix.starts_with('/'), || {
            format!("spec.routes[{n}].prefix: {:?} does not begin with '/'", rule.prefix)
        });
        if let KeySource::Header { name, .. } = &rule.key {
            let ok = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            mistakes.require(ok, || {
                format!("spec.routes[{n}].key.name: {name:?} is not a header name of a-z, 0-9 and '-'")
            });
        }
    }
}

/// Mistakes of a unit's spec; empty if there is none.
pub(crate) fn unit(records: &Records, name: &UnitId, spec: &UnitSpec) -> Vec<String> {
    let mut mistakes = Mistakes::default();
    replicas(&mut mistakes, records, spec);
    own_slots(&mut mistakes, spec);
    mistakes.require(spec.port >= PORT_MIN && !PORTS_OWN.contains(&spec.port), || {
        format!(
            "spec.port: {} cannot be used; take one from {PORT_MIN} on, not 7100, 7200 or 7201",
            spec.port
        )
    });
    for dc in &spec.replicas {
        let gateway = records.datacenters.get(dc).map(|record| record.spec.gateway.port);
        mistakes.require(gateway != Some(spec.port), || {
            format!("spec.port: {} is the port of the gateway of {dc}", spec.port)
        });
    }
    for (other, record) in records.units.iter().filter(|(other, _)| *other != name) {
        let other_spec = &record.spec;
        let shared = names(other_spec.replicas.intersection(&spec.replicas));
        mistakes.require(other_spec.port != spec.port || shared.is_empty(), || {
            format!("spec.port: {} is the port of {other} in {shared}", spec.port)
        });
        if other_spec.application == spec.application {
            for (range, taken) in overlaps(&spec.slots, &other_spec.slots) {
                mistakes.add(format!("spec.slots: {range} overlaps {taken} of {other}"));
            }
        }
    }
    if let Some(old) = records.units.get(name) {
        unit_change(&mut mistakes, &old.spec, &old.status.home, spec);
    }
    mistakes.0
}

fn replicas(mistakes: &mut Mistakes, records: &Records, spec: &UnitSpec) {
    known(mistakes, records, "spec.replicas", &spec.replicas);
    mistakes.require(spec.replicas.len() <= REPLICAS_MAX, || {
        format!("spec.replicas: {} replicas are more than {REPLICAS_MAX}", spec.replicas.len())
    });
    mistakes.require(spec.replicas.contains(&spec.home), || {
        format!("spec.home: {} is not one of spec.replicas ({})", spec.home, names(&spec.replicas))
    });
    mistakes.require(spec.durability == Durability::Bounded || spec.replicas.len() >= 2, || {
        "spec.replicas: durability zero needs at least two replicas to acknowledge anything".to_owned()
    });
    match records.applications.get(&spec.application) {
        None => mistakes.add(format!("spec.application: there is no application {}", spec.application)),
        Some(application) => {
            let missing = names(spec.replicas.difference(&application.spec.data_centers));
            mistakes.require(missing.is_empty(), || {
                format!("spec.replicas: {} does not run in {missing}", spec.application)
            });
        }
    }
}

fn own_slots(mistakes: &mut Mistakes, spec: &UnitSpec) {
    mistakes.require(!spec.slots.is_empty(), || "spec.slots: is empty".to_owned());
    mistakes.require(spec.slots.len() <= SLOT_RANGES_MAX, || {
        format!("spec.slots: {} ranges are more than {SLOT_RANGES_MAX}", spec.slots.len())
    });
    for (n, range) in spec.slots.iter().enumerate().take(SLOT_RANGES_MAX) {
        for (_, taken) in overlaps(&[*range], &spec.slots[..n]) {
            mistakes.add(format!("spec.slots[{n}]: {range} overlaps {taken} of the same unit"));
        }
    }
}

/// What a unit has been made with cannot be changed by writing another spec.
fn unit_change(mistakes: &mut Mistakes, old: &UnitSpec, home: &DcId, new: &UnitSpec) {
    mistakes.require(old.application == new.application, || {
        format!(
            "spec.application: cannot change from {}; the database is that application's",
            old.application
        )
    });
    mistakes.require(old.home == new.home, || {
        format!("spec.home: cannot change from {}; ask for a move instead", old.home)
    });
    mistakes.require(old.port == new.port, || {
        format!("spec.port: cannot change from {} while databases listen there", old.port)
    });
    mistakes.require(new.replicas.contains(home), || {
        format!("spec.replicas: the unit is at home in {home}; move it before taking its replica away")
    });
    let lost = old.slots.iter().find(|range| !covered(**range, &new.slots));
    if let Some(range) = lost {
        mistakes
            .add(format!("spec.slots: {range} cannot be taken away; customers in it would be unreachable"));
    }
}

/// True if every slot of `range` lies in one of `ranges`.
fn covered(range: SlotRange, ranges: &[SlotRange]) -> bool {
    let mut next = range.first.get();
    loop {
        let best =
            ranges.iter().filter(|r| r.first.get() <= next && next <= r.last.get()).max_by_key(|r| r.last);
        match best {
            None => return false,
            Some(r) if r.last >= range.last => return true,
            Some(r) => next = r.last.get() + 1,
        }
    }
}

/// Pairs of ranges that share a slot.
fn overlaps<'a>(a: &'a [SlotRange], b: &'a [SlotRange]) -> impl Iterator<Item = (SlotRange, SlotRange)> + 'a {
    let pairs = a.iter().flat_map(move |x| b.iter().map(move |y| (*x, *y)));
    pairs.filter(|(x, y)| x.first <= y.last && y.first <= x.last).take(1)
}

fn known(mistakes: &mut Mistakes, records: &Records, field: &str, dcs: &BTreeSet<DcId>) {
    let missing = names(dcs.iter().filter(|dc| !records.datacenters.contains_key(*dc)));
    mistakes.require(missing.is_empty(), || format!("{field}: there is no data center {missing}"));
}

fn names<'a>(dcs: impl IntoIterator<Item = &'a DcId>) -> String {
    dcs.into_iter().map(DcId::as_str).collect::<Vec<_>>().join(", ")
}

/// What stands in a data center: units with a replica there, applications that run there.
pub(crate) fn users_of(records: &Records, dc: &DcId) -> Vec<String> {
    let units =
        records.units.iter().filter(|(_, unit)| unit.spec.replicas.contains(dc) || unit.status.home == *dc);
    let applications = records.applications.iter().filter(|(_, app)| app.spec.data_centers.contains(dc));
    units.map(|(id, _)| id.to_string()).chain(applications.map(|(id, _)| id.to_string())).collect()
}

/// Units of an application.
pub(crate) fn units_of(records: &Records, application: &AppId) -> Vec<String> {
    let units = records.units.iter().filter(|(_, unit)| unit.spec.application == *application);
    units.map(|(id, _)| id.to_string()).collect()
}

#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn add(&mut self, mistake: String) {
        self.0.push(mistake);
    }

    fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.add(otherwise());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn check_unit(name: &str, change: impl FnOnce(&mut UnitSpec)) -> Vec<String> {
        let mut spec = fixture::unit_spec("100-199", 5402);
        change(&mut spec);
        unit(&fixture::records(), &UnitId::new(name).unwrap(), &spec)
    }

    #[track_caller]
    fn one_mistake(mistakes: &[String], field: &str) {
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with(field), "{mistakes:?}");
    }

    #[test]
    fn what_fits_has_no_mistakes() {
        assert_eq!(check_unit("unit-2", |_| ()), Vec::<String>::new());
        let records = fixture::records();
        for (name, record) in &records.datacenters {
            assert_eq!(data_center(&records, name, &record.spec), Vec::<String>::new());
        }
        for (name, record) in &records.applications {
            assert_eq!(application(&records, name, &record.spec), Vec::<String>::new());
        }
        for (name, record) in &records.units {
            assert_eq!(unit(&records, name, &record.spec), Vec::<String>::new());
        }
    }

    #[test]
    fn a_unit_fits_its_data_centers_and_neighbours() {
        one_mistake(&check_unit("unit-2", |s| s.home = fixture::dc("x")), "spec.home");
        one_mistake(&check_unit("unit-2", |s| s.port = 5401), "spec.port");
        one_mistake(&check_unit("unit-2", |s| s.port = 80), "spec.port");
        one_mistake(&check_unit("unit-2", |s| s.port = 7100), "spec.port");
        one_mistake(&check_unit("unit-2", |s| s.slots = vec!["50-150".parse().unwrap()]), "spec.slots");
        one_mistake(&check_unit("unit-2", |s| s.slots.push("199-200".parse().unwrap())), "spec.slots[1]");
        one_mistake(&check_unit("unit-2", |s| s.slots.clear()), "spec.slots");
        one_mistake(&check_unit("unit-2", |s| s.application = AppId::new("x").unwrap()), "spec.application");
        one_mistake(
            &check_unit("unit-2", |s| s.replicas = BTreeSet::from([fixture::dc("a")])),
            "spec.replicas",
        );
        let gateway = check_unit("unit-2", |s| s.port = 8080);
        assert_eq!(gateway.len(), 3, "one for every data center: {gateway:?}");
        let unknown = check_unit("unit-2", |s| s.replicas.extend([fixture::dc("x")]));
        assert_eq!(unknown.len(), 2, "neither data center nor application there: {unknown:?}");
    }

    #[test]
    fn slots_of_another_application_do_not_clash() {
        let mut records = fixture::records();
        let mut other = fixture::application("cards");
        other.spec.port = 9100;
        records.applications.insert(AppId::new("cards").unwrap(), other);
        let mut spec = fixture::unit_spec("0-99", 5402);
        spec.application = AppId::new("cards").unwrap();
        assert_eq!(unit(&records, &UnitId::new("unit-2").unwrap(), &spec), Vec::<String>::new());
    }

    #[test]
    fn what_a_unit_was_made_with_stays() {
        let change = |change: fn(&mut UnitSpec)| {
            let mut spec = fixture::unit_spec("0-99", 5401);
            change(&mut spec);
            unit(&fixture::records(), &UnitId::new("unit-1").unwrap(), &spec)
        };
        one_mistake(&change(|s| s.home = fixture::dc("b")), "spec.home");
        one_mistake(&change(|s| s.port = 5403), "spec.port");
        one_mistake(&change(|s| s.slots = vec!["0-98".parse().unwrap()]), "spec.slots");
        assert_eq!(
            change(|s| s.slots = vec!["0-50".parse().unwrap(), "51-120".parse().unwrap()]),
            Vec::<String>::new()
        );
        let moved_away = change(|s| s.replicas.retain(|dc| dc.as_str() != "a"));
        assert_eq!(moved_away.len(), 2, "{moved_away:?}");
    }

    #[test]
    fn data_centers_do_not_share_addresses_or_ports() {
        let records = fixture::records();
        let check = |name: &str, network: &str, port: u16, threads: u16| {
            let mut spec = fixture::data_center(name, network).spec;
            (spec.gateway.port, spec.gateway.threads) = (port, threads);
            data_center(&records, &fixture::dc(name), &spec)
        };
        one_mistake(&check("d", "127.0.11.0/24", 8080, 1), "spec.network");
        one_mistake(&check("d", "127.0.14.0/24", 7200, 1), "spec.gateway.port");
        one_mistake(&check("d", "127.0.14.0/24", 8080, 0), "spec.gateway.threads");
        one_mistake(&check("a", "127.0.14.0/24", 8080, 1), "spec.network");
        one_mistake(&check("a", "127.0.11.0/24", 5401, 1), "spec.gateway.port");
    }

    #[test]
    fn applications_run_where_their_units_may_be_at_home() {
        let records = fixture::records();
        let check = |name: &str, change: fn(&mut ApplicationSpec)| {
            let mut spec = fixture::application(name).spec;
            change(&mut spec);
            application(&records, &AppId::new(name).unwrap(), &spec)
        };
        one_mistake(&check("bank", |s| s.data_centers.retain(|dc| dc.as_str() != "c")), "spec.data_centers");
        one_mistake(&check("cards", |_| ()), "spec.port");
        one_mistake(&check("cards", |s| s.port = 9001), "spec.port");
        assert_eq!(check("cards", |s| s.port = 9002), Vec::<String>::new());
        one_mistake(&check("cards", |s| s.port = 65_535), "spec.port");
        one_mistake(&check("postgres", |s| s.port = 9100), "name");
        one_mistake(&check("bank", |s| s.routes[0].prefix = "v1".to_owned()), "spec.routes[0].prefix");
        one_mistake(&check("bank", |s| s.instances = 0), "spec.instances");
        one_mistake(&check("bank", |s| drop(s.env.insert("A=B".to_owned(), String::new()))), "spec.env");
    }
}
