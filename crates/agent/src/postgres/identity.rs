//! Who PostgreSQL shows to be: files beside its configuration, made of the data center's identity for databases.

use std::path::PathBuf;
use std::{fs, io};

use dujiang_identity::{Bundle, Stamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::conf::Files;
use super::error::{PostgresError, file};
use super::{Replica, lock};
use crate::{files, proc};

impl Files {
    /// Certificate and key, in one file so that a renewal replaces both at once: no key meets the other's certificate.
    pub(super) fn identity(&self) -> PathBuf {
        self.dir().join("identity.pem")
    }

    /// The platform's authority.
    pub(super) fn authority(&self) -> PathBuf {
        self.dir().join("authority.pem")
    }
}

impl Replica {
    /// Has a renewed identity shown to whoever connects from now on. Open connections go on.
    pub async fn renew_identity(&self) -> Result<(), PostgresError> {
        let renewed = Stamp::of(&self.settings.database_identity);
        if renewed == *lock(&self.shown) || self.is_stopped().await? {
            return Ok(());
        }
        self.install()?;
        self.signal_reload()?;
        *lock(&self.shown) = renewed;
        tracing::info!(unit = %self.settings.unit, "the database shows its renewed identity");
        Ok(())
    }

    /// Puts the newest identity where PostgreSQL and its tools read it. One that runs already must be told.
    pub(super) fn install_identity(&self) -> Result<(), PostgresError> {
        // Before the file, so that a replacement in between is noticed.
        let stamp = Stamp::of(&self.settings.database_identity);
        self.install()?;
        if self.current_run().is_none() {
            *lock(&self.shown) = stamp;
        }
        Ok(())
    }

    /// Has the postmaster read its configuration again. Not over a connection: with an identity that has run out nobody
    /// takes it for the database any more.
    fn signal_reload(&self) -> Result<(), PostgresError> {
        let path = self.pgdata().join("postmaster.pid");
        let text = fs::read_to_string(&path).map_err(file("read", &path))?;
        let pid = text.lines().next().and_then(|line| line.parse().ok());
        // The number may be another process's by now.
        let ours =
            proc::processes_in(&self.pgdata()).map_err(file("look for processes in", &self.pgdata()))?;
        let postmaster = pid.filter(|pid| ours.contains(pid));
        let postmaster =
            postmaster.ok_or_else(|| PostgresError::State("there is no postmaster".to_owned()))?;
        kill(Pid::from_raw(postmaster), Signal::SIGHUP)
            .map_err(|errno| file("signal the process of", &path)(io::Error::from(errno)))
    }

    fn install(&self) -> Result<(), PostgresError> {
        let bundle = Bundle::read(&self.settings.database_identity).map_err(PostgresError::Identity)?;
        self.settings.programs.make_dir(self.files.dir())?;
        let both = [
            (self.files.authority(), bundle.authority().to_owned()),
            (self.files.identity(), bundle.own_pem()),
        ];
        for (path, text) in both {
            // Theirs before it has its name: a receiver may connect at any moment.
            let made = path.with_extension("made");
            files::write_whole(&made, text.as_bytes(), files::MODE_SECRET).map_err(file("write", &made))?;
            self.settings.programs.give(&made)?;
            fs::rename(&made, &path).map_err(file("rename to", &path))?;
        }
        Ok(())
    }
}
