//! The crash of one unit's database alone.

use std::io::{Error, ErrorKind};

use dujiang_types::UnitId;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{DrillError, Fault, Ground, Options, PRIMARY_CRASH_OUTAGE_MAX, Report};
use crate::platform::Platform;
use crate::processes;

/// Kills the first process of the PostgreSQL that is a unit's primary, under load, and checks everything.
pub async fn primary_crash(
    platform: Platform,
    unit: &UnitId,
    options: Options,
    mut say: impl FnMut(&str),
) -> Result<Report, DrillError> {
    if !platform.units.contains_key(unit) {
        return Err(DrillError::NoSuch(format!("unit {unit}")));
    }
    let ground = Ground::prepare(platform, options, &mut say).await?;
    let mut troubles = Vec::new();
    let home = ground.before.units[unit].unit.status.home.clone();
    say(&format!("killing the primary of {unit} in {home}"));
    let doing = || DrillError::fault(format!("kill the primary of {unit} in {home}"));
    let postmaster = processes::postmaster(ground.platform.data(), &home, unit).map_err(doing())?;
    let postmaster =
        postmaster.ok_or_else(|| Error::new(ErrorKind::NotFound, "it does not run")).map_err(doing())?;
    let began_us = ground.load.now_us();
    let began = Instant::now();
    postmaster.signal(Signal::SIGKILL).map_err(doing())?;
    let serving = ground.reach_serving(|name, _| name == unit, &mut troubles, &mut say).await;
    let serving_after_s = serving.then(|| began.elapsed().as_secs_f64());
    ground.last(began + ground.options.fault, &mut troubles).await;
    let over_us = ground.load.now_us();
    let whole_after_s = ground.reach_whole(&mut troubles, &mut say).await;
    let fault = Fault {
        name: format!("crash of the primary of {unit} in {home}"),
        dc: None,
        unit: Some(unit.clone()),
        limit: PRIMARY_CRASH_OUTAGE_MAX,
        killed: 1,
        began_us,
        dead_us: began_us,
        over_us,
        serving_after_s,
        whole_after_s,
        troubles,
    };
    ground.finish(fault, &mut say).await
}
