//! The server against peers that misbehave.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shop::Instance;
use dujiang_sdk::testing::{Postgres, gateway_stream};

/// Sends bytes and reads until the server closes.
async fn raw(shop: &Instance, bytes: &[u8]) -> String {
    let mut stream = gateway_stream(shop.address).await;
    // The server may have answered and closed before everything was sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn garbage_is_answered_or_cut_off_and_harms_nobody() {
    let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), "unit-1", false).await;
    let shop = Instance::start(1, &postgres).await;
    let unit = "dujiang-unit: unit-1\r\ndujiang-epoch: 1\r\nidempotency-key: k\r\nconnection: close";
    let cases = [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024)), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(64 * 1024)), "4"),
        (format!("POST /v1/items/a/well HTTP/1.1\r\n{unit}\r\ncontent-length: -1\r\n\r\n"), "400"),
        (format!("POST /v1/items/a/well HTTP/1.1\r\n{unit}\r\ncontent-length: 99999999\r\n\r\n{{"), "4"),
        // A body that never comes.
        (format!("POST /v1/items/a/well HTTP/1.1\r\n{unit}\r\ncontent-length: 5\r\n\r\n"), "408"),
        (format!("GET /v1/panics HTTP/1.1\r\n{unit}\r\n\r\n"), "500"),
        ("GET /v1/items/a HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), "400"),
        (format!("DELETE /v1/items/a HTTP/1.1\r\n{unit}\r\n\r\n"), "405"),
    ];
    for (request, status) in cases {
        let answer = raw(&shop, request.as_bytes()).await;
        let head: String = request.chars().take(40).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head:?}: {answer}");
        if answer.contains('{') {
            assert!(answer.contains("application/problem+json"), "{head:?}: {answer}");
        }
    }
    assert_eq!(shop.add("pen", "well", "w").await.0, 201);
}

#[tokio::test]
async fn a_shutdown_lets_requests_under_way_end() {
    let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), "unit-1", false).await;
    let mut shop = Instance::start(1, &postgres).await;
    assert_eq!(shop.add("pen", "well", "1").await.0, 201);
    let admin = postgres.admin().await;
    admin.batch_execute("BEGIN; LOCK TABLE items").await.unwrap();
    // A request that waits in the database while the instance is told to end.
    let mut stream = gateway_stream(shop.address).await;
    let request = "POST /v1/items/pen/well HTTP/1.1\r\nhost: x\r\ndujiang-unit: unit-1\r\ndujiang-epoch: 1\r\n\
        idempotency-key: 2\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let watcher = postgres.admin().await;
    dujiang_sdk::testing::until("the request waits", || async {
        watcher.query_opt("SELECT FROM pg_locks WHERE NOT granted LIMIT 1", &[]).await.unwrap().map(drop)
    })
    .await;
    shop.stop();
    admin.batch_execute("COMMIT").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    (&mut shop.ended).await.unwrap();
    assert!(TcpStream::connect(shop.address).await.is_err(), "nobody listens any more");
}
