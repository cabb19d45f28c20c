//! Putting a backup where the store was, in a file or in the members of etcd.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dujiang_agent::files;
use dujiang_control::restore::{self, Order};
use dujiang_identity::Folder as Authorities;
use dujiang_store::backup::Saved;
use dujiang_store::{RedbStore, Store as _};
use dujiang_types::Revision;
use serde::Serialize;

use super::members;
use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::supervisor::folder::Folder;

/// What was done.
#[derive(Debug, Serialize)]
pub struct Put {
    /// Records in the new store.
    pub entries: usize,
    /// The revision it begins at.
    pub revision: Revision,
    /// What was replaced.
    pub kept: Vec<PathBuf>,
}

/// Replaces the store. Nobody may use the folder meanwhile. Until the last moment the old store stands; a command that
/// is killed can be given again.
pub async fn put(
    folder: &Folder,
    manifest: &Manifest,
    saved: &[Saved],
    order: &Order,
) -> Result<Put, Failure> {
    let entries = restore::entries(saved, order)
        .map_err(|e| Failure::because("the backup cannot be put back", &e).hint("nothing was changed"))?;
    let at = order.restored.at;
    let revision = restore::first_revision(order.restored.revision, at);
    let stamp = at.as_second().to_string();
    let kept = if folder.has_etcd() {
        etcd(folder, manifest, revision, &entries, &stamp).await?
    } else {
        file(&folder.path().join("control/store.redb"), revision, &entries, &stamp).await?
    };
    Ok(Put { entries: entries.len(), revision, kept })
}

fn cannot(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::because(format!("cannot {what} {}", path.display()), &error)
}

/// A new file is made beside the old one, and takes its name when it is whole.
async fn file(
    path: &Path,
    revision: Revision,
    entries: &[(String, Bytes)],
    stamp: &str,
) -> Result<Vec<PathBuf>, Failure> {
    let new = path.with_extension("restored");
    files::remove_file(&new).map_err(cannot("remove", &new))?;
    let failed = |e: dujiang_store::Error| Failure::because("the new store cannot be made", &e);
    RedbStore::create_with(&new, revision, entries.to_vec()).await.map_err(failed)?;
    let mut kept = Vec::new();
    if path.exists() {
        let old = path.with_extension(format!("redb.replaced-{stamp}"));
        // A second name first: at no moment is there no store.
        std::fs::hard_link(path, &old).map_err(cannot("keep", path))?;
        kept.push(old);
    }
    std::fs::rename(&new, path).map_err(cannot("replace", path))?;
    files::sync_dir(files::parent(path)).map_err(cannot("sync", path))?;
    Ok(kept)
}

/// A cluster of one member is filled, and every member's folder is made from its snapshot.
async fn etcd(
    folder: &Folder,
    manifest: &Manifest,
    revision: Revision,
    entries: &[(String, Bytes)],
    stamp: &str,
) -> Result<Vec<PathBuf>, Failure> {
    let scratch = folder.path().join("run/restore");
    files::remove_dir(&scratch).map_err(cannot("remove", &scratch))?;
    files::make_private_dir(&scratch).map_err(cannot("make", &scratch))?;
    // A folder of a version that knew none has no authority yet.
    let authorities = Authorities::of(folder.path()).prepare(&manifest.platform, manifest.identities);
    authorities.map_err(|e| Failure::because("the platform's authority cannot be used", &e))?;
    let alone = members::Alone::start(folder, &scratch.join("alone")).await?;
    let failed = |e: dujiang_store::Error| Failure::because("the new store cannot be filled", &e);
    let mut store = alone.connect().await.map_err(failed)?;
    store.fill(revision, entries).await.map_err(failed)?;
    let written = store.list("").await.map_err(failed)?;
    let same = written.entries.len() == entries.len()
        && written
            .entries
            .iter()
            .zip(entries)
            .all(|(is, wanted)| (&is.key, &is.value) == (&wanted.0, &wanted.1));
    if !same {
        return Err(Failure::failed("the new store does not hold what was written to it"));
    }
    let snapshot = scratch.join("snapshot");
    alone.snapshot(&snapshot).await?;
    alone.stop().await?;
    let sites = members::sites(folder, manifest);
    for site in &sites {
        members::from_snapshot(&snapshot, site, &sites, &scratch.join(site.name.as_str()), stamp).await?;
    }
    // All are whole; now they take their places.
    let mut kept = Vec::new();
    for dir in folder.members() {
        let old = dir.with_file_name(format!("etcd.replaced-{stamp}"));
        std::fs::rename(&dir, &old).map_err(cannot("keep", &dir))?;
        kept.push(old);
    }
    for site in &sites {
        let parent = files::parent(&site.dir);
        std::fs::create_dir_all(parent).map_err(cannot("make", parent))?;
        std::fs::rename(scratch.join(site.name.as_str()), &site.dir).map_err(cannot("place", &site.dir))?;
        files::sync_dir(parent).map_err(cannot("sync", parent))?;
    }
    folder.is_of_this_format()?;
    let whole = manifest.control_sites == manifest.all_sites();
    folder.set_control_sites((!whole).then_some(&manifest.control_sites))?;
    files::remove_dir(&scratch).map_err(cannot("remove", &scratch))?;
    Ok(kept)
}
