//! The way back of a replica that has left its unit's log, lost its place in it, or was half made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dujiang_agent::postgres::wal::{Kept, SEGMENT_MB};
use dujiang_agent::postgres::{Fit, Programs, Replica};
use dujiang_types::Epoch;
use dujiang_types::loss::{LOSSES_FILE, Losses};
use dujiang_unit::agent::{Data, Process};
use tokio::time::{Instant, timeout};

use crate::prepared::{Renewal, TTL_LONG_MS, primary, promote};
use crate::world::{Node, PATIENCE, folder, set, settings};

/// Books with one transfer in them, and where the application says they are.
const BOOKS: &str = "
    CREATE TABLE postings (posting text PRIMARY KEY, key text, kind text, account text, to_account text,
        amount bigint, currency text, created_at text);
    CREATE TABLE entries (posting text, account text, amount bigint, currency text);
    INSERT INTO postings VALUES ('p0', 'k0', 'deposit', 'a', NULL, 900, 'CNY', 'early');
    INSERT INTO entries VALUES ('p0', 'cash', -900, 'CNY'), ('p0', 'a', 900, 'CNY');
    CREATE TABLE dujiang_transfers (part text PRIMARY KEY, relation name, id_column name, account_column name,
        amount_column name, currency_column name, key_column name, kind_column name, to_column name, at_column name);
    INSERT INTO dujiang_transfers VALUES
        ('transfer', 'postings', 'posting', 'account', 'amount', 'currency', 'key', 'kind', 'to_account', 'created_at'),
        ('entry', 'entries', 'posting', 'account', 'amount', 'currency', NULL, NULL, NULL, NULL)";
/// One more transfer.
const TRANSFER: &str = "
    INSERT INTO postings VALUES ('p1', 'k1', 'transfer', 'a', 'b', 250, 'CNY', 'late');
    INSERT INTO entries VALUES ('p1', 'a', -250, 'CNY'), ('p1', 'b', 250, 'CNY')";

/// An old home `a` with a commit that no other replica has, and the new home `b` of epoch 2.
struct Diverged {
    a: Node,
    b: Node,
    /// The number of the lost transaction.
    lost: i64,
    _lease: Renewal,
}

async fn diverged(dir: &Path) -> Diverged {
    let (a, a_lease) = primary(dir, "a", &set(1, &[])).await;
    let b = Node::follower(dir, "b", &a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (note text); INSERT INTO t VALUES ('on both')").await.unwrap();
    client.batch_execute(BOOKS).await.unwrap();
    b.until_replayed(a.position().await.flushed).await;
    b.replica.detach().await.unwrap();
    // Written, visible to nobody, and never acknowledged; the business effect in a subtransaction, as the SDK has it.
    client.batch_execute("BEGIN; INSERT INTO t VALUES ('only here'); SAVEPOINT work").await.unwrap();
    client.batch_execute(TRANSFER).await.unwrap();
    let xid = "SELECT pg_current_xact_id()::text::bigint";
    let lost = client.query_one(xid, &[]).await.unwrap().get(0);
    let waiting = tokio::spawn(async move { client.batch_execute("COMMIT").await });
    let admin = a.connect_as("dujiang").await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let deadline = Instant::now() + PATIENCE;
    while admin.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!waiting.is_finished(), "acknowledged without b");
        assert!(Instant::now() < deadline, "the commit does not wait");
    }
    drop(a_lease);
    a.replica.stop_now().await.unwrap();
    assert!(waiting.await.unwrap().is_err(), "acknowledged without b");
    let lease = promote(&b, 2, &set(0, &[]), TTL_LONG_MS).await;
    b.replica.set_sync(&set(0, &[])).await.unwrap();
    b.replica.open_admission().await.unwrap();
    let client = b.connect().await.unwrap();
    client.batch_execute("INSERT INTO t VALUES ('after the failover')").await.unwrap();
    Diverged { a, b, lost, _lease: lease }
}

fn kept_folders(node: &Node) -> Vec<PathBuf> {
    let entries = fs::read_dir(node.replica.settings().dir.join("kept")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The records of a kept folder, as PostgreSQL's own tool prints them.
fn waldump(folder: &Path, kept: &Kept) -> String {
    let program = Programs::find().unwrap().path("pg_waldump");
    let from = kept.fork.to_string();
    let timeline = kept.end.timeline.to_string();
    let output =
        Command::new(program).arg("-p").arg(folder).args(["-t", &timeline, "-s", &from]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn notes(node: &Node) -> Vec<String> {
    let rows = node
        .connect_as("dujiang")
        .await
        .unwrap()
        .query("SELECT note FROM public.t ORDER BY 1", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn an_old_home_rejoins_and_the_log_only_it_had_is_kept() {
    let dir = folder();
    let Diverged { a, b, lost, _lease } = diverged(dir.path()).await;
    a.replica.start().await.unwrap();
    a.position().await;
    // It must not even connect: what it would say about its log means other bytes there.
    assert_eq!(a.replica.follow(&b.upstream()).await.unwrap(), Fit::Diverged);
    assert_eq!(a.replica.state().upstream, None);
    let Process::Primary { standbys, .. } = b.replica.observe().await.unwrap() else { panic!() };
    assert!(standbys.is_empty());

    let end = a.position().await;
    a.replica.rewind(&b.upstream()).await.unwrap();
    assert_eq!((a.replica.data(), a.replica.state().primary_epoch), (Data::Present, None));
    a.replica.start().await.unwrap();
    a.follow(&b).await;
    a.until_replayed(b.position().await.flushed).await;
    assert_eq!(notes(&a).await, ["after the failover", "on both"]);
    assert_eq!(a.position().await.timeline, 3);

    let folders = kept_folders(&a);
    assert_eq!(folders.len(), 1);
    let kept: Kept = serde_json::from_slice(&fs::read(folders[0].join("kept.json")).unwrap()).unwrap();
    assert_eq!((kept.end, kept.primary_epoch), (end, Some(Epoch(1))));
    assert!(kept.fork < kept.end.flushed);
    let records = waldump(&folders[0], &kept);
    let has = |what: &str| {
        let tx = format!(" {lost},");
        records.lines().any(|line| line.contains(&tx) && line.contains(what))
    };
    assert!(has("INSERT") && has("COMMIT"), "the lost transaction {lost} is not in:\n{records}");

    let losses: Losses = serde_json::from_slice(&fs::read(folders[0].join(LOSSES_FILE)).unwrap()).unwrap();
    assert_eq!((losses.incomplete, losses.epoch, losses.fork), (None, Some(Epoch(1)), kept.fork));
    let [transfer] = losses.transfers.as_slice() else { panic!("{:?}", losses.transfers) };
    assert_eq!(
        (transfer.id.as_str(), transfer.key.as_deref(), transfer.amount_minor),
        ("p1", Some("k1"), 250)
    );
    assert_eq!(
        (transfer.account.as_str(), transfer.to.as_deref(), transfer.at.as_str()),
        ("a", Some("b"), "late")
    );
    let entries: Vec<_> = transfer.entries.iter().map(|e| (e.account.as_str(), e.amount_minor)).collect();
    assert_eq!(entries, [("a", -250), ("b", 250)]);
    assert!(!folders[0].join("pgdata").exists(), "what is decoded needs no copy of the data");

    // It counts again: the new home's commits can wait for it.
    b.replica.set_sync(&set(1, &["a"])).await.unwrap();
    b.connect().await.unwrap().batch_execute("INSERT INTO t VALUES ('with a second copy')").await.unwrap();
}

/// The log that a rewind ends with is copied while it grows: what is copied early lacks what was written late.
#[tokio::test]
async fn a_rewind_under_writes_ends_with_data_that_starts_by_itself() {
    let dir = folder();
    let Diverged { a, b, _lease, .. } = diverged(dir.path()).await;
    let admin = b.connect_as("dujiang").await.unwrap();
    let writing = tokio::spawn(async move {
        loop {
            admin.batch_execute("UPDATE dujiang.probe SET written_at = now()").await.unwrap();
        }
    });
    a.replica.start().await.unwrap();
    a.position().await;
    a.replica.rewind(&b.upstream()).await.unwrap();
    assert!(!writing.is_finished());
    a.replica.start().await.unwrap();
    a.follow(&b).await;
    writing.abort();
}

#[tokio::test]
async fn a_rewind_that_fails_leaves_data_to_be_made_anew() {
    let dir = folder();
    let Diverged { a, b, _lease, .. } = diverged(dir.path()).await;
    a.replica.start().await.unwrap();
    a.position().await;
    // The log back to where the two parted is gone on this side: nothing to rewind by.
    let history = a.data().join("pg_wal/00000002.history");
    fs::write(&history, "1\t0/100\tnot true\n").unwrap();
    let error = a.replica.rewind(&b.upstream()).await.unwrap_err();
    assert!(error.chain().contains("pg_rewind"), "{}", error.chain());
    assert_eq!(a.replica.data(), Data::Broken);
    assert_eq!(kept_folders(&a).len(), 1, "kept before it was touched");
    a.replica.copy_from(&b.upstream()).await.unwrap();
    assert_eq!(a.replica.data(), Data::Present);
    a.replica.start().await.unwrap();
    a.follow(&b).await;
}

#[tokio::test]
async fn a_clone_instead_of_a_rewind_keeps_the_diverged_log_too() {
    let dir = folder();
    let Diverged { a, b, _lease, .. } = diverged(dir.path()).await;
    a.replica.copy_from(&b.upstream()).await.unwrap();
    assert_eq!(kept_folders(&a).len(), 1);
    a.replica.start().await.unwrap();
    a.follow(&b).await;
    a.until_replayed(b.position().await.flushed).await;
    assert_eq!(notes(&a).await, ["after the failover", "on both"]);
}

#[tokio::test]
async fn data_that_does_not_start_is_replaced_and_its_log_kept() {
    let dir = folder();
    let Diverged { a, b, _lease, .. } = diverged(dir.path()).await;
    fs::write(a.data().join("global/pg_control"), vec![0; 8192]).unwrap();
    let error = a.replica.start().await.unwrap_err();
    assert!(error.chain().contains("PG_CONTROL_VERSION"), "{}", error.chain());
    assert_eq!(a.replica.observe().await.unwrap(), Process::Stopped { sealed: None });
    a.replica.copy_from(&b.upstream()).await.unwrap();
    let kept = kept_folders(&a);
    assert!(fs::read_dir(&kept[0]).unwrap().count() > 1, "its log is the only trace of what it had");
    a.replica.start().await.unwrap();
    a.follow(&b).await;
}

#[tokio::test]
async fn a_replica_whose_log_was_removed_is_told_and_copied_anew() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    let b = Node::follower(dir.path(), "b", &a).await;
    b.replica.stop_in_order(PATIENCE).await.unwrap();
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    let admin = a.connect_as("dujiang").await.unwrap();
    admin.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    // Beyond what slot and keep size hold back; what was written before is recycled, so once more as much.
    for n in 0..2 * u64::from(a.replica.settings().tuning.slot_keep_mb) / SEGMENT_MB {
        admin.batch_execute(&format!("INSERT INTO t VALUES ({n})")).await.unwrap();
        admin.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    }
    a.replica.checkpoint().await.unwrap();
    let status = admin
        .query_one("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'b'", &[])
        .await
        .unwrap();
    assert_eq!(status.get::<_, String>(0), "lost");
    b.replica.start().await.unwrap();
    b.position().await;
    assert_eq!(b.replica.follow(&a.upstream()).await.unwrap(), Fit::Starved);
    assert_eq!(b.replica.follow(&a.upstream()).await.unwrap(), Fit::Starved, "and again");
    b.replica.copy_from(&a.upstream()).await.unwrap();
    assert!(kept_folders(&b).is_empty(), "nothing had diverged");
    b.replica.start().await.unwrap();
    b.follow(&a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
}

#[tokio::test]
async fn what_is_half_made_is_never_taken_for_a_database() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    let b = Node::new(dir.path(), "b").await;
    // A copy that is broken off leaves nothing that looks whole, and no tool that writes on.
    for limit_ms in [0, 50, 200, 400] {
        let from = a.upstream();
        let copy = b.replica.copy_from(&from);
        if timeout(Duration::from_millis(limit_ms), copy).await.is_err() {
            assert_eq!(b.replica.data(), Data::Absent, "after {limit_ms} ms");
        }
    }
    fs::create_dir_all(b.data()).unwrap();
    fs::write(b.data().join("PG_VERSION"), "15\n").unwrap();
    if b.replica.data() != Data::Present {
        assert_eq!(b.replica.data(), Data::Broken);
    }
    b.replica.copy_from(&a.upstream()).await.unwrap();
    assert_eq!(b.replica.data(), Data::Present);
    b.replica.start().await.unwrap();
    b.follow(&a).await;

    // An agent that was killed in the middle of a rewind or a swap finds its own mark.
    b.replica.stop_in_order(PATIENCE).await.unwrap();
    let state = b.replica.settings().dir.join("replica.json");
    let text = fs::read_to_string(&state).unwrap().replace("\"broken\": false", "\"broken\": true");
    fs::write(&state, text).unwrap();
    let mut same = settings(dir.path(), "b");
    same.address = b.replica.settings().address;
    let again = Replica::open(same).await.unwrap();
    assert_eq!(again.data(), Data::Broken);
}
