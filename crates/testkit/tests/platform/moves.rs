//! Planned moves: nobody notices; and a control plane killed in the middle of each of their steps.

use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, PATIENCE};
use dujiang_testkit::drill::{self, Options, Stop};
use dujiang_testkit::load::Mix;
use dujiang_testkit::processes::Kind;
use dujiang_types::operation::{Operation, OperationState};
use dujiang_types::{DcId, UnitId};
use serde_json::Value;
use tokio::time::Instant;

use crate::{RATE, assert_clean, cluster, dc, unit};

/// Moves that may end before the phase in which the control plane is to be killed.
const ATTEMPTS_MAX: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_fail_no_request_and_survive_a_control_plane_killed_at_every_step() {
    let cluster = cluster().await;
    let platform = cluster.platform().unwrap();
    let fault = Duration::from_millis(500);
    let journal = cluster.journal();
    let options = Options {
        rate: RATE,
        accounts: 60,
        mix: Mix::default(),
        seed: 5,
        fault,
        journal,
        stop: Stop::default(),
    };
    let report = drill::moves(platform, &unit(1), 3, options, |_| {}).await.unwrap();
    assert!(report.is_correct(), "{:#?}", report.books.violations);
    let homes: Vec<_> = report.moves.iter().map(|outcome| outcome.to.clone()).collect();
    assert_eq!(homes, [dc(1), dc(2), dc(0)]);
    assert_eq!(report.load.total.failed_requests, 0, "{:#?}", report.moves);
    assert_eq!(report.load.total.unknown, 0);

    let load = cluster.load(RATE, Mix::default(), 6).await.unwrap();
    for phase in ["holding", "sealing", "promoting", "serving"] {
        let mut attempts = 0;
        loop {
            // A move interrupted early may be called off, so where the unit is is not known beforehand.
            let status = cluster.serving().await.unwrap();
            let to = if status.units[&unit(1)].unit.status.home == dc(0) { dc(1) } else { dc(0) };
            let hit = kill_control_at(&cluster, &unit(1), &to, phase).await;
            cluster.whole().await.unwrap();
            if hit {
                break;
            }
            // On a busy machine gateways may take too long to drain, and the move ends before it gets there.
            attempts += 1;
            assert!(attempts < ATTEMPTS_MAX, "{phase} was not hit in {attempts} moves");
        }
    }
    load.stop().await.unwrap();
    assert_clean(&cluster.verify().await.unwrap(), 200);
}

/// Asks for a move, kills the control plane as soon as the record shows the phase, and waits until the operation is
/// over. True if the phase was seen.
async fn kill_control_at(cluster: &Cluster, unit: &UnitId, to: &DcId, phase: &str) -> bool {
    let control = cluster.control().unwrap();
    let victims = cluster.processes(&Kind::Control, None).unwrap();
    assert_eq!(victims.len(), 1);
    let mut watch = control.watch_units().await.unwrap();
    // The first event is the snapshot; what comes after it is news.
    watch.chunk().await.unwrap().unwrap();
    let operation = control.ask_move(unit, to).await.unwrap();
    let mut seen = String::new();
    let deadline = Instant::now() + PATIENCE;
    let hit = loop {
        match tokio::time::timeout_at(deadline, watch.chunk()).await {
            Ok(Ok(Some(chunk))) => seen.push_str(&String::from_utf8_lossy(&chunk)),
            _ => break false,
        }
        if seen.lines().any(|line| phase_of(unit, line).is_some_and(|seen| seen == phase)) {
            break true;
        }
        if control.operation(&operation.name).await.is_ok_and(|operation| is_over(&operation)) {
            break false;
        }
    };
    victims[0].kill().unwrap();
    loop {
        match control.operation(&operation.name).await {
            Ok(operation) if is_over(&operation) => return hit,
            _ => assert!(Instant::now() < deadline, "the move is not over: killed at {phase}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The phase in a line of the watch that tells of a change of this unit.
fn phase_of(unit: &UnitId, line: &str) -> Option<String> {
    let record: Value = serde_json::from_str(line.strip_prefix("data:")?).ok()?;
    let phase = record.pointer("/status/phase/name")?.as_str()?;
    (record["name"] == unit.as_str()).then(|| phase.to_owned())
}

fn is_over(operation: &Operation) -> bool {
    matches!(operation.status.state, OperationState::Succeeded | OperationState::Failed)
}
