//! The stage between the guard and PostgreSQL: becomes the right user, ties itself to the guard, and turns into
//! `postgres`.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setuid};

use super::{GuardError, Spec, system};

/// Turns this process into PostgreSQL. Returns only if that fails.
///
/// `guard` is the process id of the guard that started this process. Must run on the main thread of a process
/// with no other threads.
pub fn exec(spec: &Path, guard: i32) -> Result<Infallible, GuardError> {
    let spec = Spec::read(spec)?;
    if let Some(user) = spec.user {
        setgroups(&[Gid::from_raw(user.gid)]).map_err(system("leave the groups of root"))?;
        setgid(Gid::from_raw(user.gid)).map_err(system("change the group"))?;
        setuid(Uid::from_raw(user.uid)).map_err(system("change the user"))?;
    }
    // Only now: the kernel forgets the parent-death signal when credentials change.
    set_pdeathsig(Signal::SIGQUIT).map_err(system("ask for the parent-death signal"))?;
    // The guard may have died before the signal was asked for; then it would never come.
    if getppid() != Pid::from_raw(guard) {
        return Err(GuardError::Orphaned);
    }
    SigSet::empty().thread_set_mask().map_err(system("unblock signals"))?;
    let error = Command::new(&spec.program).args(&spec.args).exec();
    Err(system("start PostgreSQL")(error))
}
