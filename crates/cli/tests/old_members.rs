//! A folder whose members of etcd were made when they talked in plain text: refused with what to do, and that works.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use dujiang_cli::manifest::Manifest;
use dujiang_cli::manifest::check::Programs;
use dujiang_cli::store::{members, restore};
use dujiang_cli::supervisor::folder::Folder;
use dujiang_control::restore::{Order, Restored};
use dujiang_store::Store as _;
use dujiang_types::Revision;
use dujiang_types::operation::Work;
use jiff::Timestamp;

const EXAMPLE: &str = include_str!("../../../examples/two-regions.yaml");

fn order() -> Order {
    let (at, revision) = (Timestamp::now(), Revision(9));
    let restored = Restored { at, taken_at: at, revision, asked_by: "zhang".to_owned(), approved_by: None };
    Order { restored, work: Work::Restore { taken_at: at, revision }, without: BTreeSet::new() }
}

#[tokio::test]
async fn members_that_talk_in_plain_text_are_refused_until_a_restore_has_made_them_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let bank = dir.path().join("dujiang-bank");
    std::fs::write(&bank, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&bank, std::fs::Permissions::from_mode(0o755)).unwrap();
    let programs = Programs { beside: dir.path().to_owned(), path: Vec::new() };
    let text = EXAMPLE.replacen("listen: 127.0.1.1:7000", "store: etcd", 1);
    let manifest = Manifest::parse(&text, &programs).unwrap();

    let folder = Folder::prepare(&dir.path().join("data")).unwrap();
    let uid = nix::unistd::Uid::effective().as_raw();
    let marker = format!(r#"{{"format": 1, "version": "0.0.9", "uid": {uid}}}"#);
    std::fs::write(folder.path().join("dujiang.json"), marker).unwrap();
    for site in members::sites(&folder, &manifest) {
        std::fs::create_dir_all(&site.dir).unwrap();
    }
    let refused = folder.take_over().unwrap_err();
    assert!(refused.message().contains("plain text"), "{}", refused.message());

    let put = restore::put(&folder, &manifest, &[], &order()).await.unwrap();
    assert_eq!(put.kept.len(), manifest.data_centers.len());
    folder.take_over().unwrap();
    for site in members::sites(&folder, &manifest) {
        let copy = dir.path().join(site.name.as_str());
        dujiang_agent::files::copy_dir(&site.dir, &copy).unwrap();
        let alone = members::Alone::start_last(&folder, &copy, &site.name).await.unwrap();
        let listing = alone.connect().await.unwrap().list("").await.unwrap();
        assert_eq!(listing.entries.len(), put.entries, "{} has every record", site.name);
        alone.stop().await.unwrap();
    }
}
