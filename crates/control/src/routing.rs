//! The routing table, derived from the records.

use dujiang_routing::table::ApplicationRoute;
use dujiang_routing::{Mode, RoutingTable, UnitRoute};
use dujiang_types::dns::{Directory, Site};
use dujiang_types::platform::Application;
use dujiang_types::{DcId, UnitId};

use crate::records::Records;

/// Derives the table from the records; its version is their revision.
pub(crate) fn routing_table(records: &Records) -> RoutingTable {
    let units = records.units.iter().map(|(name, unit)| UnitRoute {
        unit: UnitId::clone(name),
        application: unit.spec.application.clone(),
        epoch: unit.status.epoch,
        home: unit.status.home.clone(),
        mode: if unit.status.phase.holds() { Mode::Hold } else { Mode::Forward },
        slots: unit.spec.slots.clone(),
    });
    let mesh = records.datacenters.iter().map(|(dc, record)| (dc.clone(), record.spec.mesh_address()));
    let applications = records.applications.iter().map(|(name, application)| {
        let instances = application.spec.data_centers.iter();
        let instances =
            instances.filter_map(|dc| Some((dc.clone(), instances_in(records, application, dc)?)));
        let route =
            ApplicationRoute { routes: application.spec.routes.clone(), instances: instances.collect() };
        (name.clone(), route)
    });
    RoutingTable {
        version: records.revision,
        units: units.collect(),
        mesh: mesh.collect(),
        applications: applications.collect(),
        dns: directory(records),
    }
}

/// What the names lead to. Only one application has any: the first is as good as an error nobody sees.
fn directory(records: &Records) -> Option<Directory> {
    let application = records.applications.values().find(|application| application.spec.dns.is_some())?;
    let spec = application.spec.dns.clone()?;
    let sites = records.datacenters.iter().map(|(dc, record)| {
        let site = Site {
            region: record.spec.region.clone(),
            address: record.spec.gateway_address().ip(),
            health: record.spec.gateway_admin_address(),
            drained: records.drained.contains_key(dc),
        };
        (dc.clone(), site)
    });
    Some(Directory { spec, sites: sites.collect(), serial: application.revision })
}

fn instances_in(
    records: &Records,
    application: &Application,
    dc: &DcId,
) -> Option<Vec<std::net::SocketAddr>> {
    let spec = &records.datacenters.get(dc)?.spec;
    Some((0..application.spec.instances).map(|n| spec.instance_address(&application.spec, n)).collect())
}

/// The table to publish after the records have changed, if it has to be another one.
///
/// Its version is the revision at which it last said something else; and as a move waits until every gateway has a
/// table at least as new as the record that tells it to hold, a held unit's record is never newer than the table.
pub(crate) fn next_table(current: &RoutingTable, records: &Records) -> Option<RoutingTable> {
    let next = routing_table(records);
    let same = RoutingTable { version: current.version, ..next.clone() } == *current;
    let held_newer =
        records.units.values().any(|unit| unit.status.phase.holds() && unit.revision > current.version);
    (!same || held_newer).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use dujiang_types::unit::Phase;
    use dujiang_types::{Epoch, Revision};

    #[test]
    fn a_unit_is_forwarded_to_its_home_only_while_it_serves() {
        let mut records = fixture::records();
        let id = UnitId::new("unit-1").unwrap();
        for (phase, mode) in [
            (Phase::Forming, Mode::Hold),
            (Phase::Serving, Mode::Forward),
            (Phase::Holding { to: fixture::dc("b") }, Mode::Hold),
            (Phase::Electing, Mode::Hold),
        ] {
            records.units.get_mut(&id).unwrap().status.phase = phase;
            assert_eq!(routing_table(&records).units[0].mode, mode);
        }
    }

    #[test]
    fn the_home_is_the_decided_one_not_the_first() {
        let mut records = fixture::records();
        let unit = records.units.get_mut(&UnitId::new("unit-1").unwrap()).unwrap();
        unit.status.home = fixture::dc("b");
        unit.status.epoch = Epoch(7);
        let table = routing_table(&records);
        assert_eq!((table.units[0].home.as_str(), table.units[0].epoch), ("b", Epoch(7)));
    }

    #[test]
    fn addresses_follow_the_data_centers_networks() {
        let table = routing_table(&fixture::records());
        assert_eq!(table.mesh[&fixture::dc("b")], "127.0.12.1:7200".parse().unwrap());
        let bank = table.applications.values().next().unwrap();
        let expected: Vec<std::net::SocketAddr> =
            vec!["127.0.11.10:9000".parse().unwrap(), "127.0.11.10:9001".parse().unwrap()];
        assert_eq!(bank.instances[&fixture::dc("a")], expected);
    }

    #[test]
    fn the_version_rises_only_when_the_table_says_something_else() {
        let mut records = fixture::records();
        let table = routing_table(&records);
        records.revision = Revision(table.version.0 + 5);
        records.units.values_mut().for_each(|unit| unit.status.reason = "another".to_owned());
        assert_eq!(next_table(&table, &records), None);
        records.units.values_mut().for_each(|unit| unit.status.phase = Phase::Serving);
        assert_eq!(next_table(&table, &records).unwrap().version, records.revision);
    }

    #[test]
    fn a_held_units_record_is_never_newer_than_the_table() {
        let mut records = fixture::records();
        let table = routing_table(&records);
        records.revision = Revision(table.version.0 + 1);
        records.units.values_mut().for_each(|unit| unit.revision = records.revision);
        assert_eq!(next_table(&table, &records).unwrap().version, records.revision);
    }
}
