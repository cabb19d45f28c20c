//! Shared memory of servers that were killed: whoever removes their data gives it back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dujiang_agent::postgres::memory::{Segment, release};
use dujiang_unit::agent::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::prepared;
use crate::world::{Node, folder, until};

/// Files in `/dev/shm` that a server's processes have mapped.
fn mapped(node: &Node) -> BTreeSet<String> {
    let maps =
        node.processes().into_iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/maps")).ok());
    let lines: Vec<String> =
        maps.flat_map(|maps| maps.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let names = lines.iter().filter_map(|line| line.split_ascii_whitespace().nth(5));
    names.filter(|name| name.starts_with("/dev/shm/PostgreSQL.")).map(str::to_owned).collect()
}

async fn kill_server(node: &Node) {
    for pid in node.processes() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    until("the end of the server", || node.processes().is_empty()).await;
    node.until("the end of its guard", |process| matches!(process, Process::Stopped { .. })).await;
}

#[tokio::test]
async fn what_a_killed_server_leaves_goes_before_its_data() {
    let dir = folder();
    let node = prepared::node(dir.path(), "a").await;
    let programs = node.replica.settings().programs.clone();
    node.replica.start().await.unwrap();
    node.position().await;
    let first = Segment::of(&node.data()).unwrap();
    release(&programs, &node.data());
    assert!(first.users().unwrap() > Some(0), "it is in use");
    node.position().await;

    kill_server(&node).await;
    assert_eq!(first.users().unwrap(), Some(0), "nobody has given it back");
    // Who starts again in the same directory does.
    node.replica.start().await.unwrap();
    node.position().await;
    assert_eq!(first.users().unwrap(), None);
    let (second, files) = (Segment::of(&node.data()).unwrap(), mapped(&node));
    assert!(!files.is_empty());
    kill_server(&node).await;
    assert!(files.iter().any(|file| Path::new(file).exists()));
    release(&programs, &node.data());
    assert_eq!(second.users().unwrap(), None);
    let left: Vec<&String> = files.iter().filter(|file| Path::new(file).exists()).collect();
    assert!(left.is_empty(), "{left:?}");

    // Nothing has happened to the data.
    node.replica.start().await.unwrap();
    node.position().await;
}
