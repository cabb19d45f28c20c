//! What commands print with `-o json`: values a program can rely on, also when there is nothing or something wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dujiang_cli::supervisor::folder::Folder;
use dujiang_identity::testing::TestAuthority;
use dujiang_identity::{Acceptor, Expect, Role};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;

const EXAMPLE: &str = include_str!("../../../examples/two-regions.yaml");

/// A folder that everybody may enter, as PostgreSQL's user has to if root runs the tests.
fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    // By its one name, as the program gives it back.
    let data = dir.path().canonicalize().unwrap().join("platform");
    (dir, data)
}

/// Runs the program; gives its exit code and what it printed to stdout.
fn dujiang(data: &Path, path: Option<&Path>, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dujiang"));
    command.args(args).arg("--data").arg(data).stdin(Stdio::null());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn down_tells_what_it_stopped_and_removed() {
    let (_dir, data) = scratch();
    let nothing = json!({"data": data, "stopped": false, "removed": false});
    let (code, text) = dujiang(&data, None, &["down", "-o", "json"]);
    assert_eq!((code, value(&text)), (Some(0), nothing.clone()), "there is no platform");
    Folder::prepare(&data).unwrap();
    let (code, text) = dujiang(&data, None, &["down", "-o", "json"]);
    assert_eq!((code, value(&text)), (Some(0), nothing), "there is one that does not run");
    let (code, text) = dujiang(&data, None, &["down", "--purge", "--yes", "-o", "json"]);
    assert_eq!((code, value(&text)), (Some(0), json!({"data": data, "stopped": false, "removed": true})));
    assert!(!data.exists());
}

#[test]
fn a_verdict_on_a_manifest_names_what_is_in_it_or_what_is_wrong() {
    let (dir, data) = scratch();
    let bank = dir.path().join("dujiang-bank");
    fs::write(&bank, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&bank, Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("m.yaml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let args = ["manifest", "check", file.to_str().unwrap(), "-o", "json"];
        let (code, text) = dujiang(&data, Some(dir.path()), &args);
        (code, value(&text))
    };
    let right = json!({
        "file": file, "platform": "two-regions", "data_centers": ["chengdu-1", "chengdu-2", "guiyang-1"],
        "applications": ["bank"], "units": ["unit-1", "unit-2", "unit-3"], "mistakes": [],
    });
    assert_eq!(check(EXAMPLE), (Some(0), right));
    let wrong = json!({"file": file, "mistakes": [{
        "line": 65, "column": 17, "wrong": "`durability` is \"zer\"", "right": "did you mean `zero`?",
    }]});
    assert_eq!(check(&EXAMPLE.replacen("durability: zero", "durability: zer", 1)), (Some(2), wrong));
}

#[test]
fn logs_are_an_object_per_line_with_what_is_known_of_it() {
    let (_dir, data) = scratch();
    fs::create_dir_all(data.join("log")).unwrap();
    fs::create_dir_all(data.join("dc/chengdu-1/log")).unwrap();
    fs::write(data.join("log/control.log"), "a \"b\"\nc\n").unwrap();
    fs::write(data.join("dc/chengdu-1/log/gateway.log"), "g\n").unwrap();
    let (code, text) = dujiang(&data, None, &["logs", "-o", "json"]);
    let lines: Vec<Value> = text.lines().map(value).collect();
    let wanted = [
        json!({"process": "control", "line": "a \"b\""}),
        json!({"process": "control", "line": "c"}),
        json!({"dc": "chengdu-1", "process": "gateway", "line": "g"}),
    ];
    assert_eq!((code, &lines[..]), (Some(0), &wanted[..]));
}

/// Answers one request, and says which it was.
async fn one_request(listener: TcpListener, acceptor: Acceptor) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    let (stream, _) = acceptor.accept(stream).await.unwrap();
    let mut stream = BufStream::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await.unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the head has an end");
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_names_what_it_deleted() {
    let authority = TestAuthority::default();
    let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", control.local_addr().unwrap());
    let acceptor = Acceptor::new(&authority.identity("control"), Expect::roles(&[Role::Operator])).unwrap();
    let server = tokio::spawn(one_request(control, acceptor));
    let (dir, data) = scratch();
    let identity = dir.path().join("zhang.pem");
    authority.bundle("operator/zhang").write(&identity).unwrap();
    let identity = identity.to_str().unwrap();
    let args = ["delete", "op", "m", "-o", "json", "--control", &url, "--identity", identity];
    let (code, text) = dujiang(&data, None, &args);
    assert_eq!((code, value(&text)), (Some(0), json!({"kind": "operations", "name": "m"})));
    assert_eq!(server.await.unwrap(), "DELETE /v1/operations/m HTTP/1.1\r\n");
}
