//! Re-forming the control store from the one member that is left, when the others are lost with their region.
//!
//! The store is down, so it cannot hold the approval. One operator writes a request into the platform's folder at the
//! surviving site, another one approves it there; both stand in the new store's operations.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dujiang_agent::files;
use dujiang_control::restore::{Order, Restored};
use dujiang_store::Store as _;
use dujiang_store::backup::{Content, Saved};
use dujiang_types::operation::Work;
use dujiang_types::{DcId, Revision};
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use super::members::{Alone, Site};
use crate::failure::Failure;
use crate::supervisor::folder::Folder;

/// How long a request can be approved: the situation it was made in must still be the same.
const VALID_HOURS: i64 = 24;

/// What the first operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// By which the second operator names it.
    pub id: String,
    /// The platform.
    pub platform: String,
    /// The site of the member that is left.
    pub from: DcId,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asks.
    pub asked_by: String,
    /// When.
    pub asked_at: Timestamp,
}

/// The member's data, and the order that is recorded with it.
#[derive(Debug)]
pub struct Recovered {
    /// Its entries.
    pub saved: Vec<Saved>,
    /// What is ordered.
    pub order: Order,
}

fn path(folder: &Folder) -> PathBuf {
    folder.path().join("run/store-recover.json")
}

/// Writes the request; one at a time.
pub fn request(folder: &Folder, request: &Request) -> Result<(), Failure> {
    let path = path(folder);
    let bytes =
        serde_json::to_vec_pretty(request).map_err(|e| Failure::because("the request is no JSON", &e))?;
    files::write_durably(&path, &bytes, files::MODE_SECRET)
        .map_err(|e| Failure::because(format!("cannot write {}", path.display()), &e))
}

/// The request that waits, if `approver` may approve it now.
pub fn approvable(folder: &Folder, id: &str, approver: &str, now: Timestamp) -> Result<Request, Failure> {
    let path = path(folder);
    let read: Option<Request> = files::read_json(&path)
        .map_err(|e| Failure::because(format!("cannot read {}", path.display()), &e))?;
    let none = || {
        Failure::usage(format!("there is no request {id}"))
            .hint("one operator asks with `dujiang store recover --from SITE --reason TEXT --request`")
    };
    let request = read.filter(|request| request.id == id).ok_or_else(none)?;
    judge(&request, approver, now).map_err(Failure::refused)?;
    Ok(request)
}

/// Why the request cannot be approved by that person at that time, if it cannot.
fn judge(request: &Request, approver: &str, now: Timestamp) -> Result<(), String> {
    if request.asked_by == approver {
        return Err(format!("{approver} has asked for it; another operator has to approve it"));
    }
    if request.asked_at + VALID_HOURS.hours() < now {
        return Err(format!("the request is older than {VALID_HOURS} hours; ask again"));
    }
    Ok(())
}

/// Reads what the member that is left has. Its data is not changed: a copy is started.
pub async fn read(
    folder: &Folder,
    site: &Site,
    request: &Request,
    approver: &str,
    now: Timestamp,
) -> Result<Recovered, Failure> {
    if !site.dir.exists() {
        return Err(Failure::failed(format!("there is no member of the store in {}", site.dir.display())));
    }
    let scratch = folder.path().join("run/recover");
    let cannot = |e: std::io::Error| Failure::because(format!("cannot use {}", scratch.display()), &e);
    files::remove_dir(&scratch).map_err(cannot)?;
    files::make_private_dir(&scratch).map_err(cannot)?;
    let copy = scratch.join("etcd");
    files::copy_dir(&site.dir, &copy).map_err(cannot)?;
    let alone = Alone::start_last(folder, &copy, &site.name).await?;
    let failed = |e: dujiang_store::Error| Failure::because("the member cannot be read", &e);
    let store = alone.connect().await.map_err(failed)?;
    let listing = store.list("").await.map_err(failed)?;
    drop(store);
    alone.stop().await?;
    files::remove_dir(&scratch).map_err(cannot)?;
    let content = Content::of(&listing).map_err(|e| Failure::because("the member cannot be read", &e))?;
    Ok(Recovered { order: order(request, approver, content.revision, now), saved: content.entries })
}

fn order(request: &Request, approver: &str, revision: Revision, now: Timestamp) -> Order {
    let restored = Restored {
        at: now,
        taken_at: now,
        revision,
        asked_by: format!("{} ({})", request.asked_by, request.reason),
        approved_by: Some(approver.to_owned()),
    };
    Order { restored, work: Work::Recover { from: request.from.clone() }, without: BTreeSet::new() }
}

/// The request is carried out.
pub fn done(folder: &Folder) -> Result<(), Failure> {
    files::remove_file(&path(folder)).map_err(|e| Failure::because("cannot remove the request", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_two_and_not_for_ever() {
        let request = Request {
            id: "r1".to_owned(),
            platform: "p".to_owned(),
            from: DcId::new("guiyang-1").unwrap(),
            reason: "earthquake".to_owned(),
            asked_by: "ann".to_owned(),
            asked_at: Timestamp::UNIX_EPOCH,
        };
        let soon = Timestamp::UNIX_EPOCH + 1.hour();
        let late = Timestamp::UNIX_EPOCH + 25.hours();
        assert_eq!(judge(&request, "bob", soon), Ok(()));
        assert!(judge(&request, "ann", soon).unwrap_err().contains("another operator"));
        assert!(judge(&request, "bob", late).unwrap_err().contains("ask again"));
        let order = order(&request, "bob", Revision(7), soon);
        assert_eq!(order.restored.asked_by, "ann (earthquake)");
        assert_eq!(order.restored.approved_by.as_deref(), Some("bob"));
    }
}
