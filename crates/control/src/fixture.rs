//! A small platform for tests of pure parts: three data centers, one application, one unit.

use std::collections::{BTreeMap, BTreeSet};

use dujiang_types::api::AgentReport;
use dujiang_types::platform::{
    Application, ApplicationSpec, DataCenter, DataCenterSpec, Empty, GatewaySpec, KeyForm, KeySource,
    RouteRule,
};
use dujiang_types::unit::{Durability, Unit, UnitSpec};
use dujiang_types::{AppId, DcId, Kind, RegionId, Resource, Revision, UnitId};

use crate::records::Records;

pub(crate) fn dc(name: &str) -> DcId {
    DcId::new(name).unwrap()
}

pub(crate) fn data_center(name: &str, network: &str) -> DataCenter {
    let spec = DataCenterSpec {
        region: RegionId::new("r").unwrap(),
        network: network.parse().unwrap(),
        gateway: GatewaySpec { port: 8080, threads: 1 },
    };
    resource(Kind::DataCenter, name, spec, Empty {})
}

pub(crate) fn application(name: &str) -> Application {
    let spec = ApplicationSpec {
        program: "dujiang-bank".to_owned(),
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        data_centers: BTreeSet::from([dc("a"), dc("b"), dc("c")]),
        instances: 2,
        port: 9000,
        dns: None,
        routes: vec![RouteRule {
            prefix: "/v1/accounts/".to_owned(),
            key: KeySource::Segment { form: KeyForm::Account },
        }],
    };
    resource(Kind::Application, name, spec, Empty {})
}

pub(crate) fn unit_spec(slots: &str, port: u16) -> UnitSpec {
    UnitSpec {
        application: AppId::new("bank").unwrap(),
        home: dc("a"),
        replicas: BTreeSet::from([dc("a"), dc("b"), dc("c")]),
        slots: vec![slots.parse().unwrap()],
        durability: Durability::Zero,
        port,
    }
}

pub(crate) fn unit(name: &str, slots: &str, port: u16) -> Unit {
    let spec = unit_spec(slots, port);
    let status = crate::births::unit_status(&spec, false, jiff::Timestamp::UNIX_EPOCH);
    resource(Kind::Unit, name, spec, status)
}

/// A report of the agent of `a` that says nothing.
pub(crate) fn report(session: &str, sequence: u64) -> AgentReport {
    AgentReport {
        dc: dc("a"),
        session: session.to_owned(),
        sequence,
        units: BTreeMap::new(),
        instances: BTreeMap::new(),
        renew: BTreeMap::new(),
        meters: BTreeMap::new(),
        host: None,
        versions: BTreeMap::new(),
        examined: None,
    }
}

fn resource<S, T>(kind: Kind, name: &str, spec: S, status: T) -> Resource<S, T> {
    Resource {
        kind,
        name: name.to_owned(),
        labels: std::collections::BTreeMap::new(),
        revision: Revision(1),
        spec,
        status,
    }
}

pub(crate) fn records() -> Records {
    let mut records = Records { revision: Revision(10), ..Records::default() };
    for (name, network) in [("a", "127.0.11.0/24"), ("b", "127.0.12.0/24"), ("c", "127.0.13.0/24")] {
        records.datacenters.insert(dc(name), data_center(name, network));
    }
    records.applications.insert(AppId::new("bank").unwrap(), application("bank"));
    records.units.insert(UnitId::new("unit-1").unwrap(), unit("unit-1", "0-99", 5401));
    records
}
