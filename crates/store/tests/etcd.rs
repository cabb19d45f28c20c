//! What is particular to a store behind a network: members that are down, and nobody there at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use dujiang_identity::testing::TestAuthority;
use dujiang_store::{Batch, Error, EtcdStore, Result, Store, Txn, Watch};
use dujiang_types::Revision;
use tokio::process::Command;

// The fixture of the conformance suite, without its checks.
#[path = "suite/etcd.rs"]
mod etcd;

use etcd::{EtcdServer, free_ports};

/// How long anything may take on a machine that does much else.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

async fn next(watch: &mut Watch) -> Result<Batch> {
    tokio::time::timeout(DEADLINE, watch.next()).await.unwrap()
}

#[tokio::test]
async fn a_dead_member_is_worked_around() {
    let server = EtcdServer::start().await;
    let dead = format!("https://127.0.0.1:{}", free_ports().0);
    let store = EtcdStore::connect(&[&dead, &server.endpoint()], &server.client()).await.unwrap();
    let mut watch = store.watch("k", store.revision().await.unwrap()).await.unwrap();
    // Also writes: what found no connection was never sent and is sent again.
    for i in 0..100 {
        let outcome = store.transact(Txn::new().put(format!("k{i}"), "v")).await.unwrap();
        assert_eq!(next(&mut watch).await.unwrap().revision, outcome.committed().unwrap());
    }
    assert_eq!(store.list("k").await.unwrap().entries.len(), 100);
}

#[tokio::test]
async fn nobody_there_is_an_error_in_bounded_time() {
    let dead = format!("https://127.0.0.1:{}", free_ports().0);
    let identity = TestAuthority::default().identity("control");
    let refused = tokio::time::timeout(DEADLINE, EtcdStore::connect(&[&dead], &identity)).await.unwrap();
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");

    let mut server = EtcdServer::start().await;
    let store = Arc::new(server.connect().await);
    server.kill();
    let write = store.transact(Txn::new().put("a", "1"));
    let write = tokio::time::timeout(DEADLINE, write).await.unwrap();
    assert!(matches!(write, Err(Error::Unavailable { .. })), "{write:?}");
    let read = tokio::time::timeout(DEADLINE, store.get("a")).await.unwrap();
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    // It works again as soon as somebody is there.
    server.start_again().await;
    assert_eq!(store.get("a").await.unwrap(), None, "it was never sent");
    assert!(store.compare_and_set("a", Revision(0), "1".into()).await.unwrap().committed().is_some());
    server.stop().await;
}

/// As another program would: etcd's own command line.
async fn foreign_put(server: &EtcdServer, key: &[u8]) {
    let mut command = Command::new("/usr/bin/etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &server.endpoint()]);
    command.args(server.files().client_options()).arg("put").arg(OsStr::from_bytes(key)).arg("x");
    let done = tokio::time::timeout(DEADLINE, command.output()).await.unwrap();
    let done = done.expect("etcdctl; install it with: apt-get install etcd-client");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn a_cluster_can_be_shared() {
    let server = EtcdServer::start().await;
    let store = server.connect().await;
    let start = store.revision().await.unwrap();
    let mut watch = store.watch("", start).await.unwrap();
    foreign_put(&server, b"/dujian").await;
    foreign_put(&server, b"/dujiang0").await;
    let ours = store.compare_and_set("a", Revision(0), "1".into()).await.unwrap().committed().unwrap();
    assert_eq!(ours, Revision(start.0 + 3), "every program's writes count");
    let listing = store.list("").await.unwrap();
    assert_eq!((listing.entries.len(), listing.revision), (1, ours));
    assert_eq!(next(&mut watch).await.unwrap().revision, ours);
    // What is ours but cannot be read is said to be so, not passed over.
    foreign_put(&server, b"/dujiang/\xff").await;
    assert!(matches!(store.list("").await, Err(Error::Corrupt { .. })));
    assert!(matches!(next(&mut watch).await, Err(Error::Corrupt { .. })));
}
