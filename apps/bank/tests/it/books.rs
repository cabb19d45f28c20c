//! The database refuses what would break the books, whoever asks.

use tokio_postgres::error::SqlState;

use crate::support::{World, books, fresh_key};

#[tokio::test]
async fn the_database_keeps_double_entry() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(0, 0, 0).await);
    let posting = world.transfer(&fresh_key(), &a, &b, 10).await.text("posting");
    let admin = world.units[0].postgres.admin().await;
    let fresh =
        "WITH p AS (INSERT INTO postings (posting, kind, state, account, amount_minor, currency, text)
        SELECT gen_random_uuid(), 'deposit', 'completed', account, 5, 'CNY', '' FROM accounts LIMIT 1
        RETURNING posting) ";
    let entries = "INSERT INTO entries (posting, account, amount_minor, currency, balance_after)";
    let cases = [
        // Sums to five.
        format!("{fresh} {entries} SELECT posting, 'cash', x, 'CNY', NULL FROM p, (VALUES (-5), (10)) v (x)"),
        // Sums to zero, in two currencies.
        format!(
            "{fresh} {entries} SELECT posting, 'cash', x, c, NULL FROM p, (VALUES (-5, 'CNY'), (5, 'USD')) v (x, c)"
        ),
        // A single entry.
        format!("{fresh} {entries} SELECT posting, 'cash', -5, 'CNY', NULL FROM p"),
        // Balanced entries for a posting that has its entries.
        format!(
            "{entries} VALUES ('{posting}', 'cash', -5, 'CNY', NULL), ('{posting}', 'cash', 5, 'CNY', NULL)"
        ),
        // A balance the account does not have.
        format!(
            "{fresh} {entries} SELECT posting, k, x, 'CNY', y FROM p,
            (VALUES ('cash', -5, NULL), ('{a}', 5, 1000)) v (k, x, y)"
        ),
        // No balance where there must be one, and an account there is not.
        format!(
            "{fresh} {entries} SELECT posting, k, x, 'CNY', NULL FROM p, (VALUES ('cash', -5), ('{a}', 5)) v (k, x)"
        ),
        format!(
            "{fresh} {entries} SELECT posting, k, x, 'CNY', NULL FROM p, (VALUES ('cash', -5), ('vault', 5)) v (k, x)"
        ),
        "UPDATE entries SET amount_minor = 1".to_owned(),
        "DELETE FROM entries".to_owned(),
        "TRUNCATE entries".to_owned(),
        format!("UPDATE accounts SET balance_minor = balance_minor + 1 WHERE account = '{a}'"),
        format!("UPDATE accounts SET balance_minor = -1 WHERE account = '{a}'"),
        format!("DELETE FROM accounts WHERE account = '{a}'"),
    ];
    for sql in cases {
        let error = admin.batch_execute(&sql).await.expect_err(&sql);
        let state = error.code().map(SqlState::code).unwrap_or_default();
        assert_eq!(&state[..2], "23", "{sql}: {error:?}");
    }
    books::audit(&world).await;
}
