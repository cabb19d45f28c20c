//! What is broken on purpose, how, and how it is mended.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use dujiang_testkit::cluster::Cluster;
use dujiang_testkit::processes::{self, Kind, Process};
use dujiang_types::{DcId, UnitId};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::disk::{Disk, Slow};
use crate::link::Link;
use crate::nets::Lab;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each says what it is in `Display`, and nowhere else")]
pub enum Fault {
    KillControl,
    KillEtcd,
    KillAgent,
    KillGuards,
    KillGateway,
    KillApplication,
    KillPostgres,
    KillDataCenter,
    FreezeControl,
    FreezeEtcd,
    FreezeAgent,
    FreezePostgres,
    Isolate,
    DeafOnly,
    MuteOnly,
    CutLink,
    CutControl,
    Loss,
    Jitter,
    DiskFull,
    DiskReadOnly,
    DiskSlow,
    ClockAhead,
    ClockBack,
    OutOfMemory,
    IgnoresShutdown,
}

impl Fault {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 26] = [
        Self::KillControl,
        Self::KillEtcd,
        Self::KillAgent,
        Self::KillGuards,
        Self::KillGateway,
        Self::KillApplication,
        Self::KillPostgres,
        Self::KillDataCenter,
        Self::FreezeControl,
        Self::FreezeEtcd,
        Self::FreezeAgent,
        Self::FreezePostgres,
        Self::Isolate,
        Self::DeafOnly,
        Self::MuteOnly,
        Self::CutLink,
        Self::CutControl,
        Self::Loss,
        Self::Jitter,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::DiskSlow,
        Self::ClockAhead,
        Self::ClockBack,
        Self::OutOfMemory,
        Self::IgnoresShutdown,
    ];

    /// True if it takes a data center whose disk is one of the laboratory's.
    pub fn is_of_disk(self) -> bool {
        matches!(self, Self::DiskFull | Self::DiskReadOnly | Self::DiskSlow)
    }

    /// True if it takes a data center whose clock is one of the laboratory's.
    pub fn is_of_clock(self) -> bool {
        matches!(self, Self::ClockAhead | Self::ClockBack)
    }

    /// What it does to the links; nothing if it is of another kind.
    fn apply(self, lab: &Lab, place: usize) -> bool {
        let cut = |link: &mut Link| link.cut = true;
        match self {
            Self::Isolate => lab.isolate(place),
            Self::DeafOnly => lab.change_in(place, cut),
            Self::MuteOnly => lab.change_out(place, cut),
            Self::CutLink => {
                let other = if place == 3 { 1 } else { 3 };
                lab.change(place, other, cut);
                lab.change(other, place, cut);
            }
            Self::CutControl => {
                lab.change_in(place, |link| link.control_cut = true);
                lab.change_out(place, |link| link.control_cut = true);
            }
            Self::Loss => {
                lab.change_in(place, |link| link.loss_per_mille = 200);
                lab.change_out(place, |link| link.loss_per_mille = 200);
            }
            Self::Jitter => lab.change_all(|link| link.jitter_us = 200_000),
            _ => return false,
        }
        true
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillControl => "kill -9 of the control server that decides",
            Self::KillEtcd => "kill -9 of the etcd member beside it",
            Self::KillAgent => "kill -9 of the agent",
            Self::KillGuards => "kill -9 of all guards",
            Self::KillGateway => "kill -9 of the gateway",
            Self::KillApplication => "kill -9 of the applications",
            Self::KillPostgres => "kill -9 of the unit's PostgreSQL",
            Self::KillDataCenter => "power cut of the data center",
            Self::FreezeControl => "freeze of the control server that decides",
            Self::FreezeEtcd => "freeze of the etcd member beside it",
            Self::FreezeAgent => "freeze of the agent",
            Self::FreezePostgres => "freeze of the unit's PostgreSQL",
            Self::Isolate => "partition of the data center",
            Self::DeafOnly => "one-way partition: nothing gets in",
            Self::MuteOnly => "one-way partition: nothing gets out",
            Self::CutLink => "partition of one link",
            Self::CutControl => "partition of the control plane only",
            Self::Loss => "20 % loss",
            Self::Jitter => "200 ms jitter everywhere",
            Self::DiskFull => "full disk",
            Self::DiskReadOnly => "disk turns read-only",
            Self::DiskSlow => "slow disk",
            Self::ClockAhead => "clock jumps 1 h ahead",
            Self::ClockBack => "clock jumps 1 h back",
            Self::OutOfMemory => "out of memory: a session's process is killed",
            Self::IgnoresShutdown => "PostgreSQL ignores a fast shutdown",
        })
    }
}

/// Where it happens.
#[derive(Debug, Clone)]
pub struct Target {
    /// The data center.
    pub dc: DcId,
    /// The units, for faults of a unit's database.
    pub units: Vec<UnitId>,
    /// The data center whose control server decides.
    pub leader: DcId,
}

/// A fault that has been brought about and not been mended.
#[derive(Debug)]
pub struct Broken {
    fault: Fault,
    place: usize,
    undo: Undo,
}

#[derive(Debug)]
enum Undo {
    /// The platform mends it by itself.
    Itself,
    Links,
    Thaw(Vec<Process>),
    PowerOn(DcId),
    Room,
    Reboot(DcId),
    Slow(Slow),
    Clock,
}

/// What there is to break.
#[derive(Debug)]
pub struct Ground {
    /// The laboratory.
    pub lab: Lab,
    /// The platform.
    pub cluster: Cluster,
    /// The disk of the data center that has one of the laboratory's.
    pub disk: Option<Disk>,
    /// The clock of the data center that has one of the laboratory's.
    pub clock: Option<Clock>,
}

/// How the titles of applications' sessions begin.
const SESSIONS: [&str; 2] = ["postgres: bank bank", "postgres: lists lists"];

fn other(error: impl fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what} is not there"))
}

impl Ground {
    /// Brings a fault about.
    pub fn break_it(&self, fault: Fault, target: &Target) -> io::Result<Broken> {
        let place = Lab::place(target.dc.as_str());
        let undo = match fault {
            Fault::KillControl => self.kill(&Kind::Control, &target.leader)?,
            Fault::KillEtcd => self.kill(&Kind::Etcd, &target.leader)?,
            Fault::KillAgent => self.kill(&Kind::Agent, &target.dc)?,
            Fault::KillGuards => self.kill(&Kind::Guard, &target.dc)?,
            Fault::KillGateway => self.kill(&Kind::Gateway, &target.dc)?,
            Fault::KillApplication => self.kill(&Kind::Application, &target.dc)?,
            Fault::KillPostgres => {
                for unit in &target.units {
                    if let Some(postmaster) = self.cluster.postmaster(&target.dc, unit).map_err(other)? {
                        postmaster.signal(Signal::SIGKILL)?;
                    }
                }
                Undo::Itself
            }
            Fault::KillDataCenter => {
                power(self.cluster.data(), &target.dc, false)?;
                processes::kill_all(self.cluster.data(), Some(&target.dc))?;
                Undo::PowerOn(target.dc.clone())
            }
            Fault::FreezeControl => Self::freeze(self.of(&Kind::Control, &target.leader)?)?,
            Fault::FreezeEtcd => Self::freeze(self.of(&Kind::Etcd, &target.leader)?)?,
            Fault::FreezeAgent => Self::freeze(self.of(&Kind::Agent, &target.dc)?)?,
            Fault::FreezePostgres => Self::freeze(self.databases(target, |_| true)?)?,
            Fault::OutOfMemory => {
                // Database and role of an application have its name.
                let session = |title: &str| SESSIONS.iter().any(|start| title.contains(start));
                for unit in &target.units {
                    for session in self.database(&target.dc, unit, session)?.iter().take(1) {
                        session.signal(Signal::SIGKILL)?;
                    }
                }
                Undo::Itself
            }
            Fault::IgnoresShutdown => {
                Self::freeze(self.databases(target, |title| title.contains("checkpointer"))?)?
            }
            Fault::DiskFull => {
                self.disk()?.fill()?;
                Undo::Room
            }
            Fault::DiskReadOnly => {
                self.disk()?.turn_read_only()?;
                Undo::Reboot(target.dc.clone())
            }
            Fault::DiskSlow => Undo::Slow(self.disk()?.slow()),
            Fault::ClockAhead => self.jump(3_600)?,
            Fault::ClockBack => self.jump(-3_600)?,
            _ => {
                fault.apply(&self.lab, place);
                Undo::Links
            }
        };
        Ok(Broken { fault, place, undo })
    }

    /// Mends a fault; `left` are those that stay.
    pub fn mend(&self, broken: Broken, left: &[Broken]) -> io::Result<()> {
        match broken.undo {
            Undo::Itself => {}
            Undo::Links => {
                self.lab.heal();
                for other in left {
                    other.fault.apply(&self.lab, other.place);
                }
            }
            Undo::Thaw(frozen) => {
                for process in frozen {
                    process.signal(Signal::SIGCONT)?;
                }
            }
            Undo::PowerOn(dc) => power(self.cluster.data(), &dc, true)?,
            Undo::Room => self.disk()?.make_room()?,
            Undo::Reboot(dc) => {
                power(self.cluster.data(), &dc, false)?;
                processes::kill_all(self.cluster.data(), Some(&dc))?;
                self.disk()?.repair()?;
                power(self.cluster.data(), &dc, true)?;
            }
            Undo::Slow(slow) => slow.end(),
            Undo::Clock => self.jump(0).map(drop)?,
        }
        Ok(())
    }

    fn disk(&self) -> io::Result<&Disk> {
        self.disk.as_ref().ok_or_else(|| missing("a disk of the laboratory's"))
    }

    fn jump(&self, by_s: i64) -> io::Result<Undo> {
        self.clock.as_ref().ok_or_else(|| missing("a clock of the laboratory's"))?.set(by_s)?;
        Ok(Undo::Clock)
    }

    fn of(&self, kind: &Kind, dc: &DcId) -> io::Result<Vec<Process>> {
        self.cluster.processes(kind, Some(dc)).map_err(other)
    }

    /// Processes of the units' databases, by their titles.
    fn databases(&self, target: &Target, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Process>> {
        let mut found = Vec::new();
        for unit in &target.units {
            found.extend(self.database(&target.dc, unit, &wanted)?);
        }
        Ok(found)
    }

    fn database(&self, dc: &DcId, unit: &UnitId, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Process>> {
        let Some(postmaster) = self.cluster.postmaster(dc, unit).map_err(other)? else {
            return Ok(Vec::new());
        };
        let folder = |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).ok();
        let here = folder(postmaster.pid);
        let mut found = processes::find(self.cluster.data(), Some(dc))?;
        found.retain(|process| {
            let title = fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            folder(process.pid) == here && process.kind != Kind::Guard && wanted(&title)
        });
        Ok(found)
    }

    fn kill(&self, kind: &Kind, dc: &DcId) -> io::Result<Undo> {
        for process in self.of(kind, dc)? {
            process.signal(Signal::SIGKILL)?;
        }
        Ok(Undo::Itself)
    }

    fn freeze(processes: Vec<Process>) -> io::Result<Undo> {
        for process in &processes {
            process.signal(Signal::SIGSTOP)?;
        }
        Ok(Undo::Thaw(processes))
    }
}

/// Switches a data center on or off for the supervisor.
pub fn power(data: &Path, dc: &DcId, on: bool) -> io::Result<()> {
    let mark = data.join("run/power-off").join(dc.as_str());
    if !on {
        return fs::write(mark, "");
    }
    match fs::remove_file(mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How long a fault of the table lasts: longer than a lease and an election together.
pub const LASTS: Duration = Duration::from_secs(9);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_fault_is_listed_once_and_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Fault::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
