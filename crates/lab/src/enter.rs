//! Getting a test into namespaces of its own: network, processes and mounts; for an ordinary user a user namespace
//! around them, in which that user keeps its own number, because PostgreSQL refuses to run as user 0.
//!
//! The first process of the new process namespace ends with this one, and the kernel then kills all others in it:
//! nothing is left over, also when a test is killed.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::unistd::geteuid;

/// Set to 1, tests that need the laboratory pass without it where it cannot be had, and say so.
pub const ENV_SKIP: &str = "DUJIANG_SKIP_LAB";
/// Tells a program that it is inside already.
const ENV_INSIDE: &str = "DUJIANG_LAB_INSIDE";
/// What the laboratory stands on, tried before anything else.
const PROBE: &str = "test -r /dev/net/tun && test -w /dev/net/tun || { echo '/dev/net/tun cannot be opened' >&2; \
                     exit 1; }; /usr/sbin/ip tuntap add dev probe mode tun && mount -t tmpfs none /mnt";

/// Why there is no laboratory here.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The kernel, or whoever configured it, does not let us have one.
    #[error(
        "no laboratory of networks can be made here: {0}; run as root, or allow unprivileged user namespaces and access to /dev/net/tun, or set {ENV_SKIP}=1"
    )]
    Impossible(String),
    /// A program is missing.
    #[error("cannot run unshare")]
    Run(#[source] io::Error),
}

/// True in a process that is inside.
pub fn is_inside() -> bool {
    env::var_os(ENV_INSIDE).is_some()
}

/// Runs a program inside, up to its end. Its first process does nothing but wait for it and for orphans.
fn around(program: &str, args: &[String]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "SIGKILL", "unshare"]);
    if !geteuid().is_root() {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", "\"$0\" \"$@\"; exit $?", program]).args(args).env(ENV_INSIDE, "1");
    command
}

/// Tells whether there can be a laboratory.
pub fn check() -> Result<(), EnterError> {
    let probe = around("sh", &["-c".to_owned(), PROBE.to_owned()]).output().map_err(EnterError::Run)?;
    if probe.status.success() {
        return Ok(());
    }
    Err(EnterError::Impossible(String::from_utf8_lossy(&probe.stderr).trim().to_owned()))
}

/// Replaces this program by itself inside. Returns if it is there already, or why it cannot get there.
pub fn enter() -> Result<(), EnterError> {
    if is_inside() {
        return Ok(());
    }
    check()?;
    let program = env::current_exe().map_err(EnterError::Run)?;
    let args: Vec<String> = env::args().skip(1).collect();
    Err(EnterError::Run(around(&program.to_string_lossy(), &args).exec()))
}

/// Runs a test of this name inside: outside, the test program is started once more for that test alone.
///
/// # Panics
/// If it fails inside, or if there is no laboratory here and nobody said that this is fine.
pub fn test(name: &str, body: impl FnOnce()) {
    if is_inside() {
        return body();
    }
    if let Err(error) = check() {
        assert!(env::var_os(ENV_SKIP).is_some_and(|value| value == "1"), "{error}");
        eprintln!("SKIPPED: {name} was not run: {error}");
        return;
    }
    let program = env::current_exe().map(|path| path.to_string_lossy().into_owned());
    let args = [name, "--exact", "--nocapture"].map(str::to_owned);
    let status = program.and_then(|program| around(&program, &args).status());
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{name} inside: {status:?}");
}
