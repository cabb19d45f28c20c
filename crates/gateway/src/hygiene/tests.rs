use proptest::prelude::*;

use super::*;

fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn written(parts: &request::Parts, from: &From) -> String {
    let mut out = Vec::new();
    Vetted::new(parts)
        .unwrap_or_else(|r| panic!("{}", r.detail))
        .write(&mut out, from, &mut || new_traceparent([2, 3, 4]));
    String::from_utf8(out).unwrap()
}

fn client() -> From {
    From::Client { address: "10.0.0.9".parse().unwrap(), text: "10.0.0.9".to_owned() }
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_request_is_written_anew() {
    let parts = parts(
        "POST",
        "http://bank/v1/x?y=z",
        &[
            ("host", "bank"),
            ("connection", "keep-alive, X-Drop"),
            ("x-drop", "1"),
            ("content-length", "3"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "secret"),
            ("proxy-connection", "keep-alive"),
            ("keep-alive", "5"),
            ("expect", "100-continue"),
            ("dujiang-unit", "forged"),
            ("dujiang-epoch", "99"),
            ("dujiang-hop", "1"),
            ("traceparent", TRACE),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("idempotency-key", "k"),
        ],
    );
    let expected = format!(
        "POST /v1/x?y=z HTTP/1.1\r\nhost: bank\r\ntraceparent: {TRACE}\r\nidempotency-key: k\r\n\
         x-forwarded-for: 1.2.3.4, 10.0.0.9\r\nforwarded: for=1.2.3.4, for=10.0.0.9\r\n"
    );
    assert_eq!(written(&parts, &client()), expected);
}

#[test]
fn what_another_gateway_says_about_the_client_passes() {
    let parts = parts("GET", "/", &[("host", "h"), ("x-forwarded-for", "1.2.3.4"), ("dujiang-hop", "1")]);
    let text = written(&parts, &From::Gateway);
    assert!(text.contains("x-forwarded-for: 1.2.3.4\r\n") && !text.contains("dujiang-hop"), "{text}");
}

#[test]
fn a_missing_or_broken_trace_context_is_replaced() {
    for bad in [
        "",
        "00-0-0-01",
        &TRACE.to_uppercase(),
        &TRACE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
    ] {
        let parts = parts("GET", "/", &[("host", "h"), ("traceparent", bad), ("tracestate", "a=b")]);
        let text = written(&parts, &client());
        assert!(
            text.contains("traceparent: 00-00000000000000030000000000000003-0000000000000005-00\r\n"),
            "{text}"
        );
        assert!(!text.contains("tracestate"));
    }
}

#[test]
fn ambiguous_requests_are_refused() {
    let refused = |parts: &request::Parts| Vetted::new(parts).err().map(|refusal| refusal.code);
    let invalid = Some(Code::RequestInvalid);
    assert_eq!(refused(&parts("GET", "/", &[])), invalid);
    assert_eq!(refused(&parts("GET", "/", &[("host", "a"), ("host", "a")])), invalid);
    assert_eq!(refused(&parts("GET", "/", &[("host", "a/b")])), invalid);
    assert_eq!(refused(&parts("GET", "/", &[("host", "a b")])), invalid);
    assert_eq!(refused(&parts("GET", "/", &[("host", "user@a")])), invalid);
    assert_eq!(refused(&parts("GET", "http://other/", &[("host", "a")])), invalid);
    assert_eq!(refused(&parts("OPTIONS", "*", &[("host", "a")])), invalid);
    assert_eq!(
        refused(&parts("POST", "/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")])),
        invalid
    );
    let twice = [("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
    assert_eq!(refused(&parts("POST", "/", &twice)), invalid);
    let both = [("host", "a"), ("transfer-encoding", "chunked"), ("content-length", "3")];
    assert_eq!(refused(&parts("POST", "/", &both)), invalid);
    assert_eq!(refused(&parts("TRACE", "/", &[("host", "a")])), Some(Code::MethodNotAllowed));
    assert_eq!(refused(&parts("CONNECT", "a:1", &[("host", "a:1")])), Some(Code::MethodNotAllowed));
    assert_eq!(refused(&parts("GET", "/", &[("host", "[::1]:80")])), None);
}

#[test]
fn a_header_declared_away_is_not_routed_by() {
    let parts = parts(
        "POST",
        "/",
        &[
            ("host", "h"),
            ("connection", "x-customer, idempotency-key, host"),
            ("x-customer", "1"),
            ("idempotency-key", "k"),
        ],
    );
    let vetted = Vetted::new(&parts).ok().unwrap();
    assert_eq!(vetted.header("x-customer"), HeaderText::Absent);
    assert!(!vetted.repeatable());
    assert!(written(&parts, &client()).contains("host: h\r\n"));
}

#[test]
fn reads_and_keyed_writes_may_be_repeated() {
    let repeatable = |method: &str, key: &[(&str, &str)]| {
        let parts = parts(method, "/", &[&[("host", "h")], key].concat());
        Vetted::new(&parts).ok().unwrap().repeatable()
    };
    assert!(repeatable("GET", &[]) && repeatable("HEAD", &[]));
    assert!(!repeatable("POST", &[]) && !repeatable("PUT", &[]) && !repeatable("DELETE", &[]));
    assert!(repeatable("POST", &[("idempotency-key", "k")]));
    assert!(!repeatable("POST", &[("idempotency-key", "")]));
    assert!(!repeatable("POST", &[("idempotency-key", "k"), ("idempotency-key", "l")]));
}

proptest! {
    #[test]
    fn new_trace_contexts_are_valid(a: u64, b: u64, c: u64) {
        prop_assert!(is_traceparent(&new_traceparent([a, b, c])));
    }

    #[test]
    fn no_value_makes_a_line_of_its_own(value in "[\\x20-\\x7e\\u{80}-\\u{ff}]{0,40}") {
        let parts = parts("GET", "/", &[("host", "h"), ("x-any", &value), ("x-forwarded-for", &value)]);
        let mut out = Vec::new();
        Vetted::new(&parts).ok().unwrap().write(&mut out, &client(), &mut || new_traceparent([2, 3, 4]));
        let lines = out.split(|b| *b == b'\n').count();
        prop_assert_eq!(lines, 6);
    }
}
