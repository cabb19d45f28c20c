//! A token makes one agent of one data center, once, in its time; and is good for nothing else.

use std::time::Duration;

use dujiang_control::{JoinToken, TokenList, TokenReply};
use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Bundle, Expect, KeyRequest, Role, Token, http_client};
use dujiang_types::Code;
use dujiang_types::api::Certificate;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::plane::{DEADLINE, Plane, problem};

const TTL_S: u32 = 600;

/// A token for a data center, as an operator makes it.
async fn token(plane: &Plane, dc: &str, ttl_s: u32) -> (JoinToken, Token) {
    let key = KeyRequest::new().unwrap();
    let body = json!({"dc": dc, "ttl_s": ttl_s, "request": key.pem()});
    let response = plane.request(Method::POST, "/v1/tokens").json(&body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let text = response.text().await.unwrap();
    assert!(!text.contains("PRIVATE KEY"), "the secret stays with who asks");
    let reply: TokenReply = serde_json::from_str(&text).unwrap();
    let bundle = Bundle::answered(&key, reply.certificate.certificate, reply.certificate.authority).unwrap();
    (reply.token, Token::new(bundle).unwrap())
}

fn client_of(token: &Token) -> reqwest::Client {
    let client = http_client(&token.identity().unwrap(), Expect::roles(&[Role::Control])).unwrap();
    client.timeout(DEADLINE).build().unwrap()
}

/// Shows the token and asks for a certificate for that key.
async fn show(plane: &Plane, token: &Token, key: &KeyRequest) -> reqwest::Result<Response> {
    client_of(token).post(plane.url("/v1/join")).json(&json!({"request": key.pem()})).send().await
}

async fn refused(plane: &Plane, token: &Token, why: &str) {
    let answer = show(plane, token, &KeyRequest::new().unwrap()).await.unwrap();
    let refused = problem(answer).await;
    assert_eq!(refused.code, Code::Forbidden, "{refused}");
    assert!(refused.detail.contains(why), "{refused}");
}

async fn tokens(plane: &Plane) -> Vec<JoinToken> {
    serde_json::from_value::<TokenList>(plane.get("/v1/tokens").await).unwrap().items
}

#[tokio::test]
async fn a_token_makes_its_data_centers_agent_once() {
    let plane = Plane::with_platform().await;
    let (made, secret) = token(&plane, "a", TTL_S).await;
    assert_eq!((made.dc.as_str(), made.created_by.as_str(), &made.used), ("a", "tester", &None));
    assert_eq!(tokens(&plane).await, std::slice::from_ref(&made));

    let key = KeyRequest::new().unwrap();
    let answer: Certificate = show(&plane, &secret, &key).await.unwrap().json().await.unwrap();
    let agent = Bundle::answered(&key, answer.certificate, answer.authority).unwrap();
    assert_eq!(agent.name().unwrap(), plane.ca.name("dc/a/agent"));
    // What it got is good for what agents do.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.pem");
    agent.write(&file).unwrap();
    let agent = dujiang_identity::Identity::from_file(&file).unwrap();
    let agent = http_client(&agent, Expect::roles(&[Role::Control])).unwrap().build().unwrap();
    let ask = json!({"requests": [{"name": "spiffe://test/dc/a/gateway", "request": key.pem()}]});
    assert_eq!(agent.post(plane.url("/v1/identities")).json(&ask).send().await.unwrap().status(), 200);

    let listed = tokens(&plane).await;
    assert!(listed[0].used.is_some(), "its use is recorded");
    // An answer that was lost is given again to the same request, and to no other.
    assert_eq!(show(&plane, &secret, &key).await.unwrap().status(), 200);
    refused(&plane, &secret, "works once").await;
    assert_eq!(tokens(&plane).await, listed);
    // The bare key of the token is in no record: neither in the store nor in what is shown of it.
    let backup = plane.get("/v1/store/backup").await.to_string();
    assert!(backup.contains(&made.id) && !backup.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_token_that_was_deleted_has_expired_or_was_never_made_is_refused() {
    let plane = Plane::with_platform().await;
    let (made, secret) = token(&plane, "a", TTL_S).await;
    let path = format!("/v1/tokens/{}", made.id);
    for who in ["dc/a/agent", "dc/a/gateway", "control"] {
        let answer = plane.request_as(who, Method::DELETE, &path).send().await.unwrap();
        assert_eq!(problem(answer).await.code, Code::Forbidden, "{who}");
    }
    assert_eq!(plane.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    assert_eq!(tokens(&plane).await, []);
    refused(&plane, &secret, "deleted").await;
    for unknown in [&path[..], "/v1/tokens/nonsense"] {
        let answer = plane.request(Method::DELETE, unknown).send().await.unwrap();
        assert_eq!(problem(answer).await.code, Code::NotFound);
    }
    // One of a name that nobody has recorded.
    let unknown = Token::new(plane.ca.bundle("dc/a/joiner/t-1")).unwrap();
    refused(&plane, &unknown, "there is no token t-1").await;

    let (_, short) = token(&plane, "a", 1).await;
    let over = async { while show(&plane, &short, &KeyRequest::new().unwrap()).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, over).await.expect("an expired one ends the handshake");
}

#[tokio::test]
async fn a_token_is_for_its_own_platform_and_data_center_and_its_secret_cannot_be_guessed() {
    let plane = Plane::with_platform().await;
    let (made, secret) = token(&plane, "a", TTL_S).await;
    // Certified by somebody else, under the same name.
    let other = TestAuthority::default();
    let forged = Token::new(other.bundle(&format!("dc/a/joiner/{}", made.id))).unwrap();
    assert!(show(&plane, &forged, &KeyRequest::new().unwrap()).await.is_err(), "who answers is not believed");
    let believing = forged.to_line();
    let mut parts: Vec<&str> = believing.split('.').collect();
    let of_platform = secret.to_line();
    parts[2] = of_platform.split('.').nth(2).unwrap();
    let forged = Token::from_line(&parts.join(".")).unwrap();
    assert!(
        show(&plane, &forged, &KeyRequest::new().unwrap()).await.is_err(),
        "who shows it is not believed"
    );
    // The certificate of the token with a key that is not its own is no token at all.
    let mut parts: Vec<&str> = of_platform.split('.').collect();
    parts[3] = believing.split('.').nth(3).unwrap();
    assert!(Token::from_line(&parts.join(".")).is_err());

    // The record says whose agent it makes; a certificate of the same name for another data center changes nothing.
    let elsewhere = Token::new(plane.ca.bundle(&format!("dc/b/joiner/{}", made.id))).unwrap();
    refused(&plane, &elsewhere, "for a, not for b").await;
    let nowhere = Token::new(plane.ca.bundle("dc/z/joiner/t-1")).unwrap();
    let answer = show(&plane, &nowhere, &KeyRequest::new().unwrap()).await.unwrap();
    assert_eq!(problem(answer).await.code, Code::NotFound);
    assert_eq!(tokens(&plane).await[0].used, None, "none of this has used it up");
    let answer =
        client_of(&secret).post(plane.url("/v1/join")).json(&json!({"request": "nonsense"})).send().await;
    assert_eq!(problem(answer.unwrap()).await.code, Code::RequestInvalid);
    assert_eq!(show(&plane, &secret, &KeyRequest::new().unwrap()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn only_operators_make_tokens_and_a_token_does_nothing_but_join() {
    let plane = Plane::with_platform().await;
    let key = KeyRequest::new().unwrap();
    let body = json!({"dc": "a", "ttl_s": TTL_S, "request": key.pem()});
    let (_, secret) = token(&plane, "a", TTL_S).await;
    for who in ["dc/a/agent", "dc/a/gateway", "control", "dc/a/application/bank"] {
        let answer = plane.request_as(who, Method::POST, "/v1/tokens").json(&body).send().await.unwrap();
        assert_eq!(problem(answer).await.code, Code::Forbidden, "{who}");
        let answer = plane.request_as(who, Method::GET, "/v1/tokens").send().await.unwrap();
        assert_eq!(problem(answer).await.code, Code::Forbidden, "{who}");
        let answer =
            plane.request_as(who, Method::POST, "/v1/join").json(&json!({"request": key.pem()})).send().await;
        assert_eq!(problem(answer.unwrap()).await.code, Code::Forbidden, "{who}");
    }
    let joiner = client_of(&secret);
    for (method, path) in [
        (Method::GET, "/healthz"),
        (Method::GET, "/v1/status"),
        (Method::GET, "/v1/watch"),
        (Method::GET, "/v1/store/backup"),
        (Method::POST, "/v1/identities"),
        (Method::POST, "/v1/agents/a/report"),
        (Method::POST, "/v1/tokens"),
        (Method::PUT, "/v1/datacenters/d"),
    ] {
        let answer = joiner.request(method, plane.url(path)).json(&body).send().await.unwrap();
        assert_eq!(problem(answer).await.code, Code::Forbidden, "{path}");
    }
    let invalid: [(Value, Code); 4] = [
        (json!({"dc": "a", "ttl_s": 0, "request": key.pem()}), Code::RequestInvalid),
        (json!({"dc": "a", "ttl_s": 700_000, "request": key.pem()}), Code::RequestInvalid),
        (json!({"dc": "a", "ttl_s": TTL_S, "request": "nonsense"}), Code::RequestInvalid),
        (json!({"dc": "z", "ttl_s": TTL_S, "request": key.pem()}), Code::NotFound),
    ];
    for (body, code) in invalid {
        let answer = plane.request(Method::POST, "/v1/tokens").json(&body).send().await.unwrap();
        assert_eq!(problem(answer).await.code, code, "{body}");
    }
}

#[tokio::test]
async fn nobody_takes_the_place_of_an_agent_at_work() {
    let plane = Plane::with_platform().await;
    let (made, secret) = token(&plane, "a", TTL_S).await;
    let report = json!({"dc": "a", "session": "s", "sequence": 1, "units": {}, "instances": {}, "renew": {}});
    let told = plane.request(Method::POST, "/v1/agents/a/report").json(&report).send().await.unwrap();
    assert_eq!(told.status(), 200, "{}", told.text().await.unwrap());
    let answer = show(&plane, &secret, &KeyRequest::new().unwrap()).await.unwrap();
    let refused = problem(answer).await;
    assert_eq!(refused.code, Code::Refused, "{refused}");
    // Once it has been silent for a while, somebody may.
    let joined = async {
        while show(&plane, &secret, &KeyRequest::new().unwrap()).await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, joined).await.unwrap();
    assert!(tokens(&plane).await.iter().any(|token| token.id == made.id && token.used.is_some()));
}
