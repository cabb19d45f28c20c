//! Machines as they are: ports taken, disks full, folders nobody may enter.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use dujiang_agent::postgres::Replica;
use dujiang_unit::agent::Process;
use nix::unistd::Uid;

use crate::world::{Node, folder, set, settings};

#[tokio::test]
async fn a_taken_port_is_named() {
    let dir = folder();
    let a = Node::new(dir.path(), "a").await;
    a.replica.init().await.unwrap();
    let _taken = TcpListener::bind(a.replica.settings().address).unwrap();
    let error = a.replica.start().await.unwrap_err().chain();
    assert!(error.contains("Address already in use"), "{error}");
    assert_eq!(a.replica.observe().await.unwrap(), Process::Stopped { sealed: None });
}

#[tokio::test]
async fn a_folder_postgresql_may_not_enter_is_named() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: PostgreSQL runs as ourselves here, who may enter our own folders");
        return;
    }
    let dir = folder();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let error = Replica::open(settings(dir.path(), "a")).await.unwrap_err().chain();
    assert!(error.contains(&dir.path().display().to_string()) && error.contains("chmod"), "{error}");
}

/// A small file system of its own.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_primary_and_loses_nothing() {
    let dir = folder();
    let at = dir.path().join("a");
    let Some(_disk) = Disk::mount(&at, "160m") else {
        eprintln!("skipped: a small file system can only be mounted by root");
        return;
    };
    let a = Node::primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    a.replica.open_admission().await.unwrap();
    let client = a.connect().await.unwrap();
    // Not compressed: it is to fill the disk.
    let table = "CREATE TABLE t (n bigint PRIMARY KEY, filler text);
                 ALTER TABLE t ALTER filler SET STORAGE EXTERNAL";
    client.batch_execute(table).await.unwrap();
    let mut acknowledged = 0_i64;
    let failed = loop {
        let insert = format!("INSERT INTO t SELECT {acknowledged}, repeat(md5('{acknowledged}'), 20000)");
        match client.batch_execute(&insert).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100_000, "the disk does not fill up");
    };
    let told = failed.as_db_error().map(ToString::to_string).unwrap_or_default();
    assert!(told.is_empty() || told.contains("space"), "{told}");
    a.replica.stop_now().await.unwrap();
    // Nothing can be remembered on a full disk, and that is said.
    while fs::write(at.join(format!("filler-{}", rand_name())), vec![1; 1 << 16]).is_ok() {}
    let error = a.replica.start().await.unwrap_err().chain();
    assert!(error.contains("space"), "{error}");

    for entry in fs::read_dir(&at).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("filler-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let settings = a.replica.settings();
    fs::remove_dir_all(&settings.log).unwrap();
    // More room, as an operator would make.
    let grown = Command::new("mount").args(["-o", "remount,size=400m"]).arg(&at).status().unwrap();
    assert!(grown.success());
    a.replica.start().await.unwrap();
    a.promote(2, &set(0, &[])).await;
    let rows =
        a.connect_as("dujiang").await.unwrap().query_one("SELECT count(*) FROM public.t", &[]).await.unwrap();
    assert!(rows.get::<_, i64>(0) >= acknowledged, "an acknowledged row is gone");
}

fn rand_name() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
