//! Work for another epoch is refused by the database, and pools recover from whatever happens to it.

use std::time::Duration;

use serde_json::json;

use crate::support::{World, amount, books, fresh_key, until};

#[tokio::test]
async fn another_epoch_is_refused_and_nothing_is_done() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(0, 0, 0).await);
    let key = fresh_key();
    for epoch in [0, 2, 9_000] {
        world.gateway.set_epoch("unit-1", epoch);
        assert_eq!(world.transfer_once(&key, &a, &b, 10).await.brief(), (503, "unit.moved"), "{epoch}");
        let read = world.gateway.call("GET", &format!("/v1/accounts/{a}"), None, None).await;
        assert_eq!(read.brief(), (503, "unit.moved"), "{epoch}");
    }
    // A key that was refused so is as good as new.
    world.gateway.set_epoch("unit-1", 1);
    let done = world.transfer_once(&key, &a, &b, 10).await;
    assert!(done.status == 201 && !done.replayed);
    // Once the unit has a higher epoch, even a repetition is refused under the old one.
    let admin = world.units[0].postgres.admin().await;
    admin.execute("UPDATE dujiang.fence SET epoch = 2", &[]).await.unwrap();
    assert_eq!(world.transfer_once(&key, &a, &b, 10).await.brief(), (503, "unit.moved"));
    world.gateway.set_epoch("unit-1", 2);
    assert!(world.transfer_once(&key, &a, &b, 10).await.replayed);
    books::audit(&world).await;
}

#[tokio::test]
async fn another_unit_or_slot_is_refused() {
    let world = World::new(2).await;
    let a = world.account(0, 100, 0).await;
    let stranger = world.account(1, 0, 0).await;
    let site = &world.units[0];
    let http = dujiang_sdk::testing::gateway_client();
    let get = |unit: &'static str, account: String| {
        let url = format!("https://{}/v1/accounts/{account}", site.bank.address());
        let request = http.get(url).header("dujiang-unit", unit).header("dujiang-epoch", 1);
        async { request.send().await.unwrap().json::<serde_json::Value>().await.unwrap() }
    };
    assert_eq!(get("unit-1", a.clone()).await["account"], a);
    assert_eq!(get("unit-9", a.clone()).await["code"], "unit.moved");
    assert_eq!(get("Unit 1", a.clone()).await["code"], "request.invalid");
    assert_eq!(get("unit-1", stranger.clone()).await["code"], "unit.moved");
    // The units file is looked at again when a slot seems to be another's.
    site.bank.write_units("0-16383", &world.gateway.mesh(), site.postgres.port());
    assert_eq!(get("unit-1", stranger.clone()).await["code"], "account.not_found");
}

#[tokio::test]
async fn a_session_that_would_lose_commits_is_not_used() {
    let world = World::new(1).await;
    let a = world.account(0, 100, 0).await;
    let admin = world.units[0].postgres.admin().await;
    admin.batch_execute("ALTER ROLE bank SET synchronous_commit = local").await.unwrap();
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bank'";
    admin.batch_execute(ended).await.unwrap();
    let body = json!({"amount": amount(1)});
    let path = format!("/v1/accounts/{a}/deposits");
    let refused = world.post_once(&path, &fresh_key(), body.clone()).await;
    assert_eq!(refused.brief(), (500, "internal"));
    admin.batch_execute("ALTER ROLE bank RESET synchronous_commit").await.unwrap();
    admin.batch_execute(ended).await.unwrap();
    assert_eq!(world.post(&path, &fresh_key(), body).await.status, 201);
}

#[tokio::test]
async fn pools_recover_at_once() {
    let mut world = World::new(1).await;
    let (a, b) = (world.account(0, 10_000, 0).await, world.account(0, 0, 0).await);
    // Fill the pool.
    let many = || {
        futures_util::future::join_all(
            (0..20).map(|_| async { world.transfer(&fresh_key(), &a, &b, 1).await }),
        )
    };
    assert!(many().await.iter().all(|answer| answer.status == 201));

    // Sessions ended: the next request finds another one and nobody notices.
    let admin = world.units[0].postgres.admin().await;
    admin
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bank'")
        .await
        .unwrap();
    let next = world.transfer_once(&fresh_key(), &a, &b, 1).await;
    assert_eq!(next.status, 201, "{next:?}");

    // Admission closed: nothing done; opened: served at once.
    world.units[0].postgres.admit(false).await;
    let refused = world.transfer_once(&fresh_key(), &a, &b, 1).await;
    assert_eq!(refused.brief(), (503, "unit.unavailable"), "{refused:?}");
    world.units[0].postgres.admit(true).await;
    let next = world.transfer_once(&fresh_key(), &a, &b, 1).await;
    assert_eq!(next.status, 201, "{next:?}");

    // The database gone and back.
    many().await;
    world.units[0].postgres.crash();
    let refused = world.transfer_once(&fresh_key(), &a, &b, 1).await;
    assert_eq!(refused.brief(), (503, "unit.unavailable"), "{refused:?}");
    world.units[0].postgres.restart().await;
    let next = world.transfer_once(&fresh_key(), &a, &b, 1).await;
    assert_eq!(next.status, 201, "{next:?}");
    books::audit(&world).await;
}

#[tokio::test]
async fn a_failover_is_followed() {
    let mut world = World::durable().await;
    let (a, b) = (world.account(0, 1000, 0).await, world.account(0, 0, 0).await);
    let key = fresh_key();
    let first = world.transfer(&key, &a, &b, 10).await;
    // The instance of the standby's data center has its own units file: here the same instance is told.
    let standby_port = world.units[0].postgres.standby_port();
    let gateway = world.gateway.mesh();
    world.units[0].bank.write_units("0-16383", &gateway, standby_port);
    let refused = until("the standby is asked", || async {
        let answer = world.transfer_once(&fresh_key(), &a, &b, 10).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    // A standby, which the fence knows.
    assert_eq!(refused.code(), "unit.moved");
    world.units[0].postgres.fail_over(2).await;
    assert_eq!(world.transfer_once(&fresh_key(), &a, &b, 10).await.code(), "unit.moved", "the old epoch");
    world.gateway.set_epoch("unit-1", 2);
    let again = world.transfer(&key, &a, &b, 10).await;
    assert!(again.replayed && again.body == first.body, "{again:?}");
    assert_eq!(world.transfer(&fresh_key(), &a, &b, 10).await.status, 201);
}

#[tokio::test]
async fn a_frozen_database_turns_requests_away_in_time() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 1000, 0).await, world.account(0, 0, 0).await);
    world.units[0].postgres.freeze();
    let key = fresh_key();
    let answer = tokio::time::timeout(Duration::from_secs(40), world.transfer_once(&key, &a, &b, 1)).await;
    world.units[0].postgres.thaw();
    let answer = answer.expect("every request has an end");
    assert_eq!(answer.status, 503, "COMMIT was not sent: {answer:?}");
    let after = world.transfer(&key, &a, &b, 1).await;
    assert!(after.status == 201 && !after.replayed);
    assert_eq!(world.balance(&b).await, 1);
}

#[tokio::test]
async fn deadlocks_are_repeated_and_long_locks_are_not_waited_for() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 1000, 0).await, world.account(0, 0, 0).await);
    let admin = world.units[0].postgres.admin().await;
    let lock = "SELECT FROM accounts WHERE account = $1 FOR UPDATE";
    let (first, second) = if a < b { (&a, &b) } else { (&b, &a) };

    // Somebody who locks in the wrong order.
    admin.batch_execute("BEGIN; SET deadlock_timeout = '1h'").await.unwrap();
    admin.query(lock, &[second]).await.unwrap();
    let key = fresh_key();
    let transfer = world.transfer_once(&key, &a, &b, 1);
    let cross = async {
        let sql = "SELECT FROM pg_locks WHERE NOT granted AND pid IN
            (SELECT pid FROM pg_stat_activity WHERE usename = 'bank')";
        let watcher = world.units[0].postgres.admin().await;
        until("the transfer waits", || async {
            (!watcher.query(sql, &[]).await.unwrap().is_empty()).then_some(())
        })
        .await;
        // Now each waits for the other; the transfer is the one that notices, and is repeated.
        admin.query(lock, &[first]).await.unwrap();
        admin.batch_execute("COMMIT").await.unwrap();
    };
    let (answer, ()) = tokio::join!(transfer, cross);
    assert_eq!(answer.status, 201, "{answer:?}");

    admin.batch_execute("BEGIN").await.unwrap();
    admin.query(lock, &[&a]).await.unwrap();
    let answer = world.transfer_once(&fresh_key(), &a, &b, 1).await;
    assert_eq!(answer.brief(), (503, "unit.overloaded"));
    admin.batch_execute("COMMIT").await.unwrap();
    assert_eq!(world.balance(&b).await, 1);
    books::audit(&world).await;
}
