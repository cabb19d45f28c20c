//! The drills of the command line, and the return of an old home with a log nobody else has.

use std::time::Duration;

use dujiang_testkit::cluster::Cluster;
use dujiang_testkit::drill::{self, Options, Report, Stop};
use dujiang_testkit::load::Mix;
use dujiang_testkit::processes::{self, Kind};
use dujiang_testkit::status::Goal;
use nix::sys::signal::Signal;

use crate::{RATE, assert_clean, cluster, dc, unit};

fn options(cluster: &Cluster, seed: u64) -> Options {
    let fault = Duration::from_secs(8);
    Options {
        rate: RATE,
        accounts: 60,
        mix: Mix::default(),
        seed,
        fault,
        journal: cluster.journal(),
        stop: Stop::default(),
    }
}

#[track_caller]
fn assert_correct(report: &Report) {
    assert!(report.is_correct(), "{:?} {:#?}", report.troubles, report.books.violations);
    assert!(report.load.total.acknowledged > 100, "{:#?}", report.load.total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_data_center_loses_nothing_and_neither_does_a_crashed_primary() {
    let cluster = cluster().await;
    let platform = cluster.platform().unwrap();
    let report = drill::dc_loss(platform.clone(), &dc(0), options(&cluster, 1), |_| {}).await.unwrap();
    assert_correct(&report);
    assert!(report.killed > 10, "{}", report.killed);
    for (name, seen) in &report.units {
        assert_eq!(seen.at_fault, seen.home_before == Some(dc(0)), "{name}");
        assert_ne!(seen.home_after, Some(dc(0)), "{name}");
        assert!(seen.acknowledged > 0, "{name} was not served while {} was off", dc(0));
        // Others notice nothing but what was under way in the data center itself.
        assert!(seen.at_fault || seen.failed_otherwise == 0, "{name}: {seen:?}");
    }

    let report = drill::primary_crash(platform, &unit(3), options(&cluster, 2), |_| {}).await.unwrap();
    assert_correct(&report);
    for (name, seen) in &report.units {
        assert!(seen.at_fault || seen.failed_otherwise == 0, "{name}: {seen:?}");
    }
    assert_clean(&cluster.verify().await.unwrap(), 200);
}

/// The home writes what no standby gets, and dies. The others go on without it. When it returns it has a log that
/// differs; it must keep it as evidence and join again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_home_keeps_its_diverged_log_and_rejoins() {
    let cluster = cluster().await;
    let load = cluster.load(RATE, Mix::PAYMENTS, 3).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (home, unit) = (dc(1), unit(2));
    let postmaster = cluster.postmaster(&home, &unit).unwrap().unwrap();
    let proc = |pid: i32, what: &str| format!("/proc/{pid}/{what}");
    let folder = |pid: i32| std::fs::read_link(proc(pid, "cwd")).ok();
    let title = |pid: i32| std::fs::read_to_string(proc(pid, "cmdline")).unwrap_or_default();
    let mut senders = cluster.processes(&Kind::Other, Some(&home)).unwrap();
    senders.retain(|process| {
        folder(process.pid) == folder(postmaster.pid) && title(process.pid).contains("walsender")
    });
    assert_eq!(senders.len(), 2, "{senders:?}");
    for sender in &senders {
        sender.signal(Signal::SIGSTOP).unwrap();
    }
    // Commits are written in the home and wait for a standby that hears nothing; they are not acknowledged.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let off = cluster.data().join("run/power-off");
    std::fs::create_dir_all(&off).unwrap();
    std::fs::write(off.join(home.as_str()), "").unwrap();
    processes::kill_all(cluster.data(), Some(&home)).unwrap();
    let control = cluster.control().unwrap();
    let moved = control.wait_for(
        dujiang_testkit::cluster::PATIENCE,
        |status| {
            let record = &status.units[&unit].unit.status;
            let stays = record.home == home;
            stays.then(|| "not taken over".to_owned()).or_else(|| status.missing(Goal::Serving))
        },
        |_| {},
    );
    moved.await.unwrap();
    std::fs::remove_file(off.join(home.as_str())).unwrap();
    cluster.whole().await.unwrap();
    load.stop().await.unwrap();
    assert_clean(&cluster.verify().await.unwrap(), 50);
    let kept = cluster.data().join("dc").join(home.as_str()).join("units").join(unit.as_str()).join("kept");
    let kept: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!kept.is_empty(), "nothing was kept of the diverged log");
}
