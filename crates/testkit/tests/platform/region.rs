//! The loss of a region: what cannot be proven is refused, shown, done by order of two, and written down in the end.

use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, DATA_CENTERS, PATIENCE, WITNESS};
use dujiang_testkit::drill::{self, Options, Region, RegionReport, Stop};
use dujiang_testkit::load::Mix;
use dujiang_testkit::processes::Kind;
use dujiang_testkit::status::{Goal, Status, UnitView};
use dujiang_types::{DcId, UnitId};
use tokio::time::Instant;

use crate::{RATE, cluster, dc, unit};

/// The identity of a second operator.
async fn second_operator(cluster: &Cluster) -> std::path::PathBuf {
    let file = cluster.journal().with_file_name("bob.pem");
    cluster.dujiang(&["operator", "create", "bob", "--out", &file.to_string_lossy()]).await.unwrap();
    file
}

/// The drill of the region with two of the three data centers.
async fn lose_chengdu(cluster: &Cluster, seed: u64) -> RegionReport {
    let approver = Some(second_operator(cluster).await);
    let region = Region { lost: [dc(0), dc(1)].into(), lag: Duration::from_secs(3), approver };
    let options = Options {
        rate: RATE,
        accounts: 60,
        mix: Mix::PAYMENTS,
        seed,
        fault: Duration::from_secs(5),
        journal: cluster.journal(),
        stop: Stop::default(),
    };
    let report = drill::region_loss(cluster.platform().unwrap(), &region, options, |_| {}).await.unwrap();
    assert!(report.is_correct(), "{:#?} {:#?}", report.troubles, report.books.violations);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_region_is_gone_on_without_by_two_operators_and_its_losses_are_told() {
    let cluster = cluster().await;
    let report = lose_chengdu(&cluster, 51).await;
    assert_eq!(report.units.len(), 2, "{report:#?}");
    // Two promotions without proof, and three units that acknowledge alone.
    assert_eq!(report.ordered.len(), 5, "{:?}", report.ordered);
    for (name, loss) in &report.units {
        assert!(loss.refused.contains("cannot be proven"), "{name}: {}", loss.refused);
        assert!(loss.shown.is_some_and(|shown| shown.bytes > 0), "{name}: {loss:?}");
        assert!(loss.lost > 0 && loss.acknowledged > 0, "{name}: {loss:?}");
    }
    assert!(report.paid_meanwhile > 0);
    let lost = report.books.journal.unwrap().lost;
    assert!(lost > 0, "a loss that nobody was told of is none");
    // Without the manifests it is what it is: acknowledged, and missing.
    let strict =
        cluster.try_dujiang(&["verify", "--journal", &cluster.journal().to_string_lossy()]).await.unwrap();
    assert_eq!(strict.status.code(), Some(1));
    let csv = cluster.dujiang(&["unit", "losses", unit(1).as_str(), "-o", "csv"]).await.unwrap();
    assert!(csv.lines().count() > 1 && csv.contains("repost"), "{csv}");
    // Nobody acknowledges alone any more.
    let status = cluster.whole().await.unwrap();
    for (name, view) in &status.units {
        assert_eq!(view.unit.status.wanted_set().unwrap().need, 1, "{name}");
        assert_eq!(view.unit.spec.replicas.len(), DATA_CENTERS.len());
    }
}

/// Marks the region's data centers as switched off, or on again; the supervisor does the rest.
fn switch(cluster: &Cluster, off: bool) {
    for number in 0..2 {
        let mark = cluster.data().join("run/power-off").join(dc(number).as_str());
        if off { std::fs::write(mark, "").unwrap() } else { std::fs::remove_file(mark).unwrap() }
    }
}

/// Asks as one operator, until it is not refused any more, and approves as the other.
async fn order(cluster: &Cluster, ask: &[&str], approver: &str) {
    let deadline = Instant::now() + PATIENCE;
    let ask = [&["unit"], ask, &["--request", "-o", "json"]].concat();
    let asked = loop {
        match cluster.dujiang(&ask).await {
            Ok(asked) => break asked,
            Err(refused) => assert!(Instant::now() < deadline, "{refused}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let asked: serde_json::Value = serde_json::from_str(&asked).unwrap();
    let name = asked["name"].as_str().unwrap();
    let own = cluster.dujiang(&["approve", name, "--yes"]).await.unwrap_err().to_string();
    assert!(own.contains("another operator"), "{own}");
    cluster.dujiang(&["approve", name, "--yes", "--identity", approver]).await.unwrap();
}

/// Two of three members of the control store are lost with the region, so that nobody can decide anything: two operators
/// re-form it, and the units go on in what is left while the region is still away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_region_with_the_control_plane_in_it_is_gone_on_without() {
    let cluster = Cluster::start_ha().await.unwrap();
    let bob = second_operator(&cluster).await.to_string_lossy().into_owned();
    let load = cluster.load(RATE, Mix::PAYMENTS, 52).await.unwrap();
    let paid = async |more: u64| {
        let (deadline, wanted) = (Instant::now() + PATIENCE, load.progress().acknowledged() + more);
        while load.progress().acknowledged() < wanted {
            assert!(Instant::now() < deadline, "no payments");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    paid(100).await;
    switch(&cluster, true);
    let deadline = Instant::now() + PATIENCE;
    while cluster.control().unwrap().status().await.is_ok_and(|status| !status.leader.is_empty()) {
        assert!(Instant::now() < deadline, "somebody leads without a majority");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let last = dc(2);
    let reason = ["--reason", "chengdu is lost", "--request", "-o", "json"];
    let asked = [&["store", "recover", "--from", last.as_str()][..], &reason].concat();
    let asked: serde_json::Value = serde_json::from_str(&cluster.dujiang(&asked).await.unwrap()).unwrap();
    cluster.down().await.unwrap();
    let id = asked["id"].as_str().unwrap();
    cluster.dujiang(&["store", "recover", "--approve", id, "--identity", &bob]).await.unwrap();

    // It is up once everything serves, and that takes the orders below.
    let mut up = cluster.command(&["up", "--detach"]).spawn().unwrap();
    let waits = |status: &Status| {
        let told = |view: &UnitView| view.waiting.contains("must report first");
        let other = status.units.iter().find(|(_, view)| !told(view));
        other.map(|(name, view)| format!("{name}: {}", view.waiting))
    };
    let deadline = Instant::now() + PATIENCE;
    // Until then there is no platform to ask.
    let control = loop {
        match cluster.control() {
            Ok(control) => break control,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    control.wait_for(PATIENCE, waits, |_| {}).await.unwrap();
    for number in 1..=3 {
        let unit = unit(number).to_string();
        order(&cluster, &["force-promote", &unit, "--dc", last.as_str()], &bob).await;
    }
    for number in 1..=3 {
        order(&cluster, &["run-alone", unit(number).as_str()], &bob).await;
    }
    cluster.serving().await.unwrap();
    assert!(up.wait().await.unwrap().success(), "up does not return");
    paid(100).await;

    switch(&cluster, false);
    let status = cluster.whole().await.unwrap();
    assert!(status.units.values().all(|view| view.unit.status.home == last), "nothing moves that need not");
    load.stop().await.unwrap();
    // The last moments before the loss may have been acknowledged by the region alone.
    let journal = cluster.journal().to_string_lossy().into_owned();
    cluster.dujiang(&["verify", "--journal", &journal, "--accept-losses"]).await.unwrap();
}

/// With a witness the control store keeps its majority: nobody has to stop the platform and to re-form it, whichever region
/// is lost. What may be decided about the units is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_witness_the_control_plane_survives_the_loss_of_a_region() {
    let cluster = Cluster::prepare_witnessed().unwrap().up_ha().await.unwrap();
    let witness = DcId::new(WITNESS).unwrap();
    // A member in one data center of each region, and the witness; servers beside the first two only.
    let member = |dc: &DcId, kind: &Kind| cluster.processes(kind, Some(dc)).unwrap().len();
    let of = |kind: Kind| [&dc(0), &dc(1), &dc(2), &witness].map(|dc| member(dc, &kind));
    assert_eq!((of(Kind::Etcd), of(Kind::Control)), ([1, 0, 1, 1], [1, 0, 1, 0]));
    assert_eq!((of(Kind::Postmaster)[3], of(Kind::Gateway)[3]), (0, 0), "it has no data and no units");
    let said = cluster.dujiang(&["status"]).await.unwrap();
    assert!(said.contains(&format!("the witness {WITNESS} votes")), "{said}");

    // While the region is away its orders are given and taken by what is left.
    let report = lose_chengdu(&cluster, 53).await;
    assert_eq!((report.units.len(), report.ordered.len()), (2, 5), "{report:#?}");
    assert!(report.paid_meanwhile > 0);
    assert!(report.units.values().all(|loss| loss.acknowledged > 0), "{:?}", report.units);

    // The other region, with the home of every unit in it: what is left proves everything, and nobody is asked.
    let before = cluster.whole().await.unwrap();
    assert!(before.units.values().all(|view| view.unit.status.home == dc(2)));
    let load = cluster.load(RATE, Mix::PAYMENTS, 54).await.unwrap();
    let mark = cluster.data().join("run/power-off").join(dc(2).as_str());
    std::fs::write(&mark, "").unwrap();
    let elsewhere = |status: &Status| {
        let stays = |(_, view): &(&UnitId, &UnitView)| view.unit.status.home == dc(2);
        let waits = status.units.iter().find(stays).map(|(name, view)| format!("{name}: {}", view.waiting));
        waits.or_else(|| status.missing(Goal::Serving))
    };
    cluster.control().unwrap().wait_for(PATIENCE, elsewhere, |_| {}).await.unwrap();
    std::fs::remove_file(&mark).unwrap();
    cluster.whole().await.unwrap();

    // Without the witness the two others are the majority, and people are told.
    let mark = cluster.data().join("run/power-off").join(WITNESS);
    std::fs::write(&mark, "").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !cluster.dujiang(&["status"]).await.unwrap().contains("does not vote") {
        assert!(Instant::now() < deadline, "the witness is still there");
    }
    assert!(!cluster.serving().await.unwrap().leader.is_empty());
    std::fs::remove_file(&mark).unwrap();
    load.stop().await.unwrap();
    let journal = cluster.journal().to_string_lossy().into_owned();
    cluster.dujiang(&["verify", "--journal", &journal, "--accept-losses"]).await.unwrap();
}
