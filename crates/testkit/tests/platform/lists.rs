//! Transactions over lists: in one order that agrees with time while a data center is lost; and mistakes that are
//! planted in the application are found.

use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, PATIENCE};
use dujiang_testkit::load::Mix;
use dujiang_testkit::processes;
use dujiang_testkit::status::Goal;
use dujiang_testkit::verify::Rule;

use crate::{RATE, assert_clean, dc, unit};

/// Transactions a second.
const RATE_LISTS: u32 = 20;
/// Load before anything happens, and after.
const A_WHILE: Duration = Duration::from_secs(3);
/// Transactions that have to be acknowledged for a test to have tested anything.
const ENOUGH: usize = 80;

/// A platform that is up and whole, with lists whose instances get these arguments.
async fn cluster(args: &[&str]) -> Cluster {
    let started = async {
        let cluster = Cluster::prepare()?.with_lists(args)?;
        cluster.up().await?;
        cluster.whole().await?;
        Ok::<_, dujiang_testkit::cluster::ClusterError>(cluster)
    };
    match started.await {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_one_order_of_things_while_a_data_center_is_lost() {
    let cluster = cluster(&[]).await;
    let bank = cluster.load(RATE / 2, Mix::default(), 1).await.unwrap();
    let lists = cluster.load_lists(RATE_LISTS, 1).unwrap();
    tokio::time::sleep(A_WHILE).await;
    let (home, of_lists) = (dc(0), unit(4));
    let off = cluster.data().join("run/power-off").join(home.as_str());
    std::fs::create_dir_all(off.parent().unwrap()).unwrap();
    std::fs::write(&off, "").unwrap();
    processes::kill_all(cluster.data(), Some(&home)).unwrap();
    let control = cluster.control().unwrap();
    let moved = control.wait_for(
        PATIENCE,
        |status| {
            let stays = status.units[&of_lists].unit.status.home == home;
            stays.then(|| "not taken over".to_owned()).or_else(|| status.missing(Goal::Serving))
        },
        |_| {},
    );
    moved.await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    std::fs::remove_file(&off).unwrap();
    cluster.whole().await.unwrap();
    lists.stop().await.unwrap();
    bank.stop().await.unwrap();
    let report = cluster.verify().await.unwrap();
    assert_clean(&report, 50);
    let lists = report.lists.unwrap();
    println!("{lists:?}");
    assert!(lists.acknowledged >= ENOUGH && lists.elements >= ENOUGH / 2, "{lists:?}");
    // In the end every list was read.
    assert_eq!(lists.unread, 0, "{lists:?}");
}

/// As a replica that lags would: who only reads is answered with what was there 1.5 s ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_reads_planted_in_a_real_run_are_found() {
    let cluster = cluster(&["--plant", "stale-read"]).await;
    let lists = cluster.load_lists(RATE, 1).unwrap();
    tokio::time::sleep(A_WHILE * 2).await;
    lists.stop().await.unwrap();
    let report = cluster.verify().await.unwrap();
    assert!(!report.violations.is_empty());
    for violation in &report.violations {
        println!("{}: {}", violation.rule, violation.what);
        assert_eq!(violation.rule, Rule::NotSerializable);
    }
    assert!(report.violations.iter().any(|violation| violation.what.contains("stale-read")));
    // Whoever runs the command is told, too.
    let journal = cluster.journal();
    let output = cluster.try_dujiang(&["verify", "--journal", &journal.to_string_lossy()]).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not-serializable"), "{output:?}");
}
