//! The whole HTTP API: what it answers, and what it refuses.

use serde_json::{Value, json};

use crate::support::{World, amount, books, fresh_key, until};

#[tokio::test]
async fn a_day_at_the_bank() {
    let world = World::new(1).await;
    let customer = world.gateway.customer_of("unit-1");
    let path = format!("/v1/customers/{customer}");

    let key = fresh_key();
    let body = json!({"name": "Li Bing"});
    let opened = until("the schema is there", || async {
        let answer = world.gateway.call("PUT", &path, Some(&key), Some(body.to_string())).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!((opened.status, opened.text("name")), (201, "Li Bing".into()));
    let renamed =
        world.gateway.call("PUT", &path, Some(&fresh_key()), Some(json!({"name": "李冰"}).to_string())).await;
    assert_eq!((renamed.status, renamed.text("name")), (200, "李冰".into()));

    let first = world.post(&format!("{path}/accounts"), &fresh_key(), json!({"currency": "CNY"})).await;
    assert_eq!(first.status, 201);
    let second = json!({"currency": "CNY", "limit_minor": -500});
    let second = world.post(&format!("{path}/accounts"), &fresh_key(), second).await;
    let (a, b) = (first.text("account"), second.text("account"));
    assert_eq!(second.body["limit"], json!({"minor": -500, "currency": "CNY"}));
    let seen = world.get(&path).await;
    assert_eq!(seen.body["accounts"].as_array().unwrap().len(), 2);

    let body = json!({"amount": amount(1000), "text": "salary"});
    let paid = world.post(&format!("/v1/accounts/{a}/deposits"), &fresh_key(), body).await;
    assert_eq!(
        (paid.status, &paid.body["kind"], &paid.body["state"]),
        (201, &json!("deposit"), &json!("completed"))
    );
    let moved = world.transfer(&fresh_key(), &a, &b, 300).await;
    assert_eq!((moved.status, moved.text("state")), (201, "completed".into()));
    assert_eq!((world.balance(&a).await, world.balance(&b).await), (700, 300));
    // Into the red, as far as its limit goes.
    assert_eq!(world.transfer(&fresh_key(), &b, &a, 800).await.status, 201);
    assert_eq!(world.transfer(&fresh_key(), &b, &a, 1).await.brief(), (422, "account.insufficient_funds"));

    let posting = moved.text("posting");
    let seen = world.get(&format!("/v1/accounts/{a}/postings/{posting}")).await;
    assert_eq!(
        seen.body["entries"],
        json!([
        {"account": a, "amount": amount(-300)}, {"account": b, "amount": amount(300)}])
    );
    assert_eq!(seen.text("to"), b);

    let entries = world.get(&format!("/v1/accounts/{a}/entries?limit=2")).await;
    let minors = |answer: &Value| -> Vec<i64> {
        answer["entries"].as_array().unwrap().iter().map(|e| e["amount"]["minor"].as_i64().unwrap()).collect()
    };
    assert_eq!(minors(&entries.body), [800, -300]);
    let before = entries.body["next_before"].as_i64().unwrap();
    let rest = world.get(&format!("/v1/accounts/{a}/entries?limit=2&before={before}")).await;
    assert_eq!(minors(&rest.body), [1000]);
    assert_eq!(rest.body["next_before"], Value::Null);
    assert_eq!(rest.body["entries"][0]["text"], "salary");
    books::audit(&world).await;
}

#[tokio::test]
async fn reversals_are_possible_once_and_never_below_the_limit() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 1000, 0).await, world.account(0, 0, 0).await);
    let moved = world.transfer(&fresh_key(), &a, &b, 400).await.text("posting");
    let reversal =
        |account: &str, posting: &str| format!("/v1/accounts/{account}/postings/{posting}/reversal");

    // What the receiver has passed on cannot be taken back.
    let onward = world.transfer(&fresh_key(), &b, &a, 100).await.text("posting");
    let refused = world.post(&reversal(&a, &moved), &fresh_key(), json!({})).await;
    assert_eq!(refused.brief(), (422, "account.insufficient_funds"));
    let reversed = world.post(&reversal(&b, &onward), &fresh_key(), json!({"text": "by mistake"})).await;
    assert_eq!((reversed.status, reversed.text("kind")), (201, "reversal".into()));
    // A body is not needed, and the receiver may reverse as well.
    let key = fresh_key();
    let reversed = world.gateway.call("POST", &reversal(&b, &moved), Some(&key), None).await;
    assert_eq!(reversed.status, 201, "{reversed:?}");
    assert_eq!((world.balance(&a).await, world.balance(&b).await), (1000, 0));
    let again = world.gateway.call("POST", &reversal(&b, &moved), Some(&key), None).await;
    assert!(again.replayed && again.body == reversed.body);

    let twice = world.post(&reversal(&a, &moved), &fresh_key(), json!({})).await;
    assert_eq!(twice.brief(), (409, "posting.not_reversible"));
    let of_reversal = world.post(&reversal(&a, &reversed.text("posting")), &fresh_key(), json!({})).await;
    assert_eq!(of_reversal.brief(), (409, "posting.not_reversible"));
    let seen = world.get(&format!("/v1/accounts/{a}/postings/{moved}")).await;
    assert_eq!((seen.text("state"), seen.text("reversed_by")), ("reversed".into(), reversed.text("posting")));
    let stranger = world.account(0, 0, 0).await;
    let strange = world.post(&reversal(&stranger, &onward), &fresh_key(), json!({})).await;
    assert_eq!(strange.brief(), (404, "posting.not_found"));
    books::audit(&world).await;
}

#[tokio::test]
async fn a_key_has_one_outcome() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(0, 0, 0).await);

    let key = fresh_key();
    let first = world.transfer(&key, &a, &b, 60).await;
    let again = world.transfer(&key, &a, &b, 60).await;
    assert!(!first.replayed && again.replayed);
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    assert_eq!(world.balance(&a).await, 40);
    // The same request, written in another way.
    let path = format!("/v1/accounts/{a}/transfers");
    let body = format!(r#"{{ "text": "", "amount": {{"currency":"CNY", "minor":60}}, "to": "{b}" }}"#);
    assert!(world.gateway.call("POST", &path, Some(&key), Some(body)).await.replayed);
    // Another request.
    assert_eq!(world.transfer(&key, &a, &b, 61).await.brief(), (422, "idempotency.key_reused"));
    let elsewhere =
        world.post(&format!("/v1/accounts/{a}/deposits"), &key, json!({"amount": amount(60)})).await;
    assert_eq!(elsewhere.brief(), (422, "idempotency.key_reused"));

    // A refusal is an outcome as well, even when it would be granted now.
    let key = fresh_key();
    let refused = world.transfer(&key, &a, &b, 41).await;
    assert_eq!(refused.brief(), (422, "account.insufficient_funds"));
    assert_eq!(world.transfer(&fresh_key(), &b, &a, 10).await.status, 201);
    let again = world.transfer(&key, &a, &b, 41).await;
    assert!(again.replayed && again.media_type == "application/problem+json");
    assert_eq!(again.body, refused.body);
    assert_eq!(world.balance(&a).await, 50);

    let keyless = world.gateway.call("POST", &path, None, Some("{}".into())).await;
    assert_eq!(keyless.brief(), (400, "idempotency.key_missing"));
    for bad in ["a b", &"k".repeat(129)] {
        assert_eq!(world.transfer(bad, &a, &b, 1).await.brief(), (400, "request.invalid"));
    }
    books::audit(&world).await;
}

#[tokio::test]
async fn many_first_requests_with_one_key_are_one() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 1000, 0).await, world.account(0, 0, 0).await);
    let key = fresh_key();
    let answers = futures_util::future::join_all((0..20).map(|_| world.transfer(&key, &a, &b, 7))).await;
    let firsts = answers.iter().filter(|answer| answer.status == 201 && !answer.replayed).count();
    assert_eq!(firsts, 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{answers:?}");
    assert_eq!(world.balance(&b).await, 7);
}

#[tokio::test]
async fn what_is_wrong_is_said_by_its_code() {
    let world = World::new(1).await;
    let (a, b) = (world.account(0, 100, 0).await, world.account(0, 0, 0).await);
    let missing = world.gateway.missing_account_of("unit-1");
    let mistyped = {
        let mut digits = b.clone().into_bytes();
        digits[10] = b'0' + (digits[10] - b'0' + 1) % 10;
        String::from_utf8(digits).unwrap()
    };
    let cases: Vec<(Value, u16, &str)> = vec![
        (json!({"to": b, "amount": amount(0)}), 422, "money.amount_invalid"),
        (json!({"to": b, "amount": amount(-5)}), 422, "money.amount_invalid"),
        (json!({"to": b, "amount": amount(i64::MAX)}), 422, "money.amount_invalid"),
        (json!({"to": b, "amount": {"minor": 1.5, "currency": "CNY"}}), 422, "money.amount_invalid"),
        (json!({"to": b, "amount": {"minor": 1e30, "currency": "CNY"}}), 422, "money.amount_invalid"),
        (json!({"to": b, "amount": {"minor": "1", "currency": "CNY"}}), 400, "request.invalid"),
        (json!({"to": b, "amount": {"minor": 1, "currency": "XXX"}}), 422, "money.currency_unknown"),
        (json!({"to": b, "amount": {"minor": 1, "currency": "USD"}}), 422, "money.currency_mismatch"),
        (json!({"to": mistyped, "amount": amount(1)}), 422, "account.number_invalid"),
        (json!({"to": "", "amount": amount(1)}), 422, "account.number_invalid"),
        (json!({"to": missing, "amount": amount(1)}), 404, "account.not_found"),
        (json!({"to": a, "amount": amount(1)}), 400, "request.invalid"),
        (json!({"to": b, "amount": amount(101)}), 422, "account.insufficient_funds"),
        (json!({"to": b, "amount": amount(1), "text": "a\u{0}b"}), 400, "request.invalid"),
        (json!({"to": b, "amount": amount(1), "text": "x".repeat(141)}), 400, "request.invalid"),
        (json!({"to": b, "amount": amount(1), "memo": "x"}), 400, "request.invalid"),
        (json!({"to": b}), 400, "request.invalid"),
        (json!([]), 400, "request.invalid"),
    ];
    let path = format!("/v1/accounts/{a}/transfers");
    for (body, status, code) in cases {
        let answer = world.post(&path, &fresh_key(), body.clone()).await;
        assert_eq!(answer.brief(), (status, code), "{body}");
        assert_eq!(answer.media_type, "application/problem+json");
        assert!(!answer.text("detail").is_empty());
    }
    for raw in ["", "{", "nonsense", "\u{feff}{}", &"[".repeat(10_000)] {
        let answer = world.gateway.call("POST", &path, Some(&fresh_key()), Some(raw.into())).await;
        assert_eq!(answer.brief(), (400, "request.invalid"), "{raw:.20}");
    }
    let large = format!(r#"{{"text": "{}"}}"#, "x".repeat(70_000));
    let answer = world.gateway.call("POST", &path, Some(&fresh_key()), Some(large)).await;
    assert_eq!(answer.brief(), (413, "request.too_large"));

    let customer = world.gateway.customer_of("unit-1");
    let nobody = format!("/v1/customers/{customer}");
    assert_eq!(world.get(&nobody).await.brief(), (404, "customer.not_found"));
    let open = format!("{nobody}/accounts");
    for (body, status, code) in [
        (json!({"currency": "CNY"}), 404, "customer.not_found"),
        (json!({"currency": "cny"}), 422, "money.currency_unknown"),
        (json!({"currency": "CNY", "limit_minor": 1}), 422, "money.amount_invalid"),
        (json!({"currency": "CNY", "limit_minor": 1.5}), 400, "request.invalid"),
    ] {
        assert_eq!(world.post(&open, &fresh_key(), body.clone()).await.brief(), (status, code), "{body}");
    }
    for name in ["", "  ", "a\nb"] {
        let body = json!({"name": name}).to_string();
        let answer = world.gateway.call("PUT", &nobody, Some(&fresh_key()), Some(body)).await;
        assert_eq!(answer.brief(), (400, "request.invalid"), "{name:?}");
    }
    let posting = "019ab000-0000-7000-8000-000000000000";
    let cases = [
        (format!("/v1/accounts/{missing}"), (404, "account.not_found")),
        (format!("/v1/accounts/{missing}/entries"), (404, "account.not_found")),
        (format!("/v1/accounts/{mistyped}"), (422, "account.number_invalid")),
        (format!("/v1/accounts/{a}/entries?limit=0"), (400, "request.invalid")),
        (format!("/v1/accounts/{a}/entries?limit=501"), (400, "request.invalid")),
        (format!("/v1/accounts/{a}/entries?before=x"), (400, "request.invalid")),
        (format!("/v1/accounts/{a}/entries?after=1"), (400, "request.invalid")),
        (format!("/v1/accounts/{a}/postings/{posting}"), (404, "posting.not_found")),
        (format!("/v1/accounts/{a}/postings/x"), (404, "posting.not_found")),
        (format!("/v1/accounts/{a}/transfers"), (405, "route.method_not_allowed")),
        (format!("/v1/accounts/{a}/nothing"), (404, "route.unknown")),
        ("/".to_owned(), (404, "route.unknown")),
        (format!("/v1/accounts/%30{}", &a[1..]), (400, "request.invalid")),
    ];
    for (path, expected) in cases {
        assert_eq!(world.get(&path).await.brief(), expected, "{path}");
    }
    assert_eq!((world.balance(&a).await, world.balance(&b).await), (100, 0));
    books::audit(&world).await;
}

#[tokio::test]
async fn balances_have_an_upper_bound() {
    let world = World::new(1).await;
    let a = world.account(0, 0, 0).await;
    let admin = world.units[0].postgres.admin().await;
    // A thousand of the largest deposits, in one step of this test.
    let sql = "WITH p AS (INSERT INTO postings (posting, kind, state, account, amount_minor, currency, text)
            VALUES (gen_random_uuid(), 'deposit', 'completed', $1, 999999999999999999, 'CNY', '') RETURNING posting),
        b AS (SELECT 1)
        SELECT posting FROM p";
    let posting: uuid::Uuid = {
        admin.batch_execute("BEGIN").await.unwrap();
        admin.query_one(sql, &[&a]).await.unwrap().get(0)
    };
    let most = 999_999_999_999_999_999_i64;
    admin.execute("UPDATE accounts SET balance_minor = $2 WHERE account = $1", &[&a, &most]).await.unwrap();
    let sql = "INSERT INTO entries (posting, account, amount_minor, currency, balance_after)
        VALUES ($1, 'cash', -$3::bigint, 'CNY', NULL), ($1, $2, $3, 'CNY', $3)";
    admin.execute(sql, &[&posting, &a, &most]).await.unwrap();
    admin.batch_execute("COMMIT").await.unwrap();
    let path = format!("/v1/accounts/{a}/deposits");
    assert_eq!(world.post(&path, &fresh_key(), json!({"amount": amount(1)})).await.status, 201);
    let over = world.post(&path, &fresh_key(), json!({"amount": amount(1)})).await;
    assert_eq!(over.brief(), (422, "money.amount_invalid"));
    books::audit(&world).await;
}

#[tokio::test]
async fn it_says_how_it_is_and_what_it_offers() {
    let mut world = World::new(1).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    let document = world.get("/openapi.json").await;
    assert!(document.body["openapi"].as_str().unwrap().starts_with("3.1"));
    // Every operation that is documented is there, and asks for what it needs.
    let account = world.account(0, 0, 0).await;
    for (path, operations) in document.body["paths"].as_object().unwrap() {
        let path = path.replace("{customer}", &world.gateway.customer_of("unit-1"));
        let path = path.replace("{account}", &account).replace("{posting}", "x");
        for method in operations.as_object().unwrap().keys() {
            let answer = world.gateway.call(&method.to_uppercase(), &path, None, None).await;
            assert_ne!(answer.code(), "route.unknown", "{method} {path}");
            if method != "get" {
                assert_eq!(answer.brief(), (400, "idempotency.key_missing"), "{method} {path}");
            }
        }
    }
    let address = world.units[0].bank.address();
    let metrics = dujiang_sdk::testing::gateway_client()
        .get(format!("https://{address}/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("dujiang_app_requests_total{") && metrics.ends_with("# EOF\n"));
    // Without a gateway it does not know the epoch.
    let direct = dujiang_sdk::testing::gateway_client()
        .get(format!("https://{address}/v1/accounts/{account}"))
        .send()
        .await
        .unwrap();
    assert_eq!(direct.status(), 400);
    assert_eq!(world.units[0].bank.stop().await, Some(0), "SIGTERM is an orderly end");
    assert!(world.units[0].bank.log().contains("shutting down"));
    assert!(world.folder.path().exists());
}
