//! Processes outlive their agent, and nothing they do makes it hang or mistake one for another.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dujiang_agent::process::{self, Exit, Keeper, Process, Record, Spec, Status};
use dujiang_agent::{files, proc};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use crate::prepared::{runs, send};
use crate::stand_in::{Part, StandIn};
use crate::world::{PATIENCE, folder, free_address, until};

/// Enough for an orderly end on a busy machine.
const GRACE: Duration = Duration::from_secs(30);
/// For those who will not use it.
const GRACE_SHORT: Duration = Duration::from_millis(100);

/// Runs a shell script; `$D` is the folder.
fn script(dir: &Path, text: &str) -> Spec {
    Spec {
        name: "thing".to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), text.to_owned()],
        env: BTreeMap::from([("D".to_owned(), dir.display().to_string())]),
        dir: dir.to_owned(),
        log: dir.join("log/thing.log"),
        record: dir.join("run/thing.json"),
        ready: None,
    }
}

/// A folder; whatever a test has left running is ended with it.
struct Swept(TempDir);

impl Swept {
    fn new() -> Self {
        Self(folder())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The number a script has written into a file.
    async fn pid(&self, file: &str) -> i32 {
        let path = self.path().join(file);
        let read = || fs::read_to_string(&path).ok()?.trim().parse::<i32>().ok();
        until("a process id", || read().is_some()).await;
        read().unwrap()
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        let mark = format!("D={}", self.path().display());
        for pid in proc::pids().unwrap_or_default() {
            if proc::has_env(pid, &mark) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

async fn ended(process: &Process) -> Exit {
    timeout(PATIENCE, process.wait()).await.expect("the end is not noticed")
}

async fn status(keeper: &Keeper, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut watch = keeper.watch();
    let found = timeout(PATIENCE, watch.wait_for(|status| wanted(status))).await;
    let Ok(found) = found else { panic!("{what} does not come, but {:?}", keeper.status()) };
    found.unwrap().clone()
}

fn client() -> reqwest::Client {
    dujiang_identity::plain_http_client().build().unwrap()
}

#[tokio::test]
async fn a_process_outlives_its_agent_and_the_next_one_watches_it() {
    let dir = Swept::new();
    let spec = script(dir.path(), "exec sleep 1000");
    let part = Part::Leave { process: spec.clone() };
    StandIn::play(&part, &dir.path().join("stand-in.log"), &BTreeMap::new()).wait();
    let record: Record = files::read_json(&spec.record).unwrap().unwrap();
    assert_ne!(proc::stat(record.pid).unwrap().parent, i32::try_from(std::process::id()).unwrap());

    let process = Process::adopt(&spec.record).unwrap().expect("it runs");
    assert_eq!((process.pid(), process.fingerprint()), (record.pid, spec.fingerprint().as_str()));
    assert_eq!(process.exited(), None);
    send(record.pid, Signal::SIGKILL);
    // Only a parent learns the cause.
    assert_eq!(ended(&process).await, Exit { status: None, signal: None });
    assert!(Process::adopt(&spec.record).unwrap().is_none());
    assert!(!spec.record.exists(), "a record of nothing");
}

#[tokio::test]
async fn what_has_ended_is_neither_signalled_nor_an_error() {
    let dir = Swept::new();
    let process = Process::start(&script(dir.path(), "exec sleep 1000")).unwrap();
    assert_eq!(process.exited(), None);
    process.signal(Signal::SIGKILL).unwrap();
    let exit = ended(&process).await;
    assert_eq!((exit.signal, process.exited()), (Some(Signal::SIGKILL as i32), Some(exit)));
    process.signal(Signal::SIGKILL).unwrap();
    assert_eq!(process.stop(GRACE_SHORT).await.unwrap(), exit);
}

#[tokio::test]
async fn a_record_that_means_nobody_harms_nobody() {
    let dir = Swept::new();
    let spec = script(dir.path(), "exec sleep 1000");
    let other = Process::start(&Spec { record: dir.path().join("run/other.json"), ..spec.clone() }).unwrap();
    let start_ticks = proc::stat(other.pid()).unwrap().start_ticks;
    let record = Record {
        name: spec.name.clone(),
        pid: other.pid(),
        start_ticks: start_ticks - 1,
        fingerprint: spec.fingerprint(),
    };
    files::write_json(&spec.record, &record).unwrap();
    assert!(Process::adopt(&spec.record).unwrap().is_none());
    // A number no process can have.
    files::write_json(&spec.record, &Record { pid: i32::MAX, ..record.clone() }).unwrap();
    assert!(Process::adopt(&spec.record).unwrap().is_none());
    for nonsense in ["", "{}", "{\"pid\": \"x\"}"] {
        fs::write(&spec.record, nonsense).unwrap();
        assert!(Process::adopt(&spec.record).is_err(), "{nonsense}");
    }
    assert_eq!(other.exited(), None, "left alone");
    assert!(runs(other.pid()));
}

#[tokio::test]
async fn stopping_ends_children_too_in_order_or_frozen() {
    let dir = Swept::new();
    let text =
        "trap 'echo orderly; exit 0' TERM; sleep 1000 & echo $! > $D/child; while :; do sleep 0.05; done";
    let spec = script(dir.path(), text);
    let process = Process::start(&spec).unwrap();
    let child = dir.pid("child").await;
    let exit = process.stop(GRACE).await.unwrap();
    assert_eq!((exit.status, exit.signal), (Some(0), None));
    assert_eq!(fs::read_to_string(&spec.log).unwrap(), "orderly\n");
    until("the end of its child", || !runs(child)).await;

    // No signal but one reaches a frozen process.
    let process = Process::start(&script(dir.path(), "exec sleep 1000")).unwrap();
    process.signal(Signal::SIGSTOP).unwrap();
    until("the freeze", || proc::stat(process.pid()).is_ok_and(|stat| stat.state == 'T')).await;
    assert_eq!(process.stop(GRACE_SHORT).await.unwrap().signal, Some(Signal::SIGKILL as i32));
}

#[tokio::test]
async fn a_process_that_keeps_ending_is_started_ever_more_slowly() {
    let dir = Swept::new();
    let begun = Instant::now();
    let keeper = Keeper::start(script(dir.path(), "echo x >> $D/starts; exit 9"), client());
    status(&keeper, "a fifth start", |status| status.starts >= 5).await;
    // 100 + 200 + 400 + 800 ms lie between them at least; how much more is the machine's affair.
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    let seen = status(&keeper, "an end", |status| status.pid.is_none()).await;
    assert_eq!((seen.ready, seen.note.as_str()), (false, "exited with status 9"));
    keeper.stop(GRACE).await;
    assert!(fs::read_to_string(dir.path().join("starts")).unwrap().lines().count() >= 4);
}

#[tokio::test]
async fn a_program_that_is_installed_later_is_started_then() {
    let dir = Swept::new();
    let program = dir.path().join("late");
    let spec = Spec { program: program.clone(), args: vec!["1000".to_owned()], ..script(dir.path(), "") };
    let keeper = Keeper::start(spec, client());
    let seen = status(&keeper, "a reason", |status| status.note.contains("cannot start")).await;
    assert_eq!((seen.pid, seen.ready, seen.starts), (None, false, 0));
    std::os::unix::fs::symlink("/bin/sleep", program).unwrap();
    status(&keeper, "a start", |status| status.ready && status.starts == 1).await;
    keeper.stop(GRACE).await;
}

#[tokio::test]
async fn an_adopted_process_that_ends_is_started_again() {
    let dir = Swept::new();
    let spec = script(dir.path(), "exec sleep 1000");
    let part = Part::Leave { process: spec.clone() };
    StandIn::play(&part, &dir.path().join("stand-in.log"), &BTreeMap::new()).wait();
    let keeper = Keeper::start(spec, client());
    let adopted = status(&keeper, "an adoption", |status| status.ready).await;
    assert_eq!(adopted.starts, 0);
    send(adopted.pid.unwrap(), Signal::SIGKILL);
    let started = status(&keeper, "a start", |status| status.ready && status.starts == 1).await;
    assert_ne!(started.pid, adopted.pid);
    keeper.stop(GRACE).await;
    assert!(!dir.path().join("run/thing.json").exists());
}

#[tokio::test]
async fn a_log_does_not_grow_without_bound_under_a_writer() {
    const MIB: u64 = 1 << 20;
    let dir = Swept::new();
    let spec = script(dir.path(), "while :; do head -c 100000 /dev/zero; sleep 0.1; done");
    fs::create_dir_all(files::parent(&spec.log)).unwrap();
    File::create(&spec.log).unwrap().set_len(17 * MIB).unwrap();
    let keeper = Keeper::start(spec.clone(), client());
    let aside = PathBuf::from(format!("{}.1", spec.log.display()));
    until("the move aside", || aside.exists()).await;
    until("the writing on", || spec.log.metadata().is_ok_and(|log| (1..17 * MIB).contains(&log.len()))).await;
    keeper.stop(GRACE).await;
    // And again, replacing what was set aside before.
    File::options().write(true).open(&spec.log).unwrap().set_len(20 * MIB).unwrap();
    process::rotate(&spec.log).unwrap();
    assert_eq!(aside.metadata().unwrap().len(), 20 * MIB);
    assert_eq!(spec.log.metadata().unwrap().len(), 0);
    assert_eq!(fs::read_dir(files::parent(&spec.log)).unwrap().count(), 2);
}

/// Answers HTTP as told: 0 closes without an answer, 1 does not answer, else the status.
async fn answer(listener: TcpListener, how: Arc<AtomicUsize>) {
    let mut open = Vec::new();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let _ = stream.read(&mut [0; 4096]).await;
        match how.load(Ordering::SeqCst) {
            0 => {}
            1 => open.push(stream),
            status => {
                let text = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(text.as_bytes()).await;
            }
        }
    }
}

#[tokio::test]
async fn not_ready_is_told_with_its_reason_and_is_no_reason_to_start_again() {
    let dir = Swept::new();
    let address = free_address();
    let url = format!("http://{address}/readyz");
    let spec = Spec { ready: Some(url), ..script(dir.path(), "exec sleep 1000") };
    let keeper = Keeper::start(spec, client());
    let note = |text: &'static str| move |status: &Status| !status.ready && status.note.ends_with(text);
    status(&keeper, "no connection", note("cannot be reached")).await;

    let listener = StdListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let how = Arc::new(AtomicUsize::new(503));
    let serving = tokio::spawn(answer(TcpListener::from_std(listener).unwrap(), how.clone()));
    status(&keeper, "a refusal", note("answered 503 Service Unavailable")).await;
    how.store(200, Ordering::SeqCst);
    status(&keeper, "readiness", |status| status.ready && status.note == "ready").await;
    how.store(1, Ordering::SeqCst);
    status(&keeper, "silence", note("does not answer")).await;
    how.store(200, Ordering::SeqCst);
    status(&keeper, "readiness again", |status| status.ready).await;
    how.store(0, Ordering::SeqCst);
    status(&keeper, "broken answers", note("cannot be reached")).await;
    how.store(200, Ordering::SeqCst);
    let ready = status(&keeper, "readiness once more", |status| status.ready).await;
    assert_eq!(ready.starts, 1);
    // Ended is not ready, whatever answers there.
    send(ready.pid.unwrap(), Signal::SIGKILL);
    status(&keeper, "the end", |status| !status.ready && status.pid.is_none()).await;
    serving.abort();
    keeper.stop(GRACE).await;
}
