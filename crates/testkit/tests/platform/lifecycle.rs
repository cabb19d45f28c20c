//! Up, payments, down, up again with the data; and up after everything was killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_testkit::load::Mix;
use dujiang_testkit::processes;
use dujiang_testkit::verify::Report;

use crate::{RATE, assert_clean, cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_outlives_a_stop_and_a_kill() {
    let cluster = cluster().await;
    let load = cluster.load(RATE, Mix::default(), 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let summary = load.stop().await.unwrap();
    assert_eq!((summary.total.unknown, summary.total.failed_requests), (0, 0), "{summary:#?}");
    let before = cluster.verify().await.unwrap();
    assert_clean(&before, 100);

    // A second `up` beside a running platform changes nothing.
    cluster.up().await.unwrap();
    cluster.down().await.unwrap();
    assert!(processes::find(cluster.data(), None).unwrap().is_empty());
    cluster.up().await.unwrap();
    cluster.whole().await.unwrap();
    let after = cluster.verify().await.unwrap();
    assert_clean(&after, 100);
    let postings = |report: &Report| report.units.values().map(|unit| unit.postings).sum::<usize>();
    assert!(postings(&after) >= postings(&before));

    // Everything at once, as by a power cut; and before that the supervisor alone, whose children live on.
    for supervisor in cluster.processes(&processes::Kind::Supervisor, None).unwrap() {
        supervisor.kill().unwrap();
    }
    cluster.up().await.unwrap();
    cluster.serving().await.unwrap();
    processes::kill_all(cluster.data(), None).unwrap();
    cluster.up().await.unwrap();
    cluster.whole().await.unwrap();
    let load = cluster.load(RATE, Mix::default(), 2).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.stop().await.unwrap();
    assert_clean(&cluster.verify().await.unwrap(), 200);
    // Killed once more, and then removed: what databases shared does not stay behind.
    let segments = segments(cluster.data());
    assert_eq!(segments.len(), 9, "three replicas of three units");
    processes::kill_all(cluster.data(), None).unwrap();
    cluster.dujiang(&["down", "--purge", "--yes"]).await.unwrap();
    assert!(!cluster.data().exists());
    let list = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let left: Vec<&str> = list.lines().filter(|line| segments.contains(&key_and_id(line))).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The System V segments of a platform's databases, as their `postmaster.pid` names them: key and identifier.
fn segments(data: &Path) -> BTreeSet<Vec<String>> {
    let folders = |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let units = folders(data.join("dc")).flat_map(|dc| folders(dc.join("units")));
    let texts = units.map(|unit| fs::read_to_string(unit.join("pgdata/postmaster.pid")).unwrap());
    texts.map(|text| key_and_id(text.lines().nth(6).unwrap())).collect()
}

fn key_and_id(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().take(2).map(str::to_owned).collect()
}
