//! The control store is put back from a backup of an earlier day: nothing that happened since is undone.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, PATIENCE};
use dujiang_testkit::load::Mix;
use dujiang_testkit::processes::Kind;
use dujiang_testkit::status::Goal;
use dujiang_types::Epoch;

use crate::{RATE, assert_clean, cluster, dc, unit};

/// Payments between two steps: enough to be missed.
const PAYMENTS: u64 = 200;

/// Backs up, moves a unit there and another one there and back, pays meanwhile, restores, and pays on.
async fn restored(cluster: &Cluster) {
    let file = cluster.journal().with_file_name("records.store");
    let file = file.to_string_lossy().into_owned();
    cluster.dujiang(&["store", "backup", &file]).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let load = cluster.load(RATE, Mix::default(), 21).await.unwrap();
    cluster.dujiang(&["move", "unit-1", "--to", dc(1).as_str()]).await.unwrap();
    cluster.whole().await.unwrap();
    cluster.dujiang(&["move", "unit-2", "--to", dc(2).as_str()]).await.unwrap();
    cluster.whole().await.unwrap();
    cluster.dujiang(&["move", "unit-2", "--to", dc(1).as_str()]).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while load.progress().acknowledged() < PAYMENTS {
        assert!(tokio::time::Instant::now() < deadline, "no payments");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    load.stop().await.unwrap();
    let before = cluster.whole().await.unwrap();

    let refused = cluster.dujiang(&["store", "restore", &file, "--yes"]).await.unwrap_err().to_string();
    assert!(refused.contains("the platform runs"), "{refused}");
    cluster.down().await.unwrap();
    let said = cluster.dujiang(&["store", "restore", &file, "--yes", "-o", "json"]).await.unwrap();
    let put: serde_json::Value = serde_json::from_str(&said).unwrap();
    for kept in put["kept"].as_array().unwrap() {
        assert!(std::path::Path::new(kept.as_str().unwrap()).exists(), "{kept} is kept");
    }
    cluster.up().await.unwrap();
    let after = cluster.control().unwrap().wait(Goal::Whole, PATIENCE, |_| {}).await;
    let after = after.unwrap();
    for (name, view) in &after.units {
        let (was, is) = (&before.units[name].unit.status, &view.unit.status);
        assert_eq!(is.home, was.home, "{name} is where it led last, not where the backup had it");
        assert!(is.epoch > Epoch(was.epoch.0 + 1), "{name}: epoch {} after {}", is.epoch, was.epoch);
        assert!(view.unit.revision > before.units[name].unit.revision, "{name}");
    }
    let operations = cluster.dujiang(&["operations"]).await.unwrap();
    assert!(operations.contains("restore-store-"), "{operations}");

    let load = cluster.load(RATE, Mix::default(), 22).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while load.progress().acknowledged() < PAYMENTS {
        assert!(tokio::time::Instant::now() < deadline, "no payments after the restore");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A move of the kind that was forgotten, so that its number would be used twice if numbers fell.
    cluster.dujiang(&["move", unit(1).as_str(), "--to", dc(0).as_str()]).await.unwrap();
    load.stop().await.unwrap();
    assert_clean(&cluster.verify().await.unwrap(), 2 * PAYMENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_file_undoes_nothing() {
    let cluster = cluster().await;
    restored(&cluster).await;
    cluster.dujiang(&["store", "compact"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_cluster_undoes_nothing() {
    let cluster = Cluster::start_ha().await.unwrap();
    restored(&cluster).await;
    cluster.dujiang(&["store", "compact"]).await.unwrap();
}

/// The processes that must not run while the region is lost, and again afterwards.
fn switch(cluster: &Cluster, off: bool) {
    for number in 0..2 {
        let mark = cluster.data().join("run/power-off").join(dc(number).as_str());
        if off { std::fs::write(mark, "").unwrap() } else { std::fs::remove_file(mark).unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_region_is_lost_is_re_formed_from_the_last_member_by_two_operators() {
    let cluster = Cluster::start_ha().await.unwrap();
    let load = cluster.load(RATE, Mix::default(), 31).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while load.progress().acknowledged() < PAYMENTS {
        assert!(tokio::time::Instant::now() < deadline, "no payments");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let last = dc(2);
    let reason = ["--reason", "chengdu is lost", "--request", "-o", "json"];
    let ask = [&["store", "recover", "--from", last.as_str()][..], &reason].concat();
    let refused = cluster.dujiang(&ask).await.unwrap_err().to_string();
    assert!(refused.contains("the control plane works"), "{refused}");
    // The whole region at once, under load.
    switch(&cluster, true);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while cluster.control().unwrap().status().await.is_ok_and(|status| !status.leader.is_empty()) {
        assert!(tokio::time::Instant::now() < deadline, "somebody leads without a majority");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let said = cluster.dujiang(&ask).await.unwrap();
    let request: serde_json::Value = serde_json::from_str(&said).unwrap();
    let id = request["id"].as_str().unwrap();
    let approve = ["store", "recover", "--approve", id];
    let refused = cluster.dujiang(&approve).await.unwrap_err().to_string();
    assert!(refused.contains("the platform runs"), "{refused}");
    cluster.down().await.unwrap();
    let refused = cluster.dujiang(&approve).await.unwrap_err().to_string();
    assert!(refused.contains("another operator has to approve"), "{refused}");
    let bob = cluster.journal().with_file_name("bob.pem").to_string_lossy().into_owned();
    let as_bob = [&approve[..], &["--identity", &bob]].concat();
    std::fs::write(&bob, "").unwrap();
    let refused = cluster.dujiang(&as_bob).await.unwrap_err().to_string();
    assert!(refused.contains("the identity cannot be used"), "{refused}");
    let agent = cluster.data().join("dc").join(last.as_str()).join("identity/agent.pem");
    let agent = [&approve[..], &["--identity", agent.to_str().unwrap()]].concat();
    let refused = cluster.dujiang(&agent).await.unwrap_err().to_string();
    assert!(refused.contains("proves no operator"), "{refused}");
    std::fs::remove_file(&bob).unwrap();
    cluster.dujiang(&["operator", "create", "bob", "--out", &bob]).await.unwrap();
    cluster.dujiang(&as_bob).await.unwrap();

    // The region is back, with members that must not come to life again.
    switch(&cluster, false);
    cluster.up().await.unwrap();
    load.stop().await.unwrap();
    let status = cluster.whole().await.unwrap();
    assert_eq!(status.leader, dc(2).as_str());
    assert_eq!(cluster.processes(&Kind::Etcd, None).unwrap().len(), 1);
    let operations = cluster.dujiang(&["operations", "-o", "json"]).await.unwrap();
    for word in ["recover-store-", "chengdu is lost", "approved by bob"] {
        assert!(operations.contains(word), "{word}: {operations}");
    }
    assert_clean(&cluster.verify().await.unwrap(), PAYMENTS);

    // A backup and a restore give every data center a member again.
    let file = cluster.journal().with_file_name("records.store").to_string_lossy().into_owned();
    cluster.dujiang(&["store", "backup", &file]).await.unwrap();
    cluster.down().await.unwrap();
    cluster.dujiang(&["store", "restore", &file, "--yes"]).await.unwrap();
    cluster.up().await.unwrap();
    cluster.whole().await.unwrap();
    assert_eq!(cluster.processes(&Kind::Etcd, None).unwrap().len(), 3);
    assert_clean(&cluster.verify().await.unwrap(), PAYMENTS);
}
