//! A trial promotion: a copy of the standby that runs here is promoted by the very code that would promote the standby.
//!
//! The copy lives in a folder of its own in the replica's, listens on a socket in its own data directory and nowhere
//! else, receives from nobody, and is nobody's to receive from. The standby only serves one more copy of itself, as it
//! would to any replica: no slot, no setting and no state of it is touched. A guard ends the copy if the agent does
//! not come to it; whatever is left is removed before the replica is opened the next time.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use dujiang_types::Epoch;
use dujiang_types::readiness::Promoted;
use dujiang_types::unit::SyncSet;
use dujiang_unit::agent::Process;
use tokio::time::{Instant, sleep};

use super::error::{PostgresError, file};
use super::run::POLL;
use super::sql::stale_epoch;
use super::state::Upstream;
use super::{Reach, Replica, Settings, Tuning, memory};
use crate::clock::boottime_ms;
use crate::files;

/// Copying, at most so many MB a second: the standby needs its disk for what its home waits for.
const COPY_MB_PER_SECOND: u32 = 64;
/// Copying takes as long as there is data; whoever asked sets the limit for all of it.
const COPY_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How long the copy outlives an agent that does not come back to it. Longer than any single step here.
const LEASE_MS: u64 = 30_000;
/// How long removing may fail because something still writes there.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A copy serves one session.
const SHARED_BUFFERS_MB: u32 = 16;

/// Where a trial of that replica lives.
fn settings_of(of: &Settings) -> Settings {
    let dir = of.dir.join("trial");
    Settings {
        run: dir.join("run"),
        log: dir.join("log"),
        dir,
        reach: Reach::Socket,
        tuning: Tuning { shared_buffers_mb: SHARED_BUFFERS_MB, ..of.tuning },
        ..of.clone()
    }
}

/// What a copy of that replica takes on disk, in bytes. Waits for the disk.
pub fn size(of: &Settings) -> io::Result<u64> {
    size_of(&of.dir.join("pgdata"))
}

fn size_of(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        // PostgreSQL removes files meanwhile.
        let Ok(entry) = entry else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { size_of(&entry.path()).unwrap_or_default() } else { meta.len() };
    }
    Ok(bytes)
}

/// Promotes a copy of the standby that runs with these settings, under `epoch`, and removes it again. `say` is told what
/// is being done. When `called_off` resolves, with the reason, it ends at once.
pub async fn promote_a_copy(
    of: &Settings,
    epoch: Epoch,
    called_off: impl Future<Output = String>,
    say: impl Fn(&str),
) -> Result<Promoted, PostgresError> {
    clear(of).await?;
    let done = async {
        let copy = Replica::open(settings_of(of)).await?;
        copy.try_promotion(of, epoch, &say).await
    };
    let outcome = tokio::select! {
        outcome = done => outcome,
        why = called_off => Err(PostgresError::CalledOff(why)),
    };
    say("removing the copy");
    clear(of).await?;
    outcome
}

/// Ends and removes whatever is left of a trial of that replica.
pub async fn clear(of: &Settings) -> Result<(), PostgresError> {
    let settings = settings_of(of);
    let (dir, programs) = (settings.dir.clone(), settings.programs.clone());
    if !dir.exists() {
        return Ok(());
    }
    // Opening ends tools and databases nobody looks after.
    Replica::open(settings).await?.stop_now().await?;
    let deadline = Instant::now() + REMOVE_TIMEOUT;
    loop {
        let (gone, programs) = (dir.clone(), programs.clone());
        let removed = tokio::task::spawn_blocking(move || {
            memory::release_all(&programs, &gone);
            files::remove_dir(&gone)
        });
        let removed = removed.await;
        // A tool that was just killed may have made one more file.
        match removed.map_err(io::Error::other).flatten() {
            Err(_) if Instant::now() < deadline => sleep(POLL).await,
            done => return done.map_err(file("remove the copy in", &dir)),
        }
    }
}

impl Replica {
    async fn try_promotion(
        &self,
        of: &Settings,
        epoch: Epoch,
        say: &impl Fn(&str),
    ) -> Result<Promoted, PostgresError> {
        say("copying the replica");
        let copied = Instant::now();
        self.copy_standby(of).await?;
        let copied_ms = since_ms(copied);
        let pgdata = self.pgdata();
        let bytes =
            self.on_disk(move |_| size_of(&pgdata).map_err(file("look at the size of", &pgdata))).await?;
        say("starting the copy");
        let started = Instant::now();
        self.start().await?;
        self.until_standby().await?;
        let started_ms = since_ms(started);
        say("promoting the copy");
        let promoted = Instant::now();
        // Its commits wait for nobody: nobody has them but it.
        self.promote(epoch, &SyncSet { members: [].into(), need: 0 }).await?;
        self.write_probe().await?;
        let promoted_ms = since_ms(promoted);
        self.fence_holds(epoch).await?;
        let Process::Primary { position: Some(position), .. } = self.observe().await? else {
            return Err(PostgresError::State("it does not say that it is a primary".to_owned()));
        };
        Ok(Promoted { timeline: position.timeline, bytes, copied_ms, started_ms, promoted_ms })
    }

    /// Copies the standby of these settings, as any replica would be copied, but without a slot: all that is needed is
    /// streamed beside.
    async fn copy_standby(&self, of: &Settings) -> Result<(), PostgresError> {
        let from = Upstream { dc: of.dc.clone(), address: of.address };
        let made = self.begin_data().await?;
        let rate = format!("--max-rate={COPY_MB_PER_SECOND}M");
        self.base_backup(&from, &made, &["--no-slot", "--no-sync", &rate], COPY_TIMEOUT).await?;
        self.finish_data(made).await
    }

    /// Waits until the copy is consistent and has replayed what it has. Whoever called bounds the time.
    async fn until_standby(&self) -> Result<(), PostgresError> {
        loop {
            match self.observe().await? {
                Process::Standby { position: Some(_), .. } => {
                    return self.lease(boottime_ms() + LEASE_MS).await;
                }
                Process::Stopped { .. } => {
                    return Err(PostgresError::NotStarted("the copy has ended".to_owned()));
                }
                _ => self.lease(boottime_ms() + LEASE_MS).await?,
            }
            sleep(POLL).await;
        }
    }

    /// Asks the fence as an application would, with the epoch of the promotion and with the one before.
    async fn fence_holds(&self, epoch: Epoch) -> Result<(), PostgresError> {
        let session = self.new_session().await?;
        session.rows("wait for commits", "SET synchronous_commit = on").await?;
        session.rows("enter under the new epoch", &format!("SELECT dujiang.enter({epoch})")).await?;
        let before = epoch.0.saturating_sub(1);
        match session.rows("enter under the old epoch", &format!("SELECT dujiang.enter({before})")).await {
            Err(error) if stale_epoch(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(PostgresError::State("the fence lets the old epoch in".to_owned())),
        }
    }
}

fn since_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
