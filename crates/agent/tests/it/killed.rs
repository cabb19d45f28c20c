//! An agent that is killed while it makes or mends a database: what is half made is never taken for one.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use dujiang_agent::postgres::Programs;
use dujiang_agent::{files, proc};
use dujiang_unit::agent::Data;

use crate::prepared::{TTL_LONG_MS, primary, promote};
use crate::stand_in::{Of, Part, StandIn};
use crate::world::{Node, PATIENCE, folder, set, until};

/// PostgreSQL's programs, one of them replaced by a script that does `then` after the real one, and hangs. `$MARK`
/// is a file that tells that it hangs.
fn programs(dir: &Path, replaced: &str, then: &str) -> BTreeMap<&'static str, String> {
    let (bin, marks) = (dir.join("bin"), dir.join("marks"));
    for made in [&bin, &marks] {
        fs::create_dir_all(made).unwrap();
    }
    fs::set_permissions(&marks, Permissions::from_mode(0o777)).unwrap();
    let real = Programs::find().unwrap();
    for entry in fs::read_dir(files::parent(&real.path("postgres"))).unwrap().flatten() {
        if entry.file_name() != replaced {
            symlink(entry.path(), bin.join(entry.file_name())).unwrap();
        }
    }
    let script = format!(
        "#!/bin/sh\n{} \"$@\" || exit\n{then}\ntouch {}\nexec sleep 1000\n",
        real.path(replaced).display(),
        marks.join("hangs").display()
    );
    fs::write(bin.join(replaced), script).unwrap();
    fs::set_permissions(bin.join(replaced), Permissions::from_mode(0o755)).unwrap();
    BTreeMap::from([("DUJIANG_PG_BIN", bin.display().to_string())])
}

/// Plays the part until the program hangs, and kills the agent there.
async fn kill_in_the_middle(dir: &Path, part: &Part, env: &BTreeMap<&str, String>) {
    let mut agent = StandIn::play(part, &dir.join("stand-in.log"), env);
    let hangs = dir.join("marks/hangs");
    until("the middle", || hangs.exists()).await;
    agent.kill();
}

/// Programs the killed agent has left running.
fn strays(node: &Node) -> Vec<i32> {
    let mark = format!("DUJIANG_RECORD={}", node.replica.settings().dir.join("tool").display());
    proc::pids().unwrap().into_iter().filter(|pid| proc::has_env(*pid, &mark)).collect()
}

async fn rows(node: &Node) -> Vec<String> {
    let client = node.connect_as("dujiang").await.unwrap();
    let rows = client.query("SELECT note FROM t ORDER BY note", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_clone_whose_agent_was_killed_is_no_database() {
    let dir = folder();
    let (a, _lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    let admin = a.connect_as("dujiang").await.unwrap();
    admin.batch_execute("CREATE TABLE t (note text); INSERT INTO t VALUES ('whole')").await.unwrap();
    let b = Node::new(dir.path(), "b").await;
    let made = b.data().with_extension("new");
    let then = format!("rm {}", made.join("base/1/1259").display());
    let env = programs(dir.path(), "pg_basebackup", &then);
    let part = Part::Clone { replica: Of::the(&b, dir.path()), from: a.upstream() };
    kill_in_the_middle(dir.path(), &part, &env).await;
    assert!(made.join("PG_VERSION").exists() && !b.data().exists());
    assert!(!strays(&b).is_empty(), "it would write on");

    let b = Of::the(&b, dir.path()).open().await;
    until("the end of what would write on", || strays(&b).is_empty()).await;
    assert_eq!(b.replica.data(), Data::Absent);
    b.replica.copy_from(&a.upstream()).await.unwrap();
    assert_eq!(b.replica.data(), Data::Present);
    b.replica.start().await.unwrap();
    b.follow(&a).await;
    assert_eq!(rows(&b).await, ["whole"]);

    // The same over a database that is there: it stays what it is until the new one is whole.
    b.replica.stop_in_order(PATIENCE).await.unwrap();
    fs::remove_file(dir.path().join("marks/hangs")).unwrap();
    kill_in_the_middle(dir.path(), &part, &env).await;
    let b = Of::the(&b, dir.path()).open().await;
    assert_eq!(b.replica.data(), Data::Present);
    b.replica.start().await.unwrap();
    b.follow(&a).await;
    assert_eq!(rows(&b).await, ["whole"]);
}

#[tokio::test]
async fn a_rewind_whose_agent_was_killed_leaves_data_to_be_made_anew_and_the_lost_log_kept() {
    let dir = folder();
    let (a, a_lease) = primary(dir.path(), "a", &set(0, &[])).await;
    a.replica.set_sync(&set(0, &[])).await.unwrap();
    let admin = a.connect_as("dujiang").await.unwrap();
    admin.batch_execute("CREATE TABLE t (note text); INSERT INTO t VALUES ('common')").await.unwrap();
    let b = Node::follower(dir.path(), "b", &a).await;
    b.until_replayed(a.position().await.flushed).await;
    b.replica.detach().await.unwrap();
    admin.batch_execute("INSERT INTO t VALUES ('only a')").await.unwrap();
    drop(a_lease);
    a.replica.stop_now().await.unwrap();
    let _lease = promote(&b, 2, &set(0, &[]), TTL_LONG_MS).await;
    b.replica.set_sync(&set(0, &[])).await.unwrap();
    let admin = b.connect_as("dujiang").await.unwrap();
    admin.batch_execute("INSERT INTO t VALUES ('only b')").await.unwrap();

    // A page of the catalog is half written.
    let then = format!("dd if=/dev/zero of={}/base/1/1259 bs=4096 count=1 conv=notrunc", a.data().display());
    let env = programs(dir.path(), "pg_rewind", &then);
    let part = Part::Rewind { replica: Of::the(&a, dir.path()), from: b.upstream() };
    kill_in_the_middle(dir.path(), &part, &env).await;
    assert!(!strays(&a).is_empty(), "it would write on");

    let a = Of::the(&a, dir.path()).open().await;
    until("the end of what would write on", || strays(&a).is_empty()).await;
    assert_eq!(a.replica.data(), Data::Broken, "neither the old database nor the new one");
    a.replica.copy_from(&b.upstream()).await.unwrap();
    assert_eq!((a.replica.data(), a.replica.state().primary_epoch), (Data::Present, None));
    a.replica.start().await.unwrap();
    a.follow(&b).await;
    a.until_replayed(b.position().await.flushed).await;
    assert_eq!(rows(&a).await, ["common", "only b"]);
    // The evidence of what was lost is older than the first byte that was touched.
    let kept: Vec<_> = fs::read_dir(a.replica.settings().dir.join("kept")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].path().join("kept.json").exists());
}
