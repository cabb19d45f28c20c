//! Requests that are HTTP, but not what the bank takes: each gets the problem that says what is wrong.

use dujiang_testkit::cluster::Cluster;
use dujiang_testkit::journal::{Journal, Outcome};
use dujiang_testkit::load::Load;
use dujiang_testkit::request::Request;
use dujiang_types::Problem;
use dujiang_types::api::HEADER_IDEMPOTENCY_KEY;
use dujiang_types::error::PROBLEM_MEDIA_TYPE;
use reqwest::{Client, Response};

use crate::garbage::ANSWER_TIMEOUT;

/// What to send, and the code that must come back.
struct Wrong {
    path: String,
    body: String,
    code: &'static str,
}

/// A payment of some amount, which may be what no number of ours can hold.
fn payment(to: &str, minor: &str, currency: &str) -> String {
    format!(r#"{{"to": "{to}", "amount": {{"minor": {minor}, "currency": "{currency}"}}}}"#)
}

/// Everything that can be wrong with a payment from one account to another.
fn payments(from: &str, to: &str) -> Vec<Wrong> {
    let transfer = |from: &str, body: String, code| Wrong { path: transfers(from), body, code };
    let yuan = |minor: &str, code| transfer(from, payment(to, minor, "CNY"), code);
    let mistyped = mistyped(from);
    let (amount, number) = ("money.amount_invalid", "account.number_invalid");
    vec![
        transfer(from, "\"no object\"".to_owned(), "request.invalid"),
        transfer(from, format!(r#"{{"to": "{to}"}}"#), "request.invalid"),
        transfer(from, payment(to, "1", "CNY").replacen('{', r#"{"bonus": 1, "#, 1), "request.invalid"),
        yuan("\"1\"", "request.invalid"),
        yuan("\"99999999999999999999.00\"", "request.invalid"),
        yuan("1e999", "request.invalid"),
        yuan("99999999999999999999.00", amount),
        yuan("99999999999999999999", amount),
        yuan("-99999999999999999999", amount),
        yuan("9223372036854775808", amount),
        yuan("9223372036854775807", amount),
        yuan("1.5", amount),
        yuan("0", amount),
        yuan("-5", amount),
        transfer(from, payment(to, "1", "XXX"), "money.currency_unknown"),
        transfer(from, payment(to, "1", "JPY"), "money.currency_mismatch"),
        transfer(from, payment(&mistyped, "1", "CNY"), number),
        transfer(&mistyped, payment(to, "1", "CNY"), number),
        transfer("hello", payment(to, "1", "CNY"), number),
        transfer(&unknown(from), payment(to, "1", "CNY"), "account.not_found"),
        Wrong { path: "/v1/nothing".to_owned(), body: "{}".to_owned(), code: "route.unknown" },
    ]
}

fn transfers(account: &str) -> String {
    format!("/v1/accounts/{account}/transfers")
}

/// Sends all of them through every gateway.
pub(crate) async fn requests(cluster: &Cluster, load: &Load) {
    let accounts = accounts(cluster, load);
    let (from, to) = (&accounts[0], &accounts[1]);
    let good = payment(to, "1", "CNY");
    let http = dujiang_identity::plain_http_client().timeout(ANSWER_TIMEOUT).build().unwrap();
    let mut misjudged = Vec::new();
    for gateway in &cluster.platform().unwrap().gateways {
        for (number, wrong) in payments(from, to).into_iter().enumerate() {
            let url = format!("{}{}", gateway.url, wrong.path);
            let key = format!("garbage-{}-{number}", gateway.dc);
            let answer = post(&http, &url, &wrong.body, Some(&key)).await;
            misjudged.extend(judge(answer, wrong.code, &format!("{url} {}", wrong.body)).await);
        }
        let url = format!("{}{}", gateway.url, transfers(from));
        let answer = post(&http, &url, &good, None).await;
        misjudged.extend(judge(answer, "idempotency.key_missing", "no key").await);
        let answer = post(&http, &url, "{", Some("k")).await;
        misjudged.extend(judge(answer, "request.invalid", "half a body").await);
    }
    let url = format!("{}{}", cluster.platform().unwrap().gateways[0].url, transfers(from));
    let answer = post(&http, &url, &good, Some(&used_key(cluster, from))).await;
    misjudged.extend(judge(answer, "idempotency.key_reused", "another body").await);
    assert!(misjudged.is_empty(), "{misjudged:#?}");
}

async fn post(http: &Client, url: &str, body: &str, key: Option<&str>) -> Response {
    let mut request = http.post(url).header("content-type", "application/json").body(body.to_owned());
    if let Some(key) = key {
        request = request.header(HEADER_IDEMPOTENCY_KEY, key);
    }
    request.send().await.unwrap()
}

/// The key of a deposit that was made.
fn used_key(cluster: &Cluster, account: &str) -> String {
    let journal = Journal::read(&cluster.journal()).unwrap();
    let deposit = journal.operations.into_iter().find(|(_, operation)| {
        let ours = matches!(&operation.request, Request::Deposit { account: to, .. } if to == account);
        ours && matches!(operation.outcome(), Outcome::Acknowledged(_))
    });
    deposit.unwrap().0
}

/// What is wrong with an answer that should be a problem document with that code.
async fn judge(answer: Response, code: &str, what: &str) -> Option<String> {
    let status = answer.status().as_u16();
    let media_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let text = answer.text().await.unwrap();
    let right = media_type.as_deref() == Some(PROBLEM_MEDIA_TYPE)
        && serde_json::from_str::<Problem>(&text).is_ok_and(|problem| {
            problem.code.as_str() == code && problem.status == status && !problem.detail.is_empty()
        });
    (!right).then(|| format!("{what}: wanted {code}, got {status} {media_type:?} {text}"))
}

/// Two accounts of one unit that the load has opened.
fn accounts(cluster: &Cluster, load: &Load) -> Vec<String> {
    let journal = Journal::read(&cluster.journal()).unwrap();
    let unit = &crate::unit(1);
    let opened = journal
        .operations
        .iter()
        .filter(|(key, operation)| key.starts_with(load.run()) && operation.unit == *unit);
    let numbers = opened.filter_map(|(_, operation)| match operation.outcome() {
        Outcome::Acknowledged(receipt) => receipt.account,
        _ => None,
    });
    numbers.take(2).collect()
}

/// A number with a wrong last digit.
fn mistyped(account: &str) -> String {
    let (rest, last) = account.split_at(account.len() - 1);
    let last: u32 = last.parse().unwrap();
    format!("{rest}{}", (last + 1) % 10)
}

/// A well-formed number in the same slot that nobody has.
fn unknown(account: &str) -> String {
    let number: dujiang_routing::AccountNumber = account.parse().unwrap();
    dujiang_routing::AccountNumber::new(number.slot(), dujiang_routing::account::SERIAL_LIMIT - 1)
        .unwrap()
        .to_string()
}
