//! Random work from many clients at once, checked against a model and against the books.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::{World, amount, books, fresh_key, until};

const ACCOUNTS: usize = 6;

#[derive(Debug, Clone)]
enum Step {
    Deposit {
        to: usize,
        minor: i64,
    },
    Transfer {
        from: usize,
        to: usize,
        minor: i64,
    },
    /// Repeats an earlier step with its key.
    Again {
        nth: usize,
    },
    /// Reverses the last own posting.
    Reverse,
}

fn step() -> impl Strategy<Value = Step> {
    let account = || 0..ACCOUNTS;
    prop_oneof![
        2 => (account(), 1..500_i64).prop_map(|(to, minor)| Step::Deposit { to, minor }),
        6 => (account(), account(), 1..400_i64).prop_map(|(from, to, minor)| Step::Transfer { from, to, minor }),
        2 => (0..100_usize).prop_map(|nth| Step::Again { nth }),
        1 => Just(Step::Reverse),
    ]
}

/// One client's steps, one after the other. Gives how many distinct writes were done.
async fn client(world: &World, accounts: &[String], steps: Vec<Step>) -> usize {
    let mut sent: Vec<(String, String, serde_json::Value, serde_json::Value)> = Vec::new();
    let mut last = None;
    let mut done = 0;
    for step in steps {
        let (path, body) = match step {
            Step::Deposit { to, minor } => {
                (format!("/v1/accounts/{}/deposits", accounts[to]), json!({"amount": amount(minor)}))
            }
            Step::Transfer { from, to, .. } if from == to => continue,
            Step::Transfer { from, to, minor } => {
                let body = json!({"to": accounts[to], "amount": amount(minor)});
                (format!("/v1/accounts/{}/transfers", accounts[from]), body)
            }
            Step::Again { nth } => {
                if let Some((path, key, body, first)) = sent.get(nth % sent.len().max(1)) {
                    let again = world.post(path, key, body.clone()).await;
                    assert!(again.replayed && again.body == *first, "{again:?}");
                }
                continue;
            }
            Step::Reverse => {
                let Some((account, posting)) = last.take() else { continue };
                (format!("/v1/accounts/{account}/postings/{posting}/reversal"), json!({}))
            }
        };
        let key = fresh_key();
        let answer = world.post(&path, &key, body.clone()).await;
        if answer.status < 300 {
            done += 1;
            let account = path.split('/').nth(3).unwrap().to_owned();
            last = Some((account, answer.text("posting")));
        } else {
            let expected = ["account.insufficient_funds", "posting.not_reversible"];
            assert!(expected.contains(&answer.code()), "{answer:?}");
        }
        sent.push((path, key, body, answer.body));
    }
    done
}

/// Two units, six clients, some two hundred random steps: proptest draws them, and prints them if they fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_work_from_many_clients_conserves_money() {
    let world = World::new(2).await;
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        accounts.push(world.account(number % 2, 500, if number < 2 { -300 } else { 0 }).await);
    }
    let mut runner = TestRunner::default();
    let scripts: Vec<Vec<Step>> = (0..6)
        .map(|_| proptest::collection::vec(step(), 30..40).new_tree(&mut runner).unwrap().current())
        .collect();
    println!("{scripts:?}");
    let clients = scripts.into_iter().map(|steps| client(&world, &accounts, steps));
    let done: usize = join_all(clients).await.into_iter().sum();
    // Everything on its way arrives.
    let audit = until("nothing is on its way", || async {
        let audit = books::audit(&world).await;
        (audit.in_transit == 0 && audit.count("transfer_out", "in_transit") == 0).then_some(audit)
    })
    .await;
    let internal = audit.count("transfer_in", "completed") + audit.count("transit_return", "completed");
    let all: usize = audit.postings.values().sum();
    assert_eq!(all, done + ACCOUNTS + internal, "every acknowledged write is there once: {audit:?}");
    // What the API says is what the books say.
    let mut sum = 0;
    for account in &accounts {
        sum += i128::from(world.balance(account).await);
    }
    assert_eq!(sum, audit.customers);
    let states: BTreeMap<_, _> = audit.postings;
    assert!(states.keys().all(|(_, state)| state != "in_transit"));
}
