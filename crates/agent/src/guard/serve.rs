//! The guard's event loop: one thread, `poll`, no allocation to speak of.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid};

use super::{
    Command, Exit, GuardError, KILL_AFTER_MS, LEASE_MS_MAX, LINE_BYTES_MAX, Lease, Mode, Spec, Status,
    address, system,
};
use crate::clock::boottime_ms;
use crate::{files, proc};

/// Connections at once: the agent uses one, a restarted agent another, and a person looking a third.
const CONNECTIONS_MAX: usize = 8;
/// Between two rounds of killing what is left of a PostgreSQL whose postmaster is gone.
const KILL_ROUND_MS: u64 = 10;

/// Guards one run of PostgreSQL; returns when no process of it is left.
///
/// Must run on the main thread of a process with no other threads: the kernel's parent-death signal is tied to
/// the thread that starts the child.
pub fn run(spec_path: &Path) -> Result<Exit, GuardError> {
    let spec = Spec::read(spec_path)?;
    // Nothing sent to a terminal's process group, and no broken pipe, may end the guard: all that reaches it is
    // read from a descriptor.
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block().map_err(system("block signals"))?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(system("make a descriptor for signals"))?;
    let _lock = lock(&spec.lock)?;
    let listener =
        address(&spec.token).and_then(|a| UnixListener::bind_addr(&a)).map_err(system("listen"))?;
    listener.set_nonblocking(true).map_err(system("listen"))?;
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
        .map_err(system("make a timer"))?;
    // Orphaned sessions of PostgreSQL become our children, so that we know when the last one is gone.
    set_child_subreaper(true).map_err(system("become the reaper of orphans"))?;

    let postmaster = start(spec_path)?;
    let mut guard =
        Guard { postmaster, ended: None, gone: false, until_ms: None, lapsed: false, kill_at_ms: None };
    guard.serve(&listener, &signals, &timer)?;
    let exit = guard.exit(&spec.token);
    files::write_json(&spec.exit, &exit).map_err(system("write the exit record"))?;
    Ok(exit)
}

fn lock(path: &Path) -> Result<File, GuardError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(system("open the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(GuardError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(system("lock the lock file")(error)),
    }
}

fn start(spec: &Path) -> Result<Pid, GuardError> {
    // The running program itself, even if its file was replaced by an upgrade meanwhile.
    let child = Process::new("/proc/self/exe")
        .arg0("dujiang")
        .arg("exec-postgres")
        .arg("--spec")
        .arg(spec)
        .arg("--guard")
        .arg(std::process::id().to_string())
        .stdin(Stdio::null())
        .spawn()
        .map_err(system("start the stage before PostgreSQL"))?;
    let pid = i32::try_from(child.id())
        .map_err(|_| system("read the process id")(io::Error::other("too large")))?;
    Ok(Pid::from_raw(pid))
}

struct Guard {
    postmaster: Pid,
    /// How the postmaster ended.
    ended: Option<(Option<i32>, Option<i32>)>,
    /// No process of this run is left.
    gone: bool,
    until_ms: Option<u64>,
    lapsed: bool,
    /// When whatever is left is killed.
    kill_at_ms: Option<u64>,
}

impl Guard {
    fn serve(
        &mut self,
        listener: &UnixListener,
        signals: &SignalFd,
        timer: &TimerFd,
    ) -> Result<(), GuardError> {
        let mut connections: Vec<Connection> = Vec::new();
        while !self.gone {
            self.arm(timer).map_err(system("set the timer"))?;
            let mut fds = vec![
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(timer.as_fd(), PollFlags::POLLIN),
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(connections.iter().map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(system("wait for events")(error)),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            drop(fds);
            // The clock first: a guard that was frozen must not take an extension that came too late.
            self.tick(boottime_ms());
            while let Ok(Some(info)) = signals.read_signal() {
                if i32::try_from(info.ssi_signo) == Ok(Signal::SIGTERM as i32) {
                    self.stop(Mode::Immediate);
                }
            }
            self.reap();
            let mut index = 3;
            connections.retain_mut(|connection| {
                let keep = !ready.get(index).copied().unwrap_or(false) || connection.serve(self);
                index += 1;
                keep
            });
            if ready[2] {
                accept(listener, &mut connections);
            }
        }
        Ok(())
    }

    /// The timer goes off at whichever of deadline and kill comes first.
    fn arm(&self, timer: &TimerFd) -> nix::Result<()> {
        let deadline = if self.lapsed { None } else { self.until_ms };
        let next = [deadline, self.kill_at_ms].into_iter().flatten().min();
        match next {
            // An absolute time of zero would disarm it.
            Some(at_ms) => timer.set(
                Expiration::OneShot(TimeSpec::from_duration(Duration::from_millis(at_ms.max(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            ),
            None => timer.unset(),
        }
    }

    fn tick(&mut self, now_ms: u64) {
        if !self.lapsed && self.until_ms.is_some_and(|until| until <= now_ms) {
            self.lapsed = true;
            self.stop(Mode::Immediate);
        }
        if self.kill_at_ms.is_some_and(|at| at <= now_ms) {
            self.kill_all();
        }
    }

    fn stop(&mut self, mode: Mode) {
        let now_ms = boottime_ms();
        match mode {
            Mode::Fast => self.signal(Signal::SIGINT),
            Mode::Immediate => {
                self.signal(Signal::SIGQUIT);
                let at_ms = now_ms + KILL_AFTER_MS;
                self.kill_at_ms = Some(self.kill_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
            }
            Mode::Kill => self.kill_all(),
        }
    }

    /// The postmaster is our child and not yet reaped, so its id cannot mean another process.
    fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // It can only fail because it has ended, which the next reaping tells.
            let _ = kill(self.postmaster, signal);
        }
    }

    /// The postmaster first, so that it starts nothing new; what it leaves behind becomes our child and is
    /// killed in the next rounds. Its children are not left to its end: a postmaster that hangs in the disk takes
    /// no signal, and it writes to the disk before it tells anybody to quit.
    fn kill_all(&mut self) {
        self.signal(Signal::SIGKILL);
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        for pid in proc::descendants_of(me).unwrap_or_default() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.kill_at_ms = Some(boottime_ms() + KILL_ROUND_MS);
    }

    fn reap(&mut self) {
        loop {
            let (pid, ended) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, (Some(status), None)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, (None, Some(signal as i32))),
                Ok(WaitStatus::StillAlive) => break,
                Err(Errno::ECHILD) => {
                    self.gone = true;
                    break;
                }
                Ok(_) | Err(_) => continue,
            };
            if pid == self.postmaster {
                self.ended = Some(ended);
            }
        }
        if self.ended.is_some() && !self.gone && self.kill_at_ms.is_none() {
            // Without a postmaster its sessions end by themselves, but not necessarily soon.
            self.kill_all();
        }
    }

    fn obey(&mut self, command: Command) -> Status {
        let now_ms = boottime_ms();
        let mut refused = None;
        match command {
            Command::Lease(until) => refused = self.extend(until.until_ms, now_ms).err(),
            Command::Stop(mode) => self.stop(mode),
            Command::Status(_) => {}
        }
        let lease = match self.until_ms {
            _ if self.lapsed => Lease::Lapsed,
            Some(until) => Lease::Held { left_ms: until.saturating_sub(now_ms) },
            None => Lease::None,
        };
        let refused = refused.map(str::to_owned);
        Status { postmaster: self.postmaster.as_raw(), running: !self.gone, lease, refused }
    }

    fn extend(&mut self, until_ms: u64, now_ms: u64) -> Result<(), &'static str> {
        self.tick(now_ms);
        if self.lapsed {
            return Err("the lease has lapsed, for good");
        }
        if until_ms > now_ms + LEASE_MS_MAX {
            return Err("no lease is that long");
        }
        if until_ms <= now_ms && self.until_ms.is_none() {
            return Err("the lease would begin in the past");
        }
        // Grants can arrive out of order; each was valid, so the furthest counts.
        self.until_ms = Some(self.until_ms.map_or(until_ms, |until| until.max(until_ms)));
        Ok(())
    }

    fn exit(&self, token: &str) -> Exit {
        let (status, signal) = self.ended.unwrap_or_default();
        Exit { token: token.to_owned(), status, signal, lapsed: self.lapsed }
    }
}

fn accept(listener: &UnixListener, connections: &mut Vec<Connection>) {
    while let Ok((stream, _)) = listener.accept() {
        let ours = getsockopt(&stream, PeerCredentials)
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == Uid::effective().as_raw());
        if !ours || stream.set_nonblocking(true).is_err() {
            continue;
        }
        if connections.len() == CONNECTIONS_MAX {
            // The oldest may belong to an agent that is long gone.
            connections.remove(0);
        }
        connections.push(Connection { stream, buffer: Vec::new() });
    }
}

struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Answers every whole line there is; false if the connection is to be closed.
    fn serve(&mut self, guard: &mut Guard) -> bool {
        let mut chunk = [0; LINE_BYTES_MAX];
        match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let Ok(command) = serde_json::from_slice::<Command>(&self.buffer[..end]) else { return false };
            self.buffer.drain(..=end);
            let Ok(mut answer) = serde_json::to_vec(&guard.obey(command)) else { return false };
            answer.push(b'\n');
            // An answer is far smaller than a socket's buffer; one that does not fit belongs to a peer that
            // does not read.
            if self.stream.write_all(&answer).is_err() {
                return false;
            }
        }
        self.buffer.len() < LINE_BYTES_MAX
    }
}
