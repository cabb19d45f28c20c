//! The control plane stands still: payments go on without it, and it disturbs nothing when it comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, PATIENCE};
use dujiang_testkit::journal::{self, Line, Outcome};
use dujiang_testkit::load::{Load, Mix};
use dujiang_testkit::processes::{Kind, Process};
use dujiang_testkit::status::Status;
use dujiang_types::unit::Unit;
use dujiang_types::{DcId, Epoch, UnitId};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::{RATE, assert_clean, cluster};

/// A lease granted now covers no payment that is asked for later than this: with its margin it has three seconds.
const LEASES_OVER: Duration = Duration::from_secs(3);
/// Payments of each unit that have to be asked for and acknowledged after that.
const PAYMENTS: usize = 50;

/// A process that stands still until dropped.
struct Frozen(Process);

impl Frozen {
    fn new(process: Process) -> Self {
        process.signal(Signal::SIGSTOP).unwrap();
        Self(process)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT).unwrap();
    }
}

/// Where each unit is at home, and under which epoch.
fn homes(status: &Status) -> BTreeMap<UnitId, (DcId, Epoch)> {
    let home = |unit: &Unit| (unit.status.home.clone(), unit.status.epoch);
    status.units.iter().map(|(name, view)| (name.clone(), home(&view.unit))).collect()
}

/// Payments by unit that were asked for after a moment and have been acknowledged.
fn paid_since(cluster: &Cluster, load: &Load, since_us: u64) -> BTreeMap<UnitId, usize> {
    let mut asked = BTreeMap::new();
    let mut paid = BTreeMap::new();
    let scanned = journal::scan(&cluster.journal(), |line| match line {
        Line::Sent(sent) if sent.key.starts_with(load.run()) && sent.request.moves_money() => {
            asked.entry(sent.key).or_insert(sent.at_us);
        }
        Line::Ended(ended) if asked.get(&ended.key).is_some_and(|at_us| *at_us >= since_us) => {
            if let Outcome::Acknowledged(_) = ended.outcome {
                *paid.entry(ended.unit).or_default() += 1;
            }
        }
        Line::Began(_) | Line::Sent(_) | Line::Ended(_) => {}
    });
    scanned.unwrap();
    paid
}

/// Waits until every unit has made payments that no lease granted before now covers.
async fn paid_beyond_leases(cluster: &Cluster, load: &Load, units: usize) {
    let since_us = load.now_us() + u64::try_from(LEASES_OVER.as_micros()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let paid = paid_since(cluster, load, since_us);
        if paid.len() == units && paid.values().all(|count| *count >= PAYMENTS) {
            return;
        }
        assert!(Instant::now() < deadline, "only {paid:?} were paid beyond the leases");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_go_on_while_the_control_plane_stands_still() {
    let cluster = cluster().await;
    let load = cluster.load(RATE, Mix::default(), 10).await.unwrap();
    let before = homes(&cluster.whole().await.unwrap());
    let frozen = Frozen::new(cluster.processes(&Kind::Control, None).unwrap().remove(0));
    paid_beyond_leases(&cluster, &load, before.len()).await;
    let silent = cluster.control().unwrap().status().await;
    assert!(silent.is_err(), "the control plane does not stand still: {silent:?}");
    drop(frozen);
    let after = cluster.whole().await.unwrap();
    // What it makes of the silence it wakes up to shows while payments go on.
    paid_beyond_leases(&cluster, &load, before.len()).await;
    assert_eq!(homes(&after), before);
    assert_eq!(homes(&cluster.whole().await.unwrap()), before);
    let summary = load.stop().await.unwrap();
    assert_eq!((summary.total.failed_requests, summary.total.unknown), (0, 0), "{summary:#?}");
    assert_clean(&cluster.verify().await.unwrap(), 200);
}
