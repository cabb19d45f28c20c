//! The life of a replica: formed, cloned, followed, confirmed, promoted, sealed.

use std::time::Duration;

use dujiang_agent::postgres::Replica;
use dujiang_types::{Epoch, Position};
use dujiang_unit::agent::{Data, Process};
use tokio_postgres::error::SqlState;

use crate::world::{Node, PATIENCE, dc, end_sessions, folder, set, settings};

#[tokio::test]
async fn a_unit_is_formed_and_serves_only_once_a_commit_is_confirmed() {
    let dir = folder();
    let nobody = set(1, &[]);
    let a = Node::primary(dir.path(), "a", &nobody).await;
    let Process::Primary { epoch, open, applied, position, .. } = a.replica.observe().await.unwrap() else {
        panic!("not a primary");
    };
    assert_eq!((epoch, open, applied), (Epoch(1), false, Some(nobody)));
    assert_eq!(position.unwrap().timeline, 2, "timelines follow epochs");
    let refused = a.connect().await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "closed");

    let b = Node::follower(dir.path(), "b", &a).await;
    assert!(a.replica.set_sync(&set(1, &["c"])).await.is_err(), "c is not there to confirm");
    let wanted = set(1, &["b"]);
    a.replica.set_sync(&wanted).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let Process::Primary { open: true, applied, standbys, .. } = a.replica.observe().await.unwrap() else {
        panic!("not open");
    };
    assert_eq!(applied, Some(wanted));
    assert!(standbys[&dc("b")].streaming);

    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
    client.batch_execute("SELECT dujiang.enter(1)").await.unwrap();
    let stale = client.batch_execute("SELECT dujiang.enter(2)").await.unwrap_err();
    assert_eq!(stale.code().unwrap().code(), "DJ001");
    let weak =
        client.batch_execute("SET synchronous_commit = local; SELECT dujiang.enter(1)").await.unwrap_err();
    assert_eq!(weak.code().unwrap().code(), "DJ002");
    for forbidden in ["UPDATE dujiang.fence SET epoch = 9", "SELECT pg_promote()"] {
        let denied = client.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(denied.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}");
    }
    a.replica.write_probe().await.unwrap();
    b.until_replayed(a.position().await.flushed).await;
    let on_standby = b.connect_as("dujiang").await.unwrap();
    let stale = on_standby.batch_execute("SELECT dujiang.enter(1)").await.unwrap_err();
    assert_eq!(stale.code().unwrap().code(), "DJ001", "a standby serves nobody");
}

#[tokio::test]
async fn a_commit_waits_for_the_set_and_nobody_who_waits_is_told_success() {
    let dir = folder();
    let a = Node::primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    assert!(a.replica.set_sync(&set(1, &["b"])).await.is_err(), "b is not there");

    let waiting = tokio::spawn(async move { client.batch_execute("INSERT INTO t VALUES (1)").await });
    let admin = a.connect_as("dujiang").await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while admin.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!waiting.is_finished(), "acknowledged though no member has it");
        assert!(tokio::time::Instant::now() < deadline, "the commit does not wait");
    }
    // Sessions are ended before the setting is touched, so the release of the waiters tells nobody a success.
    end_sessions(&admin).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    assert!(waiting.await.unwrap().is_err(), "told success without a second copy");
}

#[tokio::test]
async fn a_sealed_primary_hands_over_all_it_has() {
    let dir = folder();
    let a = Node::primary(dir.path(), "a", &set(1, &[])).await;
    let b = Node::follower(dir.path(), "b", &a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
        .await
        .unwrap();
    a.replica.checkpoint().await.unwrap();

    a.replica.stop_in_order(PATIENCE).await.unwrap();
    assert!(client.batch_execute("SELECT 1").await.is_err(), "no session survives");
    let Process::Stopped { sealed: Some(sealed) } = a.replica.observe().await.unwrap() else {
        panic!("not sealed");
    };
    assert_eq!(sealed.timeline, 2);
    // Past the start of the shutdown checkpoint: the target has everything.
    b.until(
        "replay past the seal",
        |process| matches!(process, Process::Standby { replayed: Some(at), .. } if *at > sealed.flushed),
    )
    .await;

    b.replica.detach().await.unwrap();
    b.promote(2, &set(1, &["a"])).await;
    // The old home follows as it is: nothing has diverged.
    a.replica.start().await.unwrap();
    assert!(a.replica.state().primary_epoch == Some(Epoch(1)));
    a.follow(&b).await;
    b.replica.set_sync(&set(1, &["a"])).await.unwrap();
    b.replica.open_admission().await.unwrap();
    let client = b.connect().await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 1000);
    client.batch_execute("INSERT INTO t VALUES (0)").await.unwrap();
    assert_eq!(b.position().await.timeline, 3);

    // And back, with a gap in the epochs: what follows must find every number's history.
    b.replica.stop_in_order(PATIENCE).await.unwrap();
    a.replica.detach().await.unwrap();
    a.promote(7, &set(1, &["b"])).await;
    assert_eq!(a.position().await.timeline, 8);
    b.replica.start().await.unwrap();
    b.follow(&a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    let at = a.position().await;
    b.until_replayed(at.flushed).await;
    assert_eq!(b.position().await.timeline, 8);
    // It still starts with the numbers that were skipped in its log.
    b.replica.stop_in_order(PATIENCE).await.unwrap();
    b.replica.start().await.unwrap();
    b.follow(&a).await;
}

#[tokio::test]
async fn a_detached_replica_tells_what_it_received_not_what_it_replayed() {
    let dir = folder();
    let a = Node::primary(dir.path(), "a", &set(1, &[])).await;
    let b = Node::follower(dir.path(), "b", &a).await;
    a.replica.set_sync(&set(1, &["b"])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    b.until_replayed(a.position().await.flushed).await;
    let admin = b.connect_as("dujiang").await.unwrap();
    admin.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    // Acknowledged means flushed on b, which cannot replay it.
    client.batch_execute("INSERT INTO t SELECT generate_series(1, 1000)").await.unwrap();
    let committed = a.position().await;
    b.replica.detach().await.unwrap();
    let Process::Standby { upstream: None, receiving: false, position: Some(position), replayed, .. } =
        b.replica.observe().await.unwrap()
    else {
        panic!("not detached");
    };
    assert_eq!(position.timeline, committed.timeline);
    assert!(replayed.unwrap() < position.flushed, "the replay stands");
    // Nothing arrives any more, whatever the primary writes.
    let _ =
        tokio::time::timeout(Duration::from_secs(1), client.batch_execute("INSERT INTO t VALUES (0)")).await;
    assert!(a.position().await.flushed > position.flushed);
    let later: Position = b.position().await;
    assert_eq!(later, position);
    admin.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    b.until_replayed(position.flushed).await;
    b.promote(2, &set(0, &[])).await;
    let count =
        b.connect_as("dujiang").await.unwrap().query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 1000, "what was acknowledged is there");
}

#[tokio::test]
async fn a_restarted_agent_finds_its_replica_as_it_was() {
    let dir = folder();
    let a = Node::primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    a.replica.see_epoch(Epoch(1)).await.unwrap();
    let before = a.processes();
    let mut same = settings(dir.path(), "a");
    same.address = a.replica.settings().address;
    let again = Replica::open(same).await.unwrap();
    assert_eq!(a.processes().first(), before.first(), "the database runs on");
    let Process::Primary { epoch: Epoch(1), open: true, .. } = again.observe().await.unwrap() else {
        panic!("not adopted");
    };
    assert_eq!((again.state().epoch_seen, again.state().primary_epoch), (Epoch(1), Some(Epoch(1))));
    assert!(again.promote(Epoch(1), &set(0, &[])).await.is_err(), "an epoch's primary runs once");
    again.stop_now().await.unwrap();
    assert!(matches!(again.observe().await.unwrap(), Process::Stopped { sealed: None }));
    assert!(a.processes().is_empty());
    a.until("the end", |process| matches!(process, Process::Stopped { sealed: None })).await;
}

#[tokio::test]
async fn nobody_is_promoted_without_a_lease() {
    let dir = folder();
    let a = Node::new(dir.path(), "a").await;
    assert_eq!(a.replica.data(), Data::Absent);
    a.replica.init().await.unwrap();
    assert_eq!(a.replica.data(), Data::Present);
    a.replica.start().await.unwrap();
    a.position().await;
    assert!(a.replica.promote(Epoch(1), &set(0, &[])).await.is_err());
    assert_eq!(a.replica.state().primary_epoch, None);
}
