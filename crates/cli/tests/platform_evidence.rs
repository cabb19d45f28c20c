//! The evidence of a drill, on a whole platform of real processes: written, signed, shown, checked by somebody else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use dujiang_testkit::cluster::{Cluster, DATA_CENTERS, PATIENCE};
use serde_json::Value;
use tokio::time::{Instant, sleep};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that ends with this exit code; what it printed.
async fn expect(cluster: &Cluster, code: i32, args: &[&str]) -> String {
    let output = cluster.try_dujiang(args).await.unwrap();
    assert_eq!(output.status.code(), Some(code), "dujiang {args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The same with what it said on stderr.
async fn expect_said(cluster: &Cluster, code: i32, args: &[&str]) -> String {
    let output = cluster.try_dujiang(args).await.unwrap();
    assert_eq!(output.status.code(), Some(code), "dujiang {args:?}: {}", said(&output));
    said(&output)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_leaves_evidence_that_somebody_else_can_check() {
    let cluster = Cluster::start().await.unwrap();
    cluster.whole().await.unwrap();
    let drill = ["drill", "moves", "unit-1", "--count", "1", "--rate", "60", "--accounts", "30"];
    let shown = expect(&cluster, 0, &drill).await;
    let page = shown.lines().find_map(|line| line.strip_prefix("evidence: ")).unwrap().to_owned();

    let list: Value =
        serde_json::from_str(&expect(&cluster, 0, &["evidence", "list", "-o", "json"]).await).unwrap();
    let items = list["items"].as_array().unwrap();
    let of = |kind: &str| {
        items.iter().find(|item| item["kind"] == kind).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (drill, moved) = (of("drill"), of("move"));
    let report: Value =
        serde_json::from_str(&expect(&cluster, 0, &["evidence", "show", &drill, "-o", "json"]).await)
            .unwrap();
    assert_eq!(report["operations"], serde_json::json!([moved]));
    assert_eq!(report["books"]["violations"], 0);
    assert!(report["versions"][format!("postgresql@{}", DATA_CENTERS[0])].is_string(), "{report:#}");
    let unit = &report["units"][0];
    let whats: Vec<&str> =
        unit["timeline"].as_array().unwrap().iter().map(|moment| moment["what"].as_str().unwrap()).collect();
    for what in ["requested", "fenced", "decided", "promoted", "serving", "published", "first success"] {
        assert!(whats.contains(&what), "{what} is missing: {whats:?}");
    }
    assert!(unit["requests"]["held"].as_u64().unwrap() > 0, "{unit:#}");
    assert_eq!(unit["requests"]["failed"], 0);
    let shown = expect(&cluster, 0, &["evidence", "show", &moved]).await;
    assert!(shown.contains("first success") && shown.contains("requests were held"), "{shown}");

    let shown = expect(&cluster, 0, &["evidence", "verify"]).await;
    assert!(shown.contains("2 reports kept by the platform: valid"), "{shown}");
    let folder = cluster.data().parent().unwrap().join("audit");
    expect(&cluster, 0, &["evidence", "export", &text(&folder)]).await;
    let key = folder.join("key.pem");
    fs::write(&key, expect(&cluster, 0, &["evidence", "key"]).await).unwrap();

    // Somebody with the key and the files alone, no platform anywhere.
    let verify = |file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dujiang"));
        command.args(["evidence", "verify", "--key"]).arg(&key).arg(file).env("DUJIANG_DATA", "/nonexistent");
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    };
    for file in
        [Path::new(&page), &folder.join(format!("{moved}.json")), &folder.join(format!("{drill}.html"))]
    {
        let (code, said) = verify(file);
        assert!(code == Some(0) && said.contains(": valid: "), "{said}");
    }
    let forged = folder.join("forged.html");
    fs::write(&forged, fs::read_to_string(&page).unwrap().replace("nothing lost", "nothing much lost"))
        .unwrap();
    let (code, said) = verify(&forged);
    assert!(code == Some(1) && said.contains("NOT VALID: the page was changed"), "{said}");
    let other = folder.join("other.json");
    let envelope = fs::read_to_string(folder.join(format!("{moved}.json"))).unwrap();
    let mut envelope: Value = serde_json::from_str(&envelope).unwrap();
    let drill: Value =
        serde_json::from_str(&fs::read_to_string(folder.join(format!("{drill}.json"))).unwrap()).unwrap();
    envelope["payload"] = drill["payload"].clone();
    fs::write(&other, envelope.to_string()).unwrap();
    let (code, said) = verify(&other);
    assert!(code == Some(1) && said.contains("NOT VALID: the signature"), "{said}");
    fs::remove_dir_all(folder).unwrap();
}

/// What a drill broke is mended at once when it is told to stop, and no further step of the plan is begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_is_stopped_leaves_nothing_broken() {
    let cluster = Cluster::start().await.unwrap();
    cluster.whole().await.unwrap();
    let plan = cluster.data().parent().unwrap().join("plan.yaml");
    let lost = DATA_CENTERS[1];
    let steps = format!("  - dc-loss: {lost}\n    off: 10m\n  - moves: unit-1\n");
    fs::write(&plan, format!("name: q\nload: {{ rate: 60, accounts: 30 }}\nsteps:\n{steps}")).unwrap();
    let path = text(&plan);
    let carried_out = ["drill", "plan", &path, "-o", "json"];
    let off = cluster.data().join("run/power-off").join(lost);
    let stopping = async {
        let deadline = Instant::now() + PATIENCE;
        while !off.exists() {
            assert!(Instant::now() < deadline, "nothing is broken");
            sleep(Duration::from_millis(50)).await;
        }
        let refused = expect_said(&cluster, 3, &["drill", "moves", "unit-1"]).await;
        assert!(refused.contains("a drill runs already"), "{refused}");
        expect(&cluster, 0, &["drill", "stop"]).await;
    };
    let (said, ()) = tokio::join!(expect(&cluster, 1, &carried_out), stopping);
    let said: Value = serde_json::from_str(&said).unwrap();
    let outcomes: Vec<&str> =
        said["steps"].as_array().unwrap().iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "not begun"], "{said:#}");
    assert!(said["steps"][0]["why"].as_str().unwrap().contains("stopped before its time"), "{said:#}");
    assert!(!off.exists());
    cluster.whole().await.unwrap();
    assert!(expect_said(&cluster, 1, &["drill", "stop"]).await.contains("no drill runs"));
    fs::remove_file(plan).unwrap();
}
