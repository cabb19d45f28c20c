//! `dujiang down`

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::platform::Running;
use crate::progress::{Progress, confirm};
use crate::supervisor::children;
use crate::supervisor::folder::{Folder, Lock};

/// An orderly stop of everything, with the graces of agents and control plane and a reserve.
const STOP_MAX: Duration = Duration::from_secs(90);
/// Between two looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Stop everything in order; the data is kept
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Also stops what a killed `up` has left running.

Examples:
  dujiang down
  dujiang down -o json
  dujiang down --purge --yes        removes the data too, without asking")]
pub struct Args {
    /// Remove the platform's folder with all data, for good
    #[arg(long)]
    purge: bool,
    /// Do not ask before removing data
    #[arg(long, requires = "purge")]
    yes: bool,
    /// How to print what was done
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What was done, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Done<'a> {
    /// The platform's folder.
    data: &'a Path,
    /// Something ran, and does no more.
    stopped: bool,
    /// The folder was there, and is there no more.
    removed: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let data = context.data();
    let Some(folder) = Folder::find(data)? else {
        return match args.output {
            Format::Json => output::json(&Done { data, stopped: false, removed: false }),
            Format::Table => {
                output::line(format_args!("there is no platform in {}: nothing to do", data.display()))
            }
        };
    };
    let path = folder.path().display();
    if args.purge && !args.yes {
        confirm(&format!("This stops the platform and removes {path} with all its data, for good. Go on?"))?;
    }
    let (_lock, stopped) = context.block_on(stop(&folder))?;
    if args.purge {
        folder.purge()?;
    }
    match args.output {
        Format::Json => output::json(&Done { data: folder.path(), stopped, removed: args.purge }),
        Format::Table if args.purge => {
            output::line(format_args!("everything is stopped, and {path} is removed"))
        }
        Format::Table => {
            let what = if stopped { "everything is stopped" } else { "nothing ran" };
            output::line(format_args!("{what}; the data is kept in {path}"))
        }
    }
}

/// Stops the supervisor, or what one that was killed has left. Returns holding its lock, so that none begins now,
/// and whether anything ran.
async fn stop(folder: &Folder) -> Result<(Lock, bool), Failure> {
    let progress = Progress::new();
    let deadline = Instant::now() + STOP_MAX;
    let mut asked = None;
    loop {
        match folder.lock()? {
            Ok(lock) => {
                progress.say("stopping what is left running");
                let orphans = children::stop_orphans(folder.path()).await;
                let record = Running::path(folder.path());
                dujiang_agent::files::remove_file(&record)
                    .map_err(|e| Failure::because(format!("cannot remove {}", record.display()), &e))?;
                return Ok((lock, orphans || asked.is_some()));
            }
            Err(pid) if asked != Some(pid) && pid != 0 => {
                ask(pid)?;
                asked = Some(pid);
            }
            Err(_) => {}
        }
        if Instant::now() > deadline {
            return Err(Failure::failed(format!("it has not stopped within {} s", STOP_MAX.as_secs())).hint(
                format!(
                    "see {}; if the supervisor hangs, kill it and run `dujiang down` again",
                    folder.supervisor_log().display()
                ),
            ));
        }
        progress.say("stopping: gateways and applications, then databases, then the rest");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells the holder of the lock to end in order.
fn ask(pid: u32) -> Result<(), Failure> {
    let Ok(raw) = i32::try_from(pid) else { return Ok(()) };
    match kill(Pid::from_raw(raw), Signal::SIGTERM) {
        // It has ended meanwhile: the lock will be free.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => {
            Err(Failure::because(format!("cannot tell the supervisor (process {pid}) to end"), &error)
                .hint("run this as the user who runs the platform"))
        }
    }
}
