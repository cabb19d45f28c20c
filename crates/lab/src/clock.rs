//! A wall clock for one data center that can jump, by libfaketime of the distribution: time namespaces do not cover
//! the wall clock, and the machine's own belongs to everybody on it. etcd is not linked dynamically and keeps the
//! machine's time; monotonic clocks do not jump.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where Debian's package puts it.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The clock.
#[derive(Debug, Clone)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// A clock that is right so far; `None` if the library is not installed.
    pub fn make(folder: &Path) -> io::Result<Option<Self>> {
        if !Path::new(LIBRARY).exists() {
            return Ok(None);
        }
        let clock = Self { file: folder.join("clock") };
        clock.set(0)?;
        Ok(Some(clock))
    }

    /// What the agent of the data center is launched with.
    pub fn launcher(&self) -> Vec<String> {
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={LIBRARY}"),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "FAKETIME_CACHE_DURATION=1".to_owned(),
        ]
    }

    /// Makes it wrong by so many seconds.
    pub fn set(&self, by_s: i64) -> io::Result<()> {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{by_s:+}\n"))?;
        fs::rename(next, &self.file)
    }
}
