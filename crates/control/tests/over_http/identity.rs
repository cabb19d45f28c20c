//! Who gets to the control API, and how far.

use std::time::Duration;

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Bundle, Expect, KeyRequest, Role, http_client, plain_http_client};
use dujiang_types::Code;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::plane::{DEADLINE, Plane, client_as, data_center, problem};

#[tokio::test]
async fn nobody_without_an_identity_of_the_platform_is_answered() {
    let plane = Plane::start().await;
    let mut stream = TcpStream::connect(plane.address()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    drop(tokio::time::timeout(DEADLINE, read).await.expect("the server hangs up"));
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "an answer in plain text");

    let url = plane.url("/healthz");
    assert!(plain_http_client().build().unwrap().get(&url).send().await.is_err(), "no certificate");
    let stranger = client_as(&TestAuthority::default(), "operator/tester");
    assert!(stranger.get(&url).send().await.is_err(), "another platform's authority");
    // One that believes the server, and is not believed.
    let other = TestAuthority::new("other");
    let name = other.name("operator/tester");
    let of_other_platform = plane.ca.authority().issue_for(&name, &[], Duration::from_secs(60)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.pem");
    of_other_platform.write(&path).unwrap();
    let identity = dujiang_identity::Identity::from_file(&path).unwrap();
    let client = http_client(&identity, Expect::anyone()).unwrap().build().unwrap();
    assert!(client.get(&url).send().await.is_err(), "another platform's name");
    assert_eq!(plane.request(Method::GET, "/healthz").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn reports_are_for_ones_own_data_center_and_writes_for_operators() {
    let plane = Plane::with_platform().await;
    let forbidden = async |who: &str, method: Method, path: &str, body: Value| {
        let response = plane.request_as(who, method, path).json(&body).send().await.unwrap();
        let refused = problem(response).await;
        assert_eq!(refused.code, Code::Forbidden, "{who} {path}: {refused}");
    };
    let report = json!({"dc": "a", "session": "s", "sequence": 1, "units": {}, "instances": {}, "renew": []});
    for who in ["dc/b/agent", "dc/a/gateway", "operator/tester", "control", "dc/a/application/bank"] {
        forbidden(who, Method::POST, "/v1/agents/a/report", report.clone()).await;
    }
    for who in ["dc/b/gateway", "dc/a/agent"] {
        forbidden(who, Method::POST, "/v1/gateways/a/report", json!({})).await;
    }
    for who in ["dc/a/agent", "dc/a/gateway", "control", "dc/a/application/bank"] {
        forbidden(who, Method::PUT, "/v1/datacenters/d", data_center(14)).await;
        forbidden(who, Method::DELETE, "/v1/datacenters/a", json!({})).await;
        forbidden(who, Method::POST, "/v1/operations", json!({})).await;
        assert_eq!(plane.request_as(who, Method::GET, "/v1/status").send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn an_agent_has_its_own_data_centers_identities_certified_and_no_others() {
    let plane = Plane::with_platform().await;
    let ask = async |who: &str, name: &str| {
        let key = KeyRequest::new().unwrap();
        let body = json!({"requests": [{"name": name, "request": key.pem()}]});
        (key, plane.request_as(who, Method::POST, "/v1/identities").json(&body).send().await.unwrap())
    };
    for name in ["agent", "gateway", "postgres", "store", "application/bank"] {
        let name = format!("spiffe://test/dc/a/{name}");
        let (key, response) = ask("dc/a/agent", &name).await;
        assert_eq!(response.status(), 200, "{name}");
        let reply: Value = response.json().await.unwrap();
        let answer = &reply["certificates"][0];
        let text = |field: &str| answer[field].as_str().unwrap().to_owned();
        let bundle = Bundle::answered(&key, text("certificate"), text("authority")).unwrap();
        assert_eq!(bundle.name().unwrap().to_string(), name);
        let of_store = text("authority") != plane.ca.authority().certificate();
        assert_eq!(of_store, name.ends_with("store"), "the store has an authority of its own");
    }
    for name in [
        "spiffe://test/dc/b/gateway",
        "spiffe://other/dc/a/gateway",
        "spiffe://test/dc/a/control",
        "spiffe://test/control",
        "spiffe://test/operator/tester",
        "spiffe://test/dc/a/application/nonsense",
    ] {
        let refused = problem(ask("dc/a/agent", name).await.1).await;
        assert_eq!(refused.code, Code::Forbidden, "{name}");
    }
    let refused = problem(ask("operator/tester", "spiffe://test/dc/a/gateway").await.1).await;
    assert_eq!(refused.code, Code::Forbidden);
    let body = json!({"requests": [{"name": "spiffe://test/dc/a/gateway", "request": "nonsense"}]});
    let response = plane.request_as("dc/a/agent", Method::POST, "/v1/identities").json(&body).send().await;
    assert_eq!(problem(response.unwrap()).await.code, Code::RequestInvalid);
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate() {
    let plane = Plane::start().await;
    let name = plane.ca.name("operator/tester");
    let short = plane.ca.authority().issue_for(&name, &[], Duration::from_secs(2)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.pem");
    short.write(&path).unwrap();
    let identity = dujiang_identity::Identity::from_file(&path).unwrap();
    let client = http_client(&identity, Expect::roles(&[Role::Control])).unwrap().build().unwrap();
    let mut watch = client.get(plane.url("/v1/watch")).send().await.unwrap();
    let ended = async { while let Ok(Some(_)) = watch.chunk().await {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the watch is ended");
    assert!(client.get(plane.url("/healthz")).send().await.is_err(), "and there is no way back");
}
