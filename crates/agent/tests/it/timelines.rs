//! Epochs and timelines: no two promotions make the same one, and whoever was away finds the way through all of
//! them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dujiang_agent::postgres::{Fit, wal};
use dujiang_types::Position;
use dujiang_unit::agent::Process;
use tokio::time::{Instant, sleep};

use crate::prepared::{Renewal, TTL_LONG_MS, primary, promote};
use crate::world::{Node, PATIENCE, folder, set};

async fn write(node: &Node, sql: &str) {
    node.connect_as("dujiang").await.unwrap().batch_execute(sql).await.unwrap();
}

async fn rows(node: &Node) -> Vec<String> {
    let client = node.connect_as("dujiang").await.unwrap();
    let rows = client.query("SELECT note FROM t ORDER BY note", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Promotes under `epoch`, waiting for nobody.
async fn alone(node: &Node, epoch: u64) -> Renewal {
    let lease = promote(node, epoch, &set(0, &[]), TTL_LONG_MS).await;
    node.replica.set_sync(&set(0, &[])).await.unwrap();
    lease
}

/// Ends a primary in order and detaches `heirs`, which by then have all that it wrote.
async fn seal(from: &Node, heirs: &[&Node]) {
    from.replica.stop_in_order(PATIENCE).await.unwrap();
    let Process::Stopped { sealed: Some(sealed) } = from.replica.observe().await.unwrap() else {
        panic!("not sealed");
    };
    for heir in heirs {
        heir.until(
            "replay past the seal",
            |process| matches!(process, Process::Standby { replayed: Some(at), .. } if *at > sealed.flushed),
        )
        .await;
        heir.replica.detach().await.unwrap();
    }
}

/// Ends a primary in order, promotes `to`, and has the old one follow: a move.
async fn hand_over(from: &Node, to: &Node, epoch: u64) -> Renewal {
    seal(from, &[to]).await;
    let lease = alone(to, epoch).await;
    from.replica.start().await.unwrap();
    from.follow(to).await;
    lease
}

/// The slots of a replica, and whether somebody holds them.
async fn slots(node: &Node) -> Vec<(String, bool)> {
    let client = node.connect_as("dujiang").await.unwrap();
    let sql = "SELECT slot_name::text, active FROM pg_replication_slots ORDER BY 1";
    client.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn until_slots(node: &Node, wanted: impl Fn(&str, bool) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let slots = slots(node).await;
        if slots.iter().all(|(name, held)| wanted(name, *held)) {
            return;
        }
        assert!(Instant::now() < deadline, "still {slots:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn histories(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data.join("pg_wal")).unwrap().flatten();
    let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".history"));
    names.sort();
    names
}

/// A follower that has the beginning of a timeline nobody went on with, and not one byte of it. PostgreSQL ends at the
/// sight of a history in which that place belongs to another timeline, at every start again: only a copy helps.
#[tokio::test]
async fn a_follower_of_a_promotion_that_came_to_nothing_is_cloned() {
    let dir = folder();
    let (a, lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('common')").await;
    let (b, c) = (Node::follower(dir.path(), "b", &a).await, Node::follower(dir.path(), "c", &a).await);
    seal(&a, &[&b, &c]).await;
    drop(lease);

    // What `c` would have if `b` had begun to be promoted under epoch 2 and died: the segment's copy, and the history.
    let end = c.position().await;
    c.replica.stop_in_order(PATIENCE).await.unwrap();
    let pg_wal = c.data().join("pg_wal");
    let place = wal::segment(dujiang_types::Lsn(end.flushed.0 - 1));
    let named = |timeline: u32| pg_wal.join(format!("{timeline:08X}{place}"));
    fs::copy(named(end.timeline), named(3)).unwrap();
    let mut history = fs::read_to_string(pg_wal.join(format!("{:08X}.history", end.timeline))).unwrap();
    let line = format!("{}\t{}\tno recovery target specified\n", end.timeline, end.flushed);
    history.push_str(&line);
    fs::write(pg_wal.join("00000003.history"), history).unwrap();
    for path in [named(3), pg_wal.join("00000003.history")] {
        c.replica.settings().programs.give(&path).unwrap();
    }
    c.replica.start().await.unwrap();
    assert_eq!(c.position().await, end, "its log is what it was");

    let _lease = alone(&b, 3).await;
    assert_eq!(c.replica.follow(&b.upstream()).await.unwrap(), Fit::Starved);
    c.replica.copy_from(&b.upstream()).await.unwrap();
    c.replica.start().await.unwrap();
    c.follow(&b).await;
    write(&b, "INSERT INTO t VALUES ('later')").await;
    c.until_replayed(b.position().await.flushed).await;
    assert_eq!(rows(&c).await, ["common", "later"]);
}

/// What a follower of a primary has that dies while the first segment of its timeline is received: that timeline's history,
/// and the segment's beginning under the new name. Takes all of `node`'s log but its last page to be missing.
fn begin_to_receive(node: &Node, end: Position, timeline: u32) {
    let pg_wal = node.data().join("pg_wal");
    let last = end.flushed.0 - 1;
    let place = wal::segment(dujiang_types::Lsn(last));
    let named = |timeline: u32| pg_wal.join(format!("{timeline:08X}{place}"));
    let mut text = fs::read(named(end.timeline)).unwrap();
    let received = usize::try_from(last % wal::SEGMENT_BYTES / 8192 * 8192).unwrap();
    assert!(received > 0, "the log reaches beyond the first page of a segment");
    text[received..].fill(0);
    fs::write(named(timeline), text).unwrap();
    node.replica.settings().programs.give(&named(timeline)).unwrap();
    hear_of(node, end, timeline);
}

/// PostgreSQL reads the newest name of a segment, whole or not: started so, a replica would tell less than it has flushed.
#[tokio::test]
async fn a_segment_that_is_being_received_again_hides_nothing_from_a_start() {
    let dir = folder();
    let (a, lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('kept')").await;
    let b = Node::follower(dir.path(), "b", &a).await;
    seal(&a, &[&b]).await;
    drop(lease);
    let end = b.position().await;
    b.replica.stop_now().await.unwrap();
    begin_to_receive(&b, end, 3);
    // And it has heard of a later one, of which it has nothing.
    hear_of(&b, Position { timeline: 3, flushed: dujiang_types::Lsn(end.flushed.0 + 64) }, 4);
    b.replica.start().await.unwrap();
    assert_eq!(b.position().await, end);
    let place = wal::segment(dujiang_types::Lsn(end.flushed.0 - 1));
    assert!(!b.data().join(format!("pg_wal/00000003{place}")).exists(), "nobody reads it any more");
    let _lease = alone(&b, 4).await;
    assert_eq!(rows(&b).await, ["kept"]);
}

/// Promoted so, PostgreSQL panics when it reads its last record again.
#[tokio::test]
async fn a_replica_detached_while_a_segment_is_received_again_is_started_anew() {
    let dir = folder();
    let (a, lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('kept')").await;
    let b = Node::follower(dir.path(), "b", &a).await;
    seal(&a, &[&b]).await;
    drop(lease);
    let end = b.position().await;
    begin_to_receive(&b, end, 3);
    b.replica.detach().await.unwrap();
    assert!(matches!(b.replica.observe().await.unwrap(), Process::Stopped { .. }), "it was stopped");
    b.replica.start().await.unwrap();
    assert_eq!(b.position().await, end);
    b.replica.detach().await.unwrap();
    let _lease = alone(&b, 3).await;
    assert_eq!(rows(&b).await, ["kept"]);
}

/// Gives `node` the history of a timeline that left the one `end` is on there, as a follower has it that has not received
/// any of its log.
fn hear_of(node: &Node, end: Position, timeline: u32) {
    let pg_wal = node.data().join("pg_wal");
    let history = pg_wal.join(format!("{timeline:08X}.history"));
    let before = fs::read_to_string(pg_wal.join(format!("{:08X}.history", end.timeline))).unwrap_or_default();
    fs::write(&history, format!("{before}{}\t{}\tno recovery target specified\n", end.timeline, end.flushed))
        .unwrap();
    node.replica.settings().programs.give(&history).unwrap();
}

/// Left to itself PostgreSQL would name the timeline it has only heard of as its parent. Who is behind would ask for that
/// one's log, and nobody has it.
#[tokio::test]
async fn who_has_only_heard_of_a_timeline_is_promoted_from_its_own() {
    let dir = folder();
    let (a, lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('common')").await;
    let (b, c) = (Node::follower(dir.path(), "b", &a).await, Node::follower(dir.path(), "c", &a).await);
    c.until_replayed(a.position().await.flushed).await;
    c.replica.detach().await.unwrap();
    write(&a, "INSERT INTO t VALUES ('only b')").await;
    seal(&a, &[&b]).await;
    drop(lease);
    let end = b.position().await;
    // It began further on: a primary that crashed has log nobody else has.
    let begins = Position { flushed: dujiang_types::Lsn(end.flushed.0 + 64), ..end };
    hear_of(&b, begins, 3);
    b.replica.detach().await.unwrap();
    assert!(matches!(b.replica.observe().await.unwrap(), Process::Stopped { .. }), "it was stopped");
    b.replica.start().await.unwrap();
    assert_eq!(b.position().await, end);
    b.replica.detach().await.unwrap();
    assert_eq!(b.position().await, end, "once is enough");

    let _lease = alone(&b, 3).await;
    assert_eq!(b.position().await.timeline, 4);
    let history = wal::read_history(&b.data().join("pg_wal"), 4).unwrap();
    assert_eq!(history.ancestors.last(), Some(&(end.timeline, end.flushed)));
    c.follow(&b).await;
    c.until_replayed(b.position().await.flushed).await;
    assert_eq!(rows(&c).await, ["common", "only b"]);
}

/// It was started to stay on its timeline, and what it heard of was true all the same.
#[tokio::test]
async fn who_has_only_heard_of_a_timeline_follows_it() {
    let dir = folder();
    let (a, lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('common')").await;
    let (b, c) = (Node::follower(dir.path(), "b", &a).await, Node::follower(dir.path(), "c", &a).await);
    seal(&a, &[&b, &c]).await;
    drop(lease);
    let end = c.position().await;
    let _lease = alone(&b, 2).await;
    hear_of(&c, end, 3);
    c.replica.detach().await.unwrap();
    c.replica.start().await.unwrap();
    assert_eq!((c.position().await, c.replica.state().target), (end, Some(end.timeline)));
    c.follow(&b).await;
    write(&b, "INSERT INTO t VALUES ('later')").await;
    c.until_replayed(b.position().await.flushed).await;
    assert_eq!(rows(&c).await, ["common", "later"]);
    assert_eq!((c.position().await.timeline, c.replica.state().target), (3, None));
}

#[tokio::test]
async fn two_promotions_that_know_nothing_of_each_other_make_two_timelines() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('common')").await;
    let b = Node::follower(dir.path(), "b", &a).await;
    let c = Node::follower(dir.path(), "c", &a).await;
    // In order: a primary that runs writes log whenever it likes (with checksums the first look at a row after a
    // checkpoint writes its page), so one that is stopped at once may have some that nobody else has.
    seal(&a, &[&b, &c]).await;
    // Left to itself PostgreSQL would make timeline 3 of both. The first never came to be known.
    let b_lease = alone(&b, 2).await;
    let c_lease = alone(&c, 5).await;
    write(&b, "INSERT INTO t VALUES ('only b')").await;
    write(&c, "INSERT INTO t VALUES ('only c')").await;
    assert_eq!(b.position().await.timeline, 3);
    assert_eq!(c.position().await.timeline, 6);
    assert_eq!(histories(&c.data()).last().unwrap(), "00000006.history");

    // What b did counts for nothing, and is seen although c's log is the shorter or the longer one.
    // Before the first checkpoint of a timeline the control file names the one before, and `pg_rewind` of
    // PostgreSQL 15 believes it: then it fails, and a clone follows.
    b.replica.checkpoint().await.unwrap();
    drop(b_lease);
    b.replica.stop_now().await.unwrap();
    b.replica.start().await.unwrap();
    b.position().await;
    assert_eq!(b.replica.examine(&c.upstream()).await.unwrap(), Fit::Diverged);
    b.replica.rewind(&c.upstream()).await.unwrap();
    b.replica.start().await.unwrap();
    b.follow(&c).await;
    // The old home had nothing of its own.
    a.replica.start().await.unwrap();
    a.follow(&c).await;
    for node in [&a, &b] {
        node.until_replayed(c.position().await.flushed).await;
        assert_eq!(rows(node).await, ["common", "only c"]);
        assert_eq!(node.position().await.timeline, 6);
    }
    // And b is good for another promotion: the number of its lost timeline is never used again.
    drop(c_lease);
    let _lease = hand_over(&c, &b, 6).await;
    assert_eq!(b.position().await.timeline, 7);
    write(&b, "INSERT INTO t VALUES ('later')").await;
    c.until_replayed(b.position().await.flushed).await;
    assert_eq!(rows(&c).await, ["common", "later", "only c"]);
}

#[tokio::test]
async fn a_replica_that_was_away_for_three_epochs_follows_through_all_of_them() {
    let dir = folder();
    let (a, a_lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('epoch 1')").await;
    let b = Node::follower(dir.path(), "b", &a).await;
    let c = Node::follower(dir.path(), "c", &a).await;
    c.until_replayed(a.position().await.flushed).await;
    // A crash, so that it also has to find out for itself how far it came.
    c.replica.stop_now().await.unwrap();

    drop(a_lease);
    let b_lease = hand_over(&a, &b, 2).await;
    write(&b, "INSERT INTO t VALUES ('epoch 2')").await;
    drop(b_lease);
    let a_lease = hand_over(&b, &a, 4).await;
    write(&a, "INSERT INTO t VALUES ('epoch 4')").await;
    drop(a_lease);
    let _lease = hand_over(&a, &b, 5).await;
    write(&b, "INSERT INTO t VALUES ('epoch 5')").await;

    c.replica.start().await.unwrap();
    assert_eq!(c.position().await.timeline, 2);
    c.follow(&b).await;
    let end = b.position().await;
    c.until_replayed(end.flushed).await;
    assert_eq!(rows(&c).await, ["epoch 1", "epoch 2", "epoch 4", "epoch 5"]);
    let Position { timeline, .. } = c.position().await;
    assert_eq!(timeline, 6);
    b.replica.set_sync(&set(1, &["c"])).await.unwrap();
}

#[tokio::test]
async fn what_a_promotion_that_did_not_happen_left_is_gone_after_a_start() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('kept')").await;
    let b = Node::follower(dir.path(), "b", &a).await;
    b.until_replayed(a.position().await.flushed).await;
    b.replica.detach().await.unwrap();
    // The agent was killed right before it asked for the promotion under epoch 6.
    wal::fill_gap(&b.data().join("pg_wal"), 7).unwrap();
    assert_eq!(histories(&b.data()).last().unwrap(), "00000006.history");
    b.replica.stop_now().await.unwrap();
    b.replica.start().await.unwrap();
    b.position().await;
    assert_eq!(histories(&b.data()), ["00000002.history"]);
    // It follows on, and another epoch makes its own number.
    b.follow(&a).await;
    let _other = hand_over(&a, &b, 3).await;
    assert_eq!(b.position().await.timeline, 4);
    assert_eq!(rows(&a).await, ["kept"]);
}

#[tokio::test]
async fn a_slot_that_is_still_held_keeps_no_former_primary_from_following() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('epoch 1')").await;
    let b = Node::follower(dir.path(), "b", &a).await;
    let c = Node::follower(dir.path(), "c", &a).await;
    seal(&a, &[&b]).await;
    let _lease = alone(&b, 2).await;
    // Nobody has told c: it receives from a as soon as that answers, whatever a is by then.
    a.replica.start().await.unwrap();
    until_slots(&a, |name, held| held == (name == "c")).await;
    a.follow(&b).await;
    assert!(slots(&a).await.iter().all(|(name, _)| name == "c"));
    write(&b, "INSERT INTO t VALUES ('epoch 2')").await;
    a.until_replayed(b.position().await.flushed).await;
    assert_eq!(rows(&a).await, ["epoch 1", "epoch 2"]);
    // What was left goes the next time.
    c.follow(&b).await;
    until_slots(&a, |_, held| !held).await;
    a.follow(&b).await;
    assert_eq!(slots(&a).await, []);
}

/// A follow that is broken off between the state and the configuration looks like a follower to which nothing comes.
#[tokio::test]
async fn a_follow_that_was_broken_off_half_way_is_made_up_for() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    write(&a, "CREATE TABLE t (note text); INSERT INTO t VALUES ('before')").await;
    let b = Node::follower(dir.path(), "b", &a).await;
    let conf = b.replica.settings().dir.join("conf/postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let without = text.lines().filter(|line| !line.starts_with("primary_conninfo"));
    fs::write(&conf, without.collect::<Vec<_>>().join("\n")).unwrap();
    write(&b, "SELECT pg_reload_conf()").await;
    b.until("the end of streaming", |p| {
        matches!(p, Process::Standby { streaming: false, receiving: false, .. })
    })
    .await;
    write(&a, "INSERT INTO t VALUES ('later')").await;

    assert_eq!(b.replica.follow_again(&a.upstream()).await.unwrap(), Fit::Fits);
    b.until_replayed(a.position().await.flushed).await;
    assert_eq!(rows(&b).await, ["before", "later"]);
}
