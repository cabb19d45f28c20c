//! `dujiang operator create`: who gets an identity, and what is in it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use dujiang_identity::{Bundle, Folder, Policy};
use dujiang_types::PlatformId;

fn create(data: &Path, name: &str, out: &Path) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dujiang"));
    command.args(["operator", "create", name, "--days", "2", "--out"]).arg(out).arg("--data").arg(data);
    command.stdin(Stdio::null()).output().unwrap().status.code()
}

#[test]
fn an_operator_is_made_where_the_authority_lies() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("zhang.pem");
    assert_eq!(
        create(dir.path(), "zhang", &out),
        Some(1),
        "without an authority there is nobody to make one"
    );
    Folder::of(dir.path()).prepare(&PlatformId::new("demo").unwrap(), Policy::default()).unwrap();
    assert_eq!(create(dir.path(), "Zhang San", &out), Some(1), "that is no name");
    assert!(!out.exists());
    assert_eq!(create(dir.path(), "zhang", &out), Some(0));
    let bundle = Bundle::read(&out).unwrap();
    assert_eq!(bundle.name().unwrap().to_string(), "spiffe://demo/operator/zhang");
    let left = bundle.not_after().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(47 * 3_600) && left <= Duration::from_secs(48 * 3_600), "{left:?}");
    assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(create(dir.path(), "li", &out), Some(2), "one identity is not replaced by another");
}
