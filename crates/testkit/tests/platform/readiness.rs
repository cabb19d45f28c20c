//! `dujiang drill readiness` under load: what is ready and what is not, and that looking disturbs nobody.

use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, DATA_CENTERS, PATIENCE};
use dujiang_testkit::load::Mix;
use dujiang_testkit::processes::{self, Process};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::{RATE, assert_clean, cluster, dc, unit};

/// Runs the drill; what it prints, and whether it calls all of it ready.
async fn drill(cluster: &Cluster, args: &[&str]) -> (Value, bool) {
    let args = [&["drill", "readiness", "-o", "json"], args].concat();
    let output = cluster.try_dujiang(&args).await.unwrap();
    let shown = serde_json::from_slice(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (shown.unwrap_or_else(|error| panic!("{error}: {said}")), output.status.success())
}

/// What stands in the way of a takeover, by aspect.
fn wrong(shown: &Value, dc: &str) -> Vec<String> {
    let takeovers = shown["takeovers"].as_array().unwrap();
    let takeover = takeovers.iter().find(|takeover| takeover["dc"] == dc).unwrap();
    let checks = takeover["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["holds"] == false)
        .map(|check| check["aspect"].as_str().unwrap().to_owned())
        .collect()
}

/// Processes of a unit's database in a data center.
fn database(cluster: &Cluster, number: usize) -> Vec<Process> {
    let folder = cluster.data().join("dc").join(dc(number).as_str()).join("units/unit-1/pgdata");
    let mut found = processes::find(cluster.data(), Some(&dc(number))).unwrap();
    found.retain(|process| {
        std::fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|cwd| cwd == folder)
    });
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_found_out_by_trying_and_disturbs_nobody() {
    let cluster = cluster().await;
    let load = cluster.load(RATE, Mix::default(), 41).await.unwrap();
    let before = cluster.whole().await.unwrap();
    let (shown, ready) = drill(&cluster, &[]).await;
    assert!(ready && shown["ready"] == true, "{shown:#}");
    let takeovers = shown["takeovers"].as_array().unwrap();
    assert_eq!(takeovers.len(), 9);
    for takeover in takeovers.iter().filter(|takeover| takeover["home"] == false) {
        let trial = &takeover["findings"]["trial"];
        assert_eq!(trial["outcome"], "promoted", "{takeover:#}");
        assert_eq!(takeover["findings"]["identities"].as_array().unwrap().len(), 4, "{takeover:#}");
    }
    for name in DATA_CENTERS {
        for number in 1..=3 {
            let folder = cluster.data().join(format!("dc/{name}/units/unit-{number}/trial"));
            assert!(!folder.exists(), "{} is left", folder.display());
        }
    }
    // No claim, no lease, no home has changed.
    let after = cluster.whole().await.unwrap();
    for (name, view) in &before.units {
        let (was, is) = (&view.unit.status, &after.units[name].unit.status);
        assert_eq!((was.epoch, &was.home, &was.claims), (is.epoch, &is.home, &is.claims), "{name}");
    }
    assert_eq!(load.progress().unknown(), 0, "customers noticed");

    // A replica whose database stands still.
    let frozen = database(&cluster, 2);
    assert!(!frozen.is_empty());
    for process in &frozen {
        process.signal(Signal::SIGSTOP).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    let status =
        async || cluster.control().unwrap().status().await.unwrap().units[&unit(1)].unit.status.clone();
    while status().await.wanted_set().is_none_or(|set| set.members.contains(&dc(2))) {
        assert!(Instant::now() < deadline, "{:?}", status().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (shown, ready) = drill(&cluster, &["--unit", "unit-1"]).await;
    assert!(!ready && shown["ready"] == false, "{shown:#}");
    let (well, ill) = (wrong(&shown, DATA_CENTERS[1]), wrong(&shown, DATA_CENTERS[2]));
    assert_eq!(well, [""; 0], "the other replica is all that is needed: {shown:#}");
    for aspect in ["replica", "sync-set", "identities", "trial"] {
        assert!(ill.iter().any(|wrong| wrong == aspect), "{aspect} is not among {ill:?}: {shown:#}");
    }
    for process in &frozen {
        process.signal(Signal::SIGCONT).unwrap();
    }
    cluster.whole().await.unwrap();
    let (shown, ready) = drill(&cluster, &["--unit", "unit-1", "--dc", DATA_CENTERS[2], "--no-trial"]).await;
    assert!(ready, "{shown:#}");
    assert!(shown["takeovers"][0]["findings"]["trial"].is_null(), "{shown:#}");

    load.stop().await.unwrap();
    assert_clean(&cluster.verify().await.unwrap(), 100);
    // What it showed is evidence.
    let listed = cluster.dujiang(&["evidence", "list"]).await.unwrap();
    assert_eq!(listed.matches("readiness of").count(), 3, "{listed}");
    cluster.dujiang(&["evidence", "verify"]).await.unwrap();
    let refused = cluster.try_dujiang(&["drill", "readiness", "--unit", "unit-9"]).await.unwrap();
    assert_eq!(refused.status.code(), Some(2));
}
