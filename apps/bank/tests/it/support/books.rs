//! An auditor of its own: recomputes everything from the entries of all units and compares.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::World;

/// What the books of all units say, recomputed.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Sum of all entries of `in_transit`, over all units.
    pub(crate) in_transit: i128,
    /// Sum of all entries of `cash`, over all units.
    pub(crate) cash: i128,
    /// Sum of all customers' balances, over all units.
    pub(crate) customers: i128,
    /// Postings by kind and state.
    pub(crate) postings: BTreeMap<(String, String), usize>,
}

impl Audit {
    pub(crate) fn count(&self, kind: &str, state: &str) -> usize {
        self.postings.get(&(kind.to_owned(), state.to_owned())).copied().unwrap_or(0)
    }
}

/// Checks every rule of the books that must hold at every moment.
pub(crate) async fn audit(world: &World) -> Audit {
    let mut audit = Audit::default();
    let mut outgoing = BTreeMap::new();
    let mut arrived = BTreeMap::new();
    // One moment of all units: what would change the books waits until everything is read.
    let mut sessions = Vec::new();
    for site in &world.units {
        let admin = site.postgres.admin().await;
        admin.batch_execute("BEGIN; LOCK TABLE postings IN EXCLUSIVE MODE").await.unwrap();
        sessions.push(admin);
    }
    for session in &sessions {
        unit(session, &mut audit, &mut outgoing, &mut arrived).await;
    }
    // Their transactions end here.
    drop(sessions);
    // What arrived was sent, with the same amount, and at most once, which the map's insertion has checked.
    for (posting, amount) in &arrived {
        assert_eq!(
            outgoing.get(posting).map(|(amount, _)| amount),
            Some(amount),
            "{posting} came from nowhere"
        );
    }
    for (posting, (_, state)) in &outgoing {
        let there = arrived.contains_key(posting);
        match state.as_str() {
            "completed" => assert!(there, "{posting} is completed and has not arrived"),
            "reversed" => assert!(!there, "{posting} is reversed and has arrived"),
            _ => {}
        }
    }
    let travelling =
        outgoing.iter().filter(|(id, (_, state))| state == "in_transit" && !arrived.contains_key(*id));
    let travelling: i128 = travelling.map(|(_, (amount, _))| i128::from(*amount)).sum();
    assert_eq!(audit.in_transit, travelling, "in_transit is what is on its way");
    assert_eq!(audit.cash + audit.in_transit + audit.customers, 0, "money is neither made nor lost");
    audit
}

type Outgoing = BTreeMap<uuid::Uuid, (i64, String)>;

async fn unit(
    client: &Client,
    audit: &mut Audit,
    outgoing: &mut Outgoing,
    arrived: &mut BTreeMap<uuid::Uuid, i64>,
) {
    let mut by_posting: BTreeMap<uuid::Uuid, (i128, usize)> = BTreeMap::new();
    let mut by_account: BTreeMap<String, i128> = BTreeMap::new();
    let sql = "SELECT posting, account, amount_minor, balance_after FROM entries ORDER BY entry";
    for row in client.query(sql, &[]).await.unwrap() {
        let (posting, account, amount): (uuid::Uuid, String, i64) = (row.get(0), row.get(1), row.get(2));
        let sum = by_posting.entry(posting).or_default();
        *sum = (sum.0 + i128::from(amount), sum.1 + 1);
        let balance = by_account.entry(account.clone()).or_default();
        *balance += i128::from(amount);
        if let Some(after) = row.get::<_, Option<i64>>(3) {
            assert_eq!(*balance, i128::from(after), "running balance of {account}");
        }
    }
    for (posting, (sum, count)) in &by_posting {
        assert!(*sum == 0 && *count >= 2, "{posting} has {count} entries that sum to {sum}");
    }
    audit.cash += by_account.remove("cash").unwrap_or(0);
    audit.in_transit += by_account.remove("in_transit").unwrap_or(0);
    for row in client.query("SELECT account, balance_minor, limit_minor FROM accounts", &[]).await.unwrap() {
        let (account, balance, limit): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(by_account.remove(&account).unwrap_or(0), i128::from(balance), "balance of {account}");
        assert!(balance >= limit, "{account} is below its limit");
        audit.customers += i128::from(balance);
    }
    assert!(by_account.is_empty(), "entries of unknown accounts: {by_account:?}");
    let sql = "SELECT posting, kind, state, amount_minor, peer_posting FROM postings";
    for row in client.query(sql, &[]).await.unwrap() {
        let (posting, kind, state): (uuid::Uuid, String, String) = (row.get(0), row.get(1), row.get(2));
        assert!(by_posting.contains_key(&posting), "{posting} has no entries");
        if kind == "transfer_out" {
            outgoing.insert(posting, (row.get(3), state.clone()));
        }
        if let Some(peer) = row.get::<_, Option<uuid::Uuid>>(4) {
            assert!(arrived.insert(peer, row.get(3)).is_none(), "{peer} has arrived twice");
        }
        *audit.postings.entry((kind, state)).or_default() += 1;
    }
}
