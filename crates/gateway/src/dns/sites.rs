//! Whether the other sites are there, asked of them directly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::DcId;
use dujiang_types::dns::Directory;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often each site is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Between regions an answer takes some ten milliseconds.
const ANSWER_MAX: Duration = Duration::from_millis(800);
/// Answers missed in a row before a site counts as lost: one alone may be lost on the way.
const MISSED_MAX: u32 = 2;

/// Asks all other sites, for ever, and says which are lost.
pub(super) async fn look(
    here: DcId,
    client: reqwest::Client,
    directory: watch::Receiver<Option<Arc<Directory>>>,
    lost: watch::Sender<Arc<BTreeSet<DcId>>>,
) {
    let mut missed: BTreeMap<DcId, u32> = BTreeMap::new();
    let mut tick = interval(ASK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(known) = directory.borrow().clone() else { continue };
        let others = known.sites.iter().filter(|(dc, _)| **dc != here);
        let asked = others.map(|(dc, site)| {
            let client = &client;
            async move { (dc.clone(), is_there(client, site.health).await) }
        });
        let heard: Vec<(DcId, bool)> = join_all(asked).await;
        missed.retain(|dc, _| known.sites.contains_key(dc));
        for (dc, there) in heard {
            let count = missed.entry(dc).or_default();
            *count = if there { 0 } else { count.saturating_add(1) };
        }
        let now: BTreeSet<DcId> =
            missed.iter().filter(|(_, count)| **count >= MISSED_MAX).map(|(dc, _)| dc.clone()).collect();
        lost.send_if_modified(|before| {
            if **before == now {
                return false;
            }
            tracing::warn!(lost = ?now, "other sites that are not given to customers any more have changed");
            *before = Arc::new(now);
            true
        });
    }
}

async fn is_there(client: &reqwest::Client, address: SocketAddr) -> bool {
    let asked = client.get(format!("https://{address}/readyz")).timeout(ANSWER_MAX).send().await;
    asked.is_ok_and(|answer| answer.status().is_success())
}
