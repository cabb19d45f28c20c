//! PostgreSQL's own programs: where they are, as whom they run, and how their failures are told.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, User, chown};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::error::{PostgresError, file};
use crate::guard::UserIds;
use crate::process::ENV_RECORD;

/// Environment variable that names the folder of PostgreSQL's programs.
const ENV_BIN: &str = "DUJIANG_PG_BIN";
/// Where Debian keeps one folder for each major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Oldest major version: `pg_rewind --config-file` and the role `pg_checkpoint` came with it.
const VERSION_MIN: u32 = 15;
/// Whom PostgreSQL runs as when we are root: it refuses to be root itself.
const USER: &str = "postgres";
/// For a program to say its version: its file may have to be read from a slow disk first.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a program's standard error goes into our error.
const EXCERPT_BYTES: usize = 2000;

/// PostgreSQL as it is installed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    bin: PathBuf,
    user: Option<UserIds>,
}

impl Programs {
    /// Finds the newest one installed, or the one in `DUJIANG_PG_BIN`; and its user, if we are root.
    pub fn find() -> Result<Self, PostgresError> {
        let bin = match std::env::var_os(ENV_BIN) {
            Some(bin) => PathBuf::from(bin),
            None => newest(Path::new(DEBIAN)).ok_or_else(|| {
                PostgresError::Missing(format!(
                    "no PostgreSQL {VERSION_MIN} or newer in {DEBIAN}: install the package postgresql, or name the \
                     folder of its programs in {ENV_BIN}"
                ))
            })?,
        };
        if !bin.join("postgres").is_file() {
            return Err(PostgresError::Missing(format!("{} holds no program named postgres", bin.display())));
        }
        let user = if Uid::effective().is_root() {
            let user = User::from_name(USER).ok().flatten().ok_or_else(|| {
                PostgresError::Missing(format!(
                    "PostgreSQL does not run as root, and there is no user {USER}"
                ))
            })?;
            Some(UserIds { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
        } else {
            None
        };
        Ok(Self { bin, user })
    }

    /// Path of one of the programs.
    pub fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// Whom PostgreSQL runs as, if not as ourselves.
    pub fn user(&self) -> Option<UserIds> {
        self.user
    }

    /// Has a command run as PostgreSQL's user.
    pub(super) fn run_as_its_user(&self, command: &mut std::process::Command) {
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
    }

    /// Makes a directory that belongs to PostgreSQL alone.
    pub fn make_dir(&self, path: &Path) -> Result<(), PostgresError> {
        fs::create_dir_all(path).map_err(file("create", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(file("protect", path))?;
        self.give(path)
    }

    /// Gives a file or directory to PostgreSQL's user.
    pub fn give(&self, path: &Path) -> Result<(), PostgresError> {
        let Some(user) = self.user else { return Ok(()) };
        chown(path, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
            .map_err(|errno| file("give away", path)(io::Error::from(errno)))
    }

    /// Says so if PostgreSQL's user cannot get to a directory: its own messages about that are cryptic.
    pub fn check_reachable(&self, dir: &Path) -> Result<(), PostgresError> {
        let Some(user) = self.user else { return Ok(()) };
        for above in dir.ancestors().skip(1) {
            let Ok(meta) = fs::metadata(above) else { continue };
            let mode = meta.mode();
            let may_enter = if meta.uid() == user.uid {
                mode & 0o100 != 0
            } else if meta.gid() == user.gid {
                mode & 0o010 != 0
            } else {
                mode & 0o001 != 0
            };
            if !may_enter {
                return Err(PostgresError::Missing(format!(
                    "PostgreSQL runs as {USER}, who may not enter {}: keep the platform's folder elsewhere, or \
                     chmod o+x that one",
                    above.display()
                )));
            }
        }
        Ok(())
    }

    /// The version of the server, e.g. `15.14`.
    pub async fn version(&self) -> Result<String, PostgresError> {
        let args = vec!["--version".to_owned()];
        let (env, input, limit, mark) = (BTreeMap::new(), String::new(), VERSION_TIMEOUT, Path::new(""));
        let said = self.run(Run { program: "postgres", args, env, input, limit, mark }).await?;
        // "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"
        Ok(said.split_whitespace().nth(2).unwrap_or("unknown").to_owned())
    }

    /// Runs one of the programs to its end and returns its standard output.
    pub async fn run(&self, run: Run<'_>) -> Result<String, PostgresError> {
        let program = run.program.to_owned();
        let failed = |source| PostgresError::Run { program: program.clone(), source };
        let mut command = Command::new(self.path(run.program));
        command.args(&run.args).envs(&run.env).current_dir("/").process_group(0);
        // Messages we read; and no other locale's.
        command.env("LC_ALL", "C").env(ENV_RECORD, run.mark);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if run.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        self.run_as_its_user(command.as_std_mut());
        let mut child = command.spawn().map_err(failed)?;
        // Dropped when this action is cancelled: what it started in its group must not write on.
        let _group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()));
        let stdin = child.stdin.take();
        let input = run.input.as_bytes();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // If it stops reading it has failed, which its exit status tells better than a broken pipe.
                let _ = stdin.write_all(input).await;
            }
        };
        let both = async { tokio::join!(feed, child.wait_with_output()).1 };
        let Ok(ended) = timeout(run.limit, both).await else {
            return Err(PostgresError::Tool { program, excerpt: format!("not done after {:?}", run.limit) });
        };
        let Output { status, stdout, stderr } = ended.map_err(failed)?;
        if status.success() {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        } else {
            Err(PostgresError::Tool { program, excerpt: format!("{status}: {}", excerpt(&stderr)) })
        }
    }
}

/// One run of a program.
#[derive(Debug)]
pub struct Run<'a> {
    /// Name of the program.
    pub program: &'a str,
    /// Its arguments; never a secret.
    pub args: Vec<String>,
    /// Added to its environment.
    pub env: BTreeMap<&'static str, String>,
    /// Its standard input.
    pub input: String,
    /// How long it may take.
    pub limit: Duration,
    /// By which an agent finds it that was restarted meanwhile (see [`ENV_RECORD`]).
    pub mark: &'a Path,
}

/// Kills the group when dropped. A group that has ended is not found, which is fine.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// The end of a text, in one line, at most [`EXCERPT_BYTES`] long.
pub(super) fn excerpt(text: &[u8]) -> String {
    let tail = &text[text.len().saturating_sub(EXCERPT_BYTES)..];
    let text = String::from_utf8_lossy(tail);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn newest(versions: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(versions).ok()?.flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = numbers.filter(|version| *version >= VERSION_MIN).max()?;
    Some(versions.join(newest.to_string()).join("bin"))
}
