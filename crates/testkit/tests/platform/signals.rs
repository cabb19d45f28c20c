//! Every kind of process killed or frozen at a random moment: the platform comes back by itself and loses nothing.

use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, PATIENCE};
use dujiang_testkit::load::Mix;
use dujiang_testkit::processes::{Kind, Process};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use tokio::time::Instant;

use crate::{RATE, assert_clean, cluster};

/// A frozen process stays so for as long; leases of primaries run out meanwhile.
const FROZEN: Duration = Duration::from_secs(4);
/// Between two faults, beside the time to become whole again.
const PAUSE_MS: std::ops::Range<u64> = 200..1_500;

/// Picks a process of a kind; which one is up to the seed.
fn pick(cluster: &Cluster, kind: &Kind, rng: &mut StdRng) -> Process {
    let mut found = cluster.processes(kind, None).unwrap();
    assert!(!found.is_empty(), "no {kind:?} runs");
    found.swap_remove(rng.random_range(0..found.len()))
}

/// Waits until somebody stands in for a process that was killed. Before that everything may still look whole.
async fn until_replaced(cluster: &Cluster, victim: &Process, before: usize, seed: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = cluster.processes(&victim.kind, None).unwrap();
        if now.len() >= before && now.iter().all(|process| process.pid != victim.pid) {
            return;
        }
        assert!(Instant::now() < deadline, "nobody replaces {victim:?} (seed {seed})");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn run(signal: Signal, seed: u64) {
    let cluster = cluster().await;
    let mut rng = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let load = cluster.load(RATE, Mix::default(), seed).await.unwrap();
    let kinds = [Kind::Control, Kind::Agent, Kind::Guard, Kind::Gateway, Kind::Application, Kind::Postmaster];
    for kind in kinds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(PAUSE_MS))).await;
        let before = cluster.processes(&kind, None).unwrap().len();
        let process = pick(&cluster, &kind, &mut rng);
        process.signal(signal).unwrap();
        if signal == Signal::SIGSTOP {
            tokio::time::sleep(FROZEN).await;
            process.signal(Signal::SIGCONT).unwrap();
        } else {
            until_replaced(&cluster, &process, before, seed).await;
        }
        if let Err(error) = cluster.whole().await {
            panic!("after {signal} of {kind:?} in {:?} (seed {seed}): {error}", process.dc);
        }
    }
    // The supervisor has no one above it: what it started goes on, and a new `up` takes over.
    let supervisor = pick(&cluster, &Kind::Supervisor, &mut rng);
    if signal == Signal::SIGSTOP {
        supervisor.signal(signal).unwrap();
        tokio::time::sleep(FROZEN).await;
        supervisor.signal(Signal::SIGCONT).unwrap();
    } else {
        supervisor.kill().unwrap();
        cluster.up().await.unwrap();
    }
    cluster.whole().await.unwrap();
    let summary = load.stop().await.unwrap();
    // Of three units one at a time is away, and not for long.
    let least = began.elapsed().as_secs() * u64::from(RATE) / 3;
    assert!(summary.total.acknowledged > least, "seed {seed}: {summary:#?}");
    assert_clean(&cluster.verify().await.unwrap(), least);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_process_may_be_killed_at_any_moment() {
    run(Signal::SIGKILL, rand::random()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_process_may_freeze_at_any_moment() {
    run(Signal::SIGSTOP, rand::random()).await;
}
