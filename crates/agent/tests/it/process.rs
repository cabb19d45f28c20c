//! Starting, watching, adopting and stopping processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_agent::process::{ENV_RECORD, Keeper, Process, Record, Spec};
use dujiang_agent::{files, proc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{PATIENCE, folder, free_address, until};

fn spec(dir: &Path, shell: &str) -> Spec {
    Spec {
        name: "thing".to_owned(),
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".to_owned(), shell.to_owned()],
        env: BTreeMap::new(),
        dir: dir.to_owned(),
        log: dir.join("log/thing.log"),
        record: dir.join("run/thing.json"),
        ready: None,
    }
}

fn runs(pid: i32) -> bool {
    proc::stat(pid).is_ok_and(proc::Stat::runs)
}

#[tokio::test]
async fn an_exit_is_known_with_its_status_and_its_last_words() {
    let dir = folder();
    let spec = spec(dir.path(), "echo out; echo err >&2; exit 3");
    let exit = Process::start(&spec).unwrap().wait().await;
    assert_eq!((exit.status, exit.signal), (Some(3), None));
    assert_eq!(std::fs::read_to_string(&spec.log).unwrap(), "out\nerr\n");
    let missing = Spec { program: PathBuf::from("/nowhere/thing"), ..spec };
    let error = Process::start(&missing).unwrap_err();
    assert!(error.to_string().contains("/nowhere/thing"), "{error}");
}

#[tokio::test]
async fn a_stop_takes_everything_in_the_group() {
    let dir = folder();
    let process =
        Process::start(&spec(dir.path(), "trap '' TERM; sleep 1000 & echo $! > child; wait; wait")).unwrap();
    let child = dir.path().join("child");
    until("the child", || std::fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n'))).await;
    let child: i32 = std::fs::read_to_string(&child).unwrap().trim().parse().unwrap();
    let exit = process.stop(Duration::from_millis(100)).await.unwrap();
    assert_eq!(exit.signal, Some(Signal::SIGKILL as i32), "it ignores what asks it to end");
    until("the end of the child", || !runs(child)).await;
}

#[tokio::test]
async fn a_process_is_adopted_only_if_it_is_the_one() {
    let dir = folder();
    let spec = spec(dir.path(), "sleep 1000");
    let process = Process::start(&spec).unwrap();
    let adopted = Process::adopt(&spec.record).unwrap().unwrap();
    assert_eq!((adopted.pid(), adopted.fingerprint()), (process.pid(), spec.fingerprint().as_str()));
    // The number now belongs to another process.
    let mut record: Record = files::read_json(&spec.record).unwrap().unwrap();
    record.start_ticks += 1;
    let other = dir.path().join("run/other.json");
    files::write_json(&other, &record).unwrap();
    assert!(Process::adopt(&other).unwrap().is_none());
    assert!(!other.exists() && runs(process.pid()));
    adopted.stop(PATIENCE).await.unwrap();
    process.wait().await;
    assert!(Process::adopt(&spec.record).unwrap().is_none());
}

#[tokio::test]
async fn what_was_started_but_not_recorded_is_ended() {
    let dir = folder();
    let spec = spec(dir.path(), "sleep 1000");
    let process = Process::start(&spec).unwrap();
    // As if the agent had been killed between the two.
    std::fs::remove_file(&spec.record).unwrap();
    assert!(proc::has_env(process.pid(), &format!("{ENV_RECORD}={}", spec.record.display())));
    assert!(Process::adopt(&spec.record).unwrap().is_none());
    assert_eq!(process.wait().await.signal, Some(Signal::SIGKILL as i32));
}

#[tokio::test]
async fn a_kept_process_comes_back_and_outlives_its_keeper() {
    let dir = folder();
    let spec = spec(dir.path(), "sleep 1000");
    let client = dujiang_identity::plain_http_client().build().unwrap();
    let keeper = Keeper::start(spec.clone(), client.clone());
    until("the start", || keeper.status().ready).await;
    let first = keeper.status();
    assert_eq!(first.starts, 1);
    kill(Pid::from_raw(first.pid.unwrap()), Signal::SIGKILL).unwrap();
    until("the second start", || keeper.status().starts == 2 && keeper.status().ready).await;
    let second = keeper.status().pid.unwrap();
    drop(keeper);
    assert!(runs(second));

    let keeper = Keeper::start(spec.clone(), client.clone());
    until("the adoption", || keeper.status().ready).await;
    assert_eq!((keeper.status().pid, keeper.status().starts), (Some(second), 0));
    drop(keeper);
    // Another specification: the old process makes room.
    let changed = Spec { args: vec!["-c".to_owned(), "sleep 2000".to_owned()], ..spec };
    let keeper = Keeper::start(changed, client);
    until("the replacement", || keeper.status().starts == 1 && keeper.status().ready).await;
    assert!(!runs(second));
    let third = keeper.status().pid.unwrap();
    keeper.stop(PATIENCE).await;
    assert!(!runs(third));
}

#[tokio::test]
async fn readiness_is_what_the_url_says() {
    let dir = folder();
    let address = free_address();
    let mut spec = spec(dir.path(), "sleep 1000");
    spec.ready = Some(format!("http://{address}/readyz"));
    let keeper = Keeper::start(spec, dujiang_identity::plain_http_client().build().unwrap());
    until("a note", || keeper.status().note.contains("cannot be reached")).await;
    assert!(!keeper.status().ready && keeper.status().pid.is_some());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let router = axum::Router::new().route("/readyz", axum::routing::get(|| async { "ok" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    until("readiness", || keeper.status().ready).await;
    keeper.stop(PATIENCE).await;
}
