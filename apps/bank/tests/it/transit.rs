//! Transfers across units: credited once, or given back, whatever happens on the way.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::gateway::Faults;
use crate::support::{World, amount, books, fresh_key, until};

#[tokio::test]
async fn money_arrives_once() {
    let world = World::new(2).await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(1, 0, 0).await);
    let key = fresh_key();
    let sent = world.transfer(&key, &a, &b, 30).await;
    assert_eq!(
        (sent.status, sent.text("state"), sent.text("kind")),
        (202, "in_transit".into(), "transfer_out".into())
    );
    assert_eq!(world.balance(&a).await, 70);
    let posting = sent.text("posting");
    let done = world.await_state(&a, &posting, "completed").await;
    assert_eq!(done.body["entries"][1], json!({"account": "in_transit", "amount": amount(30)}));
    assert_eq!(world.balance(&b).await, 30);
    let entries = world.get(&format!("/v1/accounts/{b}/entries")).await;
    let arrived = entries.body["entries"][0]["posting"].as_str().unwrap().to_owned();
    let arrived = world.get(&format!("/v1/accounts/{b}/postings/{arrived}")).await;
    assert_eq!((arrived.text("kind"), arrived.text("peer_posting")), ("transfer_in".into(), posting.clone()));
    // The first outcome is the first outcome.
    let again = world.transfer(&key, &a, &b, 30).await;
    assert!(again.replayed && again.body == sent.body && again.status == 202);
    // What has left the unit cannot be reversed from here.
    let path = format!("/v1/accounts/{a}/postings/{posting}/reversal");
    assert_eq!(world.post(&path, &fresh_key(), json!({})).await.brief(), (409, "posting.not_reversible"));
    let audit = books::audit(&world).await;
    assert_eq!(audit.in_transit, 0);
}

#[tokio::test]
async fn what_is_refused_comes_back() {
    let world = World::new(2).await;
    let a = world.account(0, 100, 0).await;
    let missing = world.gateway.missing_account_of("unit-2");
    let sent = world.transfer(&fresh_key(), &a, &missing, 30).await;
    assert_eq!(sent.status, 202);
    let back = world.await_state(&a, &sent.text("posting"), "reversed").await;
    assert_eq!(back.text("reason"), "account.not_found");
    let returned = back.text("reversed_by");
    let returned = world.get(&format!("/v1/accounts/{a}/postings/{returned}")).await;
    assert_eq!(
        (returned.text("kind"), returned.text("reverses")),
        ("transit_return".into(), sent.text("posting"))
    );
    assert_eq!(world.balance(&a).await, 100);

    // Another currency.
    let customer = world.gateway.customer_of("unit-2");
    let path = format!("/v1/customers/{customer}");
    let body = json!({"name": "Er Lang"}).to_string();
    world.gateway.call("PUT", &path, Some(&fresh_key()), Some(body)).await;
    let yen = world
        .post(&format!("{path}/accounts"), &fresh_key(), json!({"currency": "JPY"}))
        .await
        .text("account");
    let sent = world.transfer(&fresh_key(), &a, &yen, 30).await;
    let back = world.await_state(&a, &sent.text("posting"), "reversed").await;
    assert_eq!(back.text("reason"), "money.currency_mismatch");
    let audit = books::audit(&world).await;
    assert_eq!((audit.in_transit, audit.count("transit_return", "completed")), (0, 2));
}

#[tokio::test]
async fn messages_are_believed_only_with_their_signature() {
    let world = World::new(2).await;
    let b = world.account(1, 0, 0).await;
    let id = uuid::Uuid::now_v7().to_string();
    let message = json!({"id": id, "from": "unit-1", "to": b, "kind": "credit",
        "payload": {"from": "x", "amount": amount(1_000_000), "text": ""}});
    let path = format!("/v1/messages/{b}");
    let signature = dujiang_sdk::testing::secret(world.folder.path()).sign(message.to_string().as_bytes());
    let call = |path: String, key: String, signature: String, body: String| {
        let world = &world;
        async move {
            let headers = [("idempotency-key", key.as_str()), ("dujiang-signature", signature.as_str())];
            world.gateway.call_with("POST", &path, &headers, Some(body)).await
        }
    };
    let body = message.to_string();
    for wrong in ["", "00", &signature.replace(&signature[..2], "zz"), &"0".repeat(64)] {
        let answer = call(path.clone(), id.clone(), wrong.to_owned(), body.clone()).await;
        assert_eq!(answer.brief(), (400, "request.invalid"), "{wrong}");
    }
    // A genuine message, sent to somebody else or under another key.
    let other = world.account(1, 0, 0).await;
    let answer = call(format!("/v1/messages/{other}"), id.clone(), signature.clone(), body.clone()).await;
    assert_eq!(answer.brief(), (400, "request.invalid"));
    assert_eq!(call(path.clone(), fresh_key(), signature.clone(), body.clone()).await.status, 400);
    assert_eq!((world.balance(&b).await, world.balance(&other).await), (0, 0));
    // A genuine one is taken once.
    for replayed in [false, true, true] {
        let answer = call(path.clone(), id.clone(), signature.clone(), body.clone()).await;
        assert_eq!(
            (answer.status, answer.replayed, answer.text("outcome")),
            (200, replayed, "applied".into())
        );
    }
    assert_eq!(world.balance(&b).await, 1_000_000);
}

#[tokio::test]
async fn a_message_waits_for_its_receiver() {
    let mut world = World::new(2).await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(1, 0, 0).await);
    world.units[1].postgres.crash();
    let sent = world.transfer(&fresh_key(), &a, &b, 30).await;
    assert_eq!(sent.status, 202, "the payer's unit does not need the receiver's");
    let admin = world.units[0].postgres.admin().await;
    until("it was tried more than once", || async {
        let row = admin.query_opt("SELECT FROM dujiang_outbox WHERE attempts > 1", &[]).await.unwrap();
        row.map(drop)
    })
    .await;
    let seen = world.get(&format!("/v1/accounts/{a}/postings/{}", sent.text("posting"))).await;
    assert_eq!(seen.text("state"), "in_transit", "not known is neither done nor refused");
    world.units[1].postgres.restart().await;
    world.await_state(&a, &sent.text("posting"), "completed").await;
    assert_eq!(world.balance(&b).await, 30);
}

#[tokio::test]
async fn a_message_is_sent_only_once_its_transfer_is_durable() {
    let mut world = World::durable().await;
    // The other unit is on the same instance in this test: its slots are nobody's, so messages fail there; what
    // counts is that none is sent.
    let gateway = world.gateway.mesh();
    let port = world.units[0].postgres.port();
    let a = world.account(0, 100, 0).await;
    let slot = a[..5].parse::<u16>().unwrap();
    let slots = format!("{slot}-{slot}");
    world.units[0].bank.write_units(&slots, &gateway, port);
    let elsewhere = u16::from(slot == 0);
    let elsewhere = dujiang_types::Slot::new(elsewhere).unwrap();
    let to = dujiang_routing::AccountNumber::new(elsewhere, 1).unwrap().to_string();
    // The file is looked at every second.
    until("the units file is read", || async {
        world.units[0].bank.log().matches("units file read").nth(1).map(drop)
    })
    .await;
    world.units[0].postgres.stop_standby();
    let admin = world.units[0].postgres.admin().await;
    let waiting =
        "SELECT pid FROM pg_stat_activity WHERE usename = 'bank' AND wait_event = 'SyncRep' LIMIT 1";
    let cut = async {
        let pid: i32 = until("the commit waits", || async {
            admin.query_opt(waiting, &[]).await.unwrap().map(|row| row.get(0))
        })
        .await;
        admin.query("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
    };
    let key = fresh_key();
    let (sent, ()) = tokio::join!(world.transfer_once(&key, &a, &to, 10), cut);
    assert_eq!(sent.brief(), (504, "outcome.unknown"), "{sent:?}");
    // The row is visible, the relay claims it, and the claim waits.
    until("the claim waits", || async { admin.query_opt(waiting, &[]).await.unwrap().map(drop) }).await;
    assert_eq!(world.gateway.messages(), 0, "nothing was sent");
    world.units[0].postgres.start_standby().await;
    until("it is sent", || async { (world.gateway.messages() > 0).then_some(()) }).await;
}

/// Lost messages, lost answers, doubled messages, and the bank killed again and again on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_by_crashes_and_a_bad_network() {
    let mut world = World::new(2).await;
    let mut accounts = Vec::new();
    for number in 0..8 {
        accounts.push(world.account(number % 2, 1_000, 0).await);
    }
    let missing = [world.gateway.missing_account_of("unit-1"), world.gateway.missing_account_of("unit-2")];
    world.gateway.set_faults(Faults { lose_message: 10, lose_answer: 20, double: 20 });
    let mut sent = BTreeMap::new();
    for round in 0..6_usize {
        // Every customer pays somebody of the other unit; some to accounts that are not there.
        let payments: Vec<_> = (0..16)
            .map(|number| {
                let from = &accounts[(number + round) % 8];
                let other = 1 - (number + round) % 2;
                let to = if number % 5 == 4 { &missing[other] } else { &accounts[(number + round + 1) % 8] };
                let key = fresh_key();
                let world = &world;
                async move { (from.clone(), world.transfer_once(&key, from, to, 1).await) }
            })
            .collect();
        for (from, answer) in join_all(payments).await {
            if answer.status == 202 {
                sent.insert(answer.text("posting"), from);
            }
        }
        let site = &mut world.units[round % 2];
        site.bank.kill();
        site.bank.start().await;
        // At every moment between.
        books::audit(&world).await;
    }
    assert!(sent.len() > 48, "most were accepted: {}", sent.len());
    for (posting, from) in &sent {
        until(&format!("{posting} ends"), || async {
            let answer = world.get(&format!("/v1/accounts/{from}/postings/{posting}")).await;
            (answer.status == 200 && answer.body["state"] != "in_transit").then_some(())
        })
        .await;
    }
    let audit = books::audit(&world).await;
    assert_eq!((audit.in_transit, audit.count("transfer_out", "in_transit")), (0, 0), "{audit:?}");
    assert_eq!(audit.count("transfer_in", "completed"), audit.count("transfer_out", "completed"));
    assert_eq!(audit.count("transit_return", "completed"), audit.count("transfer_out", "reversed"));
    assert!(audit.count("transit_return", "completed") > 0 && audit.count("transfer_in", "completed") > 0);
    assert_eq!(audit.customers, 8_000);
}
