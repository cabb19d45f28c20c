//! Rules about who may depend on whom, and how large a file may grow, checked against the workspace itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that do no IO, read no clock and spawn nothing: events in, decisions out.
const PURE: &[&str] = &[
    "dujiang-types",
    "dujiang-routing",
    "dujiang-unit",
    "dujiang-history",
    "dujiang-bank-rules",
    "dujiang-bank-messages",
    "dujiang-bank-parties",
    "dujiang-bank-controls",
    "dujiang-bank-general-ledger",
    "dujiang-bank-end-of-day",
    "dujiang-bank-auditor",
];
/// What a pure crate must not reach, directly or through others: runtimes, sockets, processes, randomness.
const IMPURE: &[&str] = &[
    "async-trait",
    "axum",
    "deadpool-postgres",
    "etcd-client",
    "futures-util",
    "hyper",
    "hyper-util",
    "mio",
    "nix",
    "rand",
    "redb",
    "reqwest",
    "rustix",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-postgres",
    "tonic",
    "tracing",
    "tracing-subscriber",
];
/// More lines than this are more than one idea. Tests at the end of a file do not count.
const LINES_MAX: usize = 800;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn run(command: &mut Command) -> String {
    let out = command.current_dir(workspace()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Normal (not build or test) dependencies of every package of the lock file, by name.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    // Without a platform it would tell what browsers and Windows need, too.
    let rustc = run(Command::new("rustc").arg("-vV"));
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let cargo = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&run(Command::new(env!("CARGO")).args(cargo))).unwrap();
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dep| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null()));
        let names = normal.map(|dep| name_of[dep["pkg"].as_str().unwrap()].to_owned());
        all.entry(name_of[node["id"].as_str().unwrap()].to_owned()).or_default().extend(names);
    }
    all
}

/// Everything a package reaches.
fn reached(from: &str, dependencies: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(name) = next.pop() {
        for dependency in dependencies.get(&name).into_iter().flatten() {
            if seen.insert(dependency.clone()) {
                next.push(dependency.clone());
            }
        }
    }
    seen
}

fn common<'a>(reached: &BTreeSet<String>, forbidden: &[&'a str]) -> Vec<&'a str> {
    forbidden.iter().copied().filter(|name| reached.contains(*name)).collect()
}

#[test]
fn pure_crates_reach_no_io_and_no_runtime() {
    let dependencies = dependencies();
    for name in PURE {
        assert!(dependencies.contains_key(*name), "there is no crate {name}");
        assert_eq!(common(&reached(name, &dependencies), IMPURE), [""; 0], "{name} is pure");
    }
    // The rule itself can fail: an impure crate is seen as one.
    assert!(!common(&reached("dujiang-agent", &dependencies), IMPURE).is_empty());
}

#[test]
fn the_auditor_shares_nothing_with_what_it_judges() {
    let dependencies = dependencies();
    let forbidden = [
        "dujiang-bank",
        "dujiang-bank-rules",
        "dujiang-bank-end-of-day",
        "dujiang-bank-general-ledger",
        "dujiang-bank-parties",
    ];
    assert_eq!(common(&reached("dujiang-bank-auditor", &dependencies), &forbidden), [""; 0]);
}

#[test]
fn the_traffic_plane_does_not_depend_on_the_control_plane() {
    let dependencies = dependencies();
    for name in ["dujiang-gateway", "dujiang-sdk", "dujiang-bank"] {
        let reached = reached(name, &dependencies);
        let forbidden =
            ["dujiang-control", "dujiang-store", "dujiang-agent", "dujiang-unit", "redb", "etcd-client"];
        assert_eq!(common(&reached, &forbidden), [""; 0], "{name} serves without the control plane");
    }
}

#[test]
fn the_control_plane_and_the_agents_meet_only_over_the_network() {
    let dependencies = dependencies();
    let of_agent = reached("dujiang-agent", &dependencies);
    assert_eq!(common(&of_agent, &["dujiang-control", "dujiang-store", "dujiang-gateway"]), [""; 0]);
    let of_control = reached("dujiang-control", &dependencies);
    assert_eq!(common(&of_control, &["dujiang-agent", "dujiang-gateway", "tokio-postgres"]), [""; 0]);
}

#[test]
fn no_file_holds_more_than_one_idea() {
    let mut files = Vec::new();
    for root in ["crates", "apps"] {
        rust_files(&workspace().join(root), &mut files);
    }
    assert!(files.len() > 50, "only {} files were found", files.len());
    let lines = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().take_while(|line| *line != "mod tests {").count()
    };
    let large: Vec<_> = files.iter().filter(|path| lines(path) > LINES_MAX).collect();
    assert!(large.is_empty(), "files with more than {LINES_MAX} lines: {large:?}");
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}
