//! What has broken others (see the list of pitfalls), done to a real PostgreSQL.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dujiang_agent::guard::Lease;
use dujiang_agent::postgres::Tuning;
use dujiang_agent::proc;
use dujiang_unit::agent::Process;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chown};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::prepared::{self, Guarded, TTL_LONG_MS, TTL_MS, node, node_with, primary, promote, send};
use crate::stand_in::Of;
use crate::world::{Node, PATIENCE, end_sessions, folder, set, settings, until};

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// An open primary `a` that waits for `b`, with an empty table.
async fn pair(dir: &Path) -> (Node, Node, prepared::Renewal) {
    let (a, lease) = primary(dir, "a", &set(1, &[])).await;
    let b = Node::follower(dir, "b", &a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    a.connect().await.unwrap().batch_execute("CREATE TABLE public.t (n int)").await.unwrap();
    (a, b, lease)
}

/// The WAL receiver that streams. A primary that has just taken in a sync set may have ended the one before.
async fn receiver(node: &Node) -> i32 {
    let client = node.connect_as("dujiang").await.unwrap();
    let sql = "SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(row) = client.query_opt(sql, &[]).await.unwrap() {
            return row.get(0);
        }
        assert!(Instant::now() < deadline, "no WAL receiver comes");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_crash_is_known_at_once_and_nothing_is_started_behind_the_agents_back() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    let admin = a.connect_as("dujiang").await.unwrap();
    // One session: PostgreSQL itself would start anew with everybody thrown out, in the same epoch.
    let session = i32::try_from(number(&admin, "SELECT pg_backend_pid()::bigint").await).unwrap();
    let end = a.replica.wait_end();
    send(session, Signal::SIGKILL);
    timeout(PATIENCE, end).await.expect("the end is not noticed");
    assert_eq!(a.replica.observe().await.unwrap(), Process::Stopped { sealed: None });
    assert!(a.processes().is_empty());

    // The postmaster: its sessions would go on for a while.
    a.replica.start().await.unwrap();
    let _lease = promote(&a, 2, &set(0, &[]), TTL_LONG_MS).await;
    let _admin = a.connect_as("dujiang").await.unwrap();
    let end = a.replica.wait_end();
    let postmaster = Guarded::of(&a).client().status().await.unwrap().postmaster;
    send(postmaster, Signal::SIGKILL);
    timeout(PATIENCE, end).await.expect("the end is not noticed");
    assert_eq!(a.replica.observe().await.unwrap(), Process::Stopped { sealed: None });
    assert!(a.processes().is_empty());
    assert_eq!(Guarded::of(&a).exit().unwrap().signal, Some(Signal::SIGKILL as i32));
}

#[tokio::test]
async fn what_keeps_postgresql_from_starting_is_told_and_is_not_starting() {
    let dir = folder();
    let a = node(dir.path(), "a").await;
    let told = async |node: &Node, reason: &str| {
        let error = node.replica.start().await.unwrap_err().chain();
        assert!(error.contains(reason), "{error}");
        assert_eq!(node.replica.observe().await.unwrap(), Process::Stopped { sealed: None });
        assert!(node.processes().is_empty());
    };
    let mode = |mode| fs::set_permissions(a.data(), Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    told(&a, "invalid permissions").await;
    mode(0o700);
    if Uid::effective().is_root() {
        let give = |uid: u32, gid: u32| {
            chown(&a.data(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).unwrap();
        };
        give(0, 0);
        told(&a, "wrong ownership").await;
        let inside = fs::metadata(a.data().join("PG_VERSION")).unwrap();
        give(inside.uid(), inside.gid());
    } else {
        eprintln!("skipped the wrong owner: only root can give a folder away");
    }
    let mut broken = Of::the(&a, dir.path()).settings();
    broken.tuning = Tuning { shared_buffers_mb: 0, ..broken.tuning };
    told(&Node::with(broken).await, "shared_buffers").await;
    let version = fs::read(a.data().join("PG_VERSION")).unwrap();
    fs::write(a.data().join("PG_VERSION"), "9\n").unwrap();
    told(&a, "incompatible").await;
    fs::write(a.data().join("PG_VERSION"), version).unwrap();
    // Nothing of all that has left a trace.
    a.replica.start().await.unwrap();
    a.position().await;
}

#[tokio::test]
async fn the_row_of_a_waiter_that_was_ended_is_told_to_nobody_as_a_success() {
    let dir = folder();
    let (a, b, _lease) = pair(dir.path()).await;
    b.replica.detach().await.unwrap();
    let client = a.connect().await.unwrap();
    let waiting = tokio::spawn(async move { client.batch_execute("INSERT INTO t VALUES (1)").await });
    let admin = a.connect_as("dujiang").await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while number(&admin, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await == 0 {
        assert!(!waiting.is_finished(), "{:?}", waiting.await);
        assert!(tokio::time::Instant::now() < deadline, "the commit does not wait");
    }
    assert_eq!(number(&admin, "SELECT count(*) FROM public.t").await, 0, "nobody sees it while it waits");
    end_sessions(&admin).await;
    assert!(waiting.await.unwrap().is_err(), "told success without a second copy");
    // No client is left, and the setting is untouched so far: nobody was released by it.
    assert_eq!(number(&admin, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bank'").await, 0);
    let names = admin.query_one("SHOW synchronous_standby_names", &[]).await.unwrap();
    assert_eq!(names.get::<_, String>(0), "ANY 1 (\"b\")");
    // The trap: here the row is there, although nobody was told so.
    assert_eq!(number(&admin, "SELECT count(*) FROM public.t").await, 1);
    // So clients come back only when the set has caught up; what they see then is on both.
    assert!(a.replica.set_sync(&set(1, &["b"])).await.is_err());
    b.follow(&a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    let caught_up = a.position().await.flushed;
    b.until_replayed(caught_up).await;
    assert_eq!(number(&b.connect_as("dujiang").await.unwrap(), "SELECT count(*) FROM public.t").await, 1);
}

#[tokio::test]
async fn a_member_counts_only_after_it_has_flushed_a_later_commit() {
    let dir = folder();
    let (a, b, _lease) = pair(dir.path()).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    // Frozen, it is still listed as streaming for a while.
    let receiver = receiver(&b).await;
    send(receiver, Signal::SIGSTOP);
    let frozen = a.replica.set_sync(&set(1, &["b"])).await;
    send(receiver, Signal::SIGCONT);
    assert!(frozen.is_err(), "confirmed by a member that flushes nothing");
    b.until("streaming", |process| matches!(process, Process::Standby { streaming: true, .. })).await;
    let before = a.position().await.flushed;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    assert!(b.position().await.flushed > before, "there was no later commit");
}

#[tokio::test]
async fn a_replica_is_not_detached_while_its_receiver_lives() {
    let dir = folder();
    let (a, b, _lease) = pair(dir.path()).await;
    let receiver = receiver(&b).await;
    send(receiver, Signal::SIGSTOP);
    assert!(b.replica.detach().await.is_err());
    let Process::Standby { upstream: None, receiving: true, .. } = b.replica.observe().await.unwrap() else {
        panic!("neither following nor detached");
    };
    // What is written meanwhile may or may not reach it; after it is detached nothing does.
    let client = a.connect().await.unwrap();
    let waiting = tokio::spawn(async move { client.batch_execute("INSERT INTO t VALUES (1)").await });
    send(receiver, Signal::SIGCONT);
    b.replica.detach().await.unwrap();
    let Process::Standby { upstream: None, receiving: false, .. } = b.replica.observe().await.unwrap() else {
        panic!("not detached");
    };
    let position = b.position().await;
    let _ = a.replica.write_probe().await;
    assert!(a.position().await.flushed > position.flushed);
    assert_eq!(b.position().await, position);
    waiting.abort();
}

/// A file system in a file, which can be frozen. Only root can have one.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn make(dir: &Path) -> Option<Self> {
        let (image, at) = (dir.join("disk"), dir.join("a"));
        fs::create_dir_all(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        made.then_some(Self { at })
    }

    fn freeze(&self) {
        assert!(run(Command::new("fsfreeze").arg("-f").arg(&self.at)));
    }

    fn thaw(&self) -> bool {
        run(Command::new("fsfreeze").arg("-u").arg(&self.at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        run(Command::new("umount").arg("-l").arg(&self.at));
    }
}

fn run(command: &mut Command) -> bool {
    command.stdin(std::process::Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// True if `SIGKILL` has been sent to a process that cannot take it yet.
fn is_doomed(pid: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let pending = |key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    ["SigPnd:", "ShdPnd:"].iter().any(|key| pending(*key).is_some_and(|set| set & (1 << (9 - 1)) != 0))
}

#[tokio::test]
async fn a_disk_that_hangs_is_seen_by_the_write_and_ends_with_the_lease() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can freeze a file system");
        return;
    }
    let dir = folder();
    let Some(disk) = Disk::make(dir.path()) else {
        eprintln!("skipped: no file system of its own can be mounted here");
        return;
    };
    // Logs and records lie elsewhere: the guard is to be watched.
    let mut on_disk = settings(dir.path(), "a");
    (on_disk.run, on_disk.log) = (dir.path().join("run"), dir.path().join("log"));
    fs::set_permissions(&disk.at, Permissions::from_mode(0o755)).unwrap();
    let a = node_with(on_disk).await;
    let lease = promote(&a, 1, &set(0, &[]), TTL_MS).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    a.replica.write_probe().await.unwrap();
    let guard = Guarded::of(&a);

    disk.freeze();
    let hanging = tokio::spawn(async move { client.batch_execute("INSERT INTO t VALUES (1)").await });
    let error = a.replica.write_probe().await.unwrap_err();
    assert!(error.chain().contains("write to the disk"), "{}", error.chain());
    // Green to everybody who only reads.
    assert!(matches!(a.replica.observe().await.unwrap(), Process::Primary { .. }));
    assert!(!hanging.is_finished());
    // So the agent does not renew.
    drop(lease);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while guard.client().status().await.is_ok_and(|status| status.lease != Lease::Lapsed) {
        assert!(tokio::time::Instant::now() < deadline, "the lease does not lapse");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("the end of all who can end", || a.processes().into_iter().all(is_doomed)).await;
    // What hangs in the disk is not gone, and nobody says that it is.
    if a.processes().iter().any(|pid| proc::stat(*pid).is_ok_and(|stat| stat.state == 'D')) {
        assert!(!matches!(a.replica.observe().await.unwrap(), Process::Stopped { .. }));
    }
    assert!(disk.thaw());
    until("the end of the rest", || a.processes().is_empty() && !guard.runs()).await;
    assert!(hanging.await.unwrap().is_err(), "acknowledged after the lease");
    assert!(guard.exit().unwrap().lapsed);
    a.until("the end", |process| *process == Process::Stopped { sealed: None }).await;
    a.replica.start().await.unwrap();
    a.position().await;
}
