//! Who gets to an instance.

use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Expect, Identity, Role, http_client, plain_http_client};
use dujiang_sdk::testing::{Postgres, authority};

use crate::shop::Instance;

#[tokio::test]
async fn an_instance_is_for_its_data_centers_gateway_and_agent() {
    let postgres = Postgres::start(env!("CARGO_TARGET_TMPDIR"), "unit-1", false).await;
    let shop = Instance::start(1, &postgres).await;
    let url = |scheme: &str| format!("{scheme}://{}/readyz", shop.address);
    let ask = async |identity: &Identity| {
        let client = http_client(identity, Expect::roles(&[Role::Application])).unwrap().build().unwrap();
        client.get(url("https")).send().await.map(|answer| answer.status().as_u16())
    };
    for who in ["dc/a/gateway", "dc/a/agent"] {
        assert_eq!(ask(&authority().identity(who)).await.unwrap(), 200, "{who}");
    }
    for who in
        ["dc/b/gateway", "dc/b/agent", "dc/a/application/shop", "dc/a/postgres", "operator/zhang", "control"]
    {
        assert!(ask(&authority().identity(who)).await.is_err(), "{who} gets an answer");
    }
    assert!(ask(&TestAuthority::default().identity("dc/a/gateway")).await.is_err(), "another authority");
    let plain = plain_http_client().build().unwrap();
    assert!(plain.get(url("http")).send().await.is_err(), "in plain text");
    assert!(plain.get(url("https")).send().await.is_err(), "without a certificate");
}
