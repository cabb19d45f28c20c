//! Whole platforms of real processes: three data centers, three units, PostgreSQL, gateways and the bank.

#![expect(clippy::unwrap_used, reason = "what a test stands on may panic")]

mod alone;
mod drills;
mod garbage;
mod ha;
mod lifecycle;
mod lists;
mod moves;
mod names;
mod ports;
mod readiness;
mod region;
mod renewal;
mod signals;
mod slow;
mod store;
mod wrong;

use dujiang_testkit::cluster::{Cluster, DATA_CENTERS};
use dujiang_testkit::verify::Report;
use dujiang_types::{DcId, UnitId};

/// A rate at which every unit is always busy, and a debug build on two cores still has room.
const RATE: u32 = 60;

fn dc(number: usize) -> DcId {
    DcId::new(DATA_CENTERS[number]).unwrap()
}

fn unit(number: usize) -> UnitId {
    UnitId::new(format!("unit-{number}")).unwrap()
}

/// The books are right, and the load did get through.
#[track_caller]
fn assert_clean(report: &Report, acknowledged_min: u64) {
    assert!(report.is_clean(), "{:#?}", report.violations);
    let acknowledged = report.journal.unwrap().acknowledged;
    assert!(acknowledged >= acknowledged_min, "only {acknowledged} payments were acknowledged");
}

/// A platform that is up and whole.
async fn cluster() -> Cluster {
    match Cluster::start().await {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}
