//! The drill that runs: only one does at a time, and it can be stopped from anywhere.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dujiang_testkit::drill::StopButton;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::failure::Failure;

/// How soon a stop from elsewhere is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Held as long as a drill runs; the kernel lets go of it with the process.
#[derive(Debug)]
pub(super) struct Running {
    _lock: File,
    mark: PathBuf,
}

fn lock_path(data: &Path) -> PathBuf {
    data.join("run/drill.lock")
}

fn mark_path(data: &Path) -> PathBuf {
    data.join("run/drill-stop")
}

fn open(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(|e| Failure::because(format!("cannot open {}", path.display()), &e))
}

impl Running {
    /// Begins one, unless another one runs.
    pub(super) fn begin(data: &Path) -> Result<Self, Failure> {
        let path = lock_path(data);
        let lock = open(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::refused("a drill runs already").hint("`dujiang drill stop` ends it"));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Failure::because(format!("cannot lock {}", path.display()), &error));
            }
        }
        let mark = mark_path(data);
        // Of a drill that was over before it noticed.
        match fs::remove_file(&mark) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Failure::because(format!("cannot remove {}", mark.display()), &e))
            }
            _ => Ok(Self { _lock: lock, mark }),
        }
    }

    /// Presses the button at the first signal, or when somebody asks for it. Resolves at the second signal: then the
    /// drill is to be dropped, which mends what it broke and reports nothing.
    pub(super) async fn watch(&self, button: &StopButton) -> Result<(), Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::because("cannot listen for signals", &e));
        let (mut interrupt, mut terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut signals = 0;
        while signals < 2 {
            tokio::select! {
                _ = interrupt.recv() => signals += 1,
                _ = terminate.recv() => signals += 1,
                () = sleep(LOOK_EVERY) => {}
            }
            if signals > 0 || self.mark.exists() {
                button.press();
            }
        }
        Ok(())
    }
}

/// Asks the drill that runs to stop.
pub(super) fn stop(data: &Path) -> Result<(), Failure> {
    let lock = open(&lock_path(data))?;
    if lock.try_lock().is_ok() {
        return Err(Failure::failed(format!("no drill runs on the platform in {}", data.display())));
    }
    let mark = mark_path(data);
    fs::write(&mark, "").map_err(|e| Failure::because(format!("cannot write {}", mark.display()), &e))
}
