//! What runs for every unit beside its requests: its schema is brought up to date and its messages are sent,
//! wherever the local replica is the primary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dujiang_types::{Epoch, UnitId};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use crate::application::Application;
use crate::context::Surroundings;
use crate::failure::Failure;
use crate::migrate::migrate;
use crate::relay::Relay;
use crate::session::Call;
use crate::units::Unit;

/// How often the units file is looked at.
const UNITS_CHECK: Duration = Duration::from_secs(1);
/// How often it is tried whether the local replica has become the primary. A request that finds no schema, or no
/// database, wakes the unit's task earlier.
const PRIMARY_CHECK: Duration = Duration::from_secs(1);
/// Being woken does not mean that anything has changed: the least time between two tries.
const WOKEN_PAUSE: Duration = Duration::from_millis(200);

/// Null while the server is in recovery.
const EPOCH: &str = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN (SELECT epoch FROM dujiang.fence) END";
const LOCK: &str = "SELECT pg_try_advisory_lock(1684826985, 2)";

/// Runs until dropped.
pub(crate) async fn supervise<A: Application>(app: Arc<A>, around: Surroundings, http: reqwest::Client) {
    let mut changes = around.units.changes();
    let mut tasks = JoinSet::new();
    let mut running: BTreeMap<UnitId, (Arc<Notify>, AbortHandle)> = BTreeMap::new();
    loop {
        let units = around.units.all();
        let known = |name: &UnitId, wake: &Arc<Notify>| {
            units.iter().any(|unit| unit.name() == name && Arc::ptr_eq(&unit.wake, wake))
        };
        running.retain(|name, (wake, task)| {
            // A task ends by itself only by a panic: then it is started anew.
            let stays = known(name, wake) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for unit in units {
            running.entry(unit.name().clone()).or_insert_with(|| {
                let wake = Arc::clone(&unit.wake);
                (wake, tasks.spawn(serve_unit(Arc::clone(&app), around.clone(), http.clone(), unit)))
            });
        }
        tokio::select! {
            _ = changes.changed() => {}
            Some(_) = tasks.join_next() => {}
            () = tokio::time::sleep(UNITS_CHECK) => {
                if let Err(error) = around.units.refresh() {
                    tracing::warn!(error = &error as &dyn std::error::Error, "units file");
                }
            }
        }
    }
}

async fn serve_unit<A: Application>(
    app: Arc<A>,
    around: Surroundings,
    http: reqwest::Client,
    unit: Arc<Unit>,
) {
    loop {
        match work_as_primary(&app, &around, &http, &unit).await {
            Ok(()) => {}
            Err(failure @ (Failure::Internal { .. } | Failure::Unknown { .. })) => {
                let error = &failure as &dyn std::error::Error;
                tracing::error!(unit = %unit.name(), error, "background work");
            }
            Err(failure) => tracing::debug!(unit = %unit.name(), %failure, "background work ended"),
        }
        tokio::time::sleep(WOKEN_PAUSE).await;
        let _ = tokio::time::timeout(PRIMARY_CHECK, unit.wake.notified()).await;
    }
}

/// Migrates and relays as long as the local replica is the primary and no other instance relays.
async fn work_as_primary<A: Application>(
    app: &Arc<A>,
    around: &Surroundings,
    http: &reqwest::Client,
    unit: &Arc<Unit>,
) -> Result<(), Failure> {
    let session = unit.pool.dedicated().await?;
    let rows = session.query(Call::new(EPOCH, &[])).await?;
    let epoch: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    let Some(epoch) = epoch.and_then(|epoch| u64::try_from(epoch).ok()) else { return Ok(()) };
    let epoch = Epoch(epoch);
    migrate(&session, epoch, app.migrations()).await?;
    let locked = session.query(Call::new(LOCK, &[])).await?;
    if !locked.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(());
    }
    tracing::info!(unit = %unit.name(), %epoch, "relaying the unit's messages");
    let relay = Relay {
        app: Arc::clone(app),
        unit: Arc::clone(unit),
        epoch,
        units: around.units.clone(),
        metrics: Arc::clone(&around.metrics),
        http: http.clone(),
    };
    Arc::new(relay).run(&session).await
}
