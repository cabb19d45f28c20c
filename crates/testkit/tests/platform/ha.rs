//! A control plane that lives in the data centers it looks after: lost with one of them, and lost as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, DATA_CENTERS, PATIENCE};
use dujiang_testkit::drill::{self, Options, Stop};
use dujiang_testkit::load::{Load, Mix};
use dujiang_testkit::processes::{Kind, Process};
use dujiang_types::{DcId, Epoch, UnitId};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::{RATE, assert_clean};

/// Payments that must be acknowledged while nobody decides: many times more than one lease would let through.
const PAYMENTS_ALONE: u64 = 300;
/// No lease granted now holds for longer.
const LEASES_OVER: Duration = Duration::from_secs(3);

async fn cluster() -> Cluster {
    match Cluster::start_ha().await {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// The data center whose control server decides.
async fn leader(cluster: &Cluster) -> DcId {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = cluster.control().unwrap().status().await;
        if let Some(dc) = status.ok().and_then(|status| DcId::new(status.leader).ok()) {
            return dc;
        }
        assert!(Instant::now() < deadline, "no control server leads");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn places(cluster: &Cluster) -> BTreeMap<UnitId, (DcId, Epoch)> {
    let status = cluster.whole().await.unwrap();
    let place = |unit: &dujiang_types::unit::Unit| (unit.status.home.clone(), unit.status.epoch);
    status.units.iter().map(|(name, view)| (name.clone(), place(&view.unit))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_data_center_that_decides_is_just_another_drill() {
    let cluster = cluster().await;
    let lost = leader(&cluster).await;
    let fault = Duration::from_secs(12);
    let journal = cluster.journal();
    let options = Options {
        rate: RATE,
        accounts: 60,
        mix: Mix::default(),
        seed: 7,
        fault,
        journal,
        stop: Stop::default(),
    };
    let platform = cluster.platform().unwrap();
    let report = drill::dc_loss(platform, &lost, options, |_| {}).await.unwrap();
    assert!(report.is_correct(), "{:?} {:#?}", report.troubles, report.books.violations);
    for (name, seen) in &report.units {
        assert_ne!(seen.home_after, Some(lost.clone()), "{name}");
        assert!(seen.acknowledged > 0, "{name} was not served while {lost} was off");
        assert!(seen.at_fault || seen.failed_otherwise == 0, "{name}: {seen:?}");
    }
    let decides = leader(&cluster).await;
    assert!(DATA_CENTERS.contains(&decides.as_str()), "{decides}");
}

/// Waits for payments of every unit that none of the leases of now covers.
async fn go_on(load: &Load) {
    let (acknowledged, since) = (load.progress().acknowledged(), Instant::now());
    let done = || load.progress().acknowledged() - acknowledged;
    while done() < PAYMENTS_ALONE || since.elapsed() < LEASES_OVER {
        assert!(since.elapsed() < PATIENCE, "payments do not go on: {} since", done());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_go_on_without_any_control_plane_and_nothing_moves_when_it_returns() {
    let cluster = cluster().await;
    let before = places(&cluster).await;
    let load = cluster.load(RATE, Mix::PAYMENTS, 8).await.unwrap();
    let frozen: Vec<Process> =
        [Kind::Control, Kind::Etcd].iter().flat_map(|kind| cluster.processes(kind, None).unwrap()).collect();
    assert_eq!(frozen.len(), 2 * DATA_CENTERS.len());
    // Frozen, because whoever is killed is started again at once.
    for process in &frozen {
        process.signal(Signal::SIGSTOP).unwrap();
    }
    go_on(&load).await;
    // An agent that is started anew has nobody to ask, and finds leases that end soon.
    for dc in DATA_CENTERS.map(|dc| DcId::new(dc).unwrap()) {
        cluster.processes(&Kind::Agent, Some(&dc)).unwrap().remove(0).kill().unwrap();
        go_on(&load).await;
    }
    // All of it returns, in an order nobody chose.
    for process in frozen.iter().rev() {
        process.signal(Signal::SIGCONT).unwrap();
    }
    leader(&cluster).await;
    assert_eq!(places(&cluster).await, before, "nothing moves that need not");
    let summary = load.stop().await.unwrap();
    assert_eq!(summary.total.failed_requests, 0, "{:#?}", summary.total);
    assert_clean(&cluster.verify().await.unwrap(), PAYMENTS_ALONE);

    // Killed as a whole it comes back by itself, with all it knew.
    for process in cluster.processes(&Kind::Etcd, None).unwrap() {
        process.kill().unwrap();
    }
    for process in cluster.processes(&Kind::Control, None).unwrap() {
        process.kill().unwrap();
    }
    leader(&cluster).await;
    assert_eq!(places(&cluster).await, before, "nothing moves that need not");
    // A folder remembers what it was begun with.
    cluster.down().await.unwrap();
    cluster.up().await.unwrap();
    leader(&cluster).await;
    assert_eq!(cluster.processes(&Kind::Etcd, None).unwrap().len(), DATA_CENTERS.len());
}

/// Whichever process of the control plane fails, and however: another server decides, and no unit notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_control_plane_may_fail_in_any_way() {
    let cluster = cluster().await;
    let before = places(&cluster).await;
    let load = cluster.load(RATE, Mix::PAYMENTS, 9).await.unwrap();
    for (kind, signal) in [
        (Kind::Control, Signal::SIGSTOP),
        (Kind::Etcd, Signal::SIGSTOP),
        (Kind::Control, Signal::SIGKILL),
        (Kind::Etcd, Signal::SIGKILL),
    ] {
        let decides = leader(&cluster).await;
        let process = cluster.processes(&kind, Some(&decides)).unwrap().remove(0);
        process.signal(signal).unwrap();
        let deadline = Instant::now() + PATIENCE;
        // The one that is killed may be back, and lead again, before anybody else has noticed.
        while signal == Signal::SIGSTOP && leader(&cluster).await == decides {
            assert!(Instant::now() < deadline, "nobody takes over from {decides} after {signal} of {kind:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        process.signal(Signal::SIGCONT).unwrap();
        assert_eq!(places(&cluster).await, before, "after {signal} of {kind:?} in {decides}");
    }
    let summary = load.stop().await.unwrap();
    assert_eq!(summary.total.failed_requests, 0, "{:#?}", summary.total);
    assert_clean(&cluster.verify().await.unwrap(), 50);
}
