//! The loss of a whole data center.

use std::fs;
use std::io;
use std::path::PathBuf;

use dujiang_types::DcId;
use tokio::time::Instant;

use super::{DC_LOSS_OUTAGE_MAX, DECIDING_DC_LOSS_OUTAGE_MAX, DrillError, Fault, Ground, Options, Report};
use crate::platform::Platform;
use crate::processes;

/// Kills every process of a data center under load, leaves it off for a while, brings it back, and checks
/// everything. `say` is told what is going on.
pub async fn dc_loss(
    platform: Platform,
    dc: &DcId,
    options: Options,
    mut say: impl FnMut(&str),
) -> Result<Report, DrillError> {
    if !platform.gateways.iter().any(|gateway| gateway.dc == *dc) {
        return Err(DrillError::NoSuch(format!("data center {dc}")));
    }
    let ground = Ground::prepare(platform, options, &mut say).await?;
    let mut troubles = Vec::new();
    let decided = ground.before.leader == dc.as_str();
    // Counted before: the supervisor, told that the power is off, kills as well.
    let victims = processes::find(ground.platform.data(), Some(dc));
    let killed = victims.map_err(DrillError::fault(format!("look at {dc}")))?.len();
    say(&format!("killing the {killed} processes of {dc}"));
    let began_us = ground.load.now_us();
    let began = Instant::now();
    let power = Power::off(&ground.platform, dc).map_err(DrillError::fault(format!("switch {dc} off")))?;
    let data = ground.platform.data().to_owned();
    let victim = dc.clone();
    // The runtime goes on: the load must not stand still while we kill.
    let gone = tokio::task::spawn_blocking(move || processes::kill_all(&data, Some(&victim))).await;
    gone.map_err(io::Error::other).flatten().map_err(DrillError::fault(format!("kill {dc}")))?;
    let dead_us = ground.load.now_us();
    let serving = ground.reach_serving(|_, home| home == dc, &mut troubles, &mut say).await;
    let serving_after_s = serving.then(|| began.elapsed().as_secs_f64());
    say(&format!("{dc} stays off"));
    ground.last(began + ground.options.fault, &mut troubles).await;
    say(&format!("{dc} comes back"));
    let over_us = ground.load.now_us();
    power.on().map_err(DrillError::fault(format!("switch {dc} on")))?;
    let whole_after_s = ground.reach_whole(&mut troubles, &mut say).await;
    let fault = Fault {
        name: format!("loss of {dc}"),
        dc: Some(dc.clone()),
        unit: None,
        limit: if decided { DECIDING_DC_LOSS_OUTAGE_MAX } else { DC_LOSS_OUTAGE_MAX },
        killed,
        began_us,
        dead_us,
        over_us,
        serving_after_s,
        whole_after_s,
        troubles,
    };
    ground.finish(fault, &mut say).await
}

/// A data center that is marked as switched off, so that nobody starts it again. Dropping it switches it on: a drill
/// that is interrupted leaves nothing dark.
pub(super) struct Power {
    marker: PathBuf,
}

impl Power {
    pub(super) fn off(platform: &Platform, dc: &DcId) -> io::Result<Self> {
        let folder = platform.data().join("run/power-off");
        fs::create_dir_all(&folder)?;
        let marker = folder.join(dc.as_str());
        fs::write(&marker, "")?;
        Ok(Self { marker })
    }

    pub(super) fn on(self) -> io::Result<()> {
        fs::remove_file(&self.marker)
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        // After `on` it is gone already.
        let _ = fs::remove_file(&self.marker);
    }
}
