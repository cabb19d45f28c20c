//! `up`, `down` and what stands in their way, on a whole platform of real processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, DATA_CENTERS, PATIENCE};
use dujiang_testkit::processes::Kind;
use dujiang_types::DcId;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, sleep, timeout};

fn dc(number: usize) -> DcId {
    DcId::new(DATA_CENTERS[number]).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that ends with this exit code; gives what it said.
async fn expect(cluster: &Cluster, code: i32, args: &[&str]) -> String {
    let output = cluster.try_dujiang(args).await.unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "dujiang {args:?}: {said}");
    said
}

fn pids(cluster: &Cluster, kind: &Kind) -> Vec<i32> {
    let mut pids: Vec<i32> =
        cluster.processes(kind, None).unwrap().iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    pids
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn kill_supervisor(cluster: &Cluster) {
    for supervisor in cluster.processes(&Kind::Supervisor, None).unwrap() {
        supervisor.kill().unwrap();
    }
    until("the end of the supervisor", || pids(cluster, &Kind::Supervisor).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_named_before_anything_starts() {
    let cluster = Cluster::prepare().unwrap();
    let manifest = cluster.manifest();
    let right = fs::read_to_string(&manifest).unwrap();
    let path = manifest.to_string_lossy().into_owned();
    let up = ["up", "--detach", "-f", &path];

    let said = expect(&cluster, 2, &["up", "--detach"]).await;
    assert!(said.contains("there is no platform in"), "{said}");
    let said = expect(&cluster, 4, &["status"]).await;
    assert!(said.contains("no platform runs from"), "{said}");

    fs::write(&manifest, right.replacen("durability: zero", "durability: zer", 1)).unwrap();
    let said = expect(&cluster, 2, &up).await;
    assert!(said.contains("did you mean `zero`?") && said.contains("1 mistake"), "{said}");
    assert!(!cluster.data().exists(), "a wrong manifest leaves no trace");
    fs::write(&manifest, right).unwrap();

    let taken = TcpListener::bind((cluster.host(1), 8080)).unwrap();
    let said = expect(&cluster, 1, &up).await;
    let who = format!("is taken by process {} (", std::process::id());
    assert!(said.contains("the gateway of chengdu-2") && said.contains(&who), "{said}");
    drop(taken);

    fs::remove_dir_all(cluster.data()).unwrap();
    fs::create_dir(cluster.data()).unwrap();
    let letter = cluster.data().join("letter.txt");
    fs::write(&letter, "dear").unwrap();
    for command in [&up[..], &["down", "--purge", "--yes"]] {
        let said = expect(&cluster, 1, command).await;
        assert!(said.contains("not the folder of a platform"), "{said}");
    }
    assert!(letter.exists());
}

/// What a person sees who types `up` and later Ctrl-C.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_foreground_it_says_where_everything_is_and_ends_with_an_interrupt() {
    let cluster = Cluster::prepare().unwrap();
    let path = cluster.manifest().to_string_lossy().into_owned();
    let mut up = cluster.command(&["up", "-f", &path]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let mut said = String::new();
    // The live status comes last, and only once everything serves.
    while !said.contains("unit-3 serving in ") {
        let line = timeout(PATIENCE, lines.next_line()).await.expect(&said).unwrap().expect(&said);
        said = format!("{said}{line}\n");
    }
    for what in ["serves: 3 data centers, 3 units", "gateways", "API", "logs", "payment"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert!(!said.contains('\u{1b}'), "no colours, this is no terminal: {said}");
    cluster.serving().await.unwrap();

    let pid = i32::try_from(up.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT).unwrap();
    let status = timeout(PATIENCE, up.wait()).await.expect("it ends").unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        said = format!("{said}{line}\n");
    }
    assert!(status.success() && said.contains("everything is stopped; the data is kept"), "{status} {said}");
    let kinds = [Kind::Control, Kind::Agent, Kind::Gateway, Kind::Guard, Kind::Application, Kind::Postmaster];
    assert!(kinds.iter().all(|kind| pids(&cluster, kind).is_empty()), "nothing is left running");
    assert!(cluster.data().join("manifest.yaml").exists());

    // The folder can be named by the environment, too.
    let status = cluster.command(&["status"]);
    let program = status.as_std().get_program().to_owned();
    let bare = std::process::Command::new(program).arg("status").env("DUJIANG_DATA", cluster.data()).output();
    let said = text(&bare.unwrap());
    assert!(said.contains(&format!("no platform runs from {}", cluster.data().display())), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_outlives_its_supervisor_and_ends_in_order() {
    let cluster = Cluster::start().await.unwrap();
    let path = cluster.manifest().to_string_lossy().into_owned();

    let said = expect(&cluster, 0, &["up", "--detach", "-f", &path]).await;
    assert!(said.contains("already runs from") && said.contains("unit-1"), "{said}");
    let units: Value =
        serde_json::from_str(&expect(&cluster, 0, &["get", "units", "-o", "json"]).await).unwrap();
    assert_eq!(units.as_array().unwrap().len(), 3);
    let said = expect(&cluster, 0, &["move", "unit-1", "--to", DATA_CENTERS[1]]).await;
    assert!(said.contains("holding") && said.contains("serving"), "every step is shown: {said}");
    let said = expect(&cluster, 3, &["move", "unit-1", "--to", "nowhere"]).await;
    assert!(said.contains("error:"), "{said}");
    let said = expect(&cluster, 0, &["logs", "control", "-n", "5"]).await;
    assert!(said.lines().all(|line| line.starts_with("control | ")), "{said}");

    // Killed children of the supervisor are back at once; a killed supervisor's children live on and are adopted.
    let control = pids(&cluster, &Kind::Control);
    for process in cluster.processes(&Kind::Control, None).unwrap() {
        process.kill().unwrap();
    }
    let back = || pids(&cluster, &Kind::Control).first().is_some_and(|pid| !control.contains(pid));
    until("another control plane", back).await;
    let before = (pids(&cluster, &Kind::Control), pids(&cluster, &Kind::Agent));
    assert_eq!(before.1.len(), DATA_CENTERS.len());
    kill_supervisor(&cluster).await;
    cluster.up().await.unwrap();
    assert_eq!((pids(&cluster, &Kind::Control), pids(&cluster, &Kind::Agent)), before, "they are adopted");

    // A data center that is switched off stays off until it is switched on.
    let mark = cluster.data().join("run/power-off").join(DATA_CENTERS[2]);
    fs::write(&mark, "").unwrap();
    let of_dc = |kind: &Kind| cluster.processes(kind, Some(&dc(2))).unwrap().len();
    let nothing =
        || [Kind::Agent, Kind::Gateway, Kind::Guard, Kind::Postmaster].iter().all(|kind| of_dc(kind) == 0);
    until("the power cut", nothing).await;
    cluster.serving().await.unwrap();
    assert!(nothing(), "it stays off");
    fs::remove_file(&mark).unwrap();
    cluster.whole().await.unwrap();

    kill_supervisor(&cluster).await;
    let said = expect(&cluster, 0, &["down", "-o", "json"]).await;
    assert!(said.contains("\"stopped\": true") && said.contains("\"removed\": false"), "{said}");
    let kinds = [Kind::Control, Kind::Agent, Kind::Gateway, Kind::Guard, Kind::Application, Kind::Postmaster];
    assert!(
        kinds.iter().all(|kind| pids(&cluster, kind).is_empty()),
        "what a killed `up` left is stopped too"
    );
    let said = expect(&cluster, 0, &["down"]).await;
    assert!(said.contains("nothing ran"), "{said}");
    let said = expect(&cluster, 3, &["down", "--purge"]).await;
    assert!(said.contains("--yes"), "{said}");
    assert!(cluster.data().exists());
    expect(&cluster, 0, &["down", "--purge", "--yes"]).await;
    assert!(!cluster.data().exists());
}
