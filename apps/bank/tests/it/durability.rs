//! No answer claims more than the sync set holds.

use serde_json::json;

use crate::support::{Answer, World, amount, books, fresh_key, until};

/// Backends of the bank that wait for the sync set.
const WAITING: &str = "SELECT pid FROM pg_stat_activity WHERE usename = 'bank' AND wait_event = 'SyncRep'";

/// Cuts the wait for the sync set short and gives the answer the client gets.
async fn cut_short(world: &World, key: &str, from: &str, to: &str, how: &str) -> Answer {
    let admin = world.units[0].postgres.admin().await;
    let cut = async {
        let pid: i32 = until("the commit waits", || async {
            admin.query_opt(&format!("{WAITING} LIMIT 1"), &[]).await.unwrap().map(|row| row.get(0))
        })
        .await;
        admin.query(&format!("SELECT {how}($1)"), &[&pid]).await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.transfer_once(key, from, to, 10), cut);
    answer
}

/// A wait cut short leaves a local commit; whoever repeats the request learns its outcome only once it is durable.
async fn a_local_commit_is_never_acknowledged(how: &str) {
    let mut world = World::durable().await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(0, 0, 0).await);
    let key = fresh_key();
    world.units[0].postgres.stop_standby();
    let first = cut_short(&world, &key, &a, &b, how).await;
    assert_eq!(first.brief(), (504, "outcome.unknown"), "{how}: {first:?}");

    // It is visible here and on no other replica.
    let admin = world.units[0].postgres.admin().await;
    let recorded = "SELECT FROM dujiang_idempotency WHERE key = $1";
    assert_eq!(admin.query(recorded, &[&key]).await.unwrap().len(), 1);

    // The repetition waits for the standby, as the first one did.
    let path = format!("/v1/accounts/{a}/transfers");
    let body = json!({"to": b, "amount": amount(10)}).to_string();
    let caller = world.gateway.caller();
    let repetition = async { caller.call("POST", &path, Some(&key), Some(body)).await };
    let mut repetition = std::pin::pin!(repetition);
    tokio::select! {
        answer = &mut repetition => panic!("acknowledged while no standby holds it: {answer:?}"),
        () = until("the repetition waits", || async {
            admin.query_opt(&format!("{WAITING} LIMIT 1"), &[]).await.unwrap().map(drop)
        }) => {}
    }
    world.units[0].postgres.start_standby().await;
    // Maybe the commit's time was up on the way: then the next one learns it.
    let answer = repetition.await;
    let answer = if answer.status == 504 { world.transfer(&key, &a, &b, 10).await } else { answer };
    assert_eq!((answer.status, answer.replayed), (201, true), "{answer:?}");
    let standby = world.units[0].postgres.standby_admin().await;
    assert_eq!(standby.query(recorded, &[&key]).await.unwrap().len(), 1, "acknowledged, so it is there");
    assert_eq!(world.balance(&b).await, 10);
    books::audit(&world).await;
}

#[tokio::test]
async fn a_cancelled_wait_is_not_a_success() {
    a_local_commit_is_never_acknowledged("pg_cancel_backend").await;
}

#[tokio::test]
async fn a_terminated_session_is_not_a_success() {
    a_local_commit_is_never_acknowledged("pg_terminate_backend").await;
}

#[tokio::test]
async fn without_its_standby_a_unit_acknowledges_nothing() {
    let mut world = World::durable().await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(0, 0, 0).await);
    world.units[0].postgres.stop_standby();
    let key = fresh_key();
    let answer = world.transfer_once(&key, &a, &b, 10).await;
    assert_eq!(answer.brief(), (504, "outcome.unknown"), "{answer:?}");
    // A first request is still under way in the database: nobody can say what it will come to.
    let answer = world.transfer_once(&key, &a, &b, 10).await;
    assert!(!answer.is_outcome(), "{answer:?}");
    // A refusal is not acknowledged either: it is an outcome that must not change.
    let refusal = fresh_key();
    let answer = world.transfer_once(&refusal, &b, &a, 99_999).await;
    assert!(!answer.is_outcome(), "{answer:?}");
    world.units[0].postgres.start_standby().await;
    assert_eq!(world.transfer(&key, &a, &b, 10).await.status, 201);
    assert_eq!(world.transfer(&refusal, &b, &a, 99_999).await.brief(), (422, "account.insufficient_funds"));
    assert_eq!(world.balance(&b).await, 10);
    books::audit(&world).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_primary() {
    let mut world = World::durable().await;
    let (a, b) = (world.account(0, 1000, 0).await, world.account(0, 0, 0).await);
    let mut acknowledged = Vec::new();
    for _ in 0..20 {
        let key = fresh_key();
        if world.transfer_once(&key, &a, &b, 1).await.status == 201 {
            acknowledged.push(key);
        }
    }
    world.units[0].postgres.fail_over(2).await;
    let admin = world.units[0].postgres.standby_admin().await;
    for key in acknowledged {
        let sql = "SELECT FROM postings WHERE idempotency_key = $1";
        assert_eq!(admin.query(sql, &[&key]).await.unwrap().len(), 1);
    }
}
