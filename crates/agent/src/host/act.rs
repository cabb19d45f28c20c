//! The machine's actions, carried out on a replica.

use std::sync::Arc;
use std::time::Duration;

use dujiang_unit::agent::{Action, PROMOTE, Process};
use tokio::time::{Instant, sleep};

use crate::postgres::{Fit, PostgresError, Replica, Upstream};

/// How long an orderly stop may take in a move before it becomes an immediate one: well within what the machine
/// allows for sealing, so that the failure is reported and not merely overdue.
const SEAL_BUDGET: Duration = Duration::from_secs(3);
/// How long a replica that is to follow may take to replay what is on its disk before it is looked at again.
const POSITION_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at that.
const POSITION_POLL: Duration = Duration::from_millis(20);

/// What an action found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// The sync set is in force, and nothing can be acknowledged under it.
    Unconfirmed,
    /// Of following: whether the logs fit.
    Fit(Fit),
}

/// The action's name, for logs and notes.
pub(super) fn name(action: &Action) -> &'static str {
    match action {
        Action::Init => "init",
        Action::Clone { .. } => "clone",
        Action::Rewind { .. } => "rewind",
        Action::Start => "start",
        Action::Follow { .. } => "follow",
        Action::Detach => "detach",
        Action::Promote { .. } => PROMOTE,
        Action::SetSync { .. } => "set sync",
        Action::Open => "open",
        Action::Seal => "seal",
        Action::StopNow => "stop",
    }
}

/// What the machine is told about an action under way, if it is to know.
pub(super) fn busy(action: &Action) -> Option<&'static str> {
    matches!(action, Action::Init | Action::Clone { .. } | Action::Rewind { .. } | Action::Promote { .. })
        .then(|| name(action))
}

/// True if the action may be broken off when the record changes. A rewind half done is a clone to do, a promotion
/// half done an epoch lost, and a stop is wanted in any case.
pub(super) fn may_cancel(action: &Action) -> bool {
    match action {
        Action::Clone { .. }
        | Action::Start
        | Action::Follow { .. }
        | Action::Detach
        | Action::SetSync { .. }
        | Action::Open => true,
        Action::Init | Action::Rewind { .. } | Action::Promote { .. } | Action::Seal | Action::StopNow => {
            false
        }
    }
}

/// True if the replica may be observed meanwhile: nothing is started or stopped by the action.
pub(super) fn may_observe(action: &Action) -> bool {
    matches!(action, Action::SetSync { .. } | Action::Open)
}

/// Carries an action out. `upstream` is whom it is about, `until_ms` when the lease held now ends.
pub(super) async fn carry_out(
    replica: Arc<Replica>,
    action: Action,
    upstream: Option<Upstream>,
    until_ms: u64,
) -> Result<Outcome, PostgresError> {
    let whom = || upstream.clone().ok_or_else(|| PostgresError::State("nobody to do that with".to_owned()));
    match action {
        Action::Init => replica.init().await?,
        Action::Clone { .. } => replica.copy_from(&whom()?).await?,
        Action::Rewind { .. } => replica.rewind(&whom()?).await?,
        Action::Start => replica.start().await?,
        Action::Follow { .. } => {
            until_position(&replica).await?;
            return replica.follow(&whom()?).await.map(Outcome::Fit);
        }
        Action::Detach => replica.detach().await?,
        Action::Promote { epoch, set } => {
            replica.lease(until_ms).await?;
            replica.promote(epoch, &set).await?;
        }
        Action::SetSync { set } => {
            let confirmed = replica.set_sync(&set).await?;
            return Ok(if confirmed { Outcome::Done } else { Outcome::Unconfirmed });
        }
        Action::Open => replica.open_admission().await?,
        Action::Seal => replica.stop_in_order(SEAL_BUDGET).await?,
        Action::StopNow => replica.stop_now().await?,
    }
    Ok(Outcome::Done)
}

async fn until_position(replica: &Replica) -> Result<(), PostgresError> {
    let deadline = Instant::now() + POSITION_TIMEOUT;
    while Instant::now() < deadline {
        match replica.observe().await? {
            Process::Standby { position: None, .. } => sleep(POSITION_POLL).await,
            _ => return Ok(()),
        }
    }
    Err(PostgresError::Timeout("replay what is on disk"))
}
