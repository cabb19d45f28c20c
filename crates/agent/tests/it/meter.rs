//! What an agent counts in a replica, by what the application declares.

use dujiang_types::exposure::Meter;

use crate::world::{Node, folder, set};

const DECLARED: &str =
    "CREATE TABLE dujiang_numbering (only_row boolean PRIMARY KEY DEFAULT true, relation name,
        number_column name, per_transfer bigint);
     CREATE TABLE entries (entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text);
     INSERT INTO dujiang_numbering (relation, number_column, per_transfer) VALUES ('entries', 'entry', 2)";

async fn transfers(node: &Node) -> Option<u64> {
    node.replica.meter().await.transfers
}

#[tokio::test]
async fn transfers_are_counted_where_the_application_says_on_every_replica() {
    let dir = folder();
    let a = Node::primary(dir.path(), "a", &set(0, &[])).await;
    let b = Node::follower(dir.path(), "b", &a).await;
    a.replica.open_admission().await.unwrap();
    let counted = Meter { transfers: None, connections: Some(0), connections_max: Some(92) };
    assert_eq!(b.replica.meter().await, counted, "nothing is declared");
    let client = a.connect().await.unwrap();
    client.batch_execute(DECLARED).await.unwrap();
    assert_eq!(transfers(&a).await, Some(0));
    client.batch_execute("INSERT INTO entries (text) SELECT 'x' FROM generate_series(1, 6)").await.unwrap();
    assert_eq!(transfers(&a).await, Some(3));
    assert!(a.replica.meter().await.connections >= Some(1));
    b.until_replayed(a.position().await.flushed).await;
    assert_eq!(transfers(&b).await, Some(3));
    // A change of the schema is under way: what would have to wait is not counted, and nobody waits for it.
    client.batch_execute("BEGIN; LOCK TABLE entries IN ACCESS EXCLUSIVE MODE").await.unwrap();
    assert_eq!(transfers(&a).await, None);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(transfers(&a).await, Some(3));
}

#[tokio::test]
async fn no_code_of_the_applications_runs_with_the_agents_rights() {
    let dir = folder();
    let a = Node::primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client.batch_execute(DECLARED).await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE ran (whom text);
             CREATE FUNCTION trap() RETURNS bigint LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO ran VALUES (session_user); RETURN 8; END $$;
             CREATE VIEW trapped AS SELECT trap() AS entry;
             UPDATE dujiang_numbering SET relation = 'trapped'",
        )
        .await
        .unwrap();
    assert_eq!(transfers(&a).await, None);
    let ran = client.query_one("SELECT count(*) FROM ran", &[]).await.unwrap();
    assert_eq!(ran.get::<_, i64>(0), 0);
}
