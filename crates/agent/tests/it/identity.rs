//! Who gets to a database: by certificate and password both, and by neither alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use dujiang_database::Tls;
use dujiang_identity::Bundle;
use dujiang_identity::testing::TestAuthority;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use crate::prepared;
use crate::world::{Node, PATIENCE, dc, folder, set};

/// How a role connects, with the password it has to have.
fn config(node: &Node, role: &str) -> Config {
    let settings = node.replica.settings();
    let mut config = Config::new();
    config.host(settings.address.ip().to_string()).port(settings.address.port()).connect_timeout(PATIENCE);
    let database = if role == "dujiang_replication" { "postgres" } else { "bank" };
    config.user(role).dbname(database).password(settings.secret.password(&settings.unit, role));
    config
}

/// An identity that has run out a moment ago: certificates hold to the end of their last second.
async fn expired(of: &TestAuthority, path: &str) -> Bundle {
    let name = of.name(path);
    let issued = of.authority().issue_for(&name, &[], Duration::ZERO).unwrap();
    let over = issued.not_after().unwrap() + Duration::from_secs(1);
    while let Ok(left) = over.duration_since(SystemTime::now()) {
        sleep(left).await;
    }
    issued
}

async fn refused(config: &Config, tls: &Tls) -> tokio_postgres::Error {
    dujiang_database::connect(config, tls).await.err().expect("it is let in")
}

#[tokio::test]
async fn every_role_needs_a_certificate_that_carries_it_and_its_password() {
    let dir = folder();
    let (a, _lease) = prepared::primary(dir.path(), "a", &set(0, &["a"])).await;
    a.replica.open_admission().await.unwrap();
    let everybody = ["dc/a/agent", "dc/b/postgres", "dc/b/application/bank", "dc/a/gateway", "operator/bank"];
    let roles = [
        ("dujiang", "dc/a/agent"),
        ("dujiang_replication", "dc/b/postgres"),
        ("bank", "dc/b/application/bank"),
    ];
    let foreign = TestAuthority::new("test");
    let ours = a.authority();
    let tls = |path: &str, to: &str| Tls::new(&ours.identity(path), &dc(to)).unwrap();
    for (role, owner) in roles {
        let config = config(&a, role);
        let plain = config.connect(NoTls).await.err().expect("nobody is let in without TLS");
        assert_eq!(plain.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "{role}: {plain:?}");
        for identity in everybody {
            let connected = dujiang_database::connect(&config, &tls(identity, "a")).await;
            assert_eq!(connected.is_ok(), identity == owner, "{identity} as {role}");
        }
        let mut guessed = config.clone();
        guessed.password("guessed");
        assert_eq!(refused(&guessed, &tls(owner, "a")).await.code(), Some(&SqlState::INVALID_PASSWORD));
        // Its own name for the platform does not help an authority of somebody else.
        let theirs = Tls::new(&foreign.identity(owner), &dc("a")).unwrap();
        assert_eq!(refused(&config, &theirs).await.code(), None, "{role}: not even the handshake succeeds");
    }
    // Who calls looks, too: at the data center, and whether it is a database at all.
    assert_eq!(refused(&config(&a, "bank"), &tls("dc/b/application/bank", "b")).await.code(), None);
}

/// `psql` as a walreceiver would connect, with other parameters after its own.
fn as_receiver(node: &Node, folder: &Path, more: &str) -> Output {
    let settings = node.replica.settings();
    let pem = folder.join("receiver.pem");
    let authority_pem = folder.join("authority.pem");
    fs::write(&authority_pem, node.authority().bundle("dc/b/postgres").authority()).unwrap();
    Command::new(settings.programs.path("psql"))
        .env("PGPASSWORD", settings.secret.password(&settings.unit, "dujiang_replication"))
        .arg("-qAtd")
        .arg(format!(
            "host={} port={} user=dujiang_replication dbname=postgres sslmode=verify-full sslcert={pem} \
             sslkey={pem} sslrootcert={} replication=true {more}",
            settings.address.ip(),
            settings.address.port(),
            authority_pem.display(),
            pem = pem.display(),
        ))
        .args(["-c", "IDENTIFY_SYSTEM"])
        .output()
        .unwrap()
}

#[tokio::test]
async fn a_replica_is_let_in_as_a_database_of_the_platform_only() {
    let dir = folder();
    let (a, _lease) = prepared::primary(dir.path(), "a", &set(0, &["a"])).await;
    let pem = dir.path().join("receiver.pem");
    let write = |bundle: Bundle| bundle.write(&pem).unwrap();
    let ours = a.authority();
    write(ours.bundle("dc/b/postgres"));
    let done = as_receiver(&a, dir.path(), "channel_binding=require");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let refused = |more: &str, why: &str| {
        let done = as_receiver(&a, dir.path(), more);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(why), "{said}");
    };
    refused("sslmode=disable", "no pg_hba.conf entry");
    refused("sslcert=/nowhere sslkey=/nowhere", "connection requires a valid client certificate");
    write(ours.bundle("dc/b/gateway"));
    refused("", "authentication failed");
    write(TestAuthority::new("test").bundle("dc/b/postgres"));
    refused("", "unknown ca");
    // An expired one counts for nothing.
    write(expired(&ours, "dc/b/postgres").await);
    refused("", "certificate expired");
}

/// Serial number of the certificate that a database shows to whoever connects now.
fn shown(node: &Node) -> String {
    let address = node.replica.settings().address.to_string();
    let done = Command::new("openssl")
        .args(["s_client", "-starttls", "postgres", "-connect", &address])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let mut x509 = Command::new("openssl")
        .args(["x509", "-noout", "-serial"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut x509.stdin.take().unwrap(), &done.stdout).unwrap();
    String::from_utf8(x509.wait_with_output().unwrap().stdout).unwrap()
}

/// Renews until another certificate than `before` is shown.
async fn until_renewed(node: &Node, before: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        node.replica.renew_identity().await.unwrap();
        let now = shown(node);
        if !now.is_empty() && now != before {
            return now;
        }
        assert!(Instant::now() < deadline, "the old certificate is shown on");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_renewal_is_shown_to_who_connects_and_ends_nobodys_connection() {
    let dir = folder();
    let (a, _lease) = prepared::primary(dir.path(), "a", &set(1, &["b"])).await;
    let b = Node::follower(dir.path(), "b", &a).await;
    assert!(a.replica.set_sync(&set(1, &["b"])).await.unwrap());
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    let receivers = "SELECT pid FROM pg_stat_replication";
    let admin = a.connect_as("dujiang").await.unwrap();
    let receiver: i32 = admin.query_one(receivers, &[]).await.unwrap().get(0);

    for node in [&a, &b] {
        let before = shown(node);
        let settings = node.replica.settings();
        node.authority()
            .bundle(&format!("dc/{}/postgres", settings.dc))
            .write(&settings.database_identity)
            .unwrap();
        until_renewed(node, &before).await;
    }
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(admin.query_one(receivers, &[]).await.unwrap().get::<_, i32>(0), receiver, "it streams on");
    a.connect().await.unwrap();

    // A new receiver shows the new one: the old one's file is gone.
    b.replica.detach().await.unwrap();
    b.follow(&a).await;
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
}

#[tokio::test]
async fn a_database_whose_identity_ran_out_is_reached_again_once_it_is_renewed() {
    let dir = folder();
    let a = prepared::node(dir.path(), "a").await;
    let settings = a.replica.settings();
    expired(&a.authority(), "dc/a/postgres").await.write(&settings.database_identity).unwrap();
    a.replica.start().await.unwrap();
    let agent = Tls::new(&settings.identity, &settings.dc).unwrap();
    assert_eq!(refused(&config(&a, "dujiang"), &agent).await.code(), None);

    let before = shown(&a);
    a.authority().bundle("dc/a/postgres").write(&settings.database_identity).unwrap();
    until_renewed(&a, &before).await;
    a.position().await;
}
