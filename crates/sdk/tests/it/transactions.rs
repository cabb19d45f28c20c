//! Effects and their recorded outcome: both or neither.

use crate::shop::Instance;
use dujiang_sdk::testing::Postgres;

#[tokio::test]
async fn a_refusal_undoes_what_was_done_and_is_remembered() {
    let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), "unit-1", false).await;
    let shop = Instance::start(1, &postgres).await;
    for manner in ["refusing", "failing-then-refusing"] {
        let (status, replayed, first) = shop.add("pen", manner, manner).await;
        assert_eq!((status, replayed, first["code"].as_str()), (409, false, Some("operation.refused")));
        assert_eq!(shop.count("pen").await, 0, "{manner}");
        let again = shop.add("pen", manner, manner).await;
        assert_eq!(again, (409, true, first));
    }
    assert_eq!(shop.add("pen", "well", "w").await.0, 201);
    assert_eq!(shop.count("pen").await, 1);
}

#[tokio::test]
async fn a_commit_that_would_roll_back_is_no_success() {
    let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), "unit-1", false).await;
    let shop = Instance::start(1, &postgres).await;
    for manner in ["swallowing", "abandoning", "deferred", "panicking"] {
        let (status, _, body) = shop.add("pen", manner, manner).await;
        assert_eq!((status, body["code"].as_str().unwrap()), (500, "internal"), "{manner}");
        assert_eq!(shop.count("pen").await, 0, "{manner}");
    }
    // Nothing is recorded under the key: the next attempt is a first one.
    assert!(!shop.add("pen", "swallowing", "swallowing").await.1);
    assert_eq!(shop.add("pen", "well", "w").await.0, 201);
    assert_eq!(shop.count("pen").await, 1);
}

#[tokio::test]
async fn instances_of_two_releases_bring_the_schema_up_to_date_together() {
    let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), "unit-1", false).await;
    let (old, new, third) = tokio::join!(
        Instance::start(1, &postgres),
        Instance::start(2, &postgres),
        Instance::start(2, &postgres)
    );
    for (number, shop) in [&old, &new, &third].into_iter().enumerate() {
        assert_eq!(shop.add("pen", "well", &number.to_string()).await.0, 201);
    }
    let admin = postgres.admin().await;
    let applied = dujiang_sdk::testing::until("every step is applied", || async {
        let sql = "SELECT component, version FROM dujiang_migrations ORDER BY component, version";
        let rows = admin.query(sql, &[]).await.unwrap();
        let steps: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        (steps.len() == 5).then_some(steps)
    })
    .await;
    assert_eq!(
        applied,
        [("sdk".into(), 1), ("sdk".into(), 2), ("sdk".into(), 3), ("shop".into(), 1), ("shop".into(), 2)]
    );
    assert_eq!(old.count("pen").await, 3);
}
