//! Certificates that run out while the platform is at work: nobody notices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dujiang_identity::Bundle;
use dujiang_testkit::cluster::{Cluster, DATA_CENTERS};
use dujiang_testkit::load::Mix;
use tokio::time::Instant;

use crate::{RATE, assert_clean};

/// The shortest there is; renewed after half of it.
const LIFETIME: Duration = Duration::from_secs(60);
/// Certificates of each identity that are to be seen: the first one, and two renewals.
const SEEN_MIN: usize = 3;
/// Two renewals take one lifetime.
const PATIENCE: Duration = Duration::from_secs(300);

/// The files of all identities, of all data centers.
fn identities(data: &Path) -> Vec<PathBuf> {
    let folders = DATA_CENTERS.iter().map(|dc| data.join("dc").join(dc).join("identity"));
    folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect()
}

/// Every database has its data center's newest identity beside its configuration.
fn databases_are_renewed(data: &Path) -> bool {
    DATA_CENTERS.iter().all(|dc| {
        let dc = data.join("dc").join(dc);
        let newest = Bundle::read(&dc.join("identity/postgres.pem")).unwrap().own_pem();
        let units = fs::read_dir(dc.join("units")).unwrap().map(|entry| entry.unwrap().path());
        units.into_iter().all(|unit| fs::read_to_string(unit.join("conf/identity.pem")).unwrap() == newest)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_identity_is_renewed_twice_under_load_and_no_request_fails() {
    let cluster = Cluster::prepare().unwrap();
    let manifest = fs::read_to_string(cluster.manifest()).unwrap();
    let lifetime = format!("{manifest}\nidentities: {{ lifetime: {}s }}\n", LIFETIME.as_secs());
    fs::write(cluster.manifest(), lifetime).unwrap();
    let cluster = cluster.up_ha().await.unwrap();

    let load = cluster.load(RATE, Mix::default(), 11).await.unwrap();
    let mut seen: BTreeMap<PathBuf, BTreeSet<SystemTime>> = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        for file in
            identities(cluster.data()).into_iter().filter(|file| file.extension().is_some_and(|e| e == "pem"))
        {
            let not_after = Bundle::read(&file).unwrap().not_after().unwrap();
            seen.entry(file).or_default().insert(not_after);
        }
        let renewed = seen.values().all(|seen| seen.len() >= SEEN_MIN);
        if renewed && databases_are_renewed(cluster.data()) {
            break;
        }
        assert!(Instant::now() < deadline, "not every identity is renewed: {seen:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Agent, gateway, databases, the bank and the member of the store, in each of them.
    assert_eq!(seen.len(), 5 * DATA_CENTERS.len(), "{:?}", seen.keys());
    let summary = load.stop().await.unwrap();
    assert_eq!((summary.total.failed_requests, summary.total.unknown), (0, 0), "{summary:#?}");
    cluster.whole().await.unwrap();
    // The first certificates have run out; whoever connects now meets their successors.
    assert_clean(&cluster.verify().await.unwrap(), 500);
}
