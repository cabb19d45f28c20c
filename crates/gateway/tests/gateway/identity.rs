//! Who gets to a gateway's ports, and to whom it goes.

use std::net::SocketAddr;

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Connector, Expect, Identity, Role};
use dujiang_types::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Instance, PATIENCE, Raw, World, admin_client, authority, customer, dc, get, table};

/// What is answered to a request under an identity; nothing if there is no answer.
async fn asked_as(identity: &Identity, at: SocketAddr, request: &str) -> String {
    let connector = Connector::new(identity, Expect::roles(Role::ALL)).unwrap();
    let stream = TcpStream::connect(at).await.unwrap();
    let Ok(mut stream) = connector.connect(at.ip(), stream).await else { return String::new() };
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer or the end");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn asked_plainly(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer or the end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_is_for_gateways_and_own_applications_and_the_admin_port_for_the_platform() {
    let instance = Instance::ok().await;
    let world = World::start(table(1, &[instance.address])).await;
    let addresses = world.gateway().addresses();
    let request = get("/pay", &customer(true)).replace("host: bank", "host: bank\r\nconnection: close");
    assert!(
        asked_as(&authority().identity("dc/b/gateway"), addresses.mesh, &request).await.contains("200 OK")
    );
    let other = TestAuthority::default();
    let strangers = ["dc/a/agent", "dc/b/application/bank", "operator/zhang", "control"];
    for stranger in
        strangers.map(|who| authority().identity(who)).iter().chain([&other.identity("dc/b/gateway")])
    {
        let answer = asked_as(stranger, addresses.mesh, &request).await;
        assert!(!answer.contains("HTTP/1.1"), "{} at the mesh: {answer}", stranger.name());
    }
    for port in [addresses.mesh, addresses.admin] {
        assert!(!asked_plainly(port, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.contains("HTTP/1.1"));
    }
    let health = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(asked_as(&authority().identity("dc/a/agent"), addresses.admin, health).await.contains("200 OK"));
    let answer = asked_as(&other.identity("dc/a/agent"), addresses.admin, health).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    assert_eq!(instance.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_a_client_of_its_gateway_whatever_it_says_of_itself() {
    let there = Instance::ok().await;
    let mut at_b = table(1, &[]);
    at_b.applications.values_mut().for_each(|app| app.instances = [(dc("b"), vec![there.address])].into());
    at_b.units.iter_mut().for_each(|unit| unit.home = dc("b"));
    let b = World::start_with(at_b.clone(), |options| options.dc = dc("b")).await;
    let mut at_a = at_b;
    at_a.mesh.insert(dc("b"), b.gateway().addresses().mesh);
    let a = World::start(at_a).await;

    let mesh = a.gateway().addresses().mesh;
    let forged =
        "dujiang-hop: 1\r\ndujiang-unit: unit-2\r\ndujiang-epoch: 9\r\nx-forwarded-for: 9.9.9.9\r\nhost:";
    let request = get("/pay", &customer(true)).replace("host:", forged);
    // A gateway's word that the request has come a way already counts; an application's does not.
    let refused = Raw::connect_mesh_as("dc/b/gateway", mesh).await.ask(&request).await;
    assert_eq!(refused.code(), Some(Code::UnitMoved));
    let answer = Raw::connect_mesh_as("dc/a/application/bank", mesh).await.ask(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = there.last();
    assert_eq!((seen.header("dujiang-unit"), seen.header("dujiang-epoch")), (Some("unit-1"), Some("1")));
    assert_eq!(seen.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(there.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_only_to_an_application_of_this_data_center() {
    for who in ["dc/a/gateway", "dc/b/application/bank", "dc/a/agent"] {
        let impostor = Instance::start_as(&authority().identity(who)).await;
        let world = World::start(table(1, &[impostor.address])).await;
        let answer = Raw::connect(world.clients()).await.ask(&get("/pay", &customer(true))).await;
        assert_eq!(answer.status, 503, "{who}: {}", answer.text());
        assert!(impostor.seen().is_empty(), "{who} was sent a request");
    }
    let other = TestAuthority::default();
    let impostor = Instance::start_as(&other.identity("dc/a/application/bank")).await;
    let world = World::start(table(1, &[impostor.address])).await;
    let answer = Raw::connect(world.clients()).await.ask(&get("/pay", &customer(true))).await;
    assert_eq!(answer.status, 503);
    assert!(impostor.seen().is_empty());
    let address = world.gateway().addresses().admin;
    let ready = admin_client().get(format!("https://{address}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200);
}
