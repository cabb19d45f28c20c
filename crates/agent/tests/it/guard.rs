//! A primary does not outlive its lease, whoever dies or freezes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use dujiang_agent::clock::boottime_ms;
use dujiang_agent::guard::client::Client;
use dujiang_agent::guard::{self, Exit, LEASE_MS_MAX, Lease, Mode, Spec, Status};
use dujiang_agent::{files, proc};
use dujiang_types::Epoch;
use dujiang_unit::agent::Process;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::prepared::{self, Guarded, TTL_LONG_MS, TTL_MS, promote, runs, send};
use crate::stand_in::{Of, StandIn};
use crate::world::{Node, PATIENCE, folder, guard_program, set, until};

/// A guard whose "PostgreSQL" is any program.
struct Bare {
    dir: TempDir,
    child: Child,
    spec: Spec,
}

impl Bare {
    fn start(program: &str, args: &[&str]) -> Self {
        let dir = folder();
        let spec = Spec {
            token: uuid::Uuid::new_v4().simple().to_string(),
            program: program.into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            user: None,
            lock: dir.path().join("lock"),
            exit: dir.path().join("exit.json"),
        };
        let child = Self::launch(&dir, &spec);
        Self { dir, child, spec }
    }

    fn launch(dir: &TempDir, spec: &Spec) -> Child {
        let file = dir.path().join(format!("{}.json", spec.token));
        files::write_json(&file, spec).unwrap();
        let log = File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
        let mut command = Command::new(guard_program());
        command.arg("guard").arg("--spec").arg(file).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn client(&self) -> Client {
        Client::new(&self.spec.token)
    }

    /// How it stands, asked until it answers.
    async fn status(&self) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.client().status().await {
                Ok(status) => return status,
                Err(error) => assert!(Instant::now() < deadline, "no answer: {error}"),
            }
            sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// A connection that knows no limits.
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect_addr(&guard::address(&self.spec.token).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What it wrote at its end.
    fn end(mut self) -> Exit {
        assert!(self.child.wait().unwrap().success());
        let exit: Exit = files::read_json(&self.spec.exit).unwrap().unwrap();
        assert_eq!(exit.token, self.spec.token);
        exit
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // What it guards goes with it, by the kernel.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_guard_refuses_leases_that_would_protect_nobody() {
    let bare = Bare::start("/bin/sleep", &["1000"]);
    let status = bare.status().await;
    assert_eq!((status.running, status.lease), (true, Lease::None));
    let client = bare.client();
    let too_long = client.lease(boottime_ms() + LEASE_MS_MAX + 10_000).await.unwrap();
    assert!(too_long.refused.is_some());
    let past = client.lease(boottime_ms() - 1).await.unwrap();
    assert!(past.refused.is_some());
    assert_eq!(past.lease, Lease::None);
    assert_eq!(client.lease(boottime_ms() + LEASE_MS_MAX - 1).await.unwrap().refused, None);
    // An older grant that arrives late takes nothing back.
    let late = client.lease(boottime_ms() + 1).await.unwrap();
    assert_eq!(late.refused, None);
    assert!(matches!(late.lease, Lease::Held { left_ms } if left_ms > 1), "{late:?}");
}

#[tokio::test]
async fn nonsense_and_strangers_do_not_disturb_a_guard() {
    let bare = Bare::start("/bin/sleep", &["1000"]);
    let postmaster = bare.status().await.postmaster;
    let long = "x".repeat(5000);
    for nonsense in ["hello\n", "{\"lease\":{\"until_ms\":-1}}\n", "{}\n", long.as_str()] {
        let mut stream = bare.connect();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let closed = stream.read(&mut [0; 8]);
        // A reset: what it had not read was dropped with the connection.
        assert!(
            matches!(&closed, Ok(0))
                || closed.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "{closed:?}"
        );
    }
    let idle: Vec<UnixStream> = (0..50).map(|_| bare.connect()).collect();
    assert_eq!(bare.status().await.postmaster, postmaster);
    drop(idle);
    // What a terminal sends to everybody in it.
    send(bare.pid(), Signal::SIGHUP);
    send(bare.pid(), Signal::SIGINT);

    let second = Spec { token: "second".to_owned() + &bare.spec.token, ..bare.spec.clone() };
    let refused = Bare::launch(&bare.dir, &second).wait().unwrap();
    assert!(!refused.success());
    let said = fs::read_to_string(bare.dir.path().join("log")).unwrap();
    assert!(said.contains("another guard holds"), "{said}");
    assert!(bare.status().await.running && runs(postmaster));

    send(bare.pid(), Signal::SIGTERM);
    let exit = bare.end();
    assert_eq!((exit.signal, exit.lapsed), (Some(Signal::SIGQUIT as i32), false));
    assert!(!runs(postmaster));
}

#[tokio::test]
async fn a_guard_ends_only_when_nothing_of_its_run_is_left() {
    // The "postmaster" ends and leaves children of children behind that ignore everything.
    let script = "trap '' INT QUIT TERM; (sh -c 'sleep 1000 & sleep 1000' & echo $! >\"$0\"); exit 7";
    let dir = folder();
    let mark = dir.path().join("left");
    let bare = Bare::start("/bin/sh", &["-c", script, mark.to_str().unwrap()]);
    let exit = bare.end();
    assert_eq!((exit.status, exit.signal, exit.lapsed), (Some(7), None, false));
    let left: i32 = fs::read_to_string(mark).unwrap().trim().parse().unwrap();
    assert!(!runs(left));
}

#[tokio::test]
async fn a_guard_that_was_frozen_past_the_deadline_takes_no_late_extension() {
    let bare = Bare::start("/bin/sleep", &["1000"]);
    bare.status().await;
    let deadline_ms = boottime_ms() + 3_000;
    assert_eq!(bare.client().lease(deadline_ms).await.unwrap().refused, None);
    let mut stream = bare.connect();
    send(bare.pid(), Signal::SIGSTOP);
    until("the deadline", || boottime_ms() > deadline_ms).await;
    // In time for the agent, too late for the guard: it reads this first thing when it wakes up.
    let until_ms = boottime_ms() + TTL_LONG_MS;
    writeln!(stream, "{{\"lease\":{{\"until_ms\":{until_ms}}}}}").unwrap();
    send(bare.pid(), Signal::SIGCONT);
    let mut answer = String::new();
    // It may be gone before it answers.
    if BufReader::new(stream).read_line(&mut answer).is_ok_and(|count| count > 0) {
        let answer: Status = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer.lease, Lease::Lapsed);
        assert!(answer.refused.is_some());
    }
    let exit = bare.end();
    assert!(exit.lapsed);
}

/// A primary that is open, under a short lease.
async fn serving(dir: &TempDir) -> (Node, prepared::Renewal) {
    let a = prepared::node(dir.path(), "a").await;
    let renewal = promote(&a, 1, &set(0, &[]), TTL_MS).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    (a, renewal)
}

/// Waits until nothing of the replica is left, without the agent's help.
async fn until_gone(node: &Node, guard: &Guarded) {
    until("the end of every process", || node.processes().is_empty()).await;
    until("the end of the guard", || !guard.runs()).await;
}

#[tokio::test]
async fn a_lease_that_passes_ends_every_process_for_certain_and_for_good() {
    let dir = folder();
    let (a, renewal) = serving(&dir).await;
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
    let (guard, before) = (Guarded::of(&a), a.processes());
    assert!(before.len() > 5);
    // Sessions are busy to the last moment.
    let busy =
        tokio::spawn(async move { while client.batch_execute("INSERT INTO t VALUES (2)").await.is_ok() {} });
    drop(renewal);
    until_gone(&a, &guard).await;
    busy.await.unwrap();
    assert!(before.into_iter().all(|pid| !runs(pid)));
    let exit = guard.exit().unwrap();
    assert!(exit.lapsed);
    assert!(guard.client().lease(boottime_ms() + TTL_MS).await.is_err(), "there is nobody to renew it with");
    a.until("the end", |process| matches!(process, Process::Stopped { sealed: None })).await;
    assert!(a.replica.lease(boottime_ms() + TTL_MS).await.is_err());

    // Another run begins as a standby without a lease, and its epoch is over.
    a.replica.start().await.unwrap();
    a.position().await;
    assert_ne!(Guarded::of(&a).token(), guard.token());
    assert_eq!(Guarded::of(&a).client().status().await.unwrap().lease, Lease::None);
    a.replica.lease(boottime_ms() + TTL_LONG_MS).await.unwrap();
    assert!(a.replica.promote(Epoch(1), &set(0, &[])).await.is_err(), "an epoch's primary runs once");
}

#[tokio::test]
async fn the_death_of_the_agent_ends_the_primary_by_the_deadline() {
    let dir = folder();
    let a = prepared::node(dir.path(), "a").await;
    let mut agent = StandIn::serve(&a, dir.path(), TTL_MS).await;
    a.connect().await.unwrap().batch_execute("CREATE TABLE t (n int)").await.unwrap();
    let guard = Guarded::of(&a);
    agent.kill();
    until_gone(&a, &guard).await;
    assert!(guard.exit().unwrap().lapsed);
}

#[tokio::test]
async fn a_frozen_agent_does_not_leave_a_primary_that_commits() {
    let dir = folder();
    let a = prepared::node(dir.path(), "a").await;
    let agent = StandIn::serve(&a, dir.path(), TTL_MS).await;
    let guard = Guarded::of(&a);
    // A session that was open long before goes on committing for as long as it can.
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    let commits =
        tokio::spawn(async move { while client.batch_execute("INSERT INTO t VALUES (1)").await.is_ok() {} });
    agent.signal(Signal::SIGSTOP);
    until_gone(&a, &guard).await;
    commits.await.unwrap();
    assert!(a.connect().await.is_err());
    assert!(guard.exit().unwrap().lapsed);
    // When it wakes up it sees that it is over, and cannot renew what has lapsed.
    agent.signal(Signal::SIGCONT);
    let seen = StandIn::seen(dir.path()).await;
    assert!(seen.starts_with("Err"), "{seen}");
    assert!(a.processes().is_empty());
}

#[tokio::test]
async fn the_kernel_ends_postgresql_when_the_guard_is_killed() {
    let dir = folder();
    let (a, _renewal) = serving(&dir).await;
    let (guard, before) = (Guarded::of(&a), a.processes());
    guard.signal(Signal::SIGKILL);
    // The agent does nothing yet: it is not asked.
    until("the end of every process", || a.processes().is_empty()).await;
    assert!(before.into_iter().all(|pid| !runs(pid)));
    assert_eq!(guard.exit(), None, "nobody was there to write it");
    a.until("the end", |process| matches!(process, Process::Stopped { sealed: None })).await;
}

#[tokio::test]
async fn a_frozen_guard_is_seen_and_the_agent_ends_postgresql_itself() {
    let dir = folder();
    let (a, renewal) = serving(&dir).await;
    let guard = Guarded::of(&a);
    a.replica.lease(boottime_ms() + TTL_MS).await.unwrap();
    guard.signal(Signal::SIGSTOP);
    assert!(a.replica.lease(boottime_ms() + TTL_MS).await.is_err(), "not renewed, so not to be counted on");
    a.replica.stop_now().await.unwrap();
    assert!(a.processes().is_empty() && !guard.runs());
    assert!(matches!(a.replica.observe().await.unwrap(), Process::Stopped { sealed: None }));
    drop(renewal);
    a.replica.start().await.unwrap();
    a.position().await;
}

#[tokio::test]
async fn an_agent_that_is_back_before_the_deadline_keeps_the_primary() {
    const TTL_BACK_MS: u64 = 12_000;
    let dir = folder();
    let a = prepared::node(dir.path(), "a").await;
    let mut agent = StandIn::serve(&a, dir.path(), TTL_BACK_MS).await;
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    let guard = Guarded::of(&a);
    let postmaster = guard.client().status().await.unwrap().postmaster;
    agent.kill();
    let deadline_ms = boottime_ms() + TTL_BACK_MS;
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();

    let back = Of::the(&a, dir.path()).open().await;
    assert_eq!(Guarded::of(&back).pid(), guard.pid(), "adopted");
    back.replica.lease(boottime_ms() + TTL_LONG_MS).await.unwrap();
    let Process::Primary { epoch: Epoch(1), open: true, .. } = back.replica.observe().await.unwrap() else {
        panic!("not adopted as the primary it is");
    };
    while boottime_ms() <= deadline_ms {
        client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        sleep(std::time::Duration::from_millis(20)).await;
    }
    let status = guard.client().status().await.unwrap();
    assert_eq!(status.postmaster, postmaster);
    assert!(matches!(status.lease, Lease::Held { .. }));
    client.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    // The new agent learns of the end although it has started nothing.
    guard.client().stop(Mode::Kill).await.unwrap();
    back.until("the end", |process| matches!(process, Process::Stopped { sealed: None })).await;
}

#[tokio::test]
async fn frozen_processes_of_postgresql_die_at_the_deadline_too() {
    let dir = folder();
    let (a, renewal) = serving(&dir).await;
    let _client = a.connect().await.unwrap();
    let guard = Guarded::of(&a);
    // The postmaster first: it would make new ones.
    let postmaster = guard.client().status().await.unwrap().postmaster;
    send(postmaster, Signal::SIGSTOP);
    for pid in a.processes() {
        // Some end by themselves; they are none of the frozen then.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGSTOP);
    }
    let is_frozen = |pid: &i32| proc::stat(*pid).is_ok_and(|stat| stat.state == 'T');
    until("the freeze", || a.processes().iter().all(is_frozen)).await;
    let frozen = a.processes();
    assert!(frozen.len() > 5);
    assert!(!matches!(a.replica.observe().await.unwrap(), Process::Stopped { .. }), "frozen is not stopped");
    drop(renewal);
    until_gone(&a, &guard).await;
    assert!(frozen.into_iter().all(|pid| !runs(pid)));
    let exit = guard.exit().unwrap();
    assert_eq!((exit.signal, exit.lapsed), (Some(Signal::SIGKILL as i32), true));
}
