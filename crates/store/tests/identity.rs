//! Who gets a word with the store: at the port for clients whoever its own authority has certified, at the port for members
//! only members. Everybody else is refused by etcd itself, in the handshake.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Connector, Expect, Identity};
use dujiang_store::{EtcdStore, Store as _, Txn};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

// The fixture of the conformance suite, without its checks.
#[path = "suite/etcd.rs"]
mod etcd;

use etcd::EtcdServer;

/// How long anything may take on a machine that does much else.
const DEADLINE: Duration = Duration::from_secs(60);

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("https://").unwrap().parse().unwrap()
}

/// What a GET is answered; nothing if the connection is not taken.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asking = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        stream.read_to_end(&mut answer).await
    };
    // Who is refused is cut off.
    drop(timeout(DEADLINE, asking).await.expect("it neither answers nor closes"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// The same over TLS, showing that identity and taking whoever answers for the store.
async fn get_as(who: &Identity, url: &str, path: &str) -> String {
    let connector = Connector::new(who, Expect::anyone()).unwrap();
    let stream = TcpStream::connect(address(url)).await.unwrap();
    match connector.connect(address(url).ip(), stream).await {
        Ok(stream) => get(stream, path).await,
        Err(_) => String::new(),
    }
}

/// Believes the store's authority, and shows nothing.
fn anonymous(authority: &TestAuthority) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = authority.authority().certificate().to_owned();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    TlsConnector::from(Arc::new(config.with_no_client_auth()))
}

/// The identity of one authority at the mouth of somebody who believes another one: it is the other end that refuses.
fn pretending(of: &TestAuthority, believing: &TestAuthority, who: &str) -> (tempfile::TempDir, Identity) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.pem");
    let shown = of.bundle(who);
    std::fs::write(&path, shown.to_pem().replace(shown.authority(), believing.authority().certificate()))
        .unwrap();
    let identity = Identity::from_file(&path).unwrap();
    (folder, identity)
}

#[tokio::test]
async fn only_whom_the_stores_authority_has_certified_is_answered_and_only_members_are_members() {
    let server = EtcdServer::start().await;
    let ports = [(server.endpoint(), "/health"), (server.peer_endpoint(), "/members")];
    let member = server.authority.identity("dc/a/store");
    for (port, path) in &ports {
        // They do answer those who may ask.
        let answer = get_as(&member, port, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{port}: {answer}");

        let plain = get(TcpStream::connect(address(port)).await.unwrap(), path).await;
        assert!(!plain.contains("200 OK"), "in plain text: {plain}");
        let stream = TcpStream::connect(address(port)).await.unwrap();
        let answer = match anonymous(&server.authority).connect(address(port).ip().into(), stream).await {
            Ok(stream) => get(stream, path).await,
            Err(_) => String::new(),
        };
        assert_eq!(answer, "", "{port} answers who shows no certificate");

        // The platform's authority is another one: no process of an application, no gateway, no agent gets in.
        let platform = TestAuthority::default();
        for who in
            ["dc/a/store", "control", "dc/a/agent", "dc/a/gateway", "dc/a/application/bank", "operator/zhang"]
        {
            let (_folder, stranger) = pretending(&platform, &server.authority, who);
            assert_eq!(get_as(&stranger, port, path).await, "", "{port} answers {who} of another authority");
        }
    }
    // A control server is a client, and no member.
    let client = server.client();
    assert!(get_as(&client, &ports[0].0, ports[0].1).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(get_as(&client, &ports[1].0, ports[1].1).await, "");
}

#[tokio::test]
async fn a_control_server_talks_to_members_of_its_own_store_only() {
    let server = EtcdServer::start().await;
    let (_folder, misled) = pretending(&server.authority, &TestAuthority::default(), "control");
    let refused = timeout(DEADLINE, EtcdStore::connect(&[&server.endpoint()], &misled)).await.unwrap();
    assert!(refused.is_err(), "whoever answers is not taken for the store");
    server.connect().await;
}

#[tokio::test]
async fn nobody_notices_that_certificates_run_out_and_are_renewed() {
    const LIFETIME_S: u64 = 6;
    let mut server = EtcdServer::start_under(TestAuthority::of_lifetime(LIFETIME_S)).await;
    let first = server.authority.bundle("dc/a/store").not_after().unwrap();
    let store = server.connect().await;
    let mut watch = store.watch("k", store.revision().await.unwrap()).await.unwrap();
    let client = server.client();
    let began = Instant::now();
    let mut renewed = began;
    // Past the end of the certificates of the beginning, renewed by half of their time as an agent does it.
    while std::time::SystemTime::now() < first + Duration::from_secs(2) {
        if renewed.elapsed() > Duration::from_secs(LIFETIME_S / 2) {
            server.certify();
            renewed = Instant::now();
        }
        // The connection that was made in the beginning, and one that is made now.
        let written = store.transact(Txn::new().put("k", "v")).await.unwrap().committed().unwrap();
        assert_eq!(timeout(DEADLINE, watch.next()).await.unwrap().unwrap().revision, written);
        let another = EtcdStore::connect(&[&server.endpoint()], &client).await.unwrap();
        assert_eq!(another.revision().await.unwrap(), written);
        sleep(Duration::from_millis(100)).await;
    }
    assert!(client.not_after() > first, "the client's own is another one by now, too");
    // A member that is started again begins with the newest.
    server.certify();
    server.stop().await;
    server.start_again().await;
    store.transact(Txn::new().put("k", "v")).await.unwrap().committed().unwrap();
}
