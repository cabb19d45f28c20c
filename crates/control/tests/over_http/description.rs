//! The API's own description, and the endpoints around it.

use std::time::Duration;

use dujiang_types::{Code, Problem};
use reqwest::Method;
use serde_json::json;

use crate::plane::{Plane, problem};

/// Every operation of the document leads to a handler: none of them is an unknown route or method.
#[tokio::test]
async fn every_operation_described_is_served() {
    let plane = Plane::with_platform().await;
    let document = plane.get("/openapi.json").await;
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{kind}", "units").replace("{name}", "unit-9").replace("{dc}", "a");
            let name = method.to_uppercase();
            let mut request = plane.request(Method::from_bytes(name.as_bytes()).unwrap(), &path);
            if name == "PUT" || name == "POST" {
                request = request.json(&json!({}));
            }
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            operations += 1;
            if status >= 400 {
                let problem = problem(response).await;
                let expected = [Code::RequestInvalid, Code::NotFound];
                assert!(expected.contains(&problem.code), "{name} {path}: {problem}");
            } else {
                assert!(
                    item[method]["responses"].get(status.to_string()).is_some(),
                    "{name} {path}: {status}"
                );
            }
        }
    }
    assert_eq!(operations, 33);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let plane = Plane::start().await;
    let ask = async |method: Method, path: &str| -> Problem {
        problem(plane.request(method, path).send().await.unwrap()).await
    };
    assert_eq!(ask(Method::GET, "/").await.code, Code::RouteUnknown);
    assert_eq!(ask(Method::GET, "/v2/units").await.code, Code::RouteUnknown);
    assert_eq!(ask(Method::GET, "/v1/units/unit-1/allow-failover").await.code, Code::MethodNotAllowed);
    assert_eq!(ask(Method::PATCH, "/v1/units/unit-1").await.code, Code::MethodNotAllowed);
    assert_eq!(ask(Method::POST, "/healthz").await.code, Code::MethodNotAllowed);
    assert_eq!(ask(Method::GET, "/v1/units/%FF").await.code, Code::RequestInvalid);
}

#[tokio::test]
async fn health_and_metrics_are_served() {
    let plane = Plane::with_platform().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(plane.request(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    // The follower sees the last write a moment after it was acknowledged.
    let text = async {
        loop {
            let text = plane.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
            if text.contains("dujiang_control_datacenters 3")
                && text.contains("dujiang_control_applications 1")
            {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let text = tokio::time::timeout(crate::plane::DEADLINE, text).await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains(r#"method="PUT",route="/v1/{kind}/{name}",status="201""#), "{text}");
}
